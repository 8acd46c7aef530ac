# SPDX-License-Identifier: Apache-2.0
"""Airflow 3.3's own trigger runner on the test's event loop, with a stand-in for the process that has the database."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from airflow.executors.workloads import RunTrigger
from airflow.jobs.triggerer_job_runner import TriggerRunner, messages
from airflow.models.trigger import Trigger
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import (
    AssetStateStoreResult,
    ErrorResponse,
    GetAssetStateStoreByName,
    OKResponse,
    SetAssetStateStoreByName,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from airflow_provider_segments.triggers.segment_refresh import UserSegmentRefreshTrigger


class Database:
    """What outlives a triggerer: assets' events and stores."""

    def __init__(self) -> None:
        self.events: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self.store: dict[tuple[str, str], Any] = {}
        self.reads_fail = self.writes_fail = False

    def read(self, asset: str, key: str) -> Any:
        """Return what an asset's store holds."""
        if self.reads_fail:
            raise RuntimeError("the store is away")
        return self.store.get((asset, key))

    def write(self, asset: str, key: str, value: Any) -> None:
        """Set what an asset's store holds."""
        if self.writes_fail:
            raise RuntimeError("the store is away")
        self.store[asset, key] = json.loads(json.dumps(value))

    @property
    def count(self) -> int:
        """How many events there are."""
        return sum(map(len, self.events.values()))


class Triggerer:
    """One triggerer: Airflow's runner, and what its supervisor does with the database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.stores_events = True
        self.runner = TriggerRunner()
        self.runner.comms_decoder = self  # type: ignore[assignment]
        self._assets: dict[int, list[str]] = {}
        self._confirmed: list[int] = []

    def watch(self, trigger: UserSegmentRefreshTrigger, *assets: str) -> None:
        """Start a trigger the way Airflow does, from its arguments."""
        path, arguments = trigger.serialize()
        trigger_id = len(self._assets) + 1
        self._assets[trigger_id] = list(assets)
        self.runner.to_create.append(
            RunTrigger(
                id=trigger_id,
                classpath=path,
                encrypted_kwargs=Trigger.encrypt_kwargs(arguments),
                watched_assets={name: f"x-test://{name}" for name in assets},
            )
        )

    async def asend(self, msg: Any) -> Any:
        """Answer as the supervisor does."""
        if isinstance(msg, messages.TriggerStateChanges):
            answer = messages.TriggerStateSync(
                to_create=[], to_cancel=set(), events_persisted=self._confirmed
            )
            self._confirmed = []
            if self.stores_events:
                self._store(msg.events or [])
            return answer
        if isinstance(msg, GetAssetStateStoreByName):
            value = self.database.read(msg.name, msg.key)
            return (
                AssetStateStoreResult(value=value) if value else ErrorResponse(error="ASSET_STORE_NOT_FOUND")
            )
        assert isinstance(msg, SetAssetStateStoreByName)
        self.database.write(msg.name, msg.key, msg.value)
        return OKResponse(ok=True)

    def _store(self, entries: list[Any]) -> None:
        for entry in entries:
            for asset in self._assets[entry.trigger_id]:
                self.database.events[asset].append(json.loads(json.dumps(entry.event.payload)))
            if entry.persist_seq is not None:
                self._confirmed.append(entry.persist_seq)

    def send(self, msg: Any) -> Any:
        """Take what is of no interest here, such as secrets to mask."""

    async def turn(self) -> None:
        """Go once through the runner's loop."""
        await self.runner.sync_state_to_supervisor(await self.runner.cleanup_finished_triggers())
        await self.runner.create_triggers()
        await asyncio.sleep(0.01)

    async def until(self, holds: Callable[[], Any]) -> None:
        """Go on until it holds; the time only bounds a test that fails."""
        async with asyncio.timeout(60):
            while not holds():
                await self.turn()

    async def die(self) -> None:
        """Stop at once; nothing of it reaches the database."""
        self.database = Database()
        tasks = [details["task"] for details in self.runner.triggers.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.runner._shared_streams.stop_all()


@asynccontextmanager
async def triggerer(database: Database) -> AsyncIterator[Triggerer]:
    """Run a triggerer until it dies."""
    running = Triggerer(database)
    task_runner.SUPERVISOR_COMMS = running  # type: ignore[assignment]
    try:
        yield running
    finally:
        await running.die()
        del task_runner.SUPERVISOR_COMMS
