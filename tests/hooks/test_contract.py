# SPDX-License-Identifier: Apache-2.0
"""The protocol as both transports keep it, over real HTTP against the emulator."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_segments.api import calls
from airflow_provider_segments.api.errors import (
    ConfigurationError,
    ConnectionLookupError,
    ExportFailedError,
    ExportTimeoutError,
    NoAnswerError,
    NotSentError,
    OversizedError,
    RefusedError,
    UnreadableError,
    UserSegmentsError,
)
from airflow_provider_segments.connection import lookup
from airflow_provider_segments.emulator import EmulatedSegment, Emulator, Fault, FaultKind
from airflow_provider_segments.hooks.user_segments import UserSegmentsHook
from airflow_provider_segments.transports import requests as transport
from airflow_provider_segments.triggers.user_segments import UserSegmentExportTrigger

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support import Client, FakeClock


@pytest.fixture
def export_id(connected: Emulator) -> str:
    """An export, complete at the first look."""
    return UserSegmentsHook().request_export(connected.segments[0].segment_id).export_id


def test_list(client: Client, connected: Emulator) -> None:
    """The list is what the service holds."""
    expected = [(s.segment_id, s.name, s.category, s.type) for s in connected.segments]
    assert [
        (s.segment_id, s.name, s.category, s.segment_type and s.segment_type.value)
        for s in client.list_segments()
    ] == expected


def test_status(client: Client, export_id: str) -> None:
    """A complete export has its file and its end."""
    export = client.get_export(export_id)
    assert export.export_id == export_id
    assert export.status == "COMPLETE"
    assert export.file
    assert export.file.s3_uri == f"s3://upload-bucket/path/to/{export_id}.csv"
    assert export.end_time


def test_wait(client: Client, clock: FakeClock, connect: Callable[..., None]) -> None:
    """A wait sees PENDING, pauses, and returns the complete export."""
    with Emulator(bucket=None, export_seconds=3600) as slow:
        connect(slow)
        export_id = UserSegmentsHook().request_export(slow.segments[0].segment_id).export_id
        # The service's time doesn't go faster, so it is told to end at the third look.
        clock.on_sleep = lambda: len(clock.sleeps) == 2 and slow.end(export_id)
        assert client.wait(export_id).status == "COMPLETE"
    assert len(clock.sleeps) == 2
    assert 0.9 <= clock.sleeps[0] <= 1.1


STATUSES = [
    (FaultKind.UNAUTHORIZED, RefusedError, "Access Token", 2),
    (FaultKind.FORBIDDEN, RefusedError, "Export API", 1),
    (FaultKind.TOO_MANY_REQUESTS, RefusedError, "rate limit", 6),
    (FaultKind.INTERNAL_ERROR, RefusedError, "ticket", 5),
    (FaultKind.BAD_GATEWAY, RefusedError, "502", 6),
    (FaultKind.UNAVAILABLE, RefusedError, "503", 6),
    (FaultKind.GATEWAY_TIMEOUT, RefusedError, "504", 6),
    (FaultKind.REDIRECT, RefusedError, "redirects are not followed", 1),
    (FaultKind.HTML, UnreadableError, "<html", 3),
    (FaultKind.HALF_BODY, NoAnswerError, "no complete answer", 6),
    (FaultKind.CUT_BEFORE, NoAnswerError, "no complete answer", 6),
]


@pytest.mark.parametrize(("kind", "error", "words", "requests"), STATUSES)
def test_get_that_keeps_failing(
    client: Client,
    connected: Emulator,
    kind: FaultKind,
    error: type[UserSegmentsError],
    words: str,
    requests: int,
) -> None:
    """On a worker a GET is repeated as the pacing table says, then fails with words that help."""
    connected.inject(Fault(kind, on="list", times=None))
    with pytest.raises(error, match=words) as caught:
        client.list_segments()
    assert type(caught.value) is error
    assert len(connected.requests) == requests
    assert connected.redirects_followed == 0


@pytest.mark.parametrize(
    ("kind", "times"),
    [
        (FaultKind.UNAUTHORIZED, 1),
        (FaultKind.TOO_MANY_REQUESTS, 5),
        (FaultKind.INTERNAL_ERROR, 4),
        (FaultKind.UNAVAILABLE, 5),
        (FaultKind.HTML, 2),
        (FaultKind.HALF_BODY, 5),
        (FaultKind.CUT_BEFORE, 5),
    ],
)
def test_get_that_recovers(
    client: Client, connected: Emulator, clock: FakeClock, kind: FaultKind, times: int
) -> None:
    """As many failures as the table allows, and the answer still comes."""
    connected.inject(Fault(kind, on="list", times=times))
    assert len(client.list_segments()) == 3
    assert len(connected.requests) == times + 1
    if kind is FaultKind.INTERNAL_ERROR:
        assert min(clock.sleeps) >= 60
    elif kind is FaultKind.UNAVAILABLE:
        assert [round(s / 1.125) for s in clock.sleeps] == pytest.approx([1, 2, 4, 8, 16], rel=0.2)


def test_retry_after_seconds(client: Client, connected: Emulator, clock: FakeClock) -> None:
    """The service's own word on when to come back holds."""
    connected.inject(Fault(FaultKind.TOO_MANY_REQUESTS, retry_after="17"))
    client.list_segments()
    assert len(clock.sleeps) == 1
    assert 17 <= clock.sleeps[0] <= 19


