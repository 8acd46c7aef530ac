# SPDX-License-Identifier: Apache-2.0
"""The operators against the emulator."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, Asset, TaskDeferred

from airflow_provider_segments.emulator import EmulatedSegment, Emulator, Fault, FaultKind
from airflow_provider_segments.exceptions import UserSegmentsException
from airflow_provider_segments.hooks.user_segments import UserSegmentsHook
from airflow_provider_segments.operators.user_segments import (
    UserSegmentExportOperator,
    UserSegmentsListOperator,
)
from airflow_provider_segments.triggers.user_segments import UserSegmentExportTrigger
from tests.support import context

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support import FakeClock

SYSTEM_DAGS = Path(__file__).parents[1] / "system" / "dags"
KEYS = {
    "export_id",
    "segment_id",
    "segment_name",
    "segment_type",
    "status",
    "output_format",
    "start_time",
    "end_time",
    "expires_at",
    "filename",
    "s3_uri",
    "s3_bucket",
    "s3_key",
}


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> None:
    monkeypatch.setattr(UserSegmentsHook, "clock", clock)


def operator(**arguments: Any) -> UserSegmentExportOperator:
    """Make one with a task id and, if none is given, a segment."""
    if not {"segment_id", "segment_name"} & set(arguments):
        arguments["segment_name"] = "Recent Registrants"
    return UserSegmentExportOperator(task_id="export", **arguments)


def deferred(made: UserSegmentExportOperator, where: Any = None) -> TaskDeferred:
    """Run it to its deferral."""
    with pytest.raises(TaskDeferred) as caught:
        made.execute(context() if where is None else where)
    return caught.value


@pytest.mark.parametrize("deferrable", [True, False])
def test_quick_export(connected: Emulator, deferrable: bool) -> None:
    """An export that is soon complete is done on the worker, with all keys, by one POST."""
    where = context()
    result = operator(deferrable=deferrable).execute(where)
    assert set(result) == KEYS
    assert result["status"] == "COMPLETE"
    assert result["s3_key"] == f"path/to/{result['export_id']}.csv"
    assert where["ti"].pushed == {"export_id": result["export_id"]}
    assert len(connected.submissions) == 1
    assert operator().multiple_outputs is True


def test_by_id(connected: Emulator) -> None:
    """An id spares the list."""
    segment = connected.segments[1]
    result = operator(segment_id=segment.segment_id).execute(context())
    assert (result["segment_id"], result["segment_name"]) == (segment.segment_id, segment.name)
    assert [request.route for request in connected.requests] == ["export", "status"]


@pytest.fixture
def slow(connect: Callable[..., None]) -> Any:
    """A service whose exports take an hour."""
    with Emulator(bucket=None, export_seconds=3600) as running:
        connect(running)
        yield running


def test_deferral(slow: Emulator, clock: FakeClock) -> None:
    """After about what a deferral costs the worker lets go; the trigger gets no secret and an absolute end."""
    made = operator(timeout=timedelta(hours=2))
    where = context()
    before = datetime.now(timezone.utc)
    why = deferred(made, where)
    assert 2.8 < clock.ahead < 4.1
    assert isinstance(why.trigger, UserSegmentExportTrigger)
    export_id = slow.submissions[0].export_id
    _, arguments = why.trigger.serialize()
    end = datetime.fromisoformat(arguments.pop("deadline"))
    assert datetime.fromisoformat(arguments.pop("not_before")) - datetime.now(timezone.utc) < timedelta(
        seconds=2
    )
    assert timedelta(0) <= end - before - timedelta(hours=2) < timedelta(minutes=1)
    assert arguments == {
        "export_id": export_id,
        "mparticle_conn_id": "mparticle_analytics_default",
        "poll_interval": None,
        "deadline_name": "timeout",
        "end_from_trigger": False,
        "output_format": "csv",
        "xcom_keys": None,
    }
    assert why.kwargs == {"export_id": export_id}
    assert why.method_name == "execute_complete"
    assert why.timeout is not None
    assert timedelta(hours=2) < why.timeout < timedelta(hours=2, minutes=5)
    assert where["ti"].pushed == {"export_id": export_id}


def test_nothing_to_wait_for_in_the_triggerer(slow: Emulator) -> None:
    """When the service may not be asked before the deadline, the wait ends without another look."""
    slow.inject(Fault(FaultKind.INTERNAL_ERROR, on="status", times=None))
    with pytest.raises(UserSegmentsException, match="would be after the deadline"):
        operator(timeout=30).execute(context())
    assert sum(request.route == "status" for request in slow.requests) == 1


def test_defer_at_once(slow: Emulator, clock: FakeClock) -> None:
    """defer_after=0 asks nothing on the worker."""
    deferred(operator(defer_after=0))
    assert clock.sleeps == []
    assert [request.route for request in slow.requests] == ["list", "export"]


def test_mapped_task_defers_at_once(slow: Emulator, clock: FakeClock) -> None:
    """Its instances would hold all worker slots; but defer_after holds for it, too."""
    where = context()
    where["ti"].map_index = 3
    with DAG("d", schedule=None):
        at_once = operator()
    with DAG("d", schedule=None):
        briefly = operator(defer_after=4)
    deferred(at_once, where)
    assert [request.route for request in slow.requests] == ["list", "export"]
    deferred(briefly, where)
    assert clock.sleeps != []


def test_execution_timeout_counts(slow: Emulator) -> None:
    """The earlier end wins, and is named."""
    why = deferred(operator(timeout=timedelta(hours=2), execution_timeout=timedelta(minutes=30)))
    arguments = why.trigger.serialize()[1]
    left = datetime.fromisoformat(arguments["deadline"]) - datetime.now(timezone.utc)
    assert timedelta(minutes=29) < left <= timedelta(minutes=30)
    assert arguments["deadline_name"] == "execution_timeout"


def test_synchronous_timeout(slow: Emulator, clock: FakeClock) -> None:
    """On the worker the wait ends at the timeout, as a failed try that names the export."""
    with pytest.raises(UserSegmentsException, match=r"\(timeout ended the wait\)") as caught:
        operator(deferrable=False, timeout=600).execute(context())
    assert slow.submissions[0].export_id in str(caught.value)
    assert 599 < clock.ahead < 601


def test_without_waiting(slow: Emulator) -> None:
    """wait_for_completion=False succeeds with the id."""
    result = operator(wait_for_completion=False).execute(context())
    assert set(result) == KEYS
    assert (result["status"], result["s3_key"]) == ("PENDING", None)


@pytest.mark.parametrize("deferrable", [True, False])
def test_failed_export(connected: Emulator, deferrable: bool) -> None:
    """A FAILED export fails the try, not the task."""
    connected.inject(Fault(FaultKind.FAILED, on="export"))
    with pytest.raises(UserSegmentsException, match="FAILED") as caught:
        operator(deferrable=deferrable).execute(context())
    assert not isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize("kind", [FaultKind.UNAUTHORIZED, FaultKind.FORBIDDEN])
def test_no_retry_helps(connected: Emulator, kind: FaultKind) -> None:
    """401 and 403 fail the task at once."""
    connected.inject(Fault(kind, times=None))
    with pytest.raises(AirflowFailException):
        operator().execute(context())
    with pytest.raises(AirflowFailException):
        UserSegmentsListOperator(task_id="list").execute(context())


def test_ambiguous_post(connected: Emulator) -> None:
    """Nothing is requested twice; the next try decides."""
    connected.inject(Fault(FaultKind.CUT_AFTER, on="export"))
    with pytest.raises(UserSegmentsException, match="may have started"):
        operator().execute(context())
    assert len(connected.submissions) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"segment_id": None, "segment_name": None},
            "exactly one of segment_id and segment_name, not neither",
        ),
        ({"segment_id": "a", "segment_name": "b"}, "exactly one of segment_id and segment_name, not both"),
        ({"segment_id": "a", "timeout": 0}, "export: timeout is 0"),
        ({"segment_id": "a", "timeout": timedelta(0)}, "export: timeout"),
        ({"segment_id": "a", "timeout": timedelta.max}, "at most ten years"),
        ({"segment_id": "a", "timeout": float("inf")}, "at most ten years"),
        ({"segment_id": "a", "poll_interval": -1}, "export: poll_interval is -1"),
        ({"segment_id": "a", "poll_interval": "5"}, "export: poll_interval is '5'"),
        ({"segment_id": "a", "defer_after": -0.1}, "export: defer_after is -0.1"),
        (
            {"segment_id": "a", "end_from_trigger": True, "outlets": [Asset("s3://b/k")]},
            "asset events of its outlets",
        ),
        (
            {"segment_id": "a", "end_from_trigger": True, "on_success_callback": print},
            "would lose the on_success_callback",
        ),
        ({"segment_id": "a", "end_from_trigger": True, "deferrable": False}, "needs a deferrable task"),
    ],
)
def test_wrong_arguments_fail_at_parse_time(arguments: dict[str, Any], words: str) -> None:
    """The message names the task and the argument."""
    with pytest.raises(ValueError, match=words):
        UserSegmentExportOperator(task_id="export", **arguments)


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [({}, None), ({"multiple_outputs": False}, ["return_value"]), ({"do_xcom_push": False}, [])],
)
def test_end_from_trigger(slow: Emulator, arguments: dict[str, Any], keys: list[str] | None) -> None:
    """The trigger is told to finish the task, with the XComs the task would push."""
    told = deferred(operator(end_from_trigger=True, output_format="json", **arguments)).trigger.serialize()[1]
    assert (told["end_from_trigger"], told["output_format"], told["xcom_keys"]) == (True, "json", keys)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"segment_name": ""}, "segment_name is '' once rendered"),
        ({"segment_id": "a", "output_format": None}, "output_format is None once rendered"),
        ({"segment_id": "a/b"}, "'a/b' is not an id"),
    ],
)
def test_wrong_once_rendered(connected: Emulator, arguments: dict[str, Any], words: str) -> None:
    """What only rendering shows fails the task at once, before anything is sent."""
    with pytest.raises(AirflowFailException, match=words):
        operator(**arguments).execute(context())
    assert connected.requests == []


@pytest.mark.parametrize("field", ["segment_id", "segment_name"])
def test_none_once_rendered(connected: Emulator, field: str) -> None:
    """As an upstream task's None is: the error names the argument that was given."""
    task = operator(**{field: "{{ upstream }}"})
    setattr(task, field, None)
    with pytest.raises(AirflowFailException, match=f"{field} is None once rendered"):
        task.execute(context())
    assert connected.requests == []


