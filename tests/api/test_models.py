# SPDX-License-Identifier: Apache-2.0
"""What the service says, with the holes of its documentation."""

from __future__ import annotations

import inspect
import json
import pickle
import subprocess
import sys
from datetime import datetime, timezone
from typing import Any

import pytest

from airflow_provider_segments.api import errors
from airflow_provider_segments.api.calls import Reply, get_export, list_segments, read_reply, request_export
from airflow_provider_segments.api.errors import ExportFailedError, SegmentLookupError, UnreadableError
from airflow_provider_segments.api.models import ExportStatus, SegmentExport, UserSegment, find_segment
from airflow_provider_segments.api.redaction import excerpt

SEGMENT = {
    "segmentId": "82200474-c131-4f7b-a35e-381469af31a7",
    "name": "My Segment",
    "description": "This is my segment",
    "category": None,
    "projectId": "5a6646c4-ae5a-4de4-9d47-eb6f228405b2",
    "type": "Static",
    "lastRun": "2019-04-09T12:25:06.000Z",
}
EXPORT = {
    "exportId": "8f9fdd71-204c-41e1-a2ab-de7f85002f65",
    "segment": SEGMENT,
    "status": "COMPLETE",
    "startTime": "2019-04-09T14:45:07.000Z",
    "endTime": "2019-04-09T14:45:42.000Z",
    "filename": "s3://upload-bucket/path/to/8f9fdd71-204c-41e1-a2ab-de7f85002f65.csv",
}


def read(body: object, **replaced: Any) -> SegmentExport:
    """Read an export's answer."""
    text = body if isinstance(body, bytes) else json.dumps(body | replaced).encode()  # type: ignore[operator]
    return read_reply(get_export("e"), Reply(200, {}, text), now=0)


def test_the_documented_examples() -> None:
    """The page's own examples, which leave out the export's projectId."""
    segment = read_reply(list_segments(), Reply(200, {}, json.dumps([SEGMENT]).encode()), now=0)[0]
    assert segment.to_dict() == {
        "segment_id": "82200474-c131-4f7b-a35e-381469af31a7",
        "name": "My Segment",
        "description": "This is my segment",
        "category": None,
        "project_id": "5a6646c4-ae5a-4de4-9d47-eb6f228405b2",
        "segment_type": "Static",
        "last_run": "2019-04-09T12:25:06+00:00",
    }
    export = read(EXPORT)
    assert export.project_id == segment.project_id
    assert export.result("csv") == {
        "export_id": "8f9fdd71-204c-41e1-a2ab-de7f85002f65",
        "segment_id": "82200474-c131-4f7b-a35e-381469af31a7",
        "segment_name": "My Segment",
        "segment_type": "Static",
        "status": "COMPLETE",
        "output_format": "csv",
        "start_time": "2019-04-09T14:45:07+00:00",
        "end_time": "2019-04-09T14:45:42+00:00",
        "expires_at": "2019-04-11T14:45:42+00:00",
        "filename": "s3://upload-bucket/path/to/8f9fdd71-204c-41e1-a2ab-de7f85002f65.csv",
        "s3_uri": "s3://upload-bucket/path/to/8f9fdd71-204c-41e1-a2ab-de7f85002f65.csv",
        "s3_bucket": "upload-bucket",
        "s3_key": "path/to/8f9fdd71-204c-41e1-a2ab-de7f85002f65.csv",
    }


def test_pending_has_nulls() -> None:
    """While it runs there is no end, no file, no expiry."""
    result = read(EXPORT, status="PENDING", endTime=None, filename=None).result("csv")
    for key in ("end_time", "expires_at", "filename", "s3_uri", "s3_bucket", "s3_key"):
        assert result[key] is None


def test_own_project_id_wins() -> None:
    """When the service does send it."""
    assert read(EXPORT, projectId="p").project_id == "p"


def test_unknown_words_are_kept() -> None:
    """A status or type that is not documented is not an error, and keeps its word."""
    export = read(EXPORT, status="QUEUED", segment=SEGMENT | {"type": "Live"})
    assert (export.status.value, export.status.is_known, export.status.is_finished) == (
        "QUEUED",
        False,
        False,
    )
    assert export.result("csv")["segment_type"] == "Live"


@pytest.mark.parametrize("body", [EXPORT | {"status": None}, {"exportId": "e-1"}])
def test_export_without_a_status_is_not_finished(body: dict[str, Any]) -> None:
    """As one with a status that is not documented."""
    status = read(json.dumps(body).encode()).status
    assert (status.value, status.is_known, status.is_finished) == ("UNKNOWN", False, False)


def test_nul_is_replaced_wherever_it_is() -> None:
    """PostgreSQL refuses an XCom with one."""
    odd = read(
        EXPORT, filename="s3://b/a\0.csv", segment=SEGMENT | {"type": "a\0", "name": "\0n"}, status="\0"
    )
    assert "\0" not in repr(odd.result("csv"))


