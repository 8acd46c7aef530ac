# SPDX-License-Identifier: Apache-2.0
"""
When to send a call, when to repeat it, when to poll again and when a wait ends.

A flow is a generator: it yields steps (`Connect`, `Send`, `Sleep`) and is sent each step's `Outcome` with the time. It
does no I/O and reads no clock, so both hooks drive the same flows and a test needs neither a network nor a pause.

Two questions, two policies: an export that is not finished is polled by its age, a call that failed is repeated by
what went wrong.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from airflow_provider_segments.api.calls import read_reply
from airflow_provider_segments.api.errors import CallError, ExportTimeoutError, RefusedError
from airflow_provider_segments.api.retries import Failures, RetryBudget, poll_delay, retry_delay, rule_for

if TYPE_CHECKING:
    from airflow_provider_segments.api.calls import Call
    from airflow_provider_segments.api.models import SegmentExport
    from airflow_provider_segments.api.throttle import Throttle

__all__ = [
    "FINAL_POLL_TIMEOUT",
    "Connect",
    "Flow",
    "Outcome",
    "Poll",
    "Send",
    "Sleep",
    "perform",
    "poll",
    "poll_until",
]

T = TypeVar("T")

#: Seconds the final poll may take, right at the deadline.
FINAL_POLL_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class Connect:
    """Read the Connection and open the transport, if that has not been done."""

    read_after: float = -math.inf  # monotonic time; what was read before is read again


@dataclass(frozen=True, slots=True)
class Send:
    """Send a call once."""

    call: Call[Any]
    timeout: float  # seconds; the Connection's request timeout may be shorter


@dataclass(frozen=True, slots=True)
class Sleep:
    """Let time pass."""

    seconds: float
    message: str | None = None
    level: int = logging.INFO


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step came to, and when."""

    monotonic: float  # seconds of a clock that never goes back
    time: float  # seconds since the epoch
    jitter: float  # a random number from 0 to 1
    answer: Any = None  # the reply to a Send; the flow puts what the reply holds in its place
    error: CallError | None = None


Flow = Generator[Connect | Send | Sleep, Outcome, T]


class Client(Protocol):
    """What a flow has to know of the client that sends its calls."""

    throttle: Throttle

    @property
    def max_retries(self) -> int:
        """The Connection's."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown."""


@dataclass(frozen=True, slots=True)
class Poll:
    """
    The result of polling an export: finished, or pending with the delay until the next poll.

    :param export: the latest answer; None if the service could not be asked.
    :param delay: seconds until the export may be polled again.
    :param error: why the service could not be asked.
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
        """Why a wait can't end with an export, for its timeout's message."""
        if self.error is not None:
            when = f"in {self.delay:.0f} s"
            return f"The deadline passes before the service may be asked again ({when}). Last: {self.error}"
        if self.export is None:
            return "No answer came before the deadline."
        return (
            f"{self.export.label} was still {self.export.status.value} at the deadline. It goes on at the service, "
            "which can't cancel it; allow a longer timeout if such exports take that long."
        )

    def finished_export(self) -> SegmentExport:
        """
        Return the finished export.

        :raises ExportTimeoutError: it is not finished.
        """
        if self.export is None or not self.export.status.is_finished:
            raise ExportTimeoutError(self.reason)
        return self.export


def perform(call: Call[T], client: Client, budget: RetryBudget | None = None) -> Flow[T]:
    """
    Send a call, with the repetitions that are due, and return what its answer holds.

    :raises CallError: the last failure.
    """
    outcome, _ = yield from _attempts(call, client, budget)
    if outcome.error is not None:
        raise outcome.error
    answer: T = outcome.answer
    return answer


def poll(
    call: Call[SegmentExport],
    client: Client,
    poll_interval: float | None = None,
    budget: RetryBudget | None = None,
    since: float | None = None,
) -> Flow[Poll]:
    """
    Poll an export once. A failure that a wait outlasts is no error, but a pending poll.

    :raises CallError: no later poll can help.
    """
    outcome, delay = yield from _attempts(call, client, budget)
    return _poll_of(outcome, delay, poll_interval, since)


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
    Poll an export until it is finished or a deadline passes. Outages and 429s don't end this before.

    :raises CallError: no later poll can help.
    """
    outcome = yield Sleep(0.0)
    if initial_delay > 0:
        outcome = yield Sleep(min(initial_delay, max(0.0, deadline - outcome.monotonic)))
    budget, since, status = RetryBudget(deadline=deadline), outcome.time, None
    outcome, delay = replace(outcome, answer=latest), 0.0
    while True:
        if outcome.answer is None:
            outcome, delay = yield from _attempts(call, client, budget)
        found = _poll_of(outcome, delay, poll_interval, since)
        if found.export is None or found.is_finished:
            return found
        remaining = deadline - outcome.monotonic
        if remaining <= 0 or (found.delay > remaining and not final_poll):
            return found
        message = None if found.export.status == status else _waiting(found.export)
        status, sleep = found.export.status, Sleep(min(found.delay, remaining), *(message or ()))
        del found, outcome  # thousands may be asleep at a time
        outcome = yield sleep