def test_unknown_segment_name(connected: Emulator) -> None:
    """The closest names are in the message."""
    with pytest.raises(UserSegmentsException, match="'Recent Registrants'"):
        operator(segment_name="Recent Registrant").execute(context())
    assert connected.submissions == []


def test_resumed(connected: Emulator) -> None:
    """The event is all a resumed task needs."""
    import asyncio

    hook = UserSegmentsHook()
    export_id = hook.request_export(connected.segments[0].segment_id).export_id
    event = asyncio.run(_first_event(export_id))
    asked = len(connected.requests)
    result = operator().execute_complete(context(), event, export_id)
    assert (set(result), result["status"]) == (KEYS, "COMPLETE")
    assert len(connected.requests) == asked


async def _first_event(export_id: str) -> Any:
    async for event in UserSegmentExportTrigger(export_id).run():
        return event.payload
    return None


def test_trigger_that_failed() -> None:
    """Airflow says only that; the task says of which export."""
    where = context()
    where["ti"].xcom_push("export_id", "the-id")
    with pytest.raises(UserSegmentsException, match="export the-id ended without an event"):
        operator().resume_execution("__fail__", {"error": "Trigger timeout"}, where)


def test_on_kill(slow: Emulator, told: Callable[[], str]) -> None:
    """A kill says what it does not end."""
    made = operator()
    made.on_kill()
    assert "keeps running" not in told()
    deferred(made)
    made.on_kill()
    assert f"export {slow.submissions[0].export_id} keeps running" in told()


