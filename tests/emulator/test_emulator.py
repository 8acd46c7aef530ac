# SPDX-License-Identifier: Apache-2.0
"""The emulator over real HTTP, with a real S3 server behind it."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from importlib import import_module
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from airflow_provider_segments.emulator import EmulatedSegment, Emulator, Fault, FaultKind
from airflow_provider_segments.emulator.__main__ import main
from airflow_provider_segments.emulator._faults import parse_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

AUTH = ("emulator-key", "emulator-token")
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture
def emulator(s3_url: str) -> Iterator[Emulator]:
    with Emulator(s3_endpoint_url=s3_url, export_seconds=0, segments=20) as running:
        yield running


@pytest.fixture
def bare() -> Iterator[Emulator]:
    with Emulator(bucket=None, export_seconds=0) as running:
        yield running


def call(emulator: Emulator, method: str, path: str, **options: Any) -> requests.Response:
    defaults: dict[str, Any] = {"auth": AUTH, "timeout": 10, "allow_redirects": False}
    return requests.request(method, f"{emulator.url}/service/v1/segments{path}", **(defaults | options))


def submit(emulator: Emulator, **options: Any) -> requests.Response:
    body = {"segmentId": emulator.segments[0].segment_id, "outputFormat": "csv"}
    return call(emulator, "POST", "/export/", **({"json": body} | options))


def status(emulator: Emulator, export_id: str, **options: Any) -> requests.Response:
    return call(emulator, "GET", f"/export/{export_id}", **options)


def finished(emulator: Emulator) -> dict[str, Any]:
    export: dict[str, Any] = status(emulator, submit(emulator).json()["exportId"]).json()
    return export


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        pause.wait(0.01)


def s3(url: str) -> Any:
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    return import_module("boto3").client("s3", endpoint_url=url, region_name="us-east-1", **keys)


def key_of(filename: str) -> str:
    return filename.removeprefix("s3://upload-bucket/")


def test_list(emulator: Emulator) -> None:
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


def test_described_segments() -> None:
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


def test_export(emulator: Emulator, s3_url: str) -> None:
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
    again = s3(s3_url).get_object(Bucket="upload-bucket", Key=key_of(finished(emulator)["filename"]))
    assert again["Body"].read() == body


def test_export_takes_time(s3_url: str) -> None:
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


@pytest.mark.parametrize("auth", [None, ("emulator-key", "wrong"), ("wrong", "emulator-token")])
def test_credentials_are_checked(bare: Emulator, auth: tuple[str, str] | None) -> None:
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
def test_bad_submissions(bare: Emulator, options: dict[str, Any], code: int) -> None:
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
def test_unknown_addresses(bare: Emulator, method: str, path: str, code: int) -> None:
    """Slashes matter, and errors are JSON."""
    answer = call(bare, method, path)
    assert (answer.status_code, answer.json()["status"]) == (code, code)


def test_records(bare: Emulator) -> None:
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


def test_airflow_connection(bare: Emulator) -> None:
    """The Connection leads to the emulator with the right credentials."""
    fields = json.loads(json.dumps(bare.airflow_connection()))
    assert (fields["conn_type"], fields["extra"]) == ("mparticle_analytics", {})
    url = f"{fields['host']}/service/v1/segments/list"
    assert requests.get(url, auth=(fields["login"], fields["password"]), timeout=10).status_code == 200


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (FaultKind.UNAUTHORIZED, 401),
        (FaultKind.FORBIDDEN, 403),
        (FaultKind.TOO_MANY_REQUESTS, 429),
        (FaultKind.INTERNAL_ERROR, 500),
        (FaultKind.BAD_GATEWAY, 502),
        (FaultKind.UNAVAILABLE, 503),
        (FaultKind.GATEWAY_TIMEOUT, 504),
    ],
)
def test_refusals(bare: Emulator, kind: FaultKind, code: int) -> None:
    """A refusal strikes once and nothing is carried out."""
    bare.inject(Fault(kind))
    answer = submit(bare)
    assert (answer.status_code, answer.json()["status"]) == (code, code)
    assert "Retry-After" not in answer.headers
    assert bare.submissions == []
    assert bare.requests[0].status == code
    assert submit(bare).status_code == 200


def test_retry_after_to_the_letter(bare: Emulator) -> None:
    """Retry-After is sent as given."""
    date = "Wed, 21 Oct 2026 07:28:00 GMT"
    bare.inject(Fault(FaultKind.TOO_MANY_REQUESTS, retry_after=date))
    assert call(bare, "GET", "/list").headers["Retry-After"] == date


def test_on_every_times_and_clear(bare: Emulator) -> None:
    """A fault strikes its call only, at every n-th request, as often as it should."""
    bare.inject(Fault(FaultKind.UNAVAILABLE, on="status", every=2, times=2))
    assert call(bare, "GET", "/list").status_code == submit(bare).status_code == 200
    codes = [status(bare, "x").status_code for _ in range(6)]
    assert codes == [404, 503, 404, 503, 404, 404]
    bare.inject(Fault(FaultKind.UNAVAILABLE, times=None))
    assert [call(bare, "GET", "/list").status_code for _ in range(3)] == [503, 503, 503]
    bare.clear_faults()
    assert call(bare, "GET", "/list").status_code == 200


def test_one_refusal_at_a_time() -> None:
    """Of two refusals the second waits for the next request."""
    faults = [Fault(FaultKind.FORBIDDEN), Fault(FaultKind.UNAVAILABLE)]
    with Emulator(bucket=None, faults=faults) as emulator:
        assert [call(emulator, "GET", "/list").status_code for _ in range(3)] == [403, 503, 200]


def test_latency(bare: Emulator) -> None:
    """Latency delays the answer of a request that is carried out."""
    bare.inject(Fault(FaultKind.LATENCY, seconds=0.3))
    begun = time.monotonic()
    assert submit(bare).status_code == 200
    assert time.monotonic() - begun >= 0.3
    bare.inject(Fault(FaultKind.LATENCY, seconds=60))
    with pytest.raises(requests.ReadTimeout):
        submit(bare, timeout=0.2)
    assert len(bare.submissions) == 2
    assert bare.requests[1].status is None


@pytest.mark.parametrize(("kind", "started"), [(FaultKind.CUT_BEFORE, 0), (FaultKind.CUT_AFTER, 1)])
def test_cuts(bare: Emulator, kind: FaultKind, started: int) -> None:
    """A connection is cut without an answer, before or after an export was started."""
    bare.inject(Fault(kind))
    with pytest.raises(requests.ConnectionError):
        submit(bare)
    assert len(bare.submissions) == len(bare.exports) == started
    assert bare.requests[0].status is None
    assert [s.export_id for s in bare.submissions] == [bare.requests[0].export_id] * started


def test_half_body(bare: Emulator) -> None:
    """Half a body comes under the length of the whole."""
    whole = call(bare, "GET", "/list").content
    bare.inject(Fault(FaultKind.HALF_BODY))
    answer = call(bare, "GET", "/list", stream=True)
    assert int(answer.headers["Content-Length"]) == len(whole)
    received: list[bytes] = []
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        received.extend(answer.iter_content(1))
    assert b"".join(received) == whole[: len(whole) // 2]


def test_html(bare: Emulator) -> None:
    """A page comes where JSON should be."""
    bare.inject(Fault(FaultKind.HTML))
    answer = submit(bare)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert answer.text.startswith("<!DOCTYPE html>")
    assert bare.submissions == []


def test_redirect(bare: Emulator) -> None:
    """A redirect that is followed is noticed."""
    bare.inject(Fault(FaultKind.REDIRECT, times=2))
    answer = call(bare, "GET", "/list")
    assert (answer.status_code, bare.redirects_followed) == (302, 0)
    assert call(bare, "GET", "/list", allow_redirects=True).status_code == 200
    assert bare.redirects_followed == 1
    assert [record.route for record in bare.requests] == ["list", "list", "redirected"]


def test_silence(bare: Emulator) -> None:
    """A request is met with silence, for good or until the connection is cut."""
    bare.inject(Fault(FaultKind.SILENCE))
    with pytest.raises(requests.ReadTimeout):
        submit(bare, timeout=0.2)
    bare.inject(Fault(FaultKind.SILENCE, seconds=0.1))
    with pytest.raises(requests.ConnectionError, match="closed connection|aborted"):
        submit(bare)
    assert [record.status for record in bare.requests] == [None, None]
    assert bare.submissions == []


def test_failed(emulator: Emulator) -> None:
    """The next export ends FAILED, the one after does not."""
    emulator.inject(Fault(FaultKind.FAILED))
    first, second = finished(emulator), finished(emulator)
    assert (first["status"], first["filename"], second["status"]) == ("FAILED", None, "COMPLETE")
    assert STAMP.fullmatch(first["endTime"])


def test_never(bare: Emulator) -> None:
    """The next export never ends."""
    bare.inject(Fault(FaultKind.NEVER))
    assert finished(bare)["status"] == "PENDING"
    assert finished(bare)["status"] == "COMPLETE"
    assert sorted(bare.exports.values()) == ["COMPLETE", "PENDING"]


def test_unknown_status(bare: Emulator) -> None:
    """An export is QUEUED until it is done."""
    bare.inject(Fault(FaultKind.UNKNOWN_STATUS))
    export = submit(bare).json()
    assert (export["status"], export["endTime"]) == ("QUEUED", None)
    assert status(bare, export["exportId"]).json()["status"] == "COMPLETE"


def test_no_filename(bare: Emulator) -> None:
    """An export is complete and does not say where."""
    bare.inject(Fault(FaultKind.NO_FILENAME))
    export = finished(bare)
    assert (export["status"], export["filename"]) == ("COMPLETE", None)


def test_extra_fields(bare: Emulator) -> None:
    """Unknown fields stand in an answer, and in all answers about an export they struck."""
    bare.inject(Fault(FaultKind.EXTRA_FIELDS, on="list"))
    assert "owner" in call(bare, "GET", "/list").json()[0]
    assert "owner" not in call(bare, "GET", "/list").json()[0]
    bare.inject(Fault(FaultKind.EXTRA_FIELDS, on="export"))
    export = finished(bare)
    assert "owner" in export
    assert "owner" in export["segment"]
    assert "owner" not in finished(bare)


@pytest.mark.parametrize("always", [True, False])
def test_presigned(s3_url: str, always: bool) -> None:
    """A presigned filename can be downloaded without credentials."""
    with Emulator(s3_endpoint_url=s3_url, export_seconds=0, presigned=always, rows=2) as emulator:
        if not always:
            emulator.inject(Fault(FaultKind.PRESIGNED))
        url = finished(emulator)["filename"]
        assert url.startswith(f"{s3_url}/upload-bucket/path/to/")
        assert "X-Amz-Signature=" in url
        assert len(requests.get(url, timeout=10).text.splitlines()) == 3
        assert finished(emulator)["filename"].startswith("http" if always else "s3://")


def test_expire(emulator: Emulator, s3_url: str) -> None:
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


def test_refresh(emulator: Emulator) -> None:
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


def test_refresh_timer() -> None:
    """The timer refreshes again and again."""
    with Emulator(bucket=None, segments=1, refresh_seconds=0.02) as emulator:
        seen = set()

        def thrice() -> bool:
            seen.add(emulator.segments[0].last_run)
            return len(seen) >= 3

        until(thrice)


def test_outage_refuses_and_ends_on_the_same_port(bare: Emulator) -> None:
    """An outage cuts what is open, refuses connections, and ends where it began."""
    url, port = bare.url, int(bare.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as idle, requests.Session() as session:
        session.get(f"{url}/_emulator/state", timeout=10)
        bare.pause()
        bare.pause()
        assert idle.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=10)
        bare.resume()
        bare.resume()
    assert bare.url == url
    assert call(bare, "GET", "/list").status_code == 200


def test_stopping_during_an_outage_gives_up_the_port() -> None:
    """After the end the port is free, whatever state it was in."""
    with Emulator(bucket=None) as emulator:
        emulator.pause()
    port = int(emulator.url.rpartition(":")[2])
    with Emulator(bucket=None, port=port) as other:
        assert call(other, "GET", "/list").status_code == 200
        with pytest.raises(OSError, match="in use"), Emulator(bucket=None, port=port):
            pass


def test_silent_outage(bare: Emulator) -> None:
    """In a silent outage requests arrive and stay unanswered."""
    bare.pause("silence")
    with pytest.raises(requests.ReadTimeout):
        submit(bare, timeout=0.2)
    bare.resume()
    assert submit(bare).status_code == 200
    assert [record.status for record in bare.requests] == [None, 200]
    assert len(bare.submissions) == 1


def certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "emulator")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    signed = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "emulator.pem"
    path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return path


def test_https(tmp_path: Path) -> None:
    """The emulator serves HTTPS with a certificate given, and cuts and outages work there too."""
    path = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    with Emulator(bucket=None, ssl_context=context) as emulator:
        assert emulator.url.startswith("https://127.0.0.1:")
        assert call(emulator, "GET", "/list", verify=str(path)).status_code == 200
        with pytest.raises(requests.exceptions.SSLError):
            call(emulator, "GET", "/list")
        assert emulator.connections == 2
        emulator.inject(Fault(FaultKind.CUT_AFTER))
        with pytest.raises(requests.ConnectionError):
            submit(emulator, verify=str(path))
        assert len(emulator.submissions) == 1
        emulator.pause()
        with pytest.raises(requests.ConnectionError, match="refused"):
            submit(emulator, verify=str(path))
        emulator.resume()
        assert submit(emulator, verify=str(path)).status_code == 200


def test_control(bare: Emulator) -> None:
    """A process next door reads the state and sets faults over HTTP."""
    control = f"{bare.url}/_emulator"
    export = finished(bare)
    state = requests.get(f"{control}/state", timeout=10).json()
    assert state["requests"] == {"export": 1, "status": 1}
    assert state["exports"] == {"COMPLETE": 1}
    assert state["connections"] == 3
    assert [s["export_id"] for s in state["submissions"]] == [export["exportId"]]
    fault = {"kind": "unavailable", "times": None}
    assert requests.post(f"{control}/faults", json=fault, timeout=10).status_code == 201
    assert call(bare, "GET", "/list").status_code == 503
    assert requests.delete(f"{control}/faults", timeout=10).status_code == 200
    assert call(bare, "GET", "/list").status_code == 200
    before = bare.segments[0].last_run
    assert requests.post(f"{control}/refresh", timeout=10).status_code == 200
    assert bare.segments[0].last_run != before
    assert requests.post(f"{control}/refresh?segment_id=unknown", timeout=10).status_code == 404


@pytest.mark.parametrize("body", ["{", "[]", "{}", '{"kind": "x"}', '{"kind": "html", "tiems": 1}'])
def test_control_refuses_nonsense(bare: Emulator, body: str) -> None:
    """A fault that is none is refused with a reason."""
    answer = requests.post(f"{bare.url}/_emulator/faults", data=body, timeout=10)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_many_pending_exports_and_fast_answers() -> None:
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
        {"refresh_seconds": 0},
        {"segments": [EmulatedSegment(name="A", segment_id="x"), EmulatedSegment(name="B", segment_id="x")]},
    ],
)
def test_bad_settings(options: dict[str, Any]) -> None:
    """Settings that make no sense are refused before anything starts."""
    with pytest.raises(ValueError, match="must|same"):
        Emulator(bucket=None, **options)


@pytest.mark.parametrize(
    "options", [{"on": "x"}, {"times": 0}, {"every": 0}, {"seconds": -1}, {"seconds": float("nan")}]
)
def test_bad_faults(options: dict[str, Any]) -> None:
    """A fault that could never strike is refused."""
    with pytest.raises(ValueError, match=next(iter(options))):
        Fault(FaultKind.HTML, **options)
    with pytest.raises(ValueError, match="submissions"):
        Fault(FaultKind.FAILED, on="status")


def test_parse_fault() -> None:
    """The command line's form says all a fault can say."""
    text = "too_many_requests:on=status,every=2,times=none,retry_after=Wed, 21 Oct 2026 07:28:00 GMT"
    assert parse_fault(text) == Fault(
        FaultKind.TOO_MANY_REQUESTS,
        on="status",
        every=2,
        times=None,
        retry_after="Wed, 21 Oct 2026 07:28:00 GMT",
    )
    assert parse_fault("latency:seconds=0.5") == Fault(FaultKind.LATENCY, seconds=0.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("--port", "70000"),
        ("--rows", "-1"),
        ("--segments", "few"),
        ("--export-seconds", "nan"),
        ("--refresh-seconds", "0"),
        ("--fault", "nonsense"),
    ],
)
def test_bad_arguments(name: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A bad argument is named."""
    with pytest.raises(SystemExit, match="2"):
        main([f"{name}={value}"])
    assert f"argument {name}: " in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_line(s3_url: str, number: signal.Signals) -> None:
    """The command serves, says where, logs requests, and exits 0 on a signal."""
    arguments = ["--port", "0", "--s3-endpoint-url", s3_url, "--segments", "7", "--export-seconds", "0"]
    arguments += ["--verbose", "--api-key", "it's", "--fault", "unavailable:on=list"]
    with subprocess.Popen(
        [sys.executable, "-m", "airflow_provider_segments.emulator", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        ready = process.stdout.readline()
        variable = shlex.split(ready.partition("export ")[2])[0]
        name, _, value = variable.partition("=")
        connection = json.loads(value)
        url, auth = f"{connection['host']}/service/v1/segments/list", ("it's", connection["password"])
        codes = [requests.get(url, auth=auth, timeout=10).status_code for _ in range(2)]
        process.send_signal(number)
        output, log = process.communicate(timeout=20)
    assert name == "AIRFLOW_CONN_MPARTICLE_ANALYTICS_DEFAULT"
    assert connection["host"] in ready.partition(";")[0]
    assert codes == [503, 200]
    assert (process.returncode, output) == (0, "")
    assert log.count("GET /service/v1/segments/list: ") == 2


def test_command_without_boto3(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without boto3 the command says what to install."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    assert main(["--port", "0"]) == 1
    assert "airflow-provider-segments[emulator]" in capsys.readouterr().err


def test_command_without_s3(capsys: pytest.CaptureFixture[str]) -> None:
    """An S3 that can't be reached is named, not shown as a traceback."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert main(["--port", "0", "--s3-endpoint-url", url]) == 1
    assert url in capsys.readouterr().err


def test_no_bucket_still_names_files(bare: Emulator) -> None:
    """Without a bucket the files have addresses that lead nowhere."""
    bare.inject(Fault(FaultKind.PRESIGNED))
    presigned, plain = finished(bare), finished(bare)
    assert f"/path/to/{presigned['exportId']}.csv?X-Amz-Signature=" in presigned["filename"]
    assert plain["filename"] == f"s3://upload-bucket/path/to/{plain['exportId']}.csv"


def test_unknown_outage(bare: Emulator) -> None:
    """A mistyped outage is refused, and nothing happens."""
    with pytest.raises(ValueError, match="refsue"):
        bare.pause("refsue")  # type: ignore[arg-type]
    assert call(bare, "GET", "/list").status_code == 200
