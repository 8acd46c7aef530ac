# SPDX-License-Identifier: Apache-2.0
"""
When to send a call, when to repeat it, when to poll again and when a wait ends.

A flow is a generator: it yields steps (`Connect`, `Send`, `Sleep`) and is sent each step's `Outcome` with the time. It
does no I/O and reads no clock, so both hooks drive the same flows and a test needs neither a network nor a pause.

A pending export is polled on a schedule that depends on its age; a failed call is retried according to the error.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from airflow_provider_segments.api.calls import read_reply
from airflow_provider_segments.api.errors import CallError, ExportTimeoutError, RefusedError
from airflow_provider_segments.api.retries import (
    IN_A_POLL,
    ON_A_WORKER,
    Failures,
    RetryBudget,
    poll_delay,
    retry_delay,
    rule_for,
)

if TYPE_CHECKING:
    from airflow_provider_segments.api.calls import Call
    from airflow_provider_segments.api.models import SegmentExport
    from airflow_provider_segments.api.throttle import Place, Throttle

T = TypeVar("T")

#: Seconds that a call may take at least, even right at the deadline.
MIN_SEND_TIMEOUT = 5.0
_LATEST_TURN = 1.0  # seconds that a call may wait for its turn after its deadline
_SLACK = 3.0  # a poll may be this many poll delays late; they grow with the export's age


@dataclass(frozen=True, slots=True)
class Connect:
    """Read the Airflow Connection and open the transport, unless that has been done."""

    read_after: float = -math.inf  # monotonic time; a Connection that was read earlier is read again


@dataclass(frozen=True, slots=True)
class Send:
    """Send a call once."""

    call: Call[Any]
    timeout: float  # seconds; the Connection's request timeout may be shorter
    cuts: int  # `Throttle.cuts` at the call's turn; if a 429 has raised it since, the call needs another turn


@dataclass(frozen=True, slots=True)
class Sleep:
    """Let time pass."""

    seconds: float
    message: str | None = None
    level: int = logging.INFO


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a step, and the time."""

    monotonic: float  # seconds of a clock that never goes back
    time: float  # seconds since the epoch
    jitter: float  # a random number from 0 to 1
    value: Any = None  # of a Send: the raw reply, which `_parse` replaces with the model; None if it needs another turn
    error: CallError | None = None


Flow = Generator[Connect | Send | Sleep, Outcome, T]


class Client(Protocol):
    """What a flow needs to know about the client that sends its calls."""

    throttle: Throttle

    @property
    def max_retries(self) -> int:
        """The retry limit of the Connection."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets to redact."""