@pytest.mark.parametrize(("word", "finished"), [("PENDING", False), ("COMPLETE", True), ("FAILED", True)])
def test_every_status_is_classed(word: str, finished: bool) -> None:
    """Each documented word is pending or finished."""
    assert {status.value for status in ExportStatus} == {"PENDING", "COMPLETE", "FAILED"}
    assert ExportStatus(word).is_finished is finished


@pytest.mark.parametrize("filename", ["", " ", "\x00\x00", "\t\x1f ", "\u3000", "//", "////"])
def test_filename_that_names_nothing_is_no_file(filename: str) -> None:
    """Space, control characters, and what is empty as a URL."""
    assert read(EXPORT, filename=filename).file is None


def test_times_without_zone_and_with_another() -> None:
    """All become UTC."""
    assert read(EXPORT, startTime="2019-04-09T14:45:07").start_time == datetime(
        2019, 4, 9, 14, 45, 7, tzinfo=timezone.utc
    )
    assert str(read(EXPORT, startTime="2019-04-09T14:45:07+02:00").start_time) == "2019-04-09 12:45:07+00:00"
    for text in (
        "2019-04-09 14:45:07 UTC",
        "2019-04-09T14:45:07Z[UTC]",
        "2019-04-09T16:45:07+02:00[Europe/Berlin]",
    ):
        assert str(read(EXPORT, startTime=text).start_time) == "2019-04-09 14:45:07+00:00"


def test_dump_has_no_presigned_query() -> None:
    """Airflow 2 serializes what a task returns in this way."""
    export = read(EXPORT, filename="https://h.example/k.csv?X-Amz-Signature=secret")
    assert export.model_dump()["filename"] == "https://h.example/k.csv"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"<html><body>Sign in</body></html>",
        b"\xff\xfe",
        json.dumps(EXPORT | {"exportId": None}).encode(),
        json.dumps(EXPORT | {"exportId": ""}).encode(),
        b"[" * 100_000,
    ],
)
def test_bodies_that_are_none(body: bytes) -> None:
    """Each is our error, with the beginning of what came."""
    with pytest.raises(UnreadableError, match="It begins: ") as caught:
        read(body)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize(
    ("replaced", "field", "value"),
    [
        ({"endTime": "soon"}, "end_time", None),
        ({"endTime": ""}, "end_time", None),
        ({"endTime": "0001-01-01T00:00:00+23:00"}, "end_time", None),
        ({"endTime": "9999-12-31T23:59:59-23:00"}, "end_time", None),
        ({"endTime": 1e300}, "end_time", None),
        ({"projectId": 5}, "project_id", "5"),
        ({"filename": {"url": 1}}, "filename", None),
        ({"filename": " "}, "filename", None),
        ({"exportId": 17}, "export_id", "17"),
        ({"exportId": " e\n"}, "export_id", "e"),
    ],
)
def test_odd_details_are_not_worth_an_id(replaced: dict[str, Any], field: str, value: Any) -> None:
    """What is not needed to follow an export is taken as absent when it can't be read."""
    assert getattr(read(EXPORT, **replaced), field) == value


@pytest.mark.parametrize("segment", [None, {}, {"name": "n"}, "text", {"segmentId": ""}])
def test_export_without_its_segment(segment: Any) -> None:
    """The id in hand is kept; what it was asked for is known."""
    export = read(EXPORT, segment=segment)
    assert export.export_id == EXPORT["exportId"]
    assert export.with_segment_id("asked").segment.segment_id == "asked"
    assert export.with_segment_id("asked").result("csv")["segment_id"] == "asked"
    assert SegmentExport.model_validate(export.to_dict()).to_dict() == export.to_dict()
    assert read(EXPORT).with_segment_id("asked") == read(EXPORT)


@pytest.mark.parametrize("name", [None, True, {"en": "My Segment"}])
def test_one_odd_segment_does_not_spoil_the_list(name: Any) -> None:
    """Such as one that was never refreshed, or has a number where text is due."""
    odd = SEGMENT | {"lastRun": "0001-01-01T00:00:00.000Z", "projectId": 1234, "name": name, "type": 3}
    first, second = read_reply(list_segments(), Reply(200, {}, json.dumps([odd, SEGMENT]).encode()), now=0)
    assert (first.last_run, first.project_id, first.name, first.segment_type) == (None, "1234", "", None)
    assert second.name == "My Segment"


@pytest.mark.parametrize(
    "odd", [None, "text", {"name": "n"}, SEGMENT | {"segmentId": None}, {"segmentId": " "}]
)
def test_segment_without_an_id_does_not_spoil_the_list(odd: Any) -> None:
    """It can't be exported, the others can; nothing but such is no list of segments."""
    (kept,) = read_reply(list_segments(), Reply(200, {}, json.dumps([odd, SEGMENT]).encode()), now=0)
    assert kept.name == "My Segment"
    with pytest.raises(UnreadableError, match="none of its items is a segment"):
        read_reply(list_segments(), Reply(200, {}, json.dumps([odd]).encode()), now=0)


