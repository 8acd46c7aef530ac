# SPDX-License-Identifier: Apache-2.0
"""The sensor against the emulator, in its three modes."""

from __future__ import annotations

import asyncio
import itertools
import re
import sys
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.exceptions import AirflowRescheduleException
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AssetAlias,
    BaseSensorOperator,
    TaskDeferred,
)

from airflow_provider_segments.api.flow import Poll
from airflow_provider_segments.api.models import SegmentExport
from airflow_provider_segments.emulator import Emulator, Fault, FaultKind
from airflow_provider_segments.exceptions import UserSegmentsException
from airflow_provider_segments.hooks.user_segments import UserSegmentsAsyncHook, UserSegmentsHook
from airflow_provider_segments.operators.user_segments import UserSegmentExportOperator
from airflow_provider_segments.sensors.user_segments import UserSegmentExportSensor
from tests.support import context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support import FakeClock

pytestmark = pytest.mark.usefixtures("database")  # Airflow 2 asks it when a sensor was first rescheduled

MODES: list[dict[str, Any]] = [{"deferrable": True}, {"deferrable": False}, {"mode": "reschedule"}]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> None:
    for hook in (UserSegmentsHook, UserSegmentsAsyncHook):
        monkeypatch.setattr(hook, "clock", clock)
    module = sys.modules[BaseSensorOperator.__module__]
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=clock.sleep, monotonic=clock.monotonic))


@pytest.fixture
def slow(connect: Callable[..., None]) -> Iterator[Emulator]:
    """A service whose exports take an hour."""
    with Emulator(bucket=None, export_seconds=3600) as running:
        connect(running)
        yield running


def request(service: Emulator) -> str:
    """Request an export and return its id."""
    return UserSegmentsHook().request_export(service.segments[0].segment_id).export_id


def sensor(export_id: str, **arguments: Any) -> UserSegmentExportSensor:
    """Make one with a task id."""
    return UserSegmentExportSensor(task_id="wait", export_id=export_id, **arguments)


def run(made: UserSegmentExportSensor, where: Any = None) -> Any:
    """Execute it as Airflow does."""
    where = where or context()
    where["ti"].get_first_reschedule_date = lambda context: None
    return made.execute(where)


def polls(service: Emulator) -> int:
    """Return how often an export was asked for."""
    return sum(request.route == "status" for request in service.requests)


@pytest.mark.parametrize("mode", MODES)
def test_complete(connected: Emulator, mode: dict[str, Any]) -> None:
    """The same XCom as the export operator's."""
    expected = UserSegmentExportOperator(task_id="e", segment_name="Recent Registrants").execute(context())
    made = sensor(expected["export_id"], **mode)
    assert run(made) == expected
    assert made.multiple_outputs is True


def test_defers_by_default(slow: Emulator) -> None:
    """No worker is held unless that is asked for."""
    made = sensor(request(slow), timeout=timedelta(hours=1), poke_interval=7)
    with pytest.raises(TaskDeferred) as caught:
        run(made)
    arguments = caught.value.trigger.serialize()[1]
    assert (arguments["export_id"], arguments["poll_interval"]) == (slow.submissions[0].export_id, 7)


@pytest.mark.parametrize("mode", MODES)
def test_poke_polls_once(slow: Emulator, clock: FakeClock, mode: dict[str, Any]) -> None:
    """Airflow's base class does the waiting."""
    export_id = request(slow)
    made = sensor(export_id, **mode)
    assert not made.poke(context())
    assert polls(slow) == 1
    slow.end(export_id)
    assert made.poke(context()).xcom_value["status"] == "COMPLETE"
    assert (polls(slow), clock.sleeps) == (2, [])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("given", [{}, None])
def test_poke_needs_no_context(connected: Emulator, given: Any, mode: dict[str, Any]) -> None:
    """People call it so in tests of their own."""
    assert sensor(request(connected), outlets=[AssetAlias("a")], **mode).poke(given)


def test_poke_mode_follows_the_adaptive_schedule(slow: Emulator, clock: FakeClock) -> None:
    """A second, then a tenth of the export's age."""
    export_id = request(slow)
    clock.on_sleep = lambda: clock.ahead > 1000 and slow.end(export_id)
    assert run(sensor(export_id, deferrable=False))["status"] == "COMPLETE"
    assert all(0.9 <= pause <= 1.1 for pause in clock.sleeps[:5])
    assert all(54 <= pause <= 66 for pause in clock.sleeps[-5:])
    assert len(clock.sleeps) + 1 == polls(slow) < 80


def test_export_without_a_start_is_as_old_as_the_wait() -> None:
    """Its age is not known, and it is not asked for each second."""
    made = sensor("e", deferrable=False)
    pending = SegmentExport.model_validate({"exportId": "e", "status": "PENDING"})
    made._poll = Poll(pending, 1.0)
    assert 9 <= made._get_next_poke_interval(None, lambda: 100.0, 1) <= 11


