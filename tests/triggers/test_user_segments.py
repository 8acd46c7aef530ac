# SPDX-License-Identifier: Apache-2.0
"""The trigger against the emulator, on a real event loop."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import XCom
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS
from airflow.triggers.base import TaskSuccessEvent

from airflow_provider_segments.api.errors import ConfigurationError, ExportTimeoutError
from airflow_provider_segments.emulator import Emulator, Fault, FaultKind
from airflow_provider_segments.hooks.user_segments import UserSegmentsAsyncHook, UserSegmentsHook
from airflow_provider_segments.triggers.events import read_event
from airflow_provider_segments.triggers.user_segments import UserSegmentExportTrigger

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support import FakeClock


async def events(trigger: UserSegmentExportTrigger) -> list[Any]:
    """Run a trigger to its end."""
    return [event.payload async for event in trigger.run()]


def request(service: Emulator) -> str:
    """Request an export and return its id."""
    return UserSegmentsHook().request_export(service.segments[0].segment_id).export_id


def test_round_trip() -> None:
    """The arguments equal the serialized ones, and those are plain JSON."""
    trigger = UserSegmentExportTrigger(
        "e", "c", deadline="2026-01-01T00:00:00+00:00", poll_interval=3, deadline_name="n"
    )
    path, arguments = trigger.serialize()
    assert path == "airflow_provider_segments.triggers.user_segments.UserSegmentExportTrigger"
    assert UserSegmentExportTrigger(**json.loads(json.dumps(arguments))).serialize() == (path, arguments)


@pytest.mark.parametrize(
    "wrong",
    [
        {"export_id": None},
        {"export_id": ""},
        {"mparticle_conn_id": 5},
        {"deadline": "nonsense"},
        {"not_before": 3},
        {"poll_interval": "3"},
    ],
)
def test_wrong_arguments(wrong: dict[str, Any]) -> None:
    """They are named when the trigger is made."""
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        UserSegmentExportTrigger(**{"export_id": "e"} | wrong)


@pytest.mark.parametrize("deadline", ["2026-01-01T00:00:00", "9999-12-31T23:59:59+00:00"])
async def test_deadline_without_a_zone_is_utc(connected: Emulator, deadline: str) -> None:
    """And one at the end of time is a long one."""
    export_id = request(connected)
    (event,) = await events(UserSegmentExportTrigger(export_id, deadline=deadline))
    assert read_event(event, export_id).status == "COMPLETE"


async def test_complete(connected: Emulator) -> None:
    """One event with the whole export."""
    export_id = request(connected)
    (event,) = await events(UserSegmentExportTrigger(export_id))
    assert read_event(json.loads(json.dumps(event)), export_id).status == "COMPLETE"


async def test_presigned_query_stays_out(connected: Emulator) -> None:
    """An event is stored; a signature is not for storing."""
    connected.inject(Fault(FaultKind.PRESIGNED, on="export"))
    export_id = request(connected)
    (event,) = await events(UserSegmentExportTrigger(export_id))
    assert event["export"]["filename"].startswith("https://")
    assert "?" not in json.dumps(event)


async def test_failed_export_is_an_end(connected: Emulator) -> None:
    """What it means is for the task to say."""
    connected.inject(Fault(FaultKind.FAILED, on="export"))
    export_id = request(connected)
    (event,) = await events(UserSegmentExportTrigger(export_id))
    assert read_event(event, export_id).status == "FAILED"


async def test_wrong_credentials(connected: Emulator) -> None:
    """An event of its kind, so that the task fails at once."""
    export_id = request(connected)
    connected.inject(Fault(FaultKind.UNAUTHORIZED, times=None))
    (event,) = await events(UserSegmentExportTrigger(export_id))
    assert (event["outcome"], event["error"]) == ("gave_up", "RefusedError")


async def test_deadline_that_passed_while_nothing_ran(
    connected: Emulator, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    """There is a final poll, which may find the export complete; then the name of what ended the wait."""
    past = (datetime.now(timezone.utc) - timedelta(hours=1)).isoformat()
    export_id = request(connected)
    (event,) = await events(UserSegmentExportTrigger(export_id, deadline=past))
    assert event["outcome"] == "finished"
    connected.inject(Fault(FaultKind.NEVER, on="export"))
    export_id = request(connected)
    monkeypatch.setattr(UserSegmentsAsyncHook, "clock", clock)
    (event,) = await events(
        UserSegmentExportTrigger(export_id, deadline=past, deadline_name="execution_timeout")
    )
    with pytest.raises(ExportTimeoutError, match="execution_timeout ended the wait"):
        read_event(event, export_id)


async def test_all_waits_share_one_client(connected: Emulator) -> None:
    """Many waits on one Connection: one pool, one reading of the Connection; closed with the last."""
    import asyncio

    from airflow_provider_segments.transports import pool

    ids = [request(connected) for _ in range(3)]
    before = connected.connections
    found = await asyncio.gather(*(events(UserSegmentExportTrigger(ids[n % 3])) for n in range(100)))
    assert {event["outcome"] for (event,) in found} == {"finished"}
    assert connected.connections - before <= 32
    assert pool._clients[asyncio.get_running_loop()] == {}


async def test_on_kill(told: Callable[[], str]) -> None:
    """A kill says what it does not end."""
    await UserSegmentExportTrigger("the-id").on_kill()
    assert "export the-id keeps running" in told()


class Supervisor:
    """What Airflow keeps of a task in the triggerer: XComs through the configured backend, and past it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, works: bool = True) -> None:
        self.through_backend: dict[str, Any] = {}
        self.past_backend: dict[str, Any] = {}
        self.works = works
        # The class the trigger will find: Airflow 2 makes it when it is first imported.
        monkeypatch.setattr(XCom, "set", self._write(self.through_backend))
        monkeypatch.setattr(XCom, "_set_xcom_in_db", self._write(self.past_backend), raising=False)

    def _write(self, written: dict[str, Any]) -> Callable[..., None]:
        def write(key: str, value: Any, **where: Any) -> None:
            if not self.works:
                raise RuntimeError("no supervisor")
            assert where == {"dag_id": "d", "task_id": "t", "run_id": "r", "map_index": 3}
            written[key] = value

        return write


