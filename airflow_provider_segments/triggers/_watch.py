# SPDX-License-Identifier: Apache-2.0
"""What a watcher makes of each look at the list of segments: an event, something to say, or nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_segments.api.errors import SegmentLookupError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_segments.api.models import UserSegment

__all__ = ["Seen", "Watch"]


@dataclass(frozen=True, slots=True)
class Seen:
    """
    What was last seen of a segment.

    :param segment_id: which one it was; a name can pass to another.
    :param last_run: its latest refresh, as ISO 8601 in UTC; None if it never had one.
    """

    segment_id: str
    last_run: str | None

    @classmethod
    def read(cls, kept: Any) -> Seen:
        """
        Return what `to_dict` wrote.

        :param kept: what the store holds.
        :raises ValueError: it is something else.
        """
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
        """
        Tell whether the segment has been refreshed since.

        :param segment: as it is now.
        """
        if segment.last_run is None:
            return False
        return self.last_run is None or datetime.fromisoformat(self.last_run) < segment.last_run


class Watch:
    """
    One watcher's view of one segment.

    :param segment_id: the segment's id, or None.
    :param segment_name: its name, to the letter, if there is no id.
    :param seen: what was last seen of it; None makes the first look the baseline.
    :param log: where trouble is told, once each time it begins.
    """

    def __init__(self, segment_id: str | None, segment_name: str | None, seen: Seen | None, log: Any) -> None:
        self._segment_id, self._segment_name = segment_id, segment_name
        self.seen = seen
        self._log = log
        self._trouble: str | None = None

    def look(self, segments: Sequence[UserSegment]) -> dict[str, Any] | None:
        """
        Return the event's payload if the segment has been refreshed since the last look.

        :param segments: all of the project.
        """
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
            self._tell(f"{len(found)} found", lambda: self._why_not_one(segments))
            return None
        if found[0].segment_type == "Static":
            self._tell(
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

    def _tell(self, trouble: str, message: Callable[[], str]) -> None:
        # Not at each look; and the closest names are dear to find.
        if trouble != self._trouble:
            self._trouble = trouble
            self._log.error("%s", message())