@pytest.mark.parametrize(
    ("arguments", "pauses"),
    [
        ({"poke_interval": 7, "timeout": 20}, [7, 7, 7]),
        ({"poke_interval": timedelta(seconds=7), "max_wait": 3, "timeout": 7}, [3, 3, 2]),
        ({"max_wait": timedelta(seconds=0.5), "timeout": 0.75}, [0.5, 0.5]),
    ],
)
def test_intervals_of_poke_mode(
    slow: Emulator, clock: FakeClock, arguments: dict[str, Any], pauses: list[float]
) -> None:
    """As given, no longer than max_wait, and with a final poll at the timeout."""
    with pytest.raises(AirflowSensorTimeout):
        run(sensor(request(slow), deferrable=False, **arguments))
    assert clock.sleeps == pytest.approx(pauses, abs=0.3)
    assert polls(slow) == len(pauses) + 1


@pytest.mark.parametrize("mode", [{"deferrable": False}, {"mode": "reschedule"}])
def test_exponential_backoff_is_airflows(mode: dict[str, Any]) -> None:
    """Where a worker waits, up to max_wait."""
    made = sensor("e", poke_interval=10, exponential_backoff=True, max_wait=60, **mode)
    waited = (0.0, 20.0, 60.0, 1000.0, 10000.0)
    pauses = [made._get_next_poke_interval(0.0, lambda at=at: at, n + 1) for n, at in enumerate(waited)]
    assert 5 <= pauses[0] < 20
    assert pauses == sorted(pauses)
    assert pauses[-1] == 60
    assert made._get_next_poke_interval(0.0, lambda: 10000.0, 2000) == 60


def test_reschedules(slow: Emulator) -> None:
    """The worker is freed between two looks."""
    with pytest.raises(AirflowRescheduleException):
        run(sensor(request(slow), mode="reschedule"))


async def _event(trigger: Any) -> Any:
    async for event in trigger.run():
        return event.payload
    return None


def run_to_the_end(made: UserSegmentExportSensor) -> Any:
    """Execute it, and if it defers, its trigger too."""
    where = context()
    try:
        return run(made, where)
    except TaskDeferred as why:
        event = asyncio.run(_event(why.trigger))
        return made.resume_execution(why.method_name, {"event": event, **(why.kwargs or {})}, where)


# What ends the wait, an error Airflow does not retry or None, and words of it.
FAILURES: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "FAILED": ({}, AirflowFailException, "as FAILED"),
    "timeout": ({"timeout": 60}, AirflowSensorTimeout, "PENDING at the deadline|timed out"),
    "unauthorized": ({}, AirflowFailException, "HTTP 401"),
    "forbidden": ({}, AirflowFailException, "HTTP 403"),
    "not found": ({"export_id": "0" * 8}, UserSegmentsException, "HTTP 404"),
    "500": ({}, UserSegmentsException, "HTTP 500"),
    "no Connection": ({"mparticle_conn_id": "nowhere"}, UserSegmentsException, "'nowhere'"),
    "no id": ({"export_id": " "}, AirflowFailException, "export_id is ' ' once rendered"),
}
FAULTS = {
    "FAILED": Fault(FaultKind.FAILED, on="export"),
    "timeout": Fault(FaultKind.NEVER, on="export"),
    "unauthorized": Fault(FaultKind.UNAUTHORIZED, on="status", times=None),
    "forbidden": Fault(FaultKind.FORBIDDEN, on="status", times=None),
    "500": Fault(FaultKind.INTERNAL_ERROR, on="status", times=None),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("failure", "option"),
    # Airflow's own timeout of a sensor on a worker fails in spite of never_fail.
    [*itertools.product(FAILURES, ["soft_fail", None]), ("500", "never_fail"), ("FAILED", "never_fail")],
)
def test_soft_fail_skips_in_each_mode(
    connected: Emulator,
    clock: FakeClock,
    told: Callable[[], str],
    failure: str,
    option: str | None,
    mode: dict[str, Any],
) -> None:
    """Whatever ends the wait, with the reason in the log; without it, the task fails."""
    arguments, error, words = FAILURES[failure]
    if failure in FAULTS:
        connected.inject(FAULTS[failure])
    given = {"export_id": request(connected)} | arguments | mode | ({option: True} if option else {})
    if "mode" in mode and failure == "timeout":
        given["timeout"] = 1e-3  # of the database's clock, which goes on by itself
    told()
    with pytest.raises(AirflowSkipException if option else error) as caught:
        run_to_the_end(sensor(**given))
    assert re.search(words, told() + str(caught.value))


@pytest.mark.parametrize("soft_fail", [True, False])
def test_trigger_that_failed(told: Callable[[], str], soft_fail: bool) -> None:
    """Airflow says only that; the task says of which export."""
    made = sensor("the-id", soft_fail=soft_fail)
    with pytest.raises(AirflowSkipException if soft_fail else UserSegmentsException) as caught:
        made.resume_execution("__fail__", {"error": "Trigger failure"}, context())
    said = told() + str(caught.value)
    assert "export the-id ended without an event" in said
    assert "Trigger failure" in said


def test_silent_fail_goes_on(connected: Emulator, clock: FakeClock) -> None:
    """As Airflow's base class has it, where a worker waits."""
    export_id = request(connected)
    connected.inject(Fault(FaultKind.INTERNAL_ERROR, on="status", times=5))
    assert run(sensor(export_id, deferrable=False, silent_fail=True))["status"] == "COMPLETE"