def test_list(connected: Emulator) -> None:
    """Plain dicts with the design's keys."""
    found = UserSegmentsListOperator(task_id="list").execute(context())
    assert [set(segment) for segment in found] == [
        {"segment_id", "name", "description", "category", "project_id", "segment_type", "last_run"}
    ] * 3


def test_list_filters(connect: Callable[..., None]) -> None:
    """All filters have to pass; a pattern matches anywhere in the name."""
    with Emulator(bucket=None, segments=20) as service:
        connect(service)

        def names(**filters: str) -> list[str]:
            return [s["name"] for s in UserSegmentsListOperator(task_id="list", **filters).execute(context())]

        everyone = service.segments
        assert names() == [s.name for s in everyone]
        assert names(segment_type="Static") == [s.name for s in everyone if s.type == "Static"] != []
        category = next(s.category for s in everyone if s.category)
        assert names(category=category) == [s.name for s in everyone if s.category == category]
        assert names(name_pattern="^Recent R") == ["Recent Registrants", "Recent Registrants, series 2"]
        assert names(name_pattern="Registrants$") == ["Recent Registrants"]
        assert names(name_pattern="egistrant", segment_type="Static") == []


def test_list_refreshed_since(connect: Callable[..., None]) -> None:
    """Only Dynamic segments refreshed later, whatever the form of the time; without a time, all."""
    moments = [datetime(2026, 1, 1, hour, tzinfo=timezone.utc) for hour in (3, 4, 5)]
    segments = [EmulatedSegment(name=f"at {moment.hour}", last_run=moment) for moment in moments]
    segments += [EmulatedSegment(name="static", type="Static", last_run=moments[2])]
    segments += [EmulatedSegment(name="never", last_run=None)]
    with Emulator(bucket=None, segments=segments) as service:
        connect(service)

        def names(since: Any) -> list[str]:
            made = UserSegmentsListOperator(task_id="list", refreshed_since=since)
            return [segment["name"] for segment in made.execute(context())]

        four = moments[1]
        for since in (four, four.replace(tzinfo=None), "2026-01-01T04:00:00", "2026-01-01 05:00:00+01:00"):
            assert names(since) == ["at 5"], since
        assert names("2026-01-01T03:59:59.999Z") == ["at 4", "at 5"]
        for since in (None, "", "  "):
            assert names(since) == ["at 3", "at 4", "at 5", "static", "never"]


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"refreshed_since": "yesterday"}, "refreshed_since is 'yesterday' once rendered"),
        ({"refreshed_since": "None"}, "prev_data_interval_end_success \\| default"),
        ({"refreshed_since": 5}, "a datetime or ISO 8601 text"),
        ({"name_pattern": "("}, "not a valid regular expression"),
        ({"segment_type": "dynamic"}, "'Static' or 'Dynamic'"),
    ],
)
def test_list_filters_that_are_none(connected: Emulator, filters: dict[str, str], words: str) -> None:
    """They fail the task at once."""
    with pytest.raises(AirflowFailException, match=words):
        UserSegmentsListOperator(task_id="list", **filters).execute(context())