def test_retry_after_date(client: Client, connected: Emulator, clock: FakeClock) -> None:
    """It may be a date."""
    from email.utils import formatdate

    connected.inject(
        Fault(FaultKind.TOO_MANY_REQUESTS, retry_after=formatdate(clock.time() + 120, usegmt=True))
    )
    client.list_segments()
    assert 118 <= clock.sleeps[0] <= 133


def test_a_worker_is_not_held_for_long(client: Client, connected: Emulator, clock: FakeClock) -> None:
    """More than five minutes are not waited for on a worker."""
    connected.inject(Fault(FaultKind.TOO_MANY_REQUESTS, retry_after="301"))
    with pytest.raises(RefusedError) as caught:
        client.list_segments()
    assert caught.value.retry_after == 301
    assert clock.sleeps == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault(FaultKind.UNAVAILABLE, on="status", times=40),
        Fault(FaultKind.TOO_MANY_REQUESTS, on="status", times=40),
        Fault(FaultKind.TOO_MANY_REQUESTS, on="status", times=3, retry_after="900"),
        Fault(FaultKind.CUT_BEFORE, on="status", times=40),
    ],
)
def test_a_wait_outlasts(client: Client, connected: Emulator, export_id: str, fault: Fault) -> None:
    """A wait goes on through an outage or a storm of 429s."""
    connected.inject(fault)
    assert client.wait(export_id).status == "COMPLETE"
    assert sum(request.route == "status" for request in connected.requests) == (fault.times or 0) + 1


@pytest.mark.parametrize(
    ("kind", "error", "requests"),
    [
        (FaultKind.INTERNAL_ERROR, RefusedError, 5),
        (FaultKind.HTML, UnreadableError, 3),
        (FaultKind.UNAUTHORIZED, RefusedError, 2),
        (FaultKind.FORBIDDEN, RefusedError, 1),
    ],
)
def test_a_wait_ends_where_no_patience_helps(
    client: Client,
    connected: Emulator,
    export_id: str,
    kind: FaultKind,
    error: type[Exception],
    requests: int,
) -> None:
    """Tickets are not opened by the dozen, and a locked door is not tried for a day."""
    connected.inject(Fault(kind, on="status", times=None))
    with pytest.raises(error):
        client.wait(export_id)
    assert sum(request.route == "status" for request in connected.requests) == requests


