# SPDX-License-Identifier: Apache-2.0
"""What a watcher makes of each poll of the list of segments: an event, a line in the log, or nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_segments.api.errors import SegmentLookupError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_segments.api.models import UserSegment


@dataclass(frozen=True, slots=True)
class Seen:
    """What was last seen of a segment: which one it was, as a name can pass to another, and its latest refresh."""

    segment_id: str
    last_run: str | None

    @classmethod
    def read(cls, kept: Any) -> Seen:
        """Read what `to_dict` wrote; raise ValueError for anything else."""
        try:
            seen = cls(**kept)
            seen.last_run is None or datetime.fromisoformat(seen.last_run).utctimetuple()
        except TypeError as error:
            raise ValueError(f"not what a watcher keeps: {kept!r}") from error
        return seen

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)

    def is_before(self, segment: UserSegment) -> bool:
        """Return whether the segment has been refreshed since."""
        if segment.last_run is None:
            return False
        return self.last_run is None or datetime.fromisoformat(self.last_run) < segment.last_run


class Watch:
    """One watcher's view of one segment; without anything seen before, the first poll is the baseline."""

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
            "Segment %s was refreshed at %s, before that at %s.", segment.label, now.last_run, before.last_run
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
            return f"{error} Waiting until exactly one has."
        raise AssertionError("there is exactly one")

    def _log_once(self, trouble: str, message: Callable[[], str]) -> None:
        # Not at each poll; and finding the closest names takes long.
        if trouble != self._trouble:
            self._trouble = trouble
            self._log.error("%s", message())
