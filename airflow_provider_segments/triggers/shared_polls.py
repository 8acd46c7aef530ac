# SPDX-License-Identifier: Apache-2.0
"""
One poll for all watchers of a Connection, in the acknowledged mode of Airflow's shared streams (3.3 and later).

Airflow passes each poll to all watchers, and calls `SharedPolls.advance` once their events are in its database. Only
then is the refresh recorded as seen: a triggerer that dies earlier sees it again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from airflow.triggers.shared_stream import AdvanceItem, SharedStreamProducer

from airflow_provider_segments.triggers.loading import load_hook
from airflow_provider_segments.triggers.watch import poll_segments

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence

    from airflow_provider_segments.api.models import UserSegment

log = logging.getLogger(__name__)
# Seconds: when a triggerer starts, many watchers join at a time.
_GATHERING = 1.0
_running: WeakValueDictionary[Hashable, SharedPolls] = WeakValueDictionary()


class ListPoll:
    """One answer of the service, with all segments of the project, on its way to all watchers."""

    def __init__(self, segments: list[UserSegment]) -> None:
        self.segments = segments
        #: What to do once its events are stored.
        self.when_stored: list[Callable[[], Awaitable[None]]] = []
        #: Whether Airflow has reported the outcome.
        self.settled = False


class SharedPolls(SharedStreamProducer):
    """Poll the list of segments for all watchers that share a key."""

    def __init__(self, key: Hashable, mparticle_conn_id: str, poll_interval: float) -> None:
        self._conn_id, self._poll_interval = mparticle_conn_id, poll_interval
        self.joined = asyncio.Event()
        _running[key] = self

    async def open_stream(self) -> AsyncIterator[tuple[Any, Any]]:
        """Poll forever. A watcher that joins between two polls gets the last answer."""
        async with await load_hook(self._conn_id) as hook:
            while True:
                segments, pause = await poll_segments(hook, self._poll_interval, log)
                due = time.monotonic() + pause
                self.joined.clear()
                while True:
                    if segments is not None:
                        found = ListPoll(segments)
                        yield found, found
                    if not await self._somebody_joins_before(due):
                        break

    async def _somebody_joins_before(self, due: float) -> bool:
        try:
            async with asyncio.timeout(due - time.monotonic()):
                await self.joined.wait()
                await asyncio.sleep(_GATHERING)
        except TimeoutError:
            return False
        self.joined.clear()
        return True

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Store what was seen in polls that all watchers have moved past, now that their events are stored."""
        for item in batch:
            found: ListPoll = item.broker_payload
            found.settled = True
            # Airflow does not say which watcher's event failed, so none stores this poll. The failed watcher is gone.
            if not item.outcome.failed:
                for keep in found.when_stored:
                    await keep()


def join(key: Hashable) -> None:
    """Ask for the last answer, so that a new watcher of the group need not wait for the next poll."""
    if running := _running.get(key):
        running.joined.set()