@pytest.mark.parametrize(
    ("name", "asked", "told"),
    [
        (
            "Prospects\u00a0EU",
            "Prospects EU",
            r" It looks the same, but 'Prospects\xa0EU' is not 'Prospects EU'.",
        ),
        (
            "Prospects EU",
            "Prospects\u00a0EU",
            r" It looks the same, but 'Prospects EU' is not 'Prospects\xa0EU'.",
        ),
        ("Zu\u0308rich", "Z\u00fcrich", r" It looks the same, but 'Zu\u0308rich' is not 'Z\xfcrich'."),
        ("Z\u00fcrich", "Zurich", ""),
    ],
)
def test_closest_name_that_looks_the_same(name: str, asked: str, told: str) -> None:
    """The message says how it differs."""
    with pytest.raises(SegmentLookupError) as caught:
        find_segment([UserSegment(segment_id="s", name=name)], None, asked)
    assert str(caught.value).endswith(f"has the name '{asked}'. Closest: '{name}'.{told}")


def test_name_of_many_segments() -> None:
    """The message names ten of them."""
    same = [UserSegment(segment_id=f"s-{number}", name="x") for number in range(5000)]
    with pytest.raises(SegmentLookupError, match=r"5000 segments .*s-0, .*s-9, …\. Name one") as caught:
        find_segment(same, None, "x")
    assert len(str(caught.value)) < 200


def test_null_characters_are_replaced() -> None:
    """PostgreSQL refuses them in XComs."""
    export = read(EXPORT, segment=SEGMENT | {"name": "a\0b", "segmentId": "s\0"})
    assert "\\u0000" not in json.dumps(export.to_dict())


def test_half_a_list() -> None:
    """An export where a list is due is not a list."""
    with pytest.raises(UnreadableError, match="Listing the segments"):
        read_reply(list_segments(), Reply(200, {}, json.dumps(EXPORT).encode()), now=0)


def test_excerpt_is_short_and_clean() -> None:
    """Two hundred characters on one line, without what must not be shown."""
    text = excerpt("a\n  b Basic dXNlcjpwYXNz " + "x" * 500 + " secret-token", ["secret-token"])
    assert text.startswith("a b Basic *** xxx")
    assert len(text) == 201
    url = "https://b.s3.amazonaws.com/k.csv?X-Amz-Credential=AK&X-Amz-Signature=abc"
    assert "abc" not in excerpt(url.replace("/", "\\/"))
    assert "abc" not in excerpt(url.replace("?", "\\u003f").replace("&", "\\u0026"))
    assert excerpt("\x1b[31mred\u202e") == "\N{REPLACEMENT CHARACTER}[31mred\N{REPLACEMENT CHARACTER}"
    assert "abc" not in excerpt("cut off: k.csv&X-Amz-Signature=abc")
    assert excerpt("proxy http://user:secret@proxy:3128 said no") == "proxy http://***@proxy:3128 said no"
    assert excerpt(f'{{"filename": "{url}"}}') == '{"filename": "https://b.s3.amazonaws.com/k.csv?***"}'


def test_ensure_complete() -> None:
    """Only a complete export with a file has something to hand over."""
    assert read(EXPORT).ensure_complete()
    with pytest.raises(ExportFailedError, match="FAILED"):
        read(EXPORT, status="FAILED").ensure_complete()
    with pytest.raises(ExportFailedError, match="names no file"):
        read(EXPORT, filename=None).ensure_complete()


def test_there_and_back() -> None:
    """What a trigger's event carries is the same export."""
    export = read(EXPORT)
    assert SegmentExport.model_validate(json.loads(json.dumps(export.to_dict()))) == export


def test_calls() -> None:
    """Paths as the service has them: with a slash at the end for the POST alone; ids quoted."""
    assert (list_segments().method, list_segments().path) == ("GET", "/list")
    post = request_export("s", "csv")
    assert (post.method, post.path, post.repeatable) == ("POST", "/export/", False)
    assert json.loads(post.body or b"") == {"segmentId": "s", "outputFormat": "csv"}
    get = get_export("ä;:@")
    assert (get.method, get.path, get.repeatable) == ("GET", "/export/%C3%A4%3B%3A%40", True)


ERRORS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.UserSegmentsError)
]


@pytest.mark.parametrize("kind", ERRORS)
def test_errors_survive_pickling(kind: type[errors.UserSegmentsError]) -> None:
    """With their class, message and attributes; each is public and stands in the module's tree."""
    assert kind.__name__ in errors.__all__
    assert f" {kind.__name__} " in (errors.__doc__ or "") or f"    {kind.__name__}\n" in (
        errors.__doc__ or ""
    )
    error = kind("words")
    if isinstance(error, errors.CallError):
        error.status = 429
        error.retry_after = 2.5
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (kind, "words", vars(error))


def test_the_protocol_stands_alone() -> None:
    """Importing api/ loads no Airflow and nothing that does I/O over HTTP."""
    code = (
        "import sys\n"
        "from airflow_provider_segments.api import calls, errors, flow, models, reattach, throttle\n"
        "print([name for name in ('airflow', 'requests', 'aiohttp', 'boto3') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
