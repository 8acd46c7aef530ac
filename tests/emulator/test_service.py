# SPDX-License-Identifier: Apache-2.0
"""The three calls over real HTTP, with a real S3 server behind them."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
import requests

from airflow_provider_segments.emulator import EmulatedSegment, Emulator, Fault, FaultKind
from airflow_provider_segments.emulator._limit import Limit
from airflow_provider_segments.emulator._service import Settings
from tests.emulator.support import AUTH, STAMP, call, finished, key_of, s3, status, submit, until


def test_list_is_the_same_in_every_run(emulator: Emulator) -> None:
    """The list looks like the service's example and is the same in every run."""
    segments = call(emulator, "GET", "/list").json()
    assert len(segments) == 20
    assert list(segments[0]) == [
        "segmentId",
        "name",
        "description",
        "category",
        "projectId",
        "type",
        "lastRun",
    ]
    assert (segments[0]["name"], segments[0]["type"]) == ("Recent Registrants", "Dynamic")
    assert segments[0]["lastRun"] == "2019-04-09T12:25:06.000Z"
    for field in ("description", "category", "lastRun"):
        assert {segment[field] is None for segment in segments} == {True, False}, field
    assert {segment["type"] for segment in segments} == {"Static", "Dynamic"}
    assert len({segment["name"] for segment in segments}) == len({s["segmentId"] for s in segments}) == 20
    with Emulator(bucket=None, segments=3) as other:
        assert call(other, "GET", "/list").json() == segments[:3]


def test_given_segments_have_ids_of_their_own() -> None:
    """Segments can be described, and equal names get ids of their own."""
    described = [
        EmulatedSegment(name="A", type="Static", category="C", rows=2),
        EmulatedSegment(name="A", segment_id="x"),
    ]
    with Emulator(bucket=None, segments=described, rows=5) as emulator:
        first, second = call(emulator, "GET", "/list").json()
        assert (first["name"], first["type"], first["category"]) == ("A", "Static", "C")
        assert second["segmentId"] == "x" != first["segmentId"]
        assert [segment.rows for segment in emulator.segments] == [2, 5]


def test_export_ends_with_its_file_on_s3(emulator: Emulator, s3_url: str) -> None:
    """An export is PENDING, then COMPLETE with its file in S3."""
    export = submit(emulator).json()
    assert list(export) == ["exportId", "segment", "status", "startTime", "endTime", "filename"]
    assert (export["status"], export["endTime"], export["filename"]) == ("PENDING", None, None)
    assert STAMP.fullmatch(export["startTime"])
    done = status(emulator, export["exportId"]).json()
    assert done["status"] == "COMPLETE"
    assert done["filename"] == f"s3://upload-bucket/path/to/{export['exportId']}.csv"
    assert STAMP.fullmatch(done["endTime"])
    assert done["endTime"] >= done["startTime"] == export["startTime"]
    body = s3(s3_url).get_object(Bucket="upload-bucket", Key=key_of(done["filename"]))["Body"].read()
    lines = body.decode().splitlines()
    assert lines[0].startswith("user_id,")
    assert len(lines) == len(set(lines)) == 1001


def users_of(rows: bytes) -> dict[str, str]:
    """Return a file's users with what it says of each."""
    return dict(line.split(",", 1) for line in rows.decode().splitlines()[1:])


def test_file_changes_from_export_to_export(s3_url: str) -> None:
    """Some users leave, some come, some change, the same in every run; those of a Static segment stay as they are."""

    def three_files(segment: EmulatedSegment) -> list[bytes]:
        with Emulator(s3_endpoint_url=s3_url, segments=[segment], export_seconds=0) as running:
            keys = [key_of(finished(running)["filename"]) for _ in range(3)]
        return [s3(s3_url).get_object(Bucket="upload-bucket", Key=key)["Body"].read() for key in keys]

    files = three_files(EmulatedSegment(name="A"))
    assert three_files(EmulatedSegment(name="A")) == files
    for before, after in pairwise(map(users_of, files)):
        assert len(after.keys() - before.keys()) == len(before.keys() - after.keys()) == 10
        changed = [user for user in before.keys() & after.keys() if before[user] != after[user]]
        assert 15 <= len(changed) <= 25
    assert len(set(three_files(EmulatedSegment(name="B", type="Static")))) == 1


def test_export_ends_after_its_seconds_without_a_poll(s3_url: str) -> None:
    """Without anyone looking, an export ends after export_seconds, with its file written."""
    with Emulator(s3_endpoint_url=s3_url, export_seconds=0.3) as emulator:
        begun = time.monotonic()
        export_id = submit(emulator).json()["exportId"]
        assert emulator.exports == {export_id: "PENDING"}
        until(lambda: emulator.exports[export_id] == "COMPLETE")
        assert time.monotonic() - begun >= 0.3
        key = key_of(status(emulator, export_id).json()["filename"])
        assert s3(s3_url).head_object(Bucket="upload-bucket", Key=key)["ContentLength"] > 1000


