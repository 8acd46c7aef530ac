# SPDX-License-Identifier: Apache-2.0
"""
When to ask again: the polling schedule, the retry rules and the rate limit.

Two questions, two policies: "not done yet" asks again by age, "this call failed" by what went wrong. Both are
plain functions: a loop elsewhere asks them and sleeps, and holds no decision of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_provider_segments.api.errors import (
    CallError,
    CertificateError,
    ConnectionLookupError,
    InternalServerError,
    NoAnswerError,
    NotSentError,
    OversizedError,
    TooManyRequestsError,
    UnauthorizedError,
    UnavailableError,
    UnreadableError,
)

if TYPE_CHECKING:
    from airflow_provider_segments.api.calls import Call

__all__ = [
    "WAIT",
    "Failures",
    "Patience",
    "RateLimit",
    "SharedPause",
    "delay_before_poll",
    "delay_before_retry",
    "ends_a_wait",
    "reads_connection_again",
    "worker_patience",
]


@dataclass(frozen=True, slots=True)
class _Rule:
    """
    What follows one kind of error.

    :param last: the how-manieth in a row is the last; None leaves it to the caller's patience.
    :param not_before: seconds that pass in any case.
    :param repeats_post: whether a call that must not be carried out twice is sent again.
    :param reload: whether the Connection is read once more, and the call sent again at once.
    :param pauses_all: whether all callers of one client are to pause, not this one alone.
    """

    last: int | None = None
    not_before: float = 0.0
    repeats_post: bool = False
    reload: bool = False
    pauses_all: bool = False


_STOP = _Rule(last=1)

#: What is not listed here (403, other 4xx, redirects) stops.
_RULES: dict[type[CallError], _Rule] = {
    ConnectionLookupError: _Rule(last=5, repeats_post=True),  # Airflow itself may be restarting
    NotSentError: _Rule(repeats_post=True),
    CertificateError: _STOP,
    NoAnswerError: _Rule(),
    TooManyRequestsError: _Rule(repeats_post=True, pauses_all=True),  # a 429 was not carried out
    InternalServerError: _Rule(last=5, not_before=60.0),  # each one opens a ticket with the vendor
    UnavailableError: _Rule(),
    UnauthorizedError: _Rule(last=2, reload=True),  # the credentials may have been rotated
    UnreadableError: _Rule(last=3),
    OversizedError: _STOP,
}


@dataclass(frozen=True, slots=True)
class Patience:
    """
    How long a caller can go on.

    :param max_retries: repetitions of one call; None for no limit but the deadline.
    :param longest_wait: seconds; a service that asks to wait longer is not waited for. None for no limit.
    """

    max_retries: int | None = None
    longest_wait: float | None = None


#: A wait goes on until its deadline: an hour's export must survive a ten-minute outage.
WAIT = Patience()


def worker_patience(max_retries: int) -> Patience:
    """
    Return the patience of a call made on a worker, which is not to be held for long.

    :param max_retries: the Connection's setting.
    """
    return Patience(max_retries=max_retries, longest_wait=300.0)


@dataclass(frozen=True, slots=True)
class Failures:
    """
    The failed tries of one call, since it was made or last succeeded.

    :param total: how many.
    :param in_a_row: how many of the latest kind came one after the other, up to now.
    :param kind: the latest kind.
    """

    total: int = 0
    in_a_row: int = 0
    kind: type[CallError] | None = None

    def plus(self, error: CallError) -> Failures:
        """Count one more."""
        in_a_row = self.in_a_row + 1 if type(error) is self.kind else 1
        return replace(self, total=self.total + 1, in_a_row=in_a_row, kind=type(error))


def delay_before_retry(
    call: Call[object], error: CallError, failures: Failures, patience: Patience, spread: float
) -> float | None:
    """
    Return the seconds to wait before the call is sent again, or None to give up.

    :param call: what was sent.
    :param error: what went wrong.
    :param failures: the failed tries of this call, this one included.
    :param patience: the caller's.
    :param spread: a random number from 0 to 1, so that many callers don't come back at once.
    """
    rule = _RULES.get(type(error), _STOP)
    if not call.repeatable and not rule.repeats_post:
        return None
    if rule.last is not None and failures.in_a_row >= rule.last:
        return None
    if rule.reload:
        return 0.0
    if patience.max_retries is not None and failures.total > patience.max_retries:
        return None
    asked = error.retry_after
    if asked is not None and patience.longest_wait is not None and asked > patience.longest_wait:
        return None
    if asked is not None:
        return max(rule.not_before, asked) + spread * max(1.0, asked / 10)
    return max(rule.not_before, _growing(failures.total)) * (1 + spread / 4)


def _growing(times: int) -> float:
    """Return 1, 2, 4, … and at most 60 seconds."""
    return float(min(60, 2 ** min(times - 1, 6)))


def reads_connection_again(error: CallError) -> bool:
    """
    Return whether the Connection is to be read once more before a retry.

    :param error: what went wrong.
    """
    return _RULES.get(type(error), _STOP).reload


def ends_a_wait(error: CallError) -> bool:
    """
    Return whether a wait ends when a worker's patience with this error does.

    Outages and 429s don't end one: whoever can't sit them out looks again later.

    :param error: what the call failed with in the end.
    """
    return _RULES.get(type(error), _STOP).last is not None


def delay_before_poll(age: float, poll_interval: float | None, spread: float) -> float:
    """
    Return the seconds to wait before an export is asked for again.

    The adaptive schedule needs no memory, so a restart changes nothing; it notices an export within about a
    tenth of its duration, and asks O(log duration) times up to ten minutes, once a minute after.

    :param age: seconds since the export started.
    :param poll_interval: fixed seconds; None for the adaptive schedule.
    :param spread: a random number from 0 to 1, so that many waits don't ask at once.
    """
    if poll_interval is not None:
        return poll_interval
    return min(60.0, max(1.0, age / 10)) * (0.9 + 0.2 * spread)


class RateLimit:
    """Hand out one slot every ``1 / per_second`` seconds, in the order they are asked for."""

    def __init__(self) -> None:
        self._interval = 0.0
        self._next = -math.inf

    def change(self, per_second: float | None) -> None:
        """
        Set the limit; slots that were handed out stay so.

        :param per_second: the limit; None for none.
        """
        self._interval = 1 / per_second if per_second else 0.0

    def reserve(self, now: float) -> float:
        """
        Take the next slot and return the seconds until it.

        :param now: seconds of a clock that never goes back.
        """
        slot = max(now, self._next)
        self._next = slot + self._interval
        return slot - now


# One odd Retry-After must not stop everyone for days; the one who got it keeps it all the same.
_LONGEST_PAUSE = 3600.0


class SharedPause:
    """The pause that all callers of one client keep when the service says 429 to one of them."""

    def __init__(self) -> None:
        self._until = -math.inf
        self._length = 0.0
        self._times = 0

    def note(self, error: CallError, now: float) -> None:
        """
        Pause if the error asks for it.

        What comes in while a pause is kept is of the same storm: it can make the pause longer, but does not
        count as another one.

        :param error: what one caller's call failed with.
        :param now: seconds of a clock that never goes back.
        """
        if not _RULES.get(type(error), _STOP).pauses_all:
            return
        if now >= self._until:
            self._times += 1
        length = (
            _growing(self._times) if error.retry_after is None else min(error.retry_after, _LONGEST_PAUSE)
        )
        if now + length > self._until and (now >= self._until or error.retry_after is not None):
            self._until, self._length = now + length, length

    def note_success(self) -> None:
        """Let the next pause be a short one again."""
        self._times = 0

    def remaining(self, now: float, spread: float) -> float:
        """
        Return the seconds one caller has to pause.

        :param now: seconds of a clock that never goes back.
        :param spread: a random number from 0 to 1, so that not all come back at once.
        """
        left = self._until - now
        return 0.0 if left <= 0 else left + spread * max(1.0, self._length / 4)