def test_a_wait_ends_at_its_deadline(client: Client, clock: FakeClock, connect: Callable[..., None]) -> None:
    """Not before, and with the export named."""
    with Emulator(bucket=None, export_seconds=3600) as slow:
        connect(slow)
        export_id = UserSegmentsHook().request_export(slow.segments[0].segment_id).export_id
        with pytest.raises(ExportTimeoutError, match=export_id):
            client.wait(export_id, timeout=100)
    assert 99 < clock.ahead < 101


def test_a_wait_does_not_ask_again_too_early(client: Client, connected: Emulator, export_id: str) -> None:
    """Where the service's word would pass the deadline, the wait ends without another request."""
    connected.inject(Fault(FaultKind.TOO_MANY_REQUESTS, on="status", times=None, retry_after="3600"))
    with pytest.raises(ExportTimeoutError, match="would be after the deadline"):
        client.wait(export_id, timeout=600)
    assert sum(request.route == "status" for request in connected.requests) == 1


def test_fixed_poll_interval(client: Client, clock: FakeClock, connect: Callable[..., None]) -> None:
    """A number means that number of seconds."""
    with Emulator(bucket=None, export_seconds=3600) as slow:
        connect(slow)
        export_id = UserSegmentsHook().request_export(slow.segments[0].segment_id).export_id
        with pytest.raises(ExportTimeoutError):
            client.wait(export_id, timeout=31, poll_interval=10)
    assert clock.sleeps[:3] == [10, 10, 10]
    assert len(clock.sleeps) == 4


@pytest.mark.parametrize("poll_interval", [0, -1, float("nan"), True])
def test_poll_interval_not_above_zero_is_refused(
    client: Client, connected: Emulator, export_id: str, poll_interval: float
) -> None:
    """By both hooks and the trigger, before the service is asked thousands of times a second."""
    before = len(connected.requests)
    with pytest.raises(ConfigurationError, match="poll_interval is"):
        client.wait(export_id, poll_interval=poll_interval)
    with pytest.raises(ConfigurationError, match="poll_interval is"):
        UserSegmentExportTrigger(export_id, poll_interval=poll_interval)
    assert len(connected.requests) == before


def test_rotated_credentials(
    client: Client, connected: Emulator, export_id: str, clock: FakeClock, connect: Callable[..., None]
) -> None:
    """A 401 has the Connection read once more, so that a wait outlives a rotation."""
    connect(connected, password="old")
    # The old token is read, and in use, by the time of the pause; then it changes.
    connected.inject(Fault(FaultKind.UNAVAILABLE, on="status", times=1))
    clock.on_sleep = lambda: connect(connected)
    assert client.wait(export_id).status == "COMPLETE"
    assert [r.status for r in connected.requests if r.route == "status"] == [503, 401, 200]