def test_silent_fail_forgets_the_delay_of_an_earlier_poke(connected: Emulator, clock: FakeClock) -> None:
    """A poke that raises asks for none."""
    export_id = request(connected)
    made = sensor(export_id, deferrable=False, silent_fail=True)
    connected.inject(Fault(FaultKind.TOO_MANY_REQUESTS, on="status", retry_after="3000"))
    assert not made.poke(context())
    clock.sleep(3600)
    connected.inject(Fault(FaultKind.INTERNAL_ERROR, on="status", times=5))
    with pytest.raises(UserSegmentsException, match="HTTP 500"):
        made.poke(context())
    assert made._get_next_poke_interval(None, lambda: 3600.0, 2) <= 66


def test_no_time_to_poll_again(connected: Emulator) -> None:
    """When the service may not be asked before the deadline, the wait ends at once."""
    export_id = request(connected)
    connected.inject(Fault(FaultKind.TOO_MANY_REQUESTS, on="status", retry_after="3000"))
    with pytest.raises(AirflowSensorTimeout, match="would be after the deadline"):
        run(sensor(export_id, timeout=600))


def test_reschedule_sits_out_an_outage(connected: Emulator) -> None:
    """A look that can't be had is not the end; the service's own word on when to come back holds."""
    export_id = request(connected)
    connected.inject(Fault(FaultKind.UNAVAILABLE, on="status", times=6))
    with pytest.raises(AirflowRescheduleException):
        run(sensor(export_id, mode="reschedule"))
    connected.inject(Fault(FaultKind.TOO_MANY_REQUESTS, on="status", retry_after="3000"))
    made = sensor(export_id, mode="reschedule")
    with pytest.raises(AirflowRescheduleException):
        run(made)
    assert 3000 <= made._get_next_poke_interval(None, lambda: 0.0, 1) <= 3300
    # Airflow looks at the timeout only when it pokes.
    assert made._get_next_poke_interval(None, lambda: made.timeout - 5, 1) == 6


def test_pause_of_minutes_is_left_to_the_next_poke(connected: Emulator, clock: FakeClock) -> None:
    """The service can't hold a worker of a sensor that would give it up, nor past the timeout."""
    export_id = request(connected)
    connected.inject(Fault(FaultKind.TOO_MANY_REQUESTS, on="status", retry_after="120", times=None))
    made = sensor(export_id, mode="reschedule")
    with pytest.raises(AirflowRescheduleException):
        run(made)
    assert polls(connected) == 1
    assert clock.sleeps == []
    assert made._get_next_poke_interval(None, lambda: 0.0, 1) >= 120


def test_deferred_sensor_hands_the_pause_over(connected: Emulator) -> None:
    """When the service says when to come back, the trigger is told."""
    export_id = request(connected)
    connected.inject(Fault(FaultKind.TOO_MANY_REQUESTS, on="status", retry_after="3000"))
    with pytest.raises(TaskDeferred) as caught:
        run(sensor(export_id))
    not_before = datetime.fromisoformat(caught.value.trigger.serialize()[1]["not_before"])
    assert not_before - datetime.now(timezone.utc) > timedelta(seconds=2990)
    assert polls(connected) == 1


def test_reschedule_does_not_hammer(connected: Emulator) -> None:
    """The fifth 500 in a row is the last."""
    export_id = request(connected)
    connected.inject(Fault(FaultKind.INTERNAL_ERROR, on="status", times=None))
    with pytest.raises(UserSegmentsException, match="ticket"):
        run(sensor(export_id, mode="reschedule"))
    assert polls(connected) == 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"deferrable": True, "mode": "reschedule"}, "exclude each other"),
        ({"timeout": 0}, "wait: timeout is 0"),
        ({"poke_interval": 0}, "wait: poke_interval is 0"),
        ({"end_from_trigger": True, "mode": "reschedule"}, "needs a deferrable task"),
        ({"exponential_backoff": True}, "exponential_backoff: not supported in the triggerer"),
        ({"max_wait": 60}, "max_wait: not supported"),
        ({"max_wait": 0, "deferrable": False}, "wait: max_wait is"),
        ({"max_wait": timedelta(-1), "deferrable": False}, "wait: max_wait is"),
        ({"timeout": float("inf")}, "wait: cannot convert float infinity"),
        ({"silent_fail": True, "deferrable": True}, "silent_fail: not supported"),
        ({"mode": "poked"}, "wait: The mode must be one of"),
    ],
)
def test_wrong_arguments_fail_at_parse_time(arguments: dict[str, Any], words: str) -> None:
    """The message names the task and the argument."""
    with pytest.raises(ValueError, match=words):
        sensor("e", **arguments)


@pytest.mark.parametrize("export_id", ["", "a/b", "a?b"])
def test_wrong_export_id(connected: Emulator, export_id: str) -> None:
    """Fails for good, before anything is sent."""
    with pytest.raises(AirflowFailException, match="export_id"):
        run(sensor(export_id))
    assert connected.requests == []
