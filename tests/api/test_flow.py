# SPDX-License-Identifier: Apache-2.0
"""The flow that both hooks drive: polling, repeating, waiting, without a network and without a pause."""

from __future__ import annotations

from datetime import datetime, timezone
from itertools import pairwise

import pytest

from airflow_provider_segments.api import flow
from airflow_provider_segments.api.calls import Reply, get_export, list_segments, request_export
from airflow_provider_segments.api.errors import (
    CallError,
    ExportTimeoutError,
    NoAnswerError,
    NotSentError,
    RefusedError,
    UnreadableError,
)
from airflow_provider_segments.api.retries import RetryBudget
from tests.flow_driver import EPOCH, FlowDriver, answer, refused

GET = get_export("e")


def started(seconds_ago: float) -> str:
    """Return a start time before the driver's first step."""
    return datetime.fromtimestamp(EPOCH + 1000 - seconds_ago, timezone.utc).isoformat()


class TestPerform:
    """One call with its repetitions."""

    def test_call_is_sent_once_when_it_succeeds(self) -> None:
        """Connect, send, done."""
        driver = FlowDriver([answer("COMPLETE")])
        assert driver.run(flow.perform(GET, driver)).export_id == "e"
        assert (len(driver.connects), len(driver.sent), driver.sleeps) == (1, 1, [])

    def test_get_is_repeated_with_growing_delays(self) -> None:
        """1, 2, 4, … seconds and a little jitter, as often as the Connection says."""
        driver = FlowDriver([NoAnswerError("cut")], max_retries=4)
        with pytest.raises(NoAnswerError):
            driver.run(flow.perform(GET, driver))
        assert driver.sleeps == [1.125, 2.25, 4.5, 9.0]

    def test_request_is_not_repeated_when_it_may_have_arrived(self) -> None:
        """Every accepted POST starts an export."""
        for failure in (NoAnswerError("cut"), refused(500), refused(503), refused(200)):
            driver = FlowDriver([failure])
            with pytest.raises(CallError):
                driver.run(flow.perform(request_export("s"), driver))
            assert len(driver.sent) == 1

    def test_request_is_repeated_when_it_was_not_carried_out(self) -> None:
        """Nobody listened, or it was refused as one too many."""
        driver = FlowDriver([NotSentError("refused"), refused(429), answer()])
        assert driver.run(flow.perform(request_export("s"), driver)).export_id == "e"
        assert len(driver.sent) == 3

    def test_connection_is_read_again_after_a_401(self) -> None:
        """At once, and only once in a row; what was read before the refused call was sent is too old."""
        driver = FlowDriver([refused(401)])
        with pytest.raises(RefusedError):
            driver.run(flow.perform(GET, driver))
        assert [connect.read_after for connect in driver.connects] == [-float("inf"), 1000.0]
        assert driver.sleeps == []
        assert "Reloading the Connection" in driver.messages[0]

    def test_worker_is_not_held_longer_than_five_minutes(self) -> None:
        """The service's word beyond that ends the call."""
        driver = FlowDriver([refused(429, "301")])
        with pytest.raises(RefusedError) as caught:
            driver.run(flow.perform(GET, driver))
        assert (caught.value.retry_after, driver.sleeps) == (301, [])

    def test_unlimited_budget_outlasts_any_outage(self) -> None:
        """As the watchers' polls of the list do."""
        driver = FlowDriver([NoAnswerError("cut")] * 50 + [Reply(200, {}, b"[]")])
        assert driver.run(flow.perform(list_segments(), driver, RetryBudget())) == []
        assert driver.sleeps[10:] == [67.5] * 40


class TestPoll:
    """A single poll is a value."""

    def test_finished_export(self) -> None:
        """Complete and failed ones both."""
        for status in ("COMPLETE", "FAILED"):
            driver = FlowDriver([answer(status)])
            found = driver.run(flow.poll(GET, driver))
            assert found.is_finished
            assert found.finished_export().status == status

    def test_pending_export_has_the_delay_of_its_age(self) -> None:
        """A tenth of its age."""
        driver = FlowDriver([answer(startTime=started(200))])
        found = driver.run(flow.poll(GET, driver))
        assert (found.is_finished, found.delay, found.error) == (False, pytest.approx(20), None)
        with pytest.raises(ExportTimeoutError, match="was still PENDING"):
            found.finished_export()

    @pytest.mark.parametrize(
        ("failure", "delay"),
        [(NotSentError("x"), 1.125), (refused(503), 1.125), (refused(500), 67.5), (refused(429, "7"), 7.5)],
    )
    def test_failure_that_a_wait_outlasts_is_pending(self, failure: object, delay: float) -> None:
        """With the delay that is due after it, and without sleeping when there is no budget."""
        driver = FlowDriver([failure])  # type: ignore[list-item]
        found = driver.run(flow.poll(GET, driver, budget=RetryBudget(max_retries=0)))
        assert (found.export, found.is_finished, driver.sleeps) == (None, False, [])
        assert found.delay == pytest.approx(delay, abs=0.001)
        with pytest.raises(ExportTimeoutError, match="would be after the deadline"):
            found.finished_export()

    @pytest.mark.parametrize("status", [403, 404, 302])
    def test_failure_that_no_poll_can_change_is_raised(self, status: int) -> None:
        """A locked door is not tried for a day."""
        driver = FlowDriver([refused(status)])
        with pytest.raises(RefusedError):
            driver.run(flow.poll(GET, driver, budget=RetryBudget(max_retries=0)))

    def test_fifth_500_in_a_row_is_raised(self) -> None:
        """Each one opens a ticket."""
        driver = FlowDriver([refused(500)], max_retries=50)
        with pytest.raises(RefusedError):
            driver.run(flow.poll(GET, driver))
        assert len(driver.sent) == 5


