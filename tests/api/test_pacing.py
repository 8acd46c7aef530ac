# SPDX-License-Identifier: Apache-2.0
"""When to ask again: every row of the table, both columns, and the polling schedule."""

from __future__ import annotations

import pytest

from airflow_provider_segments.api.calls import get_export, list_segments, request_export
from airflow_provider_segments.api.errors import (
    CallError,
    CertificateError,
    ConnectionLookupError,
    ForbiddenError,
    InternalServerError,
    NoAnswerError,
    NotSentError,
    OversizedError,
    RefusedError,
    TooManyRequestsError,
    UnauthorizedError,
    UnavailableError,
    UnreadableError,
)
from airflow_provider_segments.api.pacing import (
    WAIT,
    Failures,
    Patience,
    RateLimit,
    SharedPause,
    delay_before_poll,
    delay_before_retry,
    ends_a_wait,
    reads_connection_again,
    worker_patience,
)

GET, POST = list_segments(), request_export("a-segment")


def delays(
    kind: type[CallError], call: object, patience: Patience, times: int = 100, **attributes: float
) -> list[float]:
    """Return the delays until the call is given up, or the first hundred."""
    failures, found = Failures(), []
    for _ in range(times):
        error = kind("wrong", **attributes)  # type: ignore[arg-type]
        failures = failures.plus(error)
        delay = delay_before_retry(call, error, failures, patience, spread=0.0)  # type: ignore[arg-type]
        if delay is None:
            break
        found.append(delay)
    return found


GROWING = [1, 2, 4, 8, 16]


@pytest.mark.parametrize(
    ("kind", "get", "post"),
    [
        (NotSentError, GROWING, GROWING),
        (ConnectionLookupError, GROWING[:4], GROWING[:4]),
        (CertificateError, [], []),
        (NoAnswerError, GROWING, []),
        (TooManyRequestsError, GROWING, GROWING),
        (InternalServerError, [60, 60, 60, 60], []),
        (UnavailableError, GROWING, []),
        (UnauthorizedError, [0], []),
        (ForbiddenError, [], []),
        (RefusedError, [], []),
        (UnreadableError, [1, 2], []),
        (OversizedError, [], []),
    ],
)
def test_the_table(kind: type[CallError], get: list[float], post: list[float]) -> None:
    """Each kind of failure, for a GET and for the POST that starts an export, on a worker."""
    assert delays(kind, GET, worker_patience(5)) == get
    assert delays(kind, POST, worker_patience(5)) == post


@pytest.mark.parametrize("kind", [NotSentError, NoAnswerError, TooManyRequestsError, UnavailableError])
def test_a_wait_goes_on(kind: type[CallError]) -> None:
    """Outages and 429s have no last one in a wait, and the pause stops growing at a minute."""
    found = delays(kind, get_export("e"), WAIT)
    assert len(found) == 100
    assert found[6:] == [60] * 94
    assert not ends_a_wait(kind("wrong"))


@pytest.mark.parametrize("kind", [InternalServerError, UnreadableError, UnauthorizedError, ForbiddenError])
def test_a_wait_ends(kind: type[CallError]) -> None:
    """What is limited on a worker is limited in a wait."""
    assert delays(kind, GET, WAIT) == delays(kind, GET, worker_patience(100))
    assert ends_a_wait(kind("wrong"))


def test_in_a_row_means_in_a_row() -> None:
    """Another failure in between starts the count anew."""
    failures = Failures()
    for kind in [InternalServerError] * 4 + [UnavailableError] + [InternalServerError] * 4:
        error = kind("wrong")
        failures = failures.plus(error)
        assert delay_before_retry(GET, error, failures, WAIT, 0.5) is not None
    assert delay_before_retry(GET, error, failures.plus(error), WAIT, 0.5) is None


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("kind", [InternalServerError, TooManyRequestsError, UnavailableError])
def test_jitter_never_asks_earlier(kind: type[CallError], spread: float) -> None:
    """Spreading callers out only ever adds."""
    error = kind("wrong", retry_after=30)
    delay = delay_before_retry(GET, error, Failures().plus(error), WAIT, spread)
    assert delay is not None
    assert (60 if kind is InternalServerError else 30) <= delay <= 66