def test_unwritable_file_is_the_emulators_failure(s3_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """An export whose file can't be written ends FAILED, and both answer and log say that it was the emulator."""
    with Emulator(s3_endpoint_url=s3_url, bucket="doomed", export_seconds=0) as emulator:
        s3(s3_url).delete_bucket(Bucket="doomed")
        export_id = submit(emulator).json()["exportId"]
        answer = status(emulator, export_id)
        assert emulator.exports == {export_id: "FAILED"}
    assert (answer.status_code, answer.json()["status"]) == (424, "FAILED")
    message = f"The emulator could not put path/to/{export_id}.csv on its S3 at {s3_url}: "
    assert answer.json()["error"].startswith(message)
    assert "NoSuchBucket" in answer.json()["error"]
    assert message in caplog.text


def test_password_of_its_s3_is_not_shown() -> None:
    """Not by boto3's words either."""
    with pytest.raises(OSError, match="could not find") as caught:
        Emulator(s3_endpoint_url="http://user:secret@127.0.0.1:1").__enter__()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("auth", [None, ("emulator-key", "wrong"), ("wrong", "emulator-token")])
def test_credentials_are_checked_on_each_call(bare: Emulator, auth: tuple[str, str] | None) -> None:
    """Every call wants the key and the token."""
    answers = [call(bare, "GET", "/list", auth=auth), submit(bare, auth=auth), status(bare, "x", auth=auth)]
    assert [answer.status_code for answer in answers] == [401, 401, 401]
    assert all(answer.json()["error"] for answer in answers)
    assert bare.submissions == []


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"json": {"segmentId": "unknown", "outputFormat": "csv"}}, 404),
        ({"json": None, "data": b"{"}, 400),
        ({"json": None, "data": b"\xff"}, 400),
        ({"json": []}, 400),
        ({"json": {"outputFormat": "csv"}}, 400),
        ({"json": {"segmentId": "unknown"}}, 400),
        ({"json": {"segmentId": "unknown", "outputFormat": "../csv"}}, 400),
    ],
)
def test_bad_submission_is_refused_in_json(bare: Emulator, options: dict[str, Any], code: int) -> None:
    """A submission that makes no sense is refused in JSON."""
    answer = submit(bare, **options)
    assert (answer.status_code, answer.json()["status"]) == (code, code)
    assert bare.exports == {}


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/export/unknown", 404),
        ("GET", "/export/unknown/", 404),
        ("POST", "/export", 404),
        ("POST", "/list", 405),
    ],
)
def test_unknown_address_is_refused_in_json(bare: Emulator, method: str, path: str, code: int) -> None:
    """Slashes matter, and errors are JSON."""
    answer = call(bare, method, path)
    assert (answer.status_code, answer.json()["status"]) == (code, code)


def test_requests_submissions_and_connections_are_recorded(bare: Emulator) -> None:
    """Requests, submissions and connections are counted."""
    before = time.monotonic()
    with requests.Session() as session:
        session.auth = AUTH
        base = f"{bare.url}/service/v1/segments"
        session.get(f"{base}/list", timeout=10)
        body = {"segmentId": bare.segments[1].segment_id, "outputFormat": "tsv"}
        export_id = session.post(f"{base}/export/", json=body, timeout=10).json()["exportId"]
        session.get(f"{base}/export/{export_id}", timeout=10)
    assert bare.connections == 1
    assert [(r.method, r.route, r.status, r.export_id) for r in bare.requests] == [
        ("GET", "list", 200, None),
        ("POST", "export", 200, export_id),
        ("GET", "status", 200, export_id),
    ]
    assert bare.requests[2].path == f"/service/v1/segments/export/{export_id}"
    assert before <= bare.requests[0].time <= bare.requests[2].time <= time.monotonic()
    (submission,) = bare.submissions
    expected = (export_id, bare.segments[1].segment_id, "tsv")
    assert (submission.export_id, submission.segment_id, submission.output_format) == expected
    assert before <= submission.time <= time.monotonic()
    assert abs(datetime.now(UTC) - submission.wall) < timedelta(seconds=30)
    call(bare, "GET", "/list")
    assert bare.connections == 2


def test_airflow_connection_leads_to_the_emulator(bare: Emulator) -> None:
    """The Connection leads to the emulator with the right credentials."""
    fields = json.loads(json.dumps(bare.airflow_connection()))
    assert (fields["conn_type"], fields["extra"]) == ("mparticle_analytics", {})
    url = f"{fields['host']}/service/v1/segments/list"
    assert requests.get(url, auth=(fields["login"], fields["password"]), timeout=10).status_code == 200


