# SPDX-License-Identifier: Apache-2.0
"""Reattaching: a later try of the same request goes on with the running export."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, TaskDeferred

from airflow_provider_segments.api.calls import Reply
from airflow_provider_segments.emulator import Emulator, Fault, FaultKind
from airflow_provider_segments.exceptions import UserSegmentsException
from airflow_provider_segments.hooks.user_segments import UserSegmentsHook
from airflow_provider_segments.operators.user_segments import UserSegmentExportOperator
from airflow_provider_segments.transports.pool import WorkerClient
from tests.support import BrokenStore, FakeClock, FakeStore, StoreOfAGoneTask, context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_segments.api.flow import Send


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> None:
    monkeypatch.setattr(UserSegmentsHook, "clock", clock)


@pytest.fixture
def slow(connect: Callable[..., None]) -> Iterator[Emulator]:
    """A service whose exports take an hour."""
    with Emulator(bucket=None, export_seconds=3600) as running:
        connect(running)
        yield running


def operator(**arguments: Any) -> UserSegmentExportOperator:
    """Make one with a task id and a segment."""
    return UserSegmentExportOperator(task_id="export", segment_name="Recent Registrants", **arguments)


def deferred(made: UserSegmentExportOperator, where: Any) -> TaskDeferred:
    """Run it to its deferral."""
    with pytest.raises(TaskDeferred) as caught:
        made.execute(where)
    return caught.value


def test_pending_export_is_waited_for(slow: Emulator) -> None:
    """Its id is pushed again."""
    store = FakeStore()
    deferred(operator(), context(store))
    assert store.retention == timedelta(days=3)
    again = context(store)
    why = deferred(operator(), again)
    assert len(slow.submissions) == 1
    assert why.kwargs == again["ti"].pushed == {"export_id": slow.submissions[0].export_id}


def test_complete_export_is_the_result(connected: Emulator) -> None:
    """It is done."""
    store = FakeStore()
    first = operator().execute(context(store))
    assert operator().execute(context(store)) == first
    assert len(connected.submissions) == 1


@pytest.mark.parametrize("deferrable", [True, False])
def test_try_killed_right_after_the_post_leaves_the_id(connected: Emulator, deferrable: bool) -> None:
    """The id is kept before anything else can fail."""
    store, where = FakeStore(), context()
    where["task_state_store"] = store

    def die(key: str, value: Any) -> None:
        raise KeyboardInterrupt

    where["ti"].xcom_push = die
    with pytest.raises(KeyboardInterrupt):
        operator(deferrable=deferrable).execute(where)
    result = operator(deferrable=deferrable).execute(context(store))
    assert [s.export_id for s in connected.submissions] == [result["export_id"]]


def test_cleared_task_requests_another(connected: Emulator) -> None:
    """Whoever clears a finished task wants fresh data."""
    store = FakeStore()
    first = operator().execute(context(store, max_tries=2))
    second = operator().execute(context(store, max_tries=3))
    assert first["export_id"] != second["export_id"]
    # A retry of the cleared task goes on with the new one.
    assert operator().execute(context(store, max_tries=3)) == second
    assert len(connected.submissions) == 2


def test_task_cleared_while_its_export_is_pending_reattaches(slow: Emulator) -> None:
    """What runs is fresh; a retry after that does not count as another clear."""
    store = FakeStore()
    deferred(operator(), context(store, max_tries=2))
    deferred(operator(), context(store, max_tries=3))
    slow.end(slow.submissions[0].export_id)
    assert operator().execute(context(store, max_tries=3))["status"] == "COMPLETE"
    assert len(slow.submissions) == 1


@pytest.mark.parametrize("how", ["failed", "expired", "unknown", "other request", "old"])
def test_export_of_no_use_is_left(connected: Emulator, how: str) -> None:
    """Another export is requested when the first is known to be of no use."""
    store, again = FakeStore(), operator()
    if how == "failed":
        connected.inject(Fault(FaultKind.FAILED, on="export"))
        with pytest.raises(AirflowException):
            operator().execute(context(store))
    else:
        first = operator().execute(context(store))
        if how == "expired":
            connected.expire(first["export_id"])
        elif how == "unknown":
            store.values["user_segment_export"]["export_id"] = "nobody"
        elif how == "other request":
            again = operator(output_format="json")
        else:
            long_ago = datetime.now(timezone.utc) - timedelta(days=3, minutes=1)
            store.values["user_segment_export"]["requested_at"] = long_ago.isoformat()
    asked = len(connected.requests)
    assert again.execute(context(store))["status"] == "COMPLETE"
    assert len(connected.submissions) == 2
    looked = [r for r in connected.requests[asked:] if r.route == "status"]
    assert len(looked) == (1 if how in ("old", "other request") else 2)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (FaultKind.UNAVAILABLE, UserSegmentsException),
        (FaultKind.TOO_MANY_REQUESTS, UserSegmentsException),
        (FaultKind.INTERNAL_ERROR, UserSegmentsException),
        (FaultKind.UNAUTHORIZED, AirflowFailException),
        (FaultKind.HTML, UserSegmentsException),
    ],
)
def test_service_that_cannot_be_asked(connected: Emulator, fault: FaultKind, error: type[Exception]) -> None:
    """Nothing is started blindly."""
    store = FakeStore()
    operator().execute(context(store))
    connected.inject(Fault(fault, on="status", times=None))
    with pytest.raises(error):
        operator().execute(context(store))
    assert len(connected.submissions) == 1


@pytest.mark.parametrize("status", [405, 407, 408, 421, 425, 451])
def test_proxy_that_answers_in_place_of_the_service(
    connected: Emulator, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """It does not know of the export, so nothing is requested."""
    store = FakeStore()
    made = UserSegmentExportOperator(task_id="export", segment_id=connected.segments[0].segment_id)
    made.execute(context(store))
    methods = []

    def send(_: WorkerClient, step: Send) -> Reply:
        methods.append(step.call.method)
        return Reply(status, {}, b"")

    monkeypatch.setattr(WorkerClient, "send", send)
    monkeypatch.setattr(UserSegmentsHook, "clock", FakeClock())
    with pytest.raises(UserSegmentsException, match=str(status)):
        made.execute(context(store))
    assert set(methods) == {"GET"}
    assert len(connected.submissions) == 1


def test_try_that_airflow_has_given_up(connected: Emulator) -> None:
    """It runs all the same, and must request nothing."""
    with pytest.raises(UserSegmentsException, match="gave up on this try"):
        operator().execute(context(StoreOfAGoneTask()))
    assert connected.submissions == []


def test_id_that_was_never_kept(connected: Emulator, told: Callable[[], str]) -> None:
    """A request whose answer was lost is told by the next try."""
    store = FakeStore()
    connected.inject(Fault(FaultKind.CUT_AFTER, on="export"))
    with pytest.raises(UserSegmentsException, match="may have started"):
        operator().execute(context(store))
    assert operator().execute(context(store))["status"] == "COMPLETE"
    assert "stored no id" in told()


def test_store_that_is_away(connected: Emulator, told: Callable[[], str]) -> None:
    """The export keeps running; a warning says what that means."""
    assert operator().execute(context(BrokenStore()))["status"] == "COMPLETE"
    said = told()
    assert "can't be read, so this try can't reattach: the store is away" in said
    assert f"can't reattach to export {connected.submissions[0].export_id}: the store is away" in said


@pytest.mark.parametrize(
    "value",
    [
        "text",
        7,
        {"export_id": "e"},
        {"export_id": 1, "asked": {}, "requested_at": "x", "max_tries": 0},
        {"export_id": "e", "asked": None, "requested_at": "2026-01-31T00:00:00+00:00", "max_tries": 0},
    ],
)
def test_store_with_something_else(connected: Emulator, value: Any) -> None:
    """What can't be read is as good as nothing."""
    assert operator().execute(context(FakeStore(user_segment_export=value)))["status"] == "COMPLETE"
    assert len(connected.submissions) == 1


def test_record_with_a_time_without_a_zone(connected: Emulator) -> None:
    """It is none of ours."""
    store = FakeStore()
    operator().execute(context(store))
    store.values["user_segment_export"]["requested_at"] = "2026-01-31T00:00:00"
    operator().execute(context(store))
    assert len(connected.submissions) == 2


def test_not_durable(connected: Emulator) -> None:
    """durable=False keeps nothing."""
    store = FakeStore()
    operator(durable=False).execute(context(store))
    assert store.values == {}


def test_airflow_without_a_store_says_so_once(connected: Emulator, told: Callable[[], str]) -> None:
    """Below 3.3 everything else works."""
    assert operator().execute(context())["status"] == "COMPLETE"
    assert told().count("no task state store") == 1