class TestPollUntil:
    """A wait."""

    def test_polls_follow_the_age(self) -> None:
        """A second at first, a tenth of the age later, a minute at most."""
        driver = FlowDriver([answer()] * 60 + [answer("COMPLETE")])
        assert driver.run(flow.poll_until(GET, driver, 1000.0 + 86400)).is_finished
        assert driver.sleeps[:10] == [1.0] * 10
        assert driver.sleeps[-1] == 60

    def test_start_time_in_the_future_counts_as_the_start_of_the_wait(self) -> None:
        """A clock is behind, or the time is in another zone than it says."""
        driver = FlowDriver([answer(startTime=started(-9 * 3600))])
        driver.run(flow.poll_until(GET, driver, 1000.0 + 7200))
        assert len(driver.sent) < 170

    def test_final_poll_is_right_at_the_deadline(self) -> None:
        """Whatever the interval, and with time for an answer."""
        driver = FlowDriver([answer()])
        found = driver.run(flow.poll_until(GET, driver, 1025.0, 10.0))
        assert (found.is_finished, driver.sleeps) == (False, [10, 10, 5])
        assert driver.sent[-1].timeout == flow.MIN_SEND_TIMEOUT

    def test_brief_wait_has_no_final_poll(self) -> None:
        """It ends with the delay until the poll that somebody else makes."""
        driver = FlowDriver([answer()])
        found = driver.run(flow.poll_until(GET, driver, 1025.0, 10.0, final_poll=False))
        assert (found.delay, driver.sleeps) == (10, [10, 10])

    def test_latest_answer_spares_the_first_poll(self) -> None:
        """The answer to the request is one already."""
        pending = FlowDriver([answer()]).run(flow.poll(GET, FlowDriver([answer()])))
        driver = FlowDriver([answer("COMPLETE")])
        assert driver.run(flow.poll_until(GET, driver, 2000.0, latest=pending.export)).is_finished
        assert (driver.sleeps, len(driver.sent)) == ([1.0], 1)

    def test_initial_delay_comes_before_the_first_poll(self) -> None:
        """But does not pass the deadline."""
        for initial_delay, slept in ((30.0, 30.0), (3000.0, 100.0)):
            driver = FlowDriver([answer("COMPLETE")])
            driver.run(flow.poll_until(GET, driver, 1100.0, initial_delay=initial_delay))
            assert driver.sleeps == [slept]

    def test_outage_does_not_end_a_wait(self) -> None:
        """Nor a storm of 429s."""
        for failure in (NotSentError("x"), NoAnswerError("x"), refused(503), refused(429)):
            driver = FlowDriver([failure] * 40 + [answer("COMPLETE")])
            assert driver.run(flow.poll_until(GET, driver, 1000.0 + 86400)).is_finished

    def test_wait_ends_when_the_next_attempt_would_pass_the_deadline(self) -> None:
        """Without another request."""
        driver = FlowDriver([refused(429, "3600")])
        found = driver.run(flow.poll_until(GET, driver, 1600.0))
        assert (found.is_finished, len(driver.sent), driver.sleeps) == (False, 1, [])
        assert found.delay >= 3600

    def test_success_in_between_starts_the_count_anew(self) -> None:
        """In a row means in a row."""
        driver = FlowDriver([*[refused(500)] * 4, answer(), *[refused(500)] * 4, answer("COMPLETE")])
        assert driver.run(flow.poll_until(GET, driver, 1000.0 + 86400)).is_finished
        driver = FlowDriver([refused(200)])
        with pytest.raises(UnreadableError):
            driver.run(flow.poll_until(GET, driver, 1000.0 + 86400))
        assert len(driver.sent) == 3

    def test_each_status_is_logged_once(self) -> None:
        """An undocumented word as a warning."""
        driver = FlowDriver([answer(), answer(), answer("QUEUED"), answer("QUEUED"), answer("COMPLETE")])
        driver.run(flow.poll_until(GET, driver, 2000.0))
        assert len(driver.messages) == 2
        assert "PENDING" in driver.messages[0]
        assert "'QUEUED', an undocumented status" in driver.messages[1]