def test_expired_export_has_no_file(emulator: Emulator, s3_url: str) -> None:
    """An expired export ended 49 hours ago and its file is gone."""
    export = finished(emulator)
    emulator.expire(export["exportId"])
    old = status(emulator, export["exportId"]).json()
    age = datetime.now(UTC) - datetime.fromisoformat(old["endTime"])
    assert timedelta(hours=49) <= age < timedelta(hours=49, minutes=1)
    assert old["startTime"] <= old["endTime"]
    listed = s3(s3_url).list_objects_v2(Bucket="upload-bucket", Prefix=key_of(export["filename"]))
    assert listed["KeyCount"] == 0
    emulator.inject(Fault(FaultKind.NEVER))
    with pytest.raises(ValueError, match="PENDING"):
        emulator.expire(submit(emulator).json()["exportId"])


def test_refresh_advances_dynamic_segments_only(emulator: Emulator) -> None:
    """A refresh advances Dynamic segments only, each time; a named one always."""
    runs = [{s.segment_id: s.last_run for s in emulator.segments}]
    for _ in range(2):
        emulator.refresh()
        runs.append({s.segment_id: s.last_run for s in emulator.segments})
    for segment in emulator.segments:
        distinct = {run[segment.segment_id] for run in runs}
        assert len(distinct) == (3 if segment.type == "Dynamic" else 1), segment
    static = next(s for s in emulator.segments if s.type == "Static")
    emulator.refresh(static.segment_id)
    shown = {s["segmentId"]: s["lastRun"] for s in call(emulator, "GET", "/list").json()}
    assert shown[static.segment_id] > "2026"
    with pytest.raises(KeyError):
        emulator.refresh("unknown")


def test_refresh_timer_goes_on() -> None:
    """The timer refreshes again and again."""
    with Emulator(bucket=None, segments=1, refresh_seconds=0.02) as emulator:
        seen = set()

        def thrice() -> bool:
            seen.add(emulator.segments[0].last_run)
            return len(seen) >= 3

        until(thrice)


def test_exports_of_different_times() -> None:
    """Between two numbers, the same in every run."""
    settings = Settings(
        prefix="", export_seconds=(2, 90), presigned=False, refresh_seconds=None, requests_per_second=None
    )
    times = [settings.seconds_of(f"segment {n}", earlier) for n in range(100) for earlier in range(2)]
    assert times == [settings.seconds_of(f"segment {n}", earlier) for n in range(100) for earlier in range(2)]
    assert len(set(times)) == 200
    assert 2 <= min(times) < 10 < 80 < max(times) <= 90
    with Emulator(bucket=None, export_seconds=(0.1, 0.2)) as emulator:
        export_id = submit(emulator).json()["exportId"]
        until(lambda: emulator.exports[export_id] == "COMPLETE")


def test_hidden_limit() -> None:
    """What more is asked for than is allowed gets 429, without a word on how much that is."""
    with Emulator(bucket=None, requests_per_second=0.001) as emulator:
        first, second = call(emulator, "GET", "/list"), submit(emulator)
        assert (first.status_code, second.status_code) == (200, 429)
        assert "Retry-After" not in second.headers
        assert emulator.submissions == []
        assert [record.status for record in emulator.requests] == [200, 429]


def test_limit_lets_a_second_pass_at_once() -> None:
    """A second's requests in a burst, then as many as flow in."""
    now = 0.0
    limit = Limit(5, lambda: now)
    assert [limit.permits() for _ in range(6)] == [True] * 5 + [False]
    now = 0.4
    assert [limit.permits() for _ in range(3)] == [True, True, False]
    now = 1000
    assert sum(limit.permits() for _ in range(20)) == 5


def test_many_pending_exports_slow_nothing_down() -> None:
    """Thousands of pending exports slow nothing down."""
    with Emulator(bucket=None, export_seconds=3600) as emulator, requests.Session() as session:
        session.auth = AUTH
        body = {"segmentId": emulator.segments[0].segment_id, "outputFormat": "csv"}
        url = f"{emulator.url}/service/v1/segments/export/"
        ids = [session.post(url, json=body, timeout=10).json()["exportId"] for _ in range(2000)]
        assert len(set(ids)) == len(emulator.exports) == 2000
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda export_id: status(emulator, export_id).json(), ids[:200]))
        assert [answer["exportId"] for answer in answers] == ids[:200]


@pytest.mark.parametrize(
    "options",
    [
        {"segments": -1},
        {"rows": -1},
        {"export_seconds": -1},
        {"export_seconds": (2, 1)},
        {"requests_per_second": 0},
        {"refresh_seconds": 0},
        {"segments": [EmulatedSegment(name="A", segment_id="x"), EmulatedSegment(name="B", segment_id="x")]},
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any]) -> None:
    """Settings that make no sense are refused before anything starts."""
    with pytest.raises(ValueError, match="must|same"):
        Emulator(bucket=None, **options)


def test_files_have_names_without_a_bucket(bare: Emulator) -> None:
    """Without a bucket the files have addresses that lead nowhere."""
    bare.inject(Fault(FaultKind.PRESIGNED))
    presigned, plain = finished(bare), finished(bare)
    assert f"/path/to/{presigned['exportId']}.csv?X-Amz-Signature=" in presigned["filename"]
    assert plain["filename"] == f"s3://upload-bucket/path/to/{plain['exportId']}.csv"
