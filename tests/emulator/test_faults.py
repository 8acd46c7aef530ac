# SPDX-License-Identifier: Apache-2.0
"""What goes wrong on demand."""

from __future__ import annotations

import time
from typing import Any

import pytest
import requests

from airflow_provider_segments.emulator import Emulator, Fault, FaultKind
from airflow_provider_segments.emulator._faults import parse_fault
from tests.emulator.support import STAMP, call, finished, status, submit


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
def test_refusal_applies_once_and_starts_nothing(bare: Emulator, kind: FaultKind, code: int) -> None:
    """And its status is recorded."""
    bare.inject(Fault(kind))
    answer = submit(bare)
    assert (answer.status_code, answer.json()["status"]) == (code, code)
    assert "Retry-After" not in answer.headers
    assert bare.submissions == []
    assert bare.requests[0].status == code
    assert submit(bare).status_code == 200


def test_retry_after_is_sent_to_the_letter(bare: Emulator) -> None:
    """Retry-After is sent as given."""
    date = "Wed, 21 Oct 2026 07:28:00 GMT"
    bare.inject(Fault(FaultKind.TOO_MANY_REQUESTS, retry_after=date))
    assert call(bare, "GET", "/list").headers["Retry-After"] == date


def test_fault_applies_to_its_call_every_nth_time_until_cleared(bare: Emulator) -> None:
    """As often as it should, and no other call."""
    bare.inject(Fault(FaultKind.UNAVAILABLE, on="status", every=2, times=2))
    assert call(bare, "GET", "/list").status_code == submit(bare).status_code == 200
    codes = [status(bare, "x").status_code for _ in range(6)]
    assert codes == [404, 503, 404, 503, 404, 404]
    bare.inject(Fault(FaultKind.UNAVAILABLE, times=None))
    assert [call(bare, "GET", "/list").status_code for _ in range(3)] == [503, 503, 503]
    bare.clear_faults()
    assert call(bare, "GET", "/list").status_code == 200


def test_second_refusal_waits_for_the_next_request() -> None:
    """Of two refusals the second waits for the next request."""
    faults = [Fault(FaultKind.FORBIDDEN), Fault(FaultKind.UNAVAILABLE)]
    with Emulator(bucket=None, faults=faults) as emulator:
        assert [call(emulator, "GET", "/list").status_code for _ in range(3)] == [403, 503, 200]


def test_latency_delays_the_answer(bare: Emulator) -> None:
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
def test_cut_connection_before_or_after_the_export_started(
    bare: Emulator, kind: FaultKind, started: int
) -> None:
    """A connection is cut without an answer, before or after an export was started."""
    bare.inject(Fault(kind))
    with pytest.raises(requests.ConnectionError):
        submit(bare)
    assert len(bare.submissions) == len(bare.exports) == started
    assert bare.requests[0].status is None
    assert [s.export_id for s in bare.submissions] == [bare.requests[0].export_id] * started


