# SPDX-License-Identifier: Apache-2.0
"""
Decide whether a later try reattaches to an earlier try's export or requests a new one.

Every request starts an export that can be neither cancelled nor found again. So a later try reattaches, unless it is
known that the earlier export is of no use.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_segments.api.errors import RefusedError
from airflow_provider_segments.api.location import FILE_LIFETIME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_segments.api.errors import CallError
    from airflow_provider_segments.api.models import SegmentExport

#: An export runs for hours at most and its file is kept for two days.
RETENTION = timedelta(days=3)


@dataclass(frozen=True, slots=True)
class StoredExport:
    """What an earlier try stored: `asked` are the parameters; `max_tries` changes only when a user clears the task."""

    export_id: str
    asked: Mapping[str, str]
    requested_at: str
    max_tries: int

    @classmethod
    def from_json(cls, value: Any) -> StoredExport | None:
        """Read a stored record; None for anything else."""
        try:
            stored = cls(**value)
            requested_at = datetime.fromisoformat(stored.requested_at)
        except (TypeError, ValueError):
            return None
        is_ours = isinstance(stored.export_id, str) and isinstance(stored.asked, dict) and requested_at.tzinfo
        return stored if is_ours else None

    def unusable_before_lookup(self, params: Mapping[str, str], now: datetime) -> str | None:
        """Return why the export is of no use, whatever its state is; None if its state decides."""
        if dict(self.asked) != dict(params):
            return "the task now requests something else"
        if now - datetime.fromisoformat(self.requested_at) > RETENTION:
            return f"it was requested more than {RETENTION.days} days ago"
        return None


def unusable_after_lookup(export: SegmentExport, cleared: bool, now: datetime) -> str | None:
    """Return why an export is of no use to a task, which a user may have cleared; None if it is of use."""
    if not export.status.is_finished:
        return None
    if export.status == "FAILED":
        return "it is FAILED"
    if not export.filename:
        return "it is complete without a file"
    if (export.expires_at or (export.start_time or now) + FILE_LIFETIME) <= now:
        return "its file has expired"
    return "the task was cleared to have fresh data" if cleared else None


def is_unknown(error: CallError) -> bool:
    """Return whether the service answered that it does not know the export; a proxy answers other 4xx in its place."""
    return isinstance(error, RefusedError) and error.status in (400, 404, 410, 422)
