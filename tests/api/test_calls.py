# SPDX-License-Identifier: Apache-2.0
"""Requests and answers as bytes: odd JSON, Retry-After, and what an error says of a request that may have started."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest

from airflow_provider_segments.api.calls import (
    Call,
    Reply,
    get_export,
    list_segments,
    read_reply,
    request_export,
)
from airflow_provider_segments.api.errors import CallError, RefusedError, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = 1_790_000_000.0
PLAIN = b'{"segmentId": "s-1", "name": "Registrants", "type": "Static"}'
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def names(body: bytes) -> list[str]:
    """Read a list of segments and return their names."""
    return [segment.name for segment in read_reply(list_segments(), Reply(200, {}, body), now=NOW)]


@pytest.mark.parametrize(
    ("name", "read"),
    [
        (rb"Fans \ud83d", f"Fans {REPLACEMENT}"),
        (rb"\udc4dFans", f"{REPLACEMENT}Fans"),
        (rb"\ud83d\ud83d\udc4d", f"{REPLACEMENT}\N{THUMBS UP SIGN}"),
        (b"K\xe4ufer", f"K{REPLACEMENT}ufer"),
        (b"Fans \xf0\x9f\x91", f"Fans {REPLACEMENT}"),
        (b"two\nlines\x01", "two\nlines\x01"),
        (rb"\\ud83d", r"\ud83d"),
        (rb"Fans \ud83", f"Fans {REPLACEMENT}"),
        (rb"O\'Neil, a,] \x41", "O'Neil, a,] x41"),
    ],
)
def test_list_with_odd_characters_in_a_name_is_read(name: bytes, read: str) -> None:
    """Half an emoji, bytes that are not UTF-8 and raw control characters cost the name, never the list."""
    odd = b'{"segmentId": "s-2", "name": "' + name + b'", "type": "Static"}'
    assert names(b"[" + PLAIN + b"," + odd + b"]") == ["Registrants", read]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_list_in_another_unicode_encoding_is_read(encoding: str) -> None:
    """A byte order mark, or another encoding of Unicode, is recognized."""
    assert names(("[" + PLAIN.decode() + "]").encode(encoding)) == ["Registrants"]


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n\xef\xbb\xbf[%s]",
        b"[%s]\n<!-- debug -->",
        b"[%s];",
        b"[%s,]",
        b'[%s, {"segmentId": "\\ud83", "name": ",]",}, ]',
    ],
)
def test_list_that_is_almost_json_is_read(body: bytes) -> None:
    """A comma or text too much costs nothing."""
    assert names(body % PLAIN)[0] == "Registrants"


@pytest.mark.parametrize(
    "body",
    [
        rb'{"exportId": "e-1", "segment": {"segmentId": "s-2", "name": "Fans \ud83d"}, "status": "PENDING"}',
        b'\xef\xbb\xbf{"exportId": "e-1", "status": "PENDING"}',
        b'{"exportId": "e-1"}',
        b'{"exportId": "e-1", "status": null}',
        b'{"exportId": "e-1", "count": ' + b"9" * 5000 + b', "status": "PENDING"}',
        b'{"exportId": "e-1", "trace": ' + b"[" * 300 + b"]" * 300 + b', "status": "PENDING"}',
        b'{"exportId": "e-1", "status": "PENDING"}\0',
        b'{"exportId": "e-1", "trace": ' + b"[" * 5000 + b"]" * 5000 + b', "status": "PENDING"}',
        b'{"status": "PENDING", "exportId" : "e-1", "segment": {"seg',
        rb'{"exportId": "e-1", "segment": {"name": "a\ud83"}, "status": "PENDING"}',
        b'{"exportId": "e-1"}\n<!-- debug -->',
        b'{"exportId": "e-1", "status": 3, "segment": 7, "startTime": {}, "filename": []}',
    ],
)
def test_answer_to_a_request_never_loses_the_export_id(body: bytes) -> None:
    """The export runs and can't be found again without its id, so no odd detail may cost it."""
    export = read_reply(request_export("s-2"), Reply(200, {}, body), now=NOW)
    assert export.export_id == "e-1"
    assert not export.status.is_finished


