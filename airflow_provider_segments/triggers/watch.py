# SPDX-License-Identifier: Apache-2.0
"""How a watcher polls the segments, finds a refresh, and remembers it across restarts."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_segments.api.errors import SegmentLookupError, UserSegmentsError
from airflow_provider_segments.api.retries import SHORTEST_POLL_DELAY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_segments.api.models import UserSegment
    from airflow_provider_segments.hooks.user_segments import UserSegmentsAsyncHook

# Seconds to wait after a poll that failed (credentials, the fifth 500 in a row), however short the interval.
_AFTER_A_FAILURE = 60.0


async def poll_segments(
    hook: UserSegmentsAsyncHook, poll_interval: float, log: Any
) -> tuple[list[UserSegment] | None, float]:
    """Return all segments, or None if the poll failed, and the seconds until the next poll."""
    # Outages and 429s don't end a poll. Nothing is raised: Airflow would restart the trigger at once, and forever.
    pause = max(poll_interval, _AFTER_A_FAILURE)
    try:
        return await hook.list_segments(unlimited_retries=True), max(poll_interval, SHORTEST_POLL_DELAY)
    except UserSegmentsError as error:
        log.warning("The watched segments can't be polled: %s Polling again in %.0f s.", error, pause)
    except Exception:
        log.exception("The watched segments can't be polled. Polling again in %.0f s.", pause)
    return None, pause


@dataclass(frozen=True, slots=True)
class Seen:
    """What was last seen of a segment: its id, as its name can pass to another segment, and its latest refresh."""

    segment_id: str
    last_run: str | None

    @classmethod
    def read(cls, kept: Any) -> Seen:
        """Read what `Memory` has kept; raise ValueError for anything else."""
        try:
            seen = cls(**kept)
            seen.last_run is None or datetime.fromisoformat(seen.last_run).utctimetuple()
        except TypeError as error:
            raise ValueError(f"not what a watcher keeps: {kept!r}") from error
        return seen

    def is_before(self, segment: UserSegment) -> bool:
        """Return whether the segment has been refreshed since."""
        if segment.last_run is None:
            return False
        return self.last_run is None or datetime.fromisoformat(self.last_run) < segment.last_run


class Watch:
    """One watcher's view of one segment. If nothing was seen before, the first poll is the baseline."""

    def __init__(self, segment_id: str | None, segment_name: str | None, seen: Seen | None, log: Any) -> None:
        self._segment_id, self._segment_name = segment_id, segment_name
        self.seen = seen
        self._log = log
        self._trouble: str | None = None

    def update(self, segments: Sequence[UserSegment]) -> dict[str, Any] | None:
        """Return the event's payload if the segment, one of these, has been refreshed since the last poll."""
        segment = self._find(segments)
        if segment is None:
            return None
        now = Seen(segment.segment_id, segment.last_run.isoformat() if segment.last_run else None)
        before, same = self.seen, self.seen is not None and self.seen.segment_id == now.segment_id
        if before is None or not same:
            self._log.info("Watching segment %s, last refreshed at %s.", segment.label, now.last_run)
            self.seen = now
            return None
        if not before.is_before(segment):
            return None
        self._log.info(
            "Segment %s was refreshed at %s (previously %s).", segment.label, now.last_run, before.last_run
        )
        self.seen = now
        return {
            "segment_id": segment.segment_id,
            "segment_name": segment.name,
            "previous_last_run": before.last_run,
            "last_run": now.last_run,
        }

    def _find(self, segments: Sequence[UserSegment]) -> UserSegment | None:
        found = [segment for segment in segments if self._is_watched(segment)]
        if len(found) != 1:
            self._log_once(f"{len(found)} found", lambda: self._why_not_one(segments))
            return None
        if found[0].segment_type == "Static":
            self._log_once(
                "Static",
                lambda: (
                    f"Segment {found[0].label} is Static: it is never refreshed, so no event will come. Watch a "
                    "Dynamic segment."
                ),
            )
            return None
        self._trouble = None
        return found[0]

    def _is_watched(self, segment: UserSegment) -> bool:
        if self._segment_id is not None:
            return segment.segment_id == self._segment_id
        return segment.name == self._segment_name

    def _why_not_one(self, segments: Sequence[UserSegment]) -> str:
        from airflow_provider_segments.api.models import find_segment

        try:
            find_segment(segments, self._segment_id, self._segment_name)
        except SegmentLookupError as error:
            return f"{error} Waiting for exactly one match."
        raise AssertionError("there is exactly one")

    def _log_once(self, trouble: str, message: Callable[[], str]) -> None:
        # Once, not at each poll. The message comes as a function because finding the closest names is slow.
        if trouble != self._trouble:
            self._trouble = trouble
            self._log.error("%s", message())


class Memory:
    """What one watcher has seen; `watched` is what distinguishes it from other watchers of the same asset."""

    def __init__(self, stores: Any, watched: list[str | None], log: Any) -> None:
        # Assets whose watchers have equal arguments share one trigger. No public attribute leads to all their stores.
        self._stores = [] if stores is None else list(stores._by_name.values())
        # The store's keys have at most 512 characters; a segment's name may have more.
        digest = hashlib.sha256(json.dumps(watched).encode()).hexdigest()
        self._key = f"mparticle_segment_seen_{digest[:32]}"
        self._log = log
        self._kept: Seen | None = None

    async def recall(self) -> Seen | None:
        """Return what was seen last, or None."""
        found = [kept for store in self._stores if (kept := await self._read(store)) is not None]
        # An event goes to all assets of this trigger, so the latest counts for all.
        self._kept = max(found, key=lambda seen: seen.last_run or "", default=None)
        return self._kept

    async def _read(self, store: Any) -> Seen | None:
        kept = await _call(store, "get", self._key)
        try:
            return None if kept is None else Seen.read(kept)
        except ValueError as error:
            self._log.warning("Ignoring an unreadable value in the asset state store: %s", error)
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
                await _call(store, "set", self._key, asdict(seen))
        except Exception as error:  # noqa: BLE001 - whatever Airflow raises, the watchers go on
            self._log.warning("The last refresh can't be stored, so a restart would repeat it: %s", error)
        else:
            self._kept = seen


async def _call(store: Any, method: str, *arguments: Any) -> Any:
    """Call the store without blocking the event loop; before Airflow 3.3.2 that takes a thread."""
    if hasattr(store, f"a{method}"):
        return await getattr(store, f"a{method}")(*arguments)
    return await asyncio.to_thread(getattr(store, method), *arguments)