def test_retry_after_on_a_worker() -> None:
    """A worker is not held for more than five minutes; a wait is not bound by that."""
    assert delays(TooManyRequestsError, GET, worker_patience(5), retry_after=300.0) == [300] * 5
    assert delays(TooManyRequestsError, GET, worker_patience(5), retry_after=301.0) == []
    assert delays(TooManyRequestsError, GET, WAIT, times=2, retry_after=7200.0) == [7200] * 2


def test_the_connection_is_read_again_on_401_only() -> None:
    """It costs a look-up, and helps against nothing else."""
    assert [
        kind
        for kind in (UnauthorizedError, ForbiddenError, NoAnswerError)
        if reads_connection_again(kind("x"))
    ] == [UnauthorizedError]


@pytest.mark.parametrize(
    ("age", "expected"), [(-3600, 1), (0, 1), (9, 1), (20, 2), (300, 30), (600, 60), (36000, 60)]
)
def test_polling_by_age(age: float, expected: float) -> None:
    """A tenth of the age, between a second and a minute, give or take a tenth."""
    assert delay_before_poll(age, None, 0.0) == pytest.approx(0.9 * expected)
    assert delay_before_poll(age, None, 1.0) == pytest.approx(1.1 * expected)


def test_fixed_polling() -> None:
    """A number means that number."""
    assert delay_before_poll(5000, 7.5, 0.9) == 7.5


def test_an_hour_costs_few_requests() -> None:
    """The schedule of an export of an hour."""
    age, polls = 0.0, 0
    while age < 3600:
        age += delay_before_poll(age, None, 0.5)
        polls += 1
    assert polls <= 110


def test_rate_limit_hands_out_slots_in_order() -> None:
    """Two a second: the third caller at the same instant waits for a second."""
    limit = RateLimit()
    assert [limit.reserve(10.0) for _ in range(3)] == [0, 0, 0]
    limit.change(2.0)
    assert [limit.reserve(10.0) for _ in range(3)] == [0, 0.5, 1.0]
    assert limit.reserve(20.0) == 0


class TestSharedPause:
    """When the service says 429 to one caller, all callers of the client pause."""

    def test_other_errors_pause_nobody(self) -> None:
        """An outage is each call's own matter."""
        pause = SharedPause()
        pause.note(UnavailableError("x", retry_after=100), now=0)
        assert pause.remaining(0, 1.0) == 0

    def test_retry_after(self) -> None:
        """The service's word, and then not all at once."""
        pause = SharedPause()
        pause.note(TooManyRequestsError("x", retry_after=20), now=0)
        assert pause.remaining(0, 0.0) == 20
        assert pause.remaining(15, 1.0) == 5 + 5
        assert pause.remaining(20, 1.0) == 0

    def test_one_storm_counts_once(self) -> None:
        """Thirty answers to requests that were under way together don't make a pause of a minute."""
        pause = SharedPause()
        for _ in range(30):
            pause.note(TooManyRequestsError("x"), now=0)
        assert pause.remaining(0, 0.0) == 1
        pause.note(TooManyRequestsError("x"), now=2)
        assert pause.remaining(2, 0.0) == 2
        pause.note(TooManyRequestsError("x", retry_after=30), now=2.5)
        assert pause.remaining(2.5, 0.0) == 30

    def test_success_makes_the_next_one_short(self) -> None:
        """A pause grows only while the service goes on refusing."""
        pause = SharedPause()
        for now in (0, 10, 20):
            pause.note(TooManyRequestsError("x"), now)
        assert pause.remaining(20, 0.0) == 4
        pause.note_success()
        pause.note(TooManyRequestsError("x"), 30)
        assert pause.remaining(30, 0.0) == 1