class TestTurn:
    """The rate limit and the shared pause, before each call."""

    def test_calls_keep_their_distance(self) -> None:
        """Two a second."""
        driver = FlowDriver([answer()], per_second=2)
        for _ in range(4):
            driver.run(flow.perform(GET, driver))
        assert driver.sent_at == [1000, 1000.5, 1001, 1001.5]

    def test_429_pauses_the_other_calls_of_the_client(self) -> None:
        """Whoever comes next waits too, with some jitter."""
        driver = FlowDriver([refused(429, "20"), answer()])
        driver.run(flow.poll(GET, driver, budget=RetryBudget(max_retries=0)))
        driver.run(flow.perform(get_export("other"), driver))
        assert 1020 < driver.sent_at[1] < 1022

    def test_pause_longer_than_the_budget_is_reported_as_429(self) -> None:
        """Without asking."""
        driver = FlowDriver([refused(429, "900"), answer()])
        driver.run(flow.poll(GET, driver, budget=RetryBudget(max_retries=0)))
        with pytest.raises(RefusedError, match="not sent") as caught:
            driver.run(flow.perform(GET, driver))
        assert (caught.value.status, len(driver.sent)) == (429, 1)

    def test_call_that_only_the_connection_limits_names_no_429(self) -> None:
        """The service has refused nothing."""
        driver = FlowDriver([answer()], per_second=0.01)
        driver.run(flow.perform(GET, driver))
        found = driver.run(flow.poll_until(GET, driver, driver.now + 5))
        assert "because of the Connection's rate limit" in str(found.error)

    def test_refused_call_keeps_its_place(self) -> None:
        """Whoever comes later is sent later."""
        driver = FlowDriver([refused(429), answer()])
        first, later = (flow.perform(get_export(name), driver) for name in ("first", "later"))
        step = next(first)
        while not isinstance(step, flow.Sleep) or not step.seconds:
            step = first.send(driver.take(step))
        outcome = driver.take(next(later))
        assert isinstance(later.send(outcome), flow.Sleep)
        assert isinstance(first.send(driver.take(step)), flow.Connect | flow.Send)

    def test_call_on_a_worker_that_is_always_refused_ends(self) -> None:
        """After the Connection's Retries, each after a longer pause than the one before."""
        driver = FlowDriver([refused(429)], max_retries=5)
        with pytest.raises(RefusedError, match="HTTP 429"):
            driver.run(flow.perform(request_export("s"), driver))
        gaps = [later - sent for sent, later in pairwise(driver.sent_at)]
        assert len(driver.sent) == 6
        assert gaps == sorted(gaps)
        assert (1 < gaps[0] < 2.5, sum(gaps) < 120) == (True, True)

    def test_wait_that_is_always_refused_ends_with_its_deadline(self) -> None:
        """It is tried once a minute in the end."""
        driver = FlowDriver([refused(429)])
        found = driver.run(flow.poll_until(GET, driver, 1000.0 + 3600))
        assert (found.is_finished, found.error is not None) == (False, True)
        assert driver.now <= 1000 + 3600 + 1
        assert 25 <= len(driver.sent) <= 70

    def test_429s_make_one_message_not_one_each(self) -> None:
        """The first says what happens now."""
        driver = FlowDriver([refused(429)] * 3 + [answer("COMPLETE")])
        driver.run(flow.poll_until(GET, driver, 1000.0 + 3600))
        assert len(driver.messages) == 1
        assert "This process sends fewer" in driver.messages[0]

    def test_call_that_waited_for_a_connection_needs_another_turn(self) -> None:
        """The client sends nothing when a 429 to another came meanwhile."""
        driver = FlowDriver([answer("COMPLETE")])
        steps = flow.perform(GET, driver)
        send = steps.send(driver.take(next(steps)))
        assert isinstance(send, flow.Send)
        driver.throttle.too_many_requests(None, send.cuts, driver.now, 0.5)
        sleep = steps.send(flow.Outcome(driver.now, EPOCH, 0.5))
        assert isinstance(sleep, flow.Sleep)
        assert isinstance(steps.send(driver.take(sleep)), flow.Send)

    def test_abandoned_call_leaves_the_queue(self) -> None:
        """A triggerer cancels waits at any point."""
        driver = FlowDriver([answer()], per_second=0.1)
        driver.run(flow.perform(GET, driver))
        steps = flow.perform(GET, driver)
        steps.send(driver.take(next(steps)))
        assert driver.throttle.waiting == 1
        steps.close()
        assert driver.throttle.waiting == 0
