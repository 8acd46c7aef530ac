# SPDX-License-Identifier: Apache-2.0
"""Exports as the service keeps them, and records of what clients did."""

from __future__ import annotations

import dataclasses
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from airflow_provider_segments.emulator._faults import FaultKind
from airflow_provider_segments.emulator._segments import timestamp

if TYPE_CHECKING:
    from airflow_provider_segments.emulator._segments import EmulatedSegment

EXTRA_FIELDS: dict[str, object] = {"rowCount": 12345, "owner": {"team": "growth"}, "tags": ["a", None]}


@dataclasses.dataclass(slots=True, kw_only=True)
class Export:
    """
    One export.

    ``earlier`` is how many of a Dynamic segment came before it, ``kinds`` are the faults of its submission, ``problem``
    is why its file could not be written.
    """

    export_id: str
    segment: EmulatedSegment
    output_format: str
    kinds: frozenset[FaultKind]
    started: datetime
    status: str
    earlier: int = 0
    ended: datetime | None = None
    filename: str | None = None
    problem: str | None = None

    def end(self, status: str, filename: str | None = None) -> None:
        """Finish it."""
        self.filename = filename
        self.status = status
        self.ended = datetime.now(UTC)

    def move_end(self, moment: datetime) -> None:
        """Move its end into the past, and its start with it."""
        took = (self.ended or self.started) - self.started
        self.started, self.ended = moment - max(took, timedelta(0)), moment

    def submission(self) -> Submission:
        """Return the record of its submission, which is now."""
        return Submission(
            export_id=self.export_id,
            segment_id=self.segment.segment_id,
            output_format=self.output_format,
            time=time.monotonic(),
            wall=self.started,
        )

    def as_json(self) -> dict[str, object]:
        """Return the export as the service shows it; like its examples, without a projectId."""
        extra = EXTRA_FIELDS if FaultKind.EXTRA_FIELDS in self.kinds else {}
        return {
            "exportId": self.export_id,
            "segment": self.segment.as_json() | extra,
            "status": self.status,
            "startTime": timestamp(self.started),
            "endTime": timestamp(self.ended),
            "filename": self.filename,
        } | extra


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """
    An accepted POST.

    :param export_id: The export it started.
    :param segment_id: What it exports.
    :param output_format: As asked for.
    :param time: Reading of the monotonic clock.
    :param wall: Time of day, in UTC.
    """

    export_id: str
    segment_id: str
    output_format: str
    time: float
    wall: datetime


@dataclasses.dataclass(slots=True, kw_only=True)
class RequestRecord:
    """
    A request that reached the server.

    :param time: Reading of the monotonic clock at its arrival.
    :param method: HTTP method.
    :param path: Path as sent.
    :param route: ``list``, ``export``, ``status``, ``redirected`` (a redirect was followed) or ``other``.
    :param status: HTTP status of the answer; None until then, and if the connection was cut.
    :param export_id: The export it is about, if any.
    """

    time: float
    method: str
    path: str
    route: str
    status: int | None = None
    export_id: str | None = None