def test_unknown_status_is_waited_for(
    client: Client, connected: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    """A word that is not documented is told once and is not the end."""
    connected.inject(Fault(FaultKind.UNKNOWN_STATUS, on="export"))
    connected.inject(Fault(FaultKind.NEVER, on="export"))
    export_id = UserSegmentsHook().request_export(connected.segments[0].segment_id).export_id
    assert client.get_export(export_id).status.value == "QUEUED"
    with pytest.raises(ExportTimeoutError, match="QUEUED"):
        client.wait(export_id, timeout=300)
    assert sum("undocumented" in message for message in caplog.messages) == 1


def test_extra_fields_are_ignored(client: Client, connected: Emulator) -> None:
    """The service may say more than its page."""
    connected.inject(Fault(FaultKind.EXTRA_FIELDS, times=None))
    assert len(client.list_segments()) == 3


def test_presigned_filename(client: Client, connected: Emulator) -> None:
    """The query of a URL is in the model for whoever reads the file, and nowhere else."""
    connected.inject(Fault(FaultKind.PRESIGNED, on="export"))
    export_id = UserSegmentsHook().request_export(connected.segments[0].segment_id).export_id
    export = client.get_export(export_id)
    assert export.filename
    assert "?" in export.filename
    shown = f"{export!r} {export} {export.label} {export.to_dict()} {export.result('csv')}"
    assert "?" not in shown
    assert "Signature" not in shown


@pytest.mark.parametrize("on", ["list", "status"])
def test_silence(
    client: Client, connected: Emulator, connect: Callable[..., None], export_id: str, on: str
) -> None:
    """No answer within the request timeout is no answer."""
    connect(connected, extra={"request_timeout": 0.2, "max_retries": 0})
    connected.inject(Fault(FaultKind.SILENCE, on=on, times=None))  # type: ignore[arg-type]
    with pytest.raises(NoAnswerError, match="no complete answer"):
        client.list_segments() if on == "list" else client.get_export(export_id)


def test_refused_connection(client: Client, connected: Emulator) -> None:
    """Nobody listens: nothing was sent, and the address is named."""
    connected.pause("refuse")
    with pytest.raises(NotSentError, match="could not connect") as caught:
        client.list_segments()
    assert connected.url in str(caught.value)
    assert connected.requests == []


def test_oversized_body(client: Client, connected: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body over the cap is not read, and not asked for again."""
    monkeypatch.setattr("airflow_provider_segments.api.calls.MAX_BODY_BYTES", 100)
    with pytest.raises(OversizedError, match="longer than 100 bytes"):
        client.list_segments()
    assert len(connected.requests) == 1


@pytest.mark.parametrize("wrong", ["a/b", "a?b", "a#b", "..", "", "a b", "a%2Fb"])
def test_export_id_that_is_none(client: Client, connected: Emulator, wrong: str) -> None:
    """An id that would lead elsewhere is refused before anything is sent."""
    with pytest.raises(ConfigurationError, match="is not an id of the service"):
        client.get_export(wrong)
    assert connected.requests == []


def test_unknown_export(client: Client) -> None:
    """A 404 is told as one."""
    with pytest.raises(RefusedError, match="not known to the service") as caught:
        client.get_export("nobody")
    assert caught.value.status == 404


@pytest.mark.usefixtures("database")
def test_no_such_connection(client: Client, monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> None:
    """The Connection is named, and how to make it."""
    monkeypatch.delenv("AIRFLOW_CONN_MPARTICLE_ANALYTICS_DEFAULT")
    with pytest.raises(ConnectionLookupError, match="'mparticle_analytics_default' does not exist"):
        client.list_segments()
    assert len(clock.sleeps) == 4


@pytest.mark.usefixtures("database")
def test_connection_that_airflow_finds_later(
    client: Client,
    connected: Emulator,
    connect: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    clock: FakeClock,
) -> None:
    """Airflow says "not found" also when it could not look, so one such answer ends nothing."""
    monkeypatch.delenv("AIRFLOW_CONN_MPARTICLE_ANALYTICS_DEFAULT")
    clock.on_sleep = lambda: connect(connected)
    assert len(client.list_segments()) == 3


def look_ups_raise(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Airflow fail to look up any Connection."""

    def fail(_: str) -> Any:
        raise error

    async def fail_later(_: str) -> Any:
        raise error

    monkeypatch.setattr(lookup.BaseHook, "get_connection", fail)
    monkeypatch.setattr(lookup, "get_async_connection", fail_later)


def test_airflow_that_can_not_look_up_for_a_moment(
    client: Client, connected: Emulator, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    """Whatever its database or a secrets backend raises, one such failure ends nothing."""
    with monkeypatch.context() as patched:
        look_ups_raise(OSError("postgresql://airflow:pass-word@db is gone"), patched)
        with pytest.raises(ConnectionLookupError, match=r"could not look it up \(OSError\)") as caught:
            client.list_segments()
        assert "pass-word" not in str(caught.value)
        assert len(clock.sleeps) == 4
        clock.on_sleep = patched.undo
        assert len(client.list_segments()) == 3


def test_airflow_that_denies_access(
    client: Client, connected: Emulator, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    """To create the Connection would not help, nor to look again."""
    look_ups_raise(PermissionError("refusing to fall back"), monkeypatch)
    with pytest.raises(ConfigurationError, match="Airflow denies this task access to Connection") as caught:
        client.list_segments()
    assert caught.value.permanent
    assert clock.sleeps == []


@pytest.mark.usefixtures("connected")
def test_contradictory_answer_to_the_post(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request was sent, so the export may have started; the Host is not to blame."""

    def contradict(
        *_: Any, **__: Any
    ) -> Any:  # a real answer would leave urllib3 with a socket that it never closes
        raise requests.exceptions.InvalidHeader("Content-Length contained multiple unmatching values (5, 7)")

    monkeypatch.setattr(requests.Session, "request", contradict)
    with pytest.raises(NoAnswerError, match="may have started"):
        UserSegmentsHook().request_export("some-segment")


def test_slow_connection_takes_no_time_from_the_answer(
    connected: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A complete answer to the POST counts, also if connecting took long: its id would be lost."""
    now, request = [0.0], requests.Session.request

    def slow(*args: Any, **kwargs: Any) -> requests.Response:
        now[0] += 1000.0
        return request(*args, **kwargs)

    monkeypatch.setattr(requests.Session, "request", slow)
    monkeypatch.setattr(transport, "time", SimpleNamespace(monotonic=lambda: now[0]))
    assert UserSegmentsHook().request_export(connected.segments[0].segment_id).export_id


def test_rate_limit(
    client: Client, connected: Emulator, connect: Callable[..., None], clock: FakeClock
) -> None:
    """Requests of one process keep their distance."""
    connect(connected, extra={"max_requests_per_second": 0.5})
    connected.inject(Fault(FaultKind.UNAUTHORIZED))
    client.list_segments()
    # The second of the two requests, which follow each other at once, waits for its slot.
    assert any(1.5 < pause <= 2 for pause in clock.sleeps)


@pytest.mark.parametrize("host", ["a..b.invalid", "x" * 64 + ".invalid", ".invalid"])
def test_host_that_is_none(
    client: Client, connected: Emulator, connect: Callable[..., None], host: str
) -> None:
    """Names that no resolver takes are told from a service that is away."""
    connect(connected, host=host)
    with pytest.raises(ConfigurationError, match="Host"):
        client.list_segments()


def test_last_look_has_time(client: Client, connect: Callable[..., None]) -> None:
    """At the deadline there is time for an answer: what is complete by then counts, what is not is told as such."""
    from airflow_provider_segments.utils.clock import Clock

    client.hook._clock = Clock()
    slow = Fault(FaultKind.LATENCY, on="status", seconds=0.1, times=None)
    with Emulator(bucket=None, export_seconds=3600, faults=[slow]) as service:
        connect(service)
        export_id = UserSegmentsHook().request_export(service.segments[0].segment_id).export_id
        with pytest.raises(ExportTimeoutError, match="was still PENDING at the deadline"):
            client.wait(export_id, timeout=0.3, poll_interval=60)
        service.end(export_id)
        assert client.wait(export_id, timeout=0.01).status == "COMPLETE"


def test_secrets_do_not_come_back(
    client: Client, connected: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that echoes the credentials does not bring them into an error."""
    from airflow_provider_segments.api.calls import Reply

    token = "emulator-token"
    basic = UserSegmentsHook().settings.secrets[1]
    with pytest.raises(RefusedError) as caught:
        calls.read_reply(
            calls.list_segments(),
            Reply(418, {}, f"you sent Basic {basic}, {token} for https://x.com/f?X-Amz-Signature=1".encode()),
            now=0,
            secrets=(token, basic),
        )
    assert token not in str(caught.value)
    assert basic not in str(caught.value)
    assert "Signature" not in str(caught.value)
    assert "https://x.com/f" in str(caught.value)


POSTS = [
    (FaultKind.TOO_MANY_REQUESTS, None, 6, 1),
    (FaultKind.INTERNAL_ERROR, RefusedError, 1, 0),
    (FaultKind.UNAVAILABLE, RefusedError, 1, 0),
    (FaultKind.UNAUTHORIZED, RefusedError, 1, 0),
    (FaultKind.FORBIDDEN, RefusedError, 1, 0),
    (FaultKind.HTML, UnreadableError, 1, 0),
    (FaultKind.HALF_BODY, NoAnswerError, 1, 1),
    (FaultKind.CUT_BEFORE, NoAnswerError, 1, 0),
    (FaultKind.CUT_AFTER, NoAnswerError, 1, 1),
]


@pytest.mark.parametrize(("kind", "error", "requests", "submissions"), POSTS)
def test_post(
    connected: Emulator,
    clock: FakeClock,
    kind: FaultKind,
    error: type[Exception] | None,
    requests: int,
    submissions: int,
) -> None:
    """The POST is repeated only when it is known not to have been carried out."""
    connected.inject(Fault(kind, on="export", times=5))
    client = UserSegmentsHook()
    client.clock = clock
    if error is None:
        client.request_export(connected.segments[0].segment_id)
    else:
        with pytest.raises(error):
            client.request_export(connected.segments[0].segment_id)
    assert len(connected.requests) == requests
    assert len(connected.submissions) == submissions


def test_post_is_repeated_when_nobody_listened(connected: Emulator, clock: FakeClock) -> None:
    """Nothing was sent, so it is sent once the service is back."""
    connected.pause("refuse")
    clock.on_sleep = lambda: len(clock.sleeps) == 3 and connected.resume()
    client = UserSegmentsHook()
    client.clock = clock
    client.request_export(connected.segments[0].segment_id)
    assert len(connected.submissions) == 1


def test_post_says_when_it_may_have_started(connected: Emulator) -> None:
    """The words that decide what the operator does next."""
    connected.inject(Fault(FaultKind.CUT_AFTER, on="export"))
    with pytest.raises(NoAnswerError, match="may have started"):
        UserSegmentsHook().request_export(connected.segments[0].segment_id)


@pytest.mark.parametrize(
    ("kind", "words"), [(FaultKind.FAILED, "FAILED"), (FaultKind.NO_FILENAME, "names no file")]
)
def test_export_without_a_file(connected: Emulator, kind: FaultKind, words: str) -> None:
    """There is nothing to hand over, and the message says which export."""
    connected.inject(Fault(kind, on="export"))
    hook = UserSegmentsHook()
    export_id = hook.request_export(connected.segments[0].segment_id).export_id
    with pytest.raises(ExportFailedError, match=words) as caught:
        hook.wait_for_export(export_id)
    assert export_id in str(caught.value)


def test_get_segment(connect: Callable[..., None]) -> None:
    """Exact look-up; an unknown name shows the closest, an ambiguous one the ids."""
    twice = [
        EmulatedSegment(name="Buyers"),
        EmulatedSegment(name="Recent Registrants"),
        EmulatedSegment(name="Buyers"),
    ]
    with Emulator(bucket=None, segments=twice) as service:
        connect(service)
        hook = UserSegmentsHook()
        found = hook.get_segment(name="Recent Registrants")
        assert hook.get_segment(segment_id=found.segment_id) == found
        with pytest.raises(LookupError, match="Closest: 'Recent Registrants'"):
            hook.get_segment(name="recent registrants")
        with pytest.raises(LookupError, match="Nothing similar"):
            hook.get_segment(name="zzz")
        with pytest.raises(LookupError) as caught:
            hook.get_segment(name="Buyers")
        for segment in service.segments[0], service.segments[2]:
            assert segment.segment_id in str(caught.value)
        with pytest.raises(ConfigurationError, match="exactly one"):
            hook.get_segment()