@pytest.fixture(params=["UTC", "America/New_York", "Asia/Tokyo"])
def _zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def retry_after(value: str) -> float | None:
    """Return what a 429 with this header asks to wait."""
    with pytest.raises(RefusedError) as caught:
        read_reply(list_segments(), Reply(429, {"Retry-After": value}, b""), now=NOW)
    return caught.value.retry_after


@pytest.mark.usefixtures("_zone")
@pytest.mark.parametrize(
    "date",
    [
        formatdate(NOW + 120, usegmt=True),
        time.strftime("%a, %d %b %Y %H:%M:%S", time.gmtime(NOW + 120)),
        time.strftime("%a, %d %b %Y %H:%M:%S -0000", time.gmtime(NOW + 120)),
        time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(NOW + 120)),
        time.strftime("%A, %d-%b-%y %H:%M:%S GMT", time.gmtime(NOW + 120)),
        time.asctime(time.gmtime(NOW + 120)),
        time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW + 120)),
        time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(NOW + 120)),
    ],
)
def test_retry_after_date_is_utc_wherever_the_worker_is(date: str) -> None:
    """RFC 9110 has three forms, one of them without a zone: all are UTC, and so are those of ISO 8601."""
    assert retry_after(date) == 120


@pytest.mark.parametrize(
    "value",
    [
        *("120", "120.0", " 120 ", "+120", "1.2e2", '"120"', "120, 120", "120; x=1"),
        *("120s", "120 S", "120 secs", "120 second", "120 Seconds"),
    ],
)
def test_retry_after_number_is_read_leniently(value: str) -> None:
    """A number is seconds, whatever surrounds it."""
    assert retry_after(value) == 120


@pytest.mark.parametrize("value", ["", "soon", "-1", "nan", "inf", "1e999", "٣", "Wed, 99 Foo 2026", "0x10"])
def test_retry_after_that_is_no_time_is_ignored(value: str) -> None:
    """The growing wait holds then."""
    assert retry_after(value) is None


def test_retry_after_has_limits() -> None:
    """A date that has passed asks for no wait; a number beyond all reason means a year."""
    assert retry_after(formatdate(NOW - 60, usegmt=True)) == 0
    assert retry_after("9" * 400) == 366 * 24 * 3600


@pytest.mark.parametrize(
    "reply", [Reply(200, {}, b"<html>"), Reply(200, {}, b"{}"), Reply(500, {}, b""), Reply(502, {}, b"")]
)
@pytest.mark.parametrize(("call", "said"), [(request_export("s"), True), (get_export("e"), False)])
def test_error_of_a_request_says_that_the_export_may_have_started(
    reply: Reply, call: Call[object], said: bool
) -> None:
    """An unreadable answer and a 5xx leave it open; only a request starts anything."""
    with pytest.raises(CallError) as caught:
        read_reply(call, reply, now=NOW)
    assert ("may have started" in str(caught.value)) is said


def test_error_of_a_refused_request_does_not_say_it_may_have_started() -> None:
    """A 4xx was not carried out."""
    for status in (400, 401, 403, 404, 429):
        with pytest.raises(CallError) as caught:
            read_reply(request_export("s"), Reply(status, {}, b""), now=NOW)
        assert "may have started" not in str(caught.value)


@pytest.mark.parametrize("status", [500, 501, 505, 507])
def test_undocumented_5xx_is_explained_as_500(status: int) -> None:
    """It is also repeated like one."""
    with pytest.raises(RefusedError, match="internal error"):
        read_reply(list_segments(), Reply(status, {}, b""), now=NOW)


def test_unreadable_answer_is_shown_as_it_came() -> None:
    """What no repair helps is shown, with the first reason."""
    with pytest.raises(UnreadableError, match="It begins: <html>"):
        read_reply(list_segments(), Reply(200, {}, b"<html>"), now=NOW)
