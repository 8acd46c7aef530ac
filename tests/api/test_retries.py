# SPDX-License-Identifier: Apache-2.0
"""Every row of the retry table, for a GET and for the request of an export, and the polling schedule."""

from __future__ import annotations

from functools import partial

import pytest

from airflow_provider_segments.api.calls import Call, get_export, list_segments, request_export
from airflow_provider_segments.api.errors import (
    CallError,
    CertificateError,
    ConnectionLookupError,
    NoAnswerError,
    NotSentError,
    OversizedError,
    RefusedError,
    UnreadableError,
)
from airflow_provider_segments.api.retries import (
    ON_A_WORKER,
    RULES,
    Failures,
    RetryBudget,
    poll_delay,
    retry_delay,
    rule_for,
)

GET, POST = list_segments(), request_export("a-segment")
WORKER, WAIT = ON_A_WORKER.resolved(5), RetryBudget()


def status(code: int, retry_after: float | None = None) -> RefusedError:
    """Return a refusal."""
    return RefusedError("refused", status=code, retry_after=retry_after)


def delays(error: CallError, call: Call[object], budget: RetryBudget, times: int = 100) -> list[float]:
    """Return the delays until the call is given up, or the first hundred."""
    failures, found = Failures(), []
    for _ in range(times):
        failures = failures.after(error)
        delay = retry_delay(call, error, failures, jitter=0.0)
        if delay is None or not budget.permits(error, failures, delay, now=0.0):
            break
        found.append(delay)
    return found


GROWING = [1, 2, 4, 8, 16]
TABLE = [
    (NotSentError("x"), GROWING, GROWING),
    (ConnectionLookupError("x"), GROWING[:4], GROWING[:4]),
    (CertificateError("x"), [], []),
    (NoAnswerError("x"), GROWING, []),
    (status(429), [0] * 5, [0] * 5),  # the throttle decides
    (status(500), [60, 60, 60, 60], []),
    (status(501), [60, 60, 60, 60], []),
    (status(599), [60, 60, 60, 60], []),
    (status(502), GROWING, []),
    (status(503), GROWING, []),
    (status(503, retry_after=0.0), GROWING, []),
    (status(504), GROWING, []),
    (status(401), [0], []),
    (status(403), [], []),
    (status(404), [], []),
    (status(302), [], []),
    (UnreadableError("x", status=200), [1, 2], []),
    (OversizedError("x"), [], []),
]


@pytest.mark.parametrize(("error", "get", "post"), TABLE, ids=lambda value: getattr(value, "status", None))
def test_retry_delays_on_a_worker(error: CallError, get: list[float], post: list[float]) -> None:
    """Each kind of failure, for a GET and for the POST that starts an export."""
    assert delays(error, GET, WORKER) == get
    assert delays(error, POST, WORKER) == post


def test_table_has_every_rule() -> None:
    """A rule that is added needs a row."""
    assert {rule_for(error) for error, _, _ in TABLE} == set(RULES.values())


@pytest.mark.parametrize("error", [NotSentError("x"), NoAnswerError("x"), status(503)])
def test_wait_goes_on(error: CallError) -> None:
    """Outages have no last attempt in a wait, and the delay stops growing at a minute."""
    found = delays(error, get_export("e"), WAIT)
    assert len(found) == 100
    assert found[6:] == [60] * 94


@pytest.mark.parametrize("error", [status(500), UnreadableError("x"), status(401), status(403)])
def test_wait_ends(error: CallError) -> None:
    """What is limited on a worker is limited in a wait."""
    assert delays(error, GET, WAIT) == delays(error, GET, ON_A_WORKER.resolved(100))


def test_another_failure_in_between_starts_the_count_anew() -> None:
    """In a row means in a row."""
    failures = Failures()
    for error in [status(500)] * 4 + [status(503)] + [status(500)] * 4:
        failures = failures.after(error)
        assert retry_delay(GET, error, failures, 0.5) is not None
    assert retry_delay(GET, status(500), failures.after(status(500)), 0.5) is None


@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    ("make", "least"), [(partial(status, 500), 60), (partial(status, 429), 30), (partial(status, 503), 30)]
)
def test_jitter_never_shortens_a_delay(make: partial[RefusedError], least: float, jitter: float) -> None:
    """It only ever adds."""
    error = make(retry_after=30)
    delay = retry_delay(GET, error, Failures().after(error), jitter)
    assert delay is not None
    assert least <= delay <= 66


def test_retry_after_holds_a_worker_for_five_minutes_at_most() -> None:
    """A wait is not bound by that."""
    assert delays(status(429, 300.0), GET, WORKER) == [300] * 5
    assert delays(status(429, 301.0), GET, WORKER) == []
    assert delays(status(429, 7200.0), GET, WAIT, times=2) == [7200] * 2


def test_deadline_ends_the_retries_that_would_pass_it() -> None:
    """1 + 2 + 4 seconds: the next would come at the eighth second and pass the deadline."""
    assert delays(NotSentError("x"), GET, RetryBudget(deadline=8.0)) == [1, 2, 4]


@pytest.mark.parametrize(
    ("age", "expected"), [(-3600, 1), (0, 1), (9, 1), (20, 2), (300, 30), (600, 60), (36000, 60)]
)
def test_poll_delay_by_age(age: float, expected: float) -> None:
    """A tenth of the age, between a second and a minute, give or take a tenth."""
    assert poll_delay(age, None, 0.0) == pytest.approx(0.9 * expected)
    assert poll_delay(age, None, 1.0) == pytest.approx(1.1 * expected)


def test_poll_delay_that_is_fixed() -> None:
    """A number means that number."""
    assert poll_delay(5000, 7.5, 0.9) == 7.5


def test_export_of_an_hour_costs_few_polls() -> None:
    """The adaptive schedule."""
    age, polls = 0.0, 0
    while age < 3600:
        age += poll_delay(age, None, 0.5)
        polls += 1
    assert polls <= 110