@dataclass(frozen=True, slots=True)
class Poll:
    """
    The result of polling an export: finished, or pending with the delay until the next poll.

    :param export: the export's latest state; None if the request failed.
    :param delay: seconds until the export may be polled again.
    :param error: why the request failed.
    """

    export: SegmentExport | None
    delay: float = 0.0
    error: CallError | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the export is complete or failed."""
        return self.export is not None and self.export.status.is_finished

    @property
    def reason(self) -> str:
        """Why the wait timed out."""
        if self.export is None:
            return f"The next retry (in {self.delay:.0f} s) would be after the deadline. Last error: {self.error}"
        return (
            f"{self.export.label} was still {self.export.status.value} at the deadline. It keeps running at the "
            "service, which can't cancel it; allow a longer timeout if such exports take that long."
        )

    def finished_export(self, deadline_name: str | None = None) -> SegmentExport:
        """
        Return the finished export.

        :param deadline_name: what set the deadline, for the message.
        :raises ExportTimeoutError: it is not finished.
        """
        if self.export is None or not self.export.status.is_finished:
            raise ExportTimeoutError(
                f"{self.reason} ({deadline_name} ended the wait)" if deadline_name else self.reason
            )
        return self.export


def perform(call: Call[T], client: Client, budget: RetryBudget = ON_A_WORKER) -> Flow[T]:
    """
    Send a call, retry it as its budget allows, and return the parsed answer.

    :raises CallError: the last failure.
    """
    outcome, _ = yield from _send_with_retries(call, client, budget)
    if outcome.error is not None:
        raise outcome.error
    return cast("T", outcome.value)


def poll(
    call: Call[SegmentExport],
    client: Client,
    poll_interval: float | None = None,
    budget: RetryBudget = IN_A_POLL,
) -> Flow[Poll]:
    """
    Poll an export once. A retryable failure returns a pending poll instead of raising.

    :raises CallError: no later poll can help.
    """
    outcome, delay = yield from _send_with_retries(call, client, budget)
    return _poll_of(outcome, delay, poll_interval)


def poll_until(
    call: Call[SegmentExport],
    client: Client,
    deadline: float,
    poll_interval: float | None = None,
    *,
    latest: SegmentExport | None = None,
    initial_delay: float = 0.0,
    final_poll: bool = True,
) -> Flow[Poll]:
    """
    Poll an export until it is finished or the deadline passes, also through outages and 429s.

    :raises CallError: no later poll can help.
    """
    outcome = yield Sleep(0.0)  # only to get the time
    if initial_delay > 0:
        outcome = yield Sleep(min(initial_delay, max(0.0, deadline - outcome.monotonic)))
    budget, wait_started, status = RetryBudget(deadline=deadline), outcome.time, None
    outcome, delay, slack = replace(outcome, value=latest), 0.0, 0.0
    while True:
        if outcome.value is None:  # always, except when `latest` replaces the first poll
            outcome, delay = yield from _send_with_retries(call, client, budget, slack)
        found = _poll_of(outcome, delay, poll_interval, wait_started)
        if found.export is None or found.is_finished:  # None: the retries ran into the deadline
            return found
        remaining = deadline - outcome.monotonic
        if remaining <= 0 or (found.delay > remaining and not final_poll):
            return found
        sleep = Sleep(min(found.delay, remaining), *_log_of(found.export, status))
        status, slack = found.export.status, _SLACK * found.delay
        del found, outcome  # thousands of waits may sleep at a time
        outcome = yield sleep


def _poll_of(
    outcome: Outcome, delay: float, poll_interval: float | None, wait_started: float | None = None
) -> Poll:
    if outcome.error is not None:
        return Poll(None, delay, outcome.error)
    export: SegmentExport = outcome.value
    if export.status.is_finished:
        return Poll(export)
    # A clock that is behind, or a start time in another zone, would make the export younger than the wait.
    known = (export.start_time.timestamp() if export.start_time else None, wait_started)
    age = max((outcome.time - started for started in known if started is not None), default=0.0)
    return Poll(export, poll_delay(age, poll_interval, outcome.jitter))


def _log_of(export: SegmentExport, last_status: Any) -> tuple[str | None, int]:
    """Return the message and level to log about a pending export; none if its status has not changed."""
    if export.status == last_status:
        return None, logging.INFO
    if not export.status.is_known:
        word = export.status.value[:50]
        return (
            f"The service reports {export.label} as {word!r}, an undocumented status. Polling continues until the "
            "deadline.",
            logging.WARNING,
        )
    since = f" since {export.start_time:%Y-%m-%d %H:%M:%S} UTC" if export.start_time else ""
    return f"Waiting for {export.label}: {export.status.value}{since}.", logging.INFO


def _send_with_retries(
    call: Call[Any], client: Client, budget: RetryBudget, slack: float = 0.0
) -> Flow[tuple[Outcome, float]]:
    """Return the outcome of the last attempt and, if it failed, the delay after which another may be made."""
    failures, connect, place = Failures(), Connect(), None
    while True:
        outcome = yield connect  # first: the rate limit and the retry limit are read from the Connection
        allowed = budget.resolved(client.max_retries)
        place = place or client.throttle.place(outcome.monotonic, slack)
        outcome, sent_at = yield from _send_once(call, client, allowed, outcome, place)
        if news := client.throttle.news():
            yield Sleep(0.0, news, logging.WARNING)
        if outcome.error is None:
            return outcome, 0.0
        rule, failures = rule_for(outcome.error), failures.after(outcome.error)
        pause = retry_delay(call, outcome.error, failures, outcome.jitter)
        if pause is None:
            raise outcome.error
        # After a 429, sleep only as long as the service asks: then the throttle queues the call until its turn.
        delay = max(pause, client.throttle.delay(outcome.monotonic)) if rule.throttles else pause
        if not allowed.permits(outcome.error, failures, delay, outcome.monotonic):
            return outcome, delay
        message = f"{outcome.error} Retrying in {pause:.1f} s ({failures.total} failed so far)."
        if rule.reload:
            connect = Connect(read_after=sent_at)
            yield Sleep(0.0, f"{outcome.error} Reloading the Connection and retrying.")
        else:
            yield Sleep(pause, None if rule.throttles else message, logging.WARNING)


def _send_once(
    call: Call[Any], client: Client, budget: RetryBudget, outcome: Outcome, place: Place
) -> Flow[tuple[Outcome, float]]:
    """Send a call once, when it is its turn; return the outcome and when it was sent."""
    throttle = client.throttle
    try:
        while outcome.error is None:
            now = outcome.monotonic
            if wait := throttle.turn(place, now):
                if throttle.pause(now) > budget.longest_delay or now >= budget.deadline + _LATEST_TURN:
                    limit = (
                        "too many requests (HTTP 429)" if throttle.learned else "the Connection's rate limit"
                    )
                    said = f"{call.what}: not sent, because of {limit}, for another {wait:.0f} s at least."
                    return replace(outcome, error=RefusedError(said, status=429, retry_after=wait)), now
                outcome = yield Sleep(min(wait, budget.deadline + _LATEST_TURN - now))
                continue
            cuts = throttle.cuts
            outcome = yield Send(call, max(budget.deadline - now, MIN_SEND_TIMEOUT), cuts)
            if outcome.value is not None or outcome.error is not None:
                return _parse(call, client, outcome, cuts), now
    finally:
        throttle.leave(place)
    return outcome, outcome.monotonic


def _parse(call: Call[Any], client: Client, outcome: Outcome, cuts: int) -> Outcome:
    """Replace the raw reply with the model, or with an error."""
    if outcome.error is not None:
        return outcome
    try:
        value = read_reply(call, outcome.value, now=outcome.time, secrets=client.secrets)
    except CallError as error:
        if rule_for(error).throttles:
            client.throttle.too_many_requests(error.retry_after, cuts, outcome.monotonic, outcome.jitter)
        return replace(outcome, value=None, error=error)
    client.throttle.accepted(outcome.monotonic)
    return replace(outcome, value=value)
