# SPDX-License-Identifier: Apache-2.0
"""The rules of polling and of retries, which `flow.py` applies."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_provider_segments.api import errors
from airflow_provider_segments.api.errors import CallError, RefusedError

if TYPE_CHECKING:
    from airflow_provider_segments.api.calls import Call

__all__ = [
    "IN_A_POLL",
    "ON_A_WORKER",
    "RULES",
    "SHORTEST_POLL_DELAY",
    "Failures",
    "RetryBudget",
    "Rule",
    "poll_delay",
    "retry_delay",
    "rule_for",
]


#: Seconds. The lower limit of any interval, to protect the service.
SHORTEST_POLL_DELAY = 0.1


def backoff(failures: int) -> float:
    """Return 1, 2, 4, … and at most 60 seconds."""
    return float(min(60, 2 ** min(failures - 1, 6)))


@dataclass(frozen=True, slots=True)
class Rule:
    """How one kind of failure is retried."""

    failure: str  # in words, for the documentation
    attempts: int | None = None  # how many in a row, the first included; None leaves it to the retry budget
    min_delay: float = 0.0  # seconds before the next attempt, at least
    repeats_post: bool = False  # the POST that starts an export is retried too: the failed one had no effect
    reload: bool = False  # reload the Connection and retry at once
    throttles: bool = False  # the throttle decides when, for all callers of the client


_UNAVAILABLE = Rule("408, 425, 502, 503, 504")  # the first two come from a proxy in between

#: By HTTP status for refusals, else by the class of the error.
RULES: dict[int | type[CallError], Rule] = {
    errors.NotSentError: Rule("could not connect", repeats_post=True),
    errors.CertificateError: Rule("certificate not trusted", attempts=1),
    errors.NoAnswerError: Rule("sent, no complete answer"),
    429: Rule("429", repeats_post=True, throttles=True),
    500: Rule("500 and other 5xx", attempts=5, min_delay=60.0),  # each one opens a ticket with the vendor
    408: _UNAVAILABLE,
    425: _UNAVAILABLE,
    502: _UNAVAILABLE,
    503: _UNAVAILABLE,
    504: _UNAVAILABLE,
    401: Rule("401", attempts=2, reload=True),  # the credentials may have been rotated
    # Airflow itself may be restarting.
    errors.ConnectionLookupError: Rule(
        "Connection not found, or Airflow could not look", attempts=5, repeats_post=True
    ),
    RefusedError: Rule("403, other 4xx, redirect", attempts=1),
    errors.UnreadableError: Rule("unreadable body", attempts=3),
    errors.OversizedError: Rule("body over 32 MiB", attempts=1),
}


def rule_for(error: CallError) -> Rule:
    """Return the rule that an error falls under."""
    if isinstance(error, RefusedError) and error.status is not None:
        status = 500 if error.status > 500 and error.status not in RULES else error.status
        return RULES.get(status, RULES[RefusedError])
    return RULES.get(type(error), RULES[RefusedError])


@dataclass(frozen=True, slots=True)
class Failures:
    """The failed attempts of one call."""

    total: int = 0
    in_a_row: int = 0
    rule: Rule | None = None

    def after(self, error: CallError) -> Failures:
        """Count one more."""
        rule = rule_for(error)
        return Failures(self.total + 1, self.in_a_row + 1 if rule is self.rule else 1, rule)


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """How often and how long a call may be retried; by default, without end."""

    max_retries: float | None = math.inf  # None leaves it to the Connection
    longest_delay: float = math.inf  # seconds; a longer one is not waited for
    deadline: float = math.inf  # monotonic time

    def resolved(self, max_retries: int) -> RetryBudget:
        """Return the budget with the retry limit of a Connection, unless it has its own."""
        return replace(self, max_retries=max_retries) if self.max_retries is None else self

    def permits(self, error: CallError, failures: Failures, delay: float, now: float) -> bool:
        """Return whether the call may be retried after a delay."""
        assert self.max_retries is not None
        free = rule_for(error).reload  # it has a limit of its own
        return (
            (free or failures.total <= self.max_retries)
            and (error.retry_after or 0.0) <= self.longest_delay
            and delay < self.deadline - now
        )


#: For a call outside a wait, so that the service can't hold a worker for long.
ON_A_WORKER = RetryBudget(None, longest_delay=300.0)
#: For a single poll of an export: there will be another one.
IN_A_POLL = RetryBudget(None, longest_delay=60.0)


def retry_delay(call: Call[object], error: CallError, failures: Failures, jitter: float) -> float | None:
    """Return the seconds before a call may be sent again, or None if that never helps."""
    rule = rule_for(error)
    if not call.repeatable and not rule.repeats_post:
        return None
    if rule.attempts is not None and failures.in_a_row >= rule.attempts:
        return None
    if rule.reload:
        return 0.0
    if error.retry_after:  # after one that has elapsed (0), a busy server is not asked at once either
        return max(rule.min_delay, error.retry_after) + jitter * max(1.0, error.retry_after / 10)
    if rule.throttles:
        return 0.0  # the throttle decides
    return max(rule.min_delay, backoff(failures.total)) * (1 + jitter / 4)


def poll_delay(age: float, poll_interval: float | None, jitter: float) -> float:
    """
    Return the seconds before an export is polled again.

    The adaptive schedule is stateless, so a restart changes nothing. It notices an export within about a tenth of its
    duration, and polls O(log duration) times up to ten minutes, then once a minute.
    """
    if poll_interval is not None:
        return max(poll_interval, SHORTEST_POLL_DELAY)
    return min(60.0, max(1.0, age / 10)) * (0.9 + 0.2 * jitter)
