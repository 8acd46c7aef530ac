# SPDX-License-Identifier: Apache-2.0
"""The segments of the emulated project and the users in them, the same in every run."""

from __future__ import annotations

import dataclasses
import functools
import random
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "airflow-provider-segments/emulator")
PROJECT_ID = str(uuid.uuid5(_NAMESPACE, "project"))
_FIRST_RUN = datetime(2019, 4, 9, 12, 25, 6, tzinfo=UTC)
_TITLES = (
    "Recent Registrants",
    "Lapsed Subscribers",
    "Cart Abandoners",
    "Trial Ends This Week",
    "Power Users",
    "Newsletter Readers",
    "First Purchase in 30 Days",
    "Mobile Only",
    "High Lifetime Value",
    "Support Contacts",
    "Beta Testers 2018",
    "Referred by a Friend",
)
_CATEGORIES = ("Acquisition", "Retention", "Revenue", "Product", None, None)
_COUNTRIES = ("BR", "DE", "FR", "IN", "JP", "US")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmulatedSegment:
    """
    A user segment of the emulated project.

    :param name: Display name; several segments may share a name.
    :param type: Static segments are never refreshed, Dynamic ones are.
    :param category: Heading it stands under.
    :param description: Free text.
    :param rows: Number of users in it; None takes the emulator's ``rows``.
    :param segment_id: Its id; empty for one derived from position and name.
    :param last_run: Time of the last refresh.
    """

    name: str
    type: Literal["Static", "Dynamic"] = "Dynamic"
    category: str | None = None
    description: str | None = None
    rows: int | None = None
    segment_id: str = ""
    last_run: datetime | None = _FIRST_RUN

    def as_json(self) -> dict[str, object]:
        """Return the segment as the service shows it."""
        return {
            "segmentId": self.segment_id,
            "name": self.name,
            "description": self.description,
            "category": self.category,
            "projectId": PROJECT_ID,
            "type": self.type,
            "lastRun": timestamp(self.last_run),
        }


def timestamp(moment: datetime | None) -> str | None:
    """Write a time the way the service does, ``2019-04-09T12:25:06.000Z``."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def build_segments(segments: int | Sequence[EmulatedSegment], rows: int) -> list[EmulatedSegment]:
    """Complete the segments given, or make up as many as asked for."""
    if rows < 0 or (isinstance(segments, int) and segments < 0):
        raise ValueError("segments and rows must not be negative")
    given = [_make_up(i) for i in range(segments)] if isinstance(segments, int) else segments
    complete = [_complete(i, segment, rows) for i, segment in enumerate(given)]
    if len({segment.segment_id for segment in complete}) < len(complete):
        raise ValueError("two segments have the same segment_id")
    return complete


def _complete(position: int, segment: EmulatedSegment, rows: int) -> EmulatedSegment:
    segment_id = segment.segment_id or str(uuid.uuid5(_NAMESPACE, f"{position}:{segment.name}"))
    size = rows if segment.rows is None else segment.rows
    return dataclasses.replace(segment, segment_id=segment_id, rows=size)


def _make_up(position: int) -> EmulatedSegment:
    if position == 0:
        text = "Users who registered in the last 7 days"
        return EmulatedSegment(name=_TITLES[0], category="Acquisition", description=text)
    # Seeded by position, so that a segment is the same however many there are.
    chance = random.Random(f"segment {position}")
    title, series = _TITLES[position % len(_TITLES)], position // len(_TITLES)
    name = f"{title}, series {series + 1}" if series else title
    last_run = _FIRST_RUN + timedelta(minutes=chance.randrange(100_000))
    return EmulatedSegment(
        name=name,
        type=chance.choice(("Static", "Dynamic")),
        category=chance.choice(_CATEGORIES),
        description=chance.choice((None, f"All users in {name}")),
        last_run=chance.choice((None, last_run, last_run, last_run)),
    )


# Between two exports of a segment, 1% of the users leave and 2% of those who stay change.
_TURNOVER = 100
_CHANGES = 50


@functools.lru_cache(maxsize=8)
def csv_of(segment_id: str, rows: int, earlier: int = 0) -> bytes:
    """Return the file of a segment's export after `earlier` previous ones."""
    chance = random.Random(segment_id)
    first = chance.randrange(90_000_000)
    first += earlier * -(-rows // _TURNOVER)
    users = (
        f"user-{number:08d},{_COUNTRIES[number % len(_COUNTRIES)]},"
        f"{number * 7919 % 97 + (number % _CHANGES + earlier) // _CHANGES}\n"
        for number in range(first, first + rows)
    )
    return ("user_id,country,sessions\n" + "".join(users)).encode()
