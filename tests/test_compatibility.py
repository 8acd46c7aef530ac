# SPDX-License-Identifier: Apache-2.0
"""
What runs while the package is upgraded was written by the version before, and is read by this one: docs/upgrading.md.

Each sample is what a version wrote, by the first version that wrote it so. If a test says that something else is written
now, add what is written now under this version. Change or remove no earlier sample: tasks, triggers and watchers of
users still hold it.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_3_PLUS

from airflow_provider_segments.emulator import EmulatedSegment, Emulator
from airflow_provider_segments.exceptions import UserSegmentsException
from airflow_provider_segments.hooks.user_segments import UserSegmentsHook
from airflow_provider_segments.operators.user_segments import UserSegmentExportOperator
from airflow_provider_segments.transfers.user_segment_to_s3 import UserSegmentToS3Operator
from airflow_provider_segments.triggers.segment_refresh import UserSegmentRefreshTrigger
from airflow_provider_segments.triggers.user_segments import UserSegmentExportTrigger
from tests.support import FakeStore, context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

needs_3_0 = pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow 2 has no asset watchers")
needs_3_3 = pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="the asset state store came with Airflow 3.3")

ID = "2576d5a4-7887-4c1c-bb2c-81ee0c6f8113"
NOW = datetime.now(timezone.utc)
Samples = dict[str, dict[str, Any]]

# In the metadata database, while a task is deferred.
EXPORT_TRIGGER = "airflow_provider_segments.triggers.user_segments.UserSegmentExportTrigger"
EXPORT_TRIGGERS: Samples = {
    "0.1.0": {
        "export_id": ID,
        "mparticle_conn_id": "mparticle_analytics_default",
        "deadline": "2026-11-26T00:00:00+00:00",
        "poll_interval": None,
        "deadline_name": "timeout",
        "not_before": "2026-11-25T00:00:00+00:00",
        "end_from_trigger": False,
        "output_format": "csv",
        "xcom_keys": None,
    },
}
RESUMPTIONS: Samples = {"0.1.0": {"method": "execute_complete", "kwargs": {"export_id": ID}}}

# In the metadata database, for as long as the asset has its watcher.
REFRESH_TRIGGER = "airflow_provider_segments.triggers.segment_refresh.UserSegmentRefreshTrigger"
REFRESH_TRIGGERS: Samples = {
    "0.1.0": {
        "segment_id": None,
        "segment_name": "Recent Registrants",
        "mparticle_conn_id": "mparticle_analytics_default",
        "poll_interval": 300.0,
    },
}

# In the metadata database, between the trigger's event and the resumed task.
SEGMENT = {
    "segment_id": "459e642f-5dcd-5103-974d-5cd14bde4ed5",
    "name": "Recent Registrants",
    "description": None,
    "category": "Acquisition",
    "project_id": "5a6646c4-ae5a-4de4-9d47-eb6f228405b2",
    "segment_type": "Dynamic",
    "last_run": "2026-11-23T18:30:33+00:00",
}
FINISHED_EVENTS: Samples = {
    "0.1.0": {
        "outcome": "finished",
        "export_id": ID,
        "export": {
            "export_id": ID,
            "segment": SEGMENT,
            "status": "COMPLETE",
            "project_id": "5a6646c4-ae5a-4de4-9d47-eb6f228405b2",
            "start_time": "2026-11-23T23:42:50.870000+00:00",
            "end_time": "2026-11-23T23:42:53.906000+00:00",
            "filename": f"s3://upload-bucket/path/to/{ID}.csv",
        },
    },
}
FAILURE_EVENTS: Samples = {
    "0.1.0": {
        "outcome": "gave_up",
        "export_id": ID,
        "error": "RefusedError",
        "message": "Polling: HTTP 401",
        "status": 401,
    },
}

# In the task state store.
EXPORT_KEY, TRANSFER_KEY = "user_segment_export", "user_segment_transfer"
ASKED = {
    "segment_name": "Recent Registrants",
    "output_format": "csv",
    "mparticle_conn_id": "mparticle_analytics_default",
}
EXPORTS: Samples = {
    "0.1.0": {"export_id": ID, "asked": ASKED, "requested_at": NOW.isoformat(), "max_tries": 2},
}
INTENTS: Samples = {"0.1.0": {"asked": ASKED, "announced_at": NOW.isoformat()}}
TRANSFERS: Samples = {"0.1.0": {"uri": "s3://mine/today.csv", "max_tries": 2}}

# In the asset state store; the key is made of the Connection and the segment.
MEMORY_KEY = "mparticle_segment_seen_1b5fe4f8d7a35d1bccfa30ed37093122"
MEMORIES: Samples = {"0.1.0": {"segment_id": "s-1", "last_run": "2026-11-20T12:00:00+00:00"}}

# What downstream tasks read.
XCOM_KEYS = {
    *("export_id", "segment_id", "segment_name", "segment_type", "status", "output_format", "start_time"),
    *("end_time", "expires_at", "filename", "s3_uri", "s3_bucket", "s3_key"),
}


def every(samples: Samples) -> Any:
    """Run a test on what each version wrote."""
    return pytest.mark.parametrize("sample", samples.values(), ids=samples)


def latest(samples: Samples) -> dict[str, Any]:
    """Return what this version writes."""
    return list(samples.values())[-1]


def shape(value: Any) -> Any:
    """Return a value with ids and times replaced by what they are."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", value):
        return "an id"
    if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\dT", value):
        assert datetime.fromisoformat(value).utcoffset() == timedelta(0)
        return "a time"
    return re.sub(r"[0-9a-f-]{36}", "an id", value) if isinstance(value, str) else value