def _poll_of(outcome: Outcome, delay: float, poll_interval: float | None, since: float | None) -> Poll:
    if outcome.error is not None:
        return Poll(None, delay, outcome.error)
    export: SegmentExport = outcome.answer
    if export.status.is_finished:
        return Poll(export)
    started = export.start_time.timestamp() if export.start_time else since
    age = 0.0 if started is None else outcome.time - started
    return Poll(export, poll_delay(age, poll_interval, outcome.jitter))


def _waiting(export: SegmentExport) -> tuple[str, int]:
    """Return what to log of an export that is waited for, when its status is new."""
    if not export.status.is_known:
        word = export.status.value[:50]
        return (
            f"The service reports {export.label} as {word!r}, a status it does not document. Polling goes on until the "
            "deadline.",
            logging.WARNING,
        )
    since = f"{export.start_time:%Y-%m-%d %H:%M:%S} UTC" if export.start_time else "its request"
    return f"Waiting for {export.label}, which is {export.status.value} since {since}.", logging.INFO


def _attempts(call: Call[Any], client: Client, budget: RetryBudget | None) -> Flow[tuple[Outcome, float]]:
    """Return the outcome of the last attempt and, if it failed, the delay after which another may be made."""
    failures, connect = Failures(), Connect()
    while True:
        outcome, asked_at = yield from _attempt(call, client, budget, connect)
        if outcome.error is None:
            return outcome, 0.0
        failures = failures.after(outcome.error)
        delay = retry_delay(call, outcome.error, failures, outcome.jitter)
        if delay is None:
            raise outcome.error
        allowed = budget or RetryBudget.of_a_worker(client.max_retries)
        if not allowed.permits(outcome.error, failures, delay, outcome.monotonic):
            return outcome, delay
        if rule_for(outcome.error).reload:
            connect = Connect(read_after=asked_at)
            yield Sleep(0.0, f"{outcome.error} Reading the Connection once more.")
        else:
            message = f"{outcome.error} Asking again in {delay:.1f} s (failure {failures.total})."
            yield Sleep(delay, message, logging.WARNING)


def _attempt(
    call: Call[Any], client: Client, budget: RetryBudget | None, connect: Connect
) -> Flow[tuple[Outcome, float]]:
    """Send a call once, when it is its turn; return the outcome and when it was sent."""
    outcome = yield connect  # first, for the rate limit is the Connection's
    reserved = False
    while outcome.error is None:
        now = outcome.monotonic
        if (pause := client.throttle.pause(now, outcome.jitter)) > 0:
            allowed = budget or RetryBudget.of_a_worker(client.max_retries)
            if pause > allowed.longest_delay:
                return replace(outcome, error=_not_asked(call, pause)), now
            reserved, wait = False, pause
        else:
            reserved, wait = True, 0.0 if reserved else client.throttle.reserve(now)
        if wait <= 0:
            deadline = math.inf if budget is None else budget.deadline
            outcome = yield Send(call, max(deadline - now, FINAL_POLL_TIMEOUT))
            return _read(call, client, outcome), now
        outcome = yield Sleep(wait)
    return outcome, outcome.monotonic


def _not_asked(call: Call[Any], pause: float) -> RefusedError:
    said = f"{call.what}: not asked, for the service said to wait for {pause:.0f} s (HTTP 429)."
    return RefusedError(said, status=429, retry_after=pause)


def _read(call: Call[Any], client: Client, outcome: Outcome) -> Outcome:
    """Put what the reply holds, or what is wrong with it, in the reply's place."""
    if outcome.error is not None:
        return outcome
    try:
        answer = read_reply(call, outcome.answer, now=outcome.time, secrets=client.secrets)
    except CallError as error:
        if rule_for(error).throttles:
            client.throttle.too_many_requests(error.retry_after, outcome.monotonic)
        return replace(outcome, answer=None, error=error)
    client.throttle.accepted()
    return replace(outcome, answer=answer)