def of_a_task(trigger: UserSegmentExportTrigger) -> UserSegmentExportTrigger:
    """Give a trigger a task, as Airflow does."""
    trigger.task_instance = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=3)
    return trigger


@pytest.mark.parametrize(
    ("keys", "pushed"),
    [(None, {"return_value", "export_id", "s3_key"}), (["return_value"], {"return_value"}), ([], set())],
)
async def test_end_from_trigger_writes_what_a_worker_writes(
    connected: Emulator, monkeypatch: pytest.MonkeyPatch, keys: list[str] | None, pushed: set[str]
) -> None:
    """The result through a custom XCom backend, the link past it; Airflow 2 reads the result for it."""
    written = Supervisor(monkeypatch)
    export_id = request(connected)
    trigger = of_a_task(UserSegmentExportTrigger(export_id, end_from_trigger=True, xcom_keys=keys))
    (event,) = [event async for event in trigger.run()]
    assert isinstance(event, TaskSuccessEvent)
    assert event.xcoms is None
    assert pushed <= set(written.through_backend)
    if keys is not None:
        assert pushed == set(written.through_backend)
    if pushed:
        assert written.through_backend["return_value"]["export_id"] == export_id
    url = f"https://console.aws.amazon.com/s3/object/bucket?prefix=path/to/{export_id}.csv" if pushed else ""
    assert list(written.past_backend) == (["_link_ExportedFileLink"] if AIRFLOW_V_3_0_PLUS else [])
    for value in written.past_backend.values():
        assert bool(value) is bool(pushed)
        assert value.endswith(url.partition("?")[2])


async def test_worker_finishes_what_the_triggerer_can_not(
    connected: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the XComs can't be written, a worker writes them."""
    Supervisor(monkeypatch, works=False)
    export_id = request(connected)
    trigger = of_a_task(UserSegmentExportTrigger(export_id, end_from_trigger=True))
    (event,) = await events(trigger)
    assert read_event(event, export_id).status == "COMPLETE"


async def test_failures_never_end_from_the_trigger(connected: Emulator) -> None:
    """Retries and callbacks are the worker's."""
    connected.inject(Fault(FaultKind.FAILED, on="export"))
    export_id = request(connected)
    (event,) = await events(UserSegmentExportTrigger(export_id, end_from_trigger=True))
    assert read_event(event, export_id).status == "FAILED"
