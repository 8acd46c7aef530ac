# SPDX-License-Identifier: Apache-2.0
"""The sensor against the emulator, in its three modes."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from airflow.exceptions import AirflowRescheduleException
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_segments.emulator import Emulator, Fault, FaultKind
from airflow_provider_segments.hooks.user_segments import UserSegmentsHook
from airflow_provider_segments.operators.user_segments import UserSegmentExportOperator
from airflow_provider_segments.sensors.user_segments import UserSegmentExportSensor
from airflow_provider_segments.triggers.user_segments import UserSegmentExportTrigger
from tests.support import context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support import FakeClock

pytestmark = pytest.mark.usefixtures("database")  # Airflow 2 asks it when a sensor was first rescheduled

MODES: list[dict[str, Any]] = [{"deferrable": True}, {"deferrable": False}, {"mode": "reschedule"}]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> None:
    monkeypatch.setattr(UserSegmentsHook, "clock", clock)


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


def run(made: UserSegmentExportSensor) -> Any:
    """Execute it as Airflow does."""
    where = context()
    where["ti"].get_first_reschedule_date = lambda context: None
    return made.execute(where)


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


def test_pokes_on_request(slow: Emulator, clock: FakeClock) -> None:
    """deferrable=False holds the worker until the end, adaptively."""
    export_id = request(slow)
    clock.on_sleep = lambda: len(clock.sleeps) == 5 and slow.end(export_id)
    assert run(sensor(export_id, deferrable=False))["status"] == "COMPLETE"
    assert len(clock.sleeps) == 5


def test_reschedules(slow: Emulator) -> None:
    """The worker is freed between two looks."""
    with pytest.raises(AirflowRescheduleException):
        run(sensor(request(slow), mode="reschedule"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("soft_fail", [True, False])
def test_failed(connected: Emulator, mode: dict[str, Any], soft_fail: bool) -> None:
    """A FAILED export fails the sensor for good, or skips it."""
    connected.inject(Fault(FaultKind.FAILED, on="export"))
    with pytest.raises(AirflowSkipException if soft_fail else AirflowFailException):
        run(sensor(request(connected), soft_fail=soft_fail, **mode))


@pytest.mark.parametrize("soft_fail", [True, False])
def test_resumed_half_honours_soft_fail(soft_fail: bool) -> None:
    """The same after a deferral."""
    event = {"export_id": "e", "outcome": "gave_up", "error": "ExportTimeoutError", "message": "too late"}
    made = sensor("e", soft_fail=soft_fail)
    with pytest.raises(AirflowSkipException if soft_fail else AirflowSensorTimeout):
        made.resume_execution("execute_complete", {"event": event}, context())


@pytest.mark.parametrize("soft_fail", [True, False])
def test_times_out(slow: Emulator, soft_fail: bool) -> None:
    """As sensors do."""
    with pytest.raises(AirflowSkipException if soft_fail else AirflowSensorTimeout):
        run(sensor(request(slow), deferrable=False, timeout=60, soft_fail=soft_fail))


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
    assert made._get_next_poke_interval(None, lambda: 0.0, 1) == 3000
    # Airflow looks at the timeout only when it pokes.
    assert made._get_next_poke_interval(None, lambda: made.timeout - 5, 1) == 6


def test_deferred_sensor_hands_the_pause_over(connected: Emulator) -> None:
    """When the service says when to come back, the trigger is told."""
    export_id = request(connected)
    connected.inject(Fault(FaultKind.TOO_MANY_REQUESTS, on="status", retry_after="3000"))
    with pytest.raises(TaskDeferred) as caught:
        run(sensor(export_id))
    not_before = datetime.fromisoformat(caught.value.trigger.serialize()[1]["not_before"])
    assert not_before - datetime.now(timezone.utc) > timedelta(seconds=2990)
    assert sum(request.route == "status" for request in connected.requests) == 1


def test_reschedule_does_not_hammer(connected: Emulator) -> None:
    """The fifth 500 in a row is the last."""
    export_id = request(connected)
    connected.inject(Fault(FaultKind.INTERNAL_ERROR, on="status", times=None))
    with pytest.raises(Exception, match="ticket"):
        run(sensor(export_id, mode="reschedule"))
    assert sum(request.route == "status" for request in connected.requests) == 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"deferrable": True, "mode": "reschedule"}, "exclude each other"),
        ({"timeout": 0}, "wait: timeout is 0"),
        ({"poke_interval": 0}, "wait: poke_interval is 0"),
        ({"end_from_trigger": True, "mode": "reschedule"}, "needs a deferrable task"),
        ({"start_from_trigger": True, "deferrable": False}, "needs a deferrable sensor"),
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


def test_start_from_trigger() -> None:
    """What the scheduler needs is set on this task alone."""
    made = sensor("e", start_from_trigger=True, timeout=600, poke_interval=5, end_from_trigger=True)
    assert made.start_from_trigger is True
    assert made.start_trigger_args.timeout == timedelta(seconds=600)
    arguments = made.start_trigger_args.trigger_kwargs
    trigger = UserSegmentExportTrigger(**arguments)
    assert trigger.serialize()[0] == made.start_trigger_args.trigger_cls
    assert (trigger.export_id, trigger.poll_interval, trigger.end_from_trigger) == ("e", 5, True)
    assert not UserSegmentExportSensor.start_from_trigger
    assert not sensor("f").start_from_trigger


@pytest.mark.parametrize("source", ["xcomarg", "{{ ti.xcom_pull(task_ids='a') }}"])
def test_start_from_trigger_takes_nothing_from_upstream(source: str) -> None:
    """Refused when the DAG is parsed, for the task would wait for ever."""
    upstream = UserSegmentExportOperator(task_id="a", segment_id="s")
    with pytest.raises(ValueError, match="from an upstream task"):
        sensor(upstream.output["export_id"] if source == "xcomarg" else source, start_from_trigger=True)


def test_start_from_trigger_with_a_template() -> None:
    """Rendered from Airflow 3.3 on; refused before."""
    source = "{{ dag_run.conf['export_id'] }}"
    if AIRFLOW_V_3_3_PLUS:
        assert (
            sensor(source, start_from_trigger=True).start_trigger_args.trigger_kwargs["export_id"] == source
        )
    else:
        with pytest.raises(ValueError, match="renders no template before Airflow 3.3"):
            sensor(source, start_from_trigger=True)