@pytest.mark.parametrize(
    ("name", "value", "template"),
    [
        ("refreshed_since", "yesterday", "{{ ds }}"),
        ("refreshed_since", timedelta(days=1), "{{ ds }}"),
        ("name_pattern", "*foo", "{{ '*foo' }}"),
    ],
)
def test_wrong_filter_fails_at_parse_time(name: str, value: Any, template: str) -> None:
    """Unless it is a template, or comes from another task."""
    with DAG("d", schedule=None):
        other = UserSegmentsListOperator(task_id="other").output
        UserSegmentsListOperator.partial(task_id="mapped").expand(**{name: other})
        for number, given in enumerate((template, other, other.map(str))):
            UserSegmentsListOperator(task_id=f"list_{number}", **{name: given})
        with pytest.raises(ValueError, match=name):
            UserSegmentsListOperator(task_id="wrong", **{name: value})


PLUGIN = """
from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

class Listener:
    @hookimpl
    def on_task_instance_success(self, previous_state, task_instance): ...

class Plugin(AirflowPlugin):
    name = "listens"
    listeners = [Listener()]
"""
PARSE = """
import sys
from airflow.models import DagBag
print(*DagBag(sys.argv[1]).import_errors.values())
"""


@pytest.mark.parametrize(("plugin", "refusal"), [(PLUGIN, "Listeners are not supported"), ("", "")])
def test_airflow_itself_refuses_end_from_trigger_where_somebody_listens(
    tmp_path: Path, plugin: str, refusal: str
) -> None:
    """As the docs say: with a plugin such as OpenLineage's, the DAG is not loaded."""
    (tmp_path / "plugin.py").write_text(plugin)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PARSE, str(SYSTEM_DAGS / "endings.py")],
        env=os.environ | {"AIRFLOW__CORE__PLUGINS_FOLDER": str(tmp_path), "RECORD": str(tmp_path / "record")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert refusal in done.stdout
    assert bool(refusal) == ("end_from_trigger" in done.stdout)
