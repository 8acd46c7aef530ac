# SPDX-License-Identifier: Apache-2.0
"""
What the service does, without HTTP.

Everything that changes an export while it runs happens on the server's event loop. Other threads read
copies, and change only what a lock or an atomic assignment protects.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from airflow_provider_segments.emulator._exports import Export, RequestRecord, Submission
from airflow_provider_segments.emulator._faults import ArmedFaults, FaultKind
from airflow_provider_segments.emulator._limit import Limit
from airflow_provider_segments.emulator._segments import EmulatedSegment, csv_of
from airflow_provider_segments.emulator._storage import WRITERS, NoStorage, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

log = logging.getLogger(__name__)
_EXPIRED_AFTER = timedelta(hours=49)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How the emulated service behaves; `Emulator` documents each field."""

    prefix: str
    export_seconds: float | tuple[float, float]
    presigned: bool
    refresh_seconds: float | None
    requests_per_second: float | None

    def __post_init__(self) -> None:
        least, most = self.span
        if not 0 <= least <= most or (self.refresh_seconds is not None and self.refresh_seconds <= 0):
            raise ValueError(
                "export_seconds must not be negative, and two numbers must ascend; "
                "refresh_seconds must be above 0"
            )

    def seconds_of(self, segment_id: str, earlier: int) -> float:
        """Return how long a segment's export takes, given how many it had before; the same in every run."""
        return random.Random(f"{segment_id} {earlier}").uniform(*self.span)

    @property
    def span(self) -> tuple[float, float]:
        """The least and the most that an export takes."""
        span = self.export_seconds
        return span if isinstance(span, tuple) else (span, span)


class Service:
    """The emulated project: its segments, its exports and what has been asked of it."""

    def __init__(
        self,
        settings: Settings,
        segments: Sequence[EmulatedSegment],
        storage: NoStorage,
        faults: ArmedFaults,
        count_connections: Callable[[], int],
    ) -> None:
        self.segments = {segment.segment_id: segment for segment in segments}
        self.exports: dict[str, Export] = {}
        self.submissions: list[Submission] = []
        self.requests: list[RequestRecord] = []
        self.faults = faults
        self.limit = Limit(settings.requests_per_second)
        self.count_connections = count_connections
        self.silent = False
        self._settings = settings
        self._storage = storage
        self._lock = threading.Lock()
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="emulator-s3")
        self._finishing: dict[str, asyncio.Task[None]] = {}

    def start(self) -> None:
        """Start the refresh timer; call it on the event loop."""
        if self._settings.refresh_seconds is not None:
            loop = asyncio.get_running_loop()
            loop.call_later(self._settings.refresh_seconds, self._refresh_and_rearm)

    def close(self) -> None:
        """Stop the writers; call it when the event loop has ended."""
        self._writers.shutdown(cancel_futures=True)

    def submit(self, segment: EmulatedSegment, output_format: str, *, extra_fields: bool) -> Export:
        """Start an export; call it on the event loop."""
        kinds = self.faults.for_submission()
        earlier = sum(export.segment.segment_id == segment.segment_id for export in self.exports.values())
        export = Export(
            export_id=str(uuid.uuid4()),
            segment=segment,
            output_format=output_format,
            kinds=kinds | {FaultKind.EXTRA_FIELDS} if extra_fields else kinds,
            started=datetime.now(UTC),
            earlier=earlier if segment.type == "Dynamic" else 0,
            status="QUEUED" if FaultKind.UNKNOWN_STATUS in kinds else "PENDING",
        )
        self.exports[export.export_id] = export
        self.submissions.append(export.submission())
        if FaultKind.NEVER not in kinds:
            loop = asyncio.get_running_loop()
            seconds = self._settings.seconds_of(segment.segment_id, earlier)
            loop.call_later(seconds, self._finish, export)
        return export

    async def get(self, export_id: str) -> Export | None:
        """Return an export; if exports take no time, wait until its file is written."""
        export = self.exports.get(export_id)
        if export is not None and export.ended is None and self._is_instant(export):
            # A client that disconnects must not cancel a half-written export.
            await asyncio.shield(self._finish(export))
        return export

    async def end(self, export_id: str) -> None:
        """End a running export now."""
        await self._finish(self.exports[export_id])

    def _is_instant(self, export: Export) -> bool:
        # Other polls don't wait: many files due at once would delay the answers.
        return self._settings.span[1] == 0 and FaultKind.NEVER not in export.kinds

    def _finish(self, export: Export) -> asyncio.Task[None]:
        task = self._finishing.get(export.export_id)
        if task is None:
            task = asyncio.create_task(self._write(export))
            self._finishing[export.export_id] = task
        return task

    async def _write(self, export: Export) -> None:
        if FaultKind.FAILED in export.kinds:
            export.end("FAILED")
            return
        loop = asyncio.get_running_loop()
        try:
            filename = await loop.run_in_executor(self._writers, self._publish, export)
        except StorageError as error:
            log.error("Export %s ends FAILED: %s", export.export_id, error)
            export.problem = str(error)
            export.end("FAILED")
        else:
            export.end("COMPLETE", filename)

    def _publish(self, export: Export) -> str | None:
        key = self._key(export)
        self._storage.put(key, csv_of(export.segment.segment_id, export.segment.rows or 0, export.earlier))
        if FaultKind.NO_FILENAME in export.kinds:
            return None
        presigned = self._settings.presigned or FaultKind.PRESIGNED in export.kinds
        return self._storage.location(key, presigned=presigned)

    def _key(self, export: Export) -> str:
        folder = self._settings.prefix.strip("/")
        name = f"{export.export_id}.{export.output_format}"
        return f"{folder}/{name}" if folder else name

    def expire(self, export_id: str) -> None:
        """Age a complete export past 48 hours: delete its file and move its end back."""
        export = self.exports[export_id]
        if export.status != "COMPLETE":
            raise ValueError(f"only a complete export can expire: {export_id} is {export.status}")
        self._storage.delete(self._key(export))
        export.move_end(datetime.now(UTC) - _EXPIRED_AFTER)

    def refresh(self, segment_id: str | None = None) -> None:
        """Advance ``lastRun`` of one segment, or of all Dynamic ones."""
        with self._lock:
            chosen = (
                [s for s in self.segments.values() if s.type == "Dynamic"]
                if segment_id is None
                else [self.segments[segment_id]]
            )
            for segment in chosen:
                self.segments[segment.segment_id] = dataclasses.replace(segment, last_run=_after(segment))

    def _refresh_and_rearm(self) -> None:
        self.refresh()
        self.start()


def _after(segment: EmulatedSegment) -> datetime:
    # The service writes milliseconds: two refreshes within one must still differ.
    now, last = datetime.now(UTC), segment.last_run
    return now if last is None else max(now, last + timedelta(milliseconds=1))