def test_half_body_has_the_length_of_the_whole(bare: Emulator) -> None:
    """Half a body comes under the length of the whole."""
    whole = call(bare, "GET", "/list").content
    bare.inject(Fault(FaultKind.HALF_BODY))
    answer = call(bare, "GET", "/list", stream=True)
    assert int(answer.headers["Content-Length"]) == len(whole)
    received: list[bytes] = []
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        received.extend(answer.iter_content(1))
    assert b"".join(received) == whole[: len(whole) // 2]


def test_html_comes_in_place_of_json(bare: Emulator) -> None:
    """A page comes where JSON should be."""
    bare.inject(Fault(FaultKind.HTML))
    answer = submit(bare)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert answer.text.startswith("<!DOCTYPE html>")
    assert bare.submissions == []


def test_redirect_that_is_followed_is_recorded(bare: Emulator) -> None:
    """A redirect that is followed is noticed."""
    bare.inject(Fault(FaultKind.REDIRECT, times=2))
    answer = call(bare, "GET", "/list")
    assert (answer.status_code, bare.redirects_followed) == (302, 0)
    assert call(bare, "GET", "/list", allow_redirects=True).status_code == 200
    assert bare.redirects_followed == 1
    assert [record.route for record in bare.requests] == ["list", "list", "redirected"]


def test_silence_until_the_client_leaves_or_a_cut(bare: Emulator) -> None:
    """A request is met with silence, for good or until the connection is cut."""
    bare.inject(Fault(FaultKind.SILENCE))
    with pytest.raises(requests.ReadTimeout):
        submit(bare, timeout=0.2)
    bare.inject(Fault(FaultKind.SILENCE, seconds=0.1))
    with pytest.raises(requests.ConnectionError, match="closed connection|aborted"):
        submit(bare)
    assert [record.status for record in bare.requests] == [None, None]
    assert bare.submissions == []


def test_failed_applies_to_the_next_export_only(emulator: Emulator) -> None:
    """The next export ends FAILED, the one after does not."""
    emulator.inject(Fault(FaultKind.FAILED))
    first, second = finished(emulator), finished(emulator)
    assert (first["status"], first["filename"], second["status"]) == ("FAILED", None, "COMPLETE")
    assert STAMP.fullmatch(first["endTime"])


def test_never_keeps_an_export_pending(bare: Emulator) -> None:
    """The next export never ends."""
    bare.inject(Fault(FaultKind.NEVER))
    assert finished(bare)["status"] == "PENDING"
    assert finished(bare)["status"] == "COMPLETE"
    assert sorted(bare.exports.values()) == ["COMPLETE", "PENDING"]


def test_unknown_status_until_the_end(bare: Emulator) -> None:
    """An export is QUEUED until it is done."""
    bare.inject(Fault(FaultKind.UNKNOWN_STATUS))
    export = submit(bare).json()
    assert (export["status"], export["endTime"]) == ("QUEUED", None)
    assert status(bare, export["exportId"]).json()["status"] == "COMPLETE"


def test_complete_export_without_a_filename(bare: Emulator) -> None:
    """An export is complete and does not say where."""
    bare.inject(Fault(FaultKind.NO_FILENAME))
    export = finished(bare)
    assert (export["status"], export["filename"]) == ("COMPLETE", None)


def test_extra_fields_in_answers_and_their_exports(bare: Emulator) -> None:
    """Unknown fields stand in an answer, and in all answers about an export that had them from the start."""
    bare.inject(Fault(FaultKind.EXTRA_FIELDS, on="list"))
    assert "owner" in call(bare, "GET", "/list").json()[0]
    assert "owner" not in call(bare, "GET", "/list").json()[0]
    bare.inject(Fault(FaultKind.EXTRA_FIELDS, on="export"))
    export = finished(bare)
    assert "owner" in export
    assert "owner" in export["segment"]
    assert "owner" not in finished(bare)


@pytest.mark.parametrize("always", [True, False])
def test_presigned_url_needs_no_credentials(s3_url: str, always: bool) -> None:
    """A presigned filename can be downloaded without credentials."""
    with Emulator(s3_endpoint_url=s3_url, export_seconds=0, presigned=always, rows=2) as emulator:
        if not always:
            emulator.inject(Fault(FaultKind.PRESIGNED))
        url = finished(emulator)["filename"]
        assert url.startswith(f"{s3_url}/upload-bucket/path/to/")
        assert "X-Amz-Signature=" in url
        assert len(requests.get(url, timeout=10).text.splitlines()) == 3
        assert finished(emulator)["filename"].startswith("http" if always else "s3://")


@pytest.mark.parametrize(
    "options", [{"on": "x"}, {"times": 0}, {"every": 0}, {"seconds": -1}, {"seconds": float("nan")}]
)
def test_fault_that_could_never_apply_is_refused(options: dict[str, Any]) -> None:
    """The error names the option."""
    with pytest.raises(ValueError, match=next(iter(options))):
        Fault(FaultKind.HTML, **options)
    with pytest.raises(ValueError, match="submissions"):
        Fault(FaultKind.FAILED, on="status")


def test_fault_in_the_form_of_the_command_line() -> None:
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