def made_of(path: str, arguments: dict[str, Any]) -> Any:
    """Make a trigger the way Airflow does."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)(**arguments)


class History(FakeStore):
    """A task state store that remembers all it was given."""

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.written: list[tuple[str, Any]] = []

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        super().set(key, value, retention=retention)
        self.written.append((key, self.values[key]))


@pytest.fixture
def slow(connect: Callable[..., None]) -> Iterator[Emulator]:
    """A service whose exports take an hour."""
    with Emulator(bucket=None, export_seconds=3600) as running:
        connect(running)
        yield running


def export_operator(**arguments: Any) -> UserSegmentExportOperator:
    return UserSegmentExportOperator(
        task_id="export", segment_name="Recent Registrants", defer_after=0, **arguments
    )


def deferred(store: Any) -> TaskDeferred:
    """Run an export operator to its deferral."""
    with pytest.raises(TaskDeferred) as caught:
        export_operator().execute(context(store))
    return caught.value


class TestWritten:
    """What this version writes has a sample."""

    def test_export_trigger(self) -> None:
        """The class's path, and all arguments."""
        sample = latest(EXPORT_TRIGGERS)
        assert UserSegmentExportTrigger(**sample).serialize() == (EXPORT_TRIGGER, sample)

    def test_deferral(self, slow: Emulator) -> None:
        """The trigger's arguments, the method that resumes, and its arguments."""
        why = deferred(None)
        path, arguments = why.trigger.serialize()
        assert (path, set(arguments)) == (EXPORT_TRIGGER, set(latest(EXPORT_TRIGGERS)))
        assert shape({"method": why.method_name, "kwargs": why.kwargs}) == shape(latest(RESUMPTIONS))

    @needs_3_0
    def test_refresh_trigger(self) -> None:
        """The class's path, and all arguments."""
        sample = latest(REFRESH_TRIGGERS)
        made = UserSegmentRefreshTrigger(
            segment_name="Recent Registrants", poll_interval=timedelta(minutes=5)
        )
        assert made.serialize() == (REFRESH_TRIGGER, sample)

    async def test_finished_event(self, connected: Emulator) -> None:
        """All of the export, by these keys."""
        (segment, *_) = connected.segments
        event = await event_of(export_id := requested(segment.segment_id))
        sample = latest(FINISHED_EVENTS)
        assert event["export_id"] == event["export"]["export_id"] == export_id
        assert set(event) == set(sample)
        assert set(event["export"]) == set(sample["export"])
        assert set(event["export"]["segment"]) == set(SEGMENT)
        assert (event["outcome"], event["export"]["status"]) == ("finished", "COMPLETE")

    async def test_failure_event(self, connect: Callable[..., None], connected: Emulator) -> None:
        """The error's class and status, and its message."""
        connect(connected, password="wrong")
        event = await event_of(ID)
        sample = latest(FAILURE_EVENTS)
        assert event | {"message": sample["message"]} == sample

    def test_task_state_store(self, slow: Emulator) -> None:
        """First the intent, then the export."""
        store = History()
        deferred(store)
        expected = [(EXPORT_KEY, shape(latest(INTENTS))), (EXPORT_KEY, shape(latest(EXPORTS)))]
        assert [(key, shape(value)) for key, value in store.written] == expected

    def test_transfer(self, user_segments_s3: Any, connected: Emulator) -> None:
        """Which object this task has begun to write."""
        user_segments_s3.create_bucket(Bucket="mine")
        store = History()
        to_s3().execute(context(store))
        assert [value for key, value in store.written if key == TRANSFER_KEY] == [latest(TRANSFERS)]

    def test_xcoms(self, connected: Emulator) -> None:
        """Their keys are the result's."""
        found = context()
        result = UserSegmentExportOperator(
            task_id="export", segment_name="Recent Registrants", deferrable=False
        ).execute(found)
        assert set(result) == XCOM_KEYS
        assert found["ti"].pushed == {"export_id": result["export_id"]}


