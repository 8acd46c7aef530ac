# SPDX-License-Identifier: Apache-2.0
"""What a watcher remembers across restarts of the triggerer, in Airflow's asset state store (3.3 and later)."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

from airflow_provider_segments.triggers.watch import Seen


class Memory:
    """What one watcher has seen; `watched` is what distinguishes it from other watchers of the same asset."""

    def __init__(self, stores: Any, watched: list[str | None], log: Any) -> None:
        # Assets whose watchers have equal arguments share one trigger; there is no public way to each one's store.
        self._stores = [] if stores is None else list(stores._by_name.values())
        # The store takes keys of 512 characters, a name may be longer.
        digest = hashlib.sha256(json.dumps(watched).encode()).hexdigest()
        self._key = f"mparticle_segment_seen_{digest[:32]}"
        self._log = log
        self._kept: Seen | None = None

    async def recall(self) -> Seen | None:
        """Return what was seen last; None if nothing was, ever."""
        found = [kept for store in self._stores if (kept := await self._read(store)) is not None]
        # An event goes to all assets of this trigger, so the latest counts for all.
        self._kept = max(found, key=lambda seen: seen.last_run or "", default=None)
        return self._kept

    async def _read(self, store: Any) -> Seen | None:
        kept = await _call(store, "get", self._key)
        try:
            return None if kept is None else Seen.read(kept)
        except ValueError as error:
            self._log.warning("What the asset state store holds is taken as nothing: %s", error)
            return None

    def knows(self, seen: Seen | None) -> bool:
        """Return whether there is nothing new to keep."""
        return seen is None or seen == self._kept

    async def keep(self, seen: Seen | None) -> None:
        """Keep what was seen, if it is new. A failure is logged; the next poll tries again."""
        if seen is None or self.knows(seen):
            return
        try:
            for store in self._stores:
                await _call(store, "set", self._key, seen.to_dict())
        except Exception as error:  # noqa: BLE001 - whatever Airflow raises, the watchers go on
            self._log.warning("A restart would repeat the last refresh, for it can't be kept: %s", error)
        else:
            self._kept = seen


async def _call(store: Any, method: str, *arguments: Any) -> Any:
    """Call the store off the event loop: Airflow 3.3.2 and later can, earlier ones block."""
    if hasattr(store, f"a{method}"):
        return await getattr(store, f"a{method}")(*arguments)
    return await asyncio.to_thread(getattr(store, method), *arguments)
