# SPDX-License-Identifier: Apache-2.0
"""
One poll for all watchers of a Connection, in the acknowledged mode of Airflow's shared streams (3.3 and later).

Airflow hands each look to all watchers, and tells `SharedPolls.advance` once the events they made of it are in
its database. Only then is what they saw kept: a triggerer that dies earlier sees the refresh again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from airflow.triggers.shared_stream import AdvanceItem, SharedStreamProducer

from airflow_provider_segments.hooks.user_segments import UserSegmentsAsyncHook
from airflow_provider_segments.triggers._polls import poll

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence

    from airflow_provider_segments.api.models import UserSegment

__all__ = ["Look", "SharedPolls", "join"]

log = logging.getLogger(__name__)
# Seconds: when a triggerer starts, watchers join in swarms.
_GATHERING = 1.0
_running: WeakValueDictionary[Hashable, SharedPolls] = WeakValueDictionary()


class Look:
    """
    One answer of the service, on its way to all watchers.

    :param segments: all of the project.
    """

    def __init__(self, segments: list[UserSegment]) -> None:
        self.segments = segments
        #: What to do once the events made of it are stored.
        self.when_stored: list[Callable[[], Awaitable[None]]] = []
        #: Whether it is known if they are.
        self.settled = False


class SharedPolls(SharedStreamProducer):
    """
    Poll the list of segments for a group of watchers.

    :param key: of the group.
    :param mparticle_conn_id: the Connection.
    :param poll_interval: seconds between two polls.
    """

    def __init__(self, key: Hashable, mparticle_conn_id: str, poll_interval: float) -> None:
        self._conn_id, self._poll_interval = mparticle_conn_id, poll_interval
        self.joined = asyncio.Event()
        _running[key] = self

    async def open_stream(self) -> AsyncIterator[tuple[Any, Any]]:
        """Poll for ever; show whoever joins between two polls the last answer."""
        async with UserSegmentsAsyncHook(self._conn_id) as hook:
            while True:
                segments, pause = await poll(hook, self._poll_interval, log)
                due = time.monotonic() + pause
                self.joined.clear()
                while True:
                    if segments is not None:
                        look = Look(segments)
                        yield look, look
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
        """
        Keep what was seen, now that the events are stored.

        :param batch: looks that all watchers have moved past.
        """
        for item in batch:
            look: Look = item.broker_payload
            look.settled = True
            # Whose event was not stored is not told: all try again at the next look, which that one doesn't get.
            if not item.outcome.failed:
                for keep in look.when_stored:
                    await keep()


def join(key: Hashable) -> None:
    """
    Ask for the last answer, so that a new watcher need not wait for the next poll.

    :param key: of the group.
    """
    if running := _running.get(key):
        running.joined.set()