def requested(segment_id: str) -> str:
    """Request an export that is complete at once."""
    return UserSegmentsHook().request_export(segment_id).export_id


async def event_of(export_id: str) -> dict[str, Any]:
    """Return the event of a trigger that waits for an export."""
    async for event in UserSegmentExportTrigger(export_id).run():
        payload: dict[str, Any] = json.loads(json.dumps(event.payload))
        return payload
    raise AssertionError("a trigger yields an event")


def to_s3() -> UserSegmentToS3Operator:
    return UserSegmentToS3Operator(
        task_id="export", segment_name="Recent Registrants", s3_bucket="mine", s3_key="today.csv"
    )


class TestRead:
    """What each version has written is read."""

    @every(EXPORT_TRIGGERS)
    def test_export_trigger(self, sample: dict[str, Any]) -> None:
        """A triggerer that starts after the upgrade goes on with it."""
        _, arguments = made_of(EXPORT_TRIGGER, sample).serialize()
        assert {key: arguments[key] for key in sample} == sample

    @needs_3_0
    @every(REFRESH_TRIGGERS)
    def test_refresh_trigger(self, sample: dict[str, Any]) -> None:
        """Likewise."""
        _, arguments = made_of(REFRESH_TRIGGER, sample).serialize()
        assert {key: arguments[key] for key in sample} == sample

    @every(RESUMPTIONS)
    def test_resumption(self, sample: dict[str, Any]) -> None:
        """The task that is resumed has the method, and takes the arguments with the event."""
        resume = getattr(export_operator(), sample["method"])
        result = resume(context(), latest(FINISHED_EVENTS), **sample["kwargs"])
        assert result["export_id"] == ID

    @every(FINISHED_EVENTS)
    def test_finished_event(self, sample: dict[str, Any]) -> None:
        """An event of a triggerer that is not upgraded yet ends the task with its result."""
        result = export_operator().execute_complete(context(), sample, export_id=ID)
        assert result["segment_name"] == "Recent Registrants"
        assert result["s3_key"] == f"path/to/{ID}.csv"

    @every(FAILURE_EVENTS)
    def test_failure_event(self, sample: dict[str, Any]) -> None:
        """It ends the task as the error would: a 401 without a retry, an outage with one."""
        with pytest.raises(AirflowFailException, match="HTTP 401"):
            export_operator().execute_complete(context(), sample, export_id=ID)
        with pytest.raises(UserSegmentsException, match="HTTP 401"):
            export_operator().execute_complete(context(), sample | {"status": 503}, export_id=ID)

    @every(EXPORTS)
    def test_export(self, slow: Emulator, sample: dict[str, Any]) -> None:
        """The next try waits for the export that the version before requested."""
        running = requested(slow.segments[0].segment_id)
        deferred(FakeStore(**{EXPORT_KEY: sample | {"export_id": running}}))
        assert [submission.export_id for submission in slow.submissions] == [running]

    @every(INTENTS)
    def test_intent(self, slow: Emulator, sample: dict[str, Any], told: Callable[[], str]) -> None:
        """The next try says that a request may have been lost, and requests an export."""
        deferred(FakeStore(**{EXPORT_KEY: sample}))
        assert sample["announced_at"] in told()
        assert len(slow.submissions) == 1

    @every(TRANSFERS)
    def test_transfer(self, user_segments_s3: Any, connected: Emulator, sample: dict[str, Any]) -> None:
        """The next try overwrites what an earlier one began, although `replace` is False."""
        user_segments_s3.create_bucket(Bucket="mine")
        user_segments_s3.put_object(Bucket="mine", Key="today.csv", Body=b"a part")
        assert to_s3().execute(context(FakeStore(**{TRANSFER_KEY: sample})))["size"] > 1000

    @needs_3_3
    @every(MEMORIES)
    async def test_memory(self, connect: Callable[..., None], sample: dict[str, Any]) -> None:
        """A watcher goes on from what the version before saw, and writes the same."""
        from tests.triggers.runner import Database, triggerer

        database = Database()
        database.write("asset", MEMORY_KEY, sample)
        trigger = UserSegmentRefreshTrigger(segment_name="S", poll_interval=0.05)
        segment = EmulatedSegment(name="S", segment_id="s-1", last_run=NOW)
        with Emulator(bucket=None, segments=[segment]) as service:
            connect(service)
            async with triggerer(database) as running:
                running.watch(trigger, "asset")
                await running.until(lambda: database.store["asset", MEMORY_KEY] != sample)
        (event,) = database.events["asset"]
        assert event["previous_last_run"] == sample["last_run"]
        assert set(event) == {"segment_id", "segment_name", "previous_last_run", "last_run"}
        (kept,) = database.store.values()
        assert shape(kept) == shape(latest(MEMORIES))
