# SPDX-License-Identifier: Apache-2.0
"""
Decide whether a later try reattaches to an earlier try's export or requests a new one.

Every request starts an export that can be neither cancelled nor found again. So a later try reattaches, unless it is
known that the earlier export is of no use.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

from airflow_provider_segments.api.errors import CallError, RefusedError
from airflow_provider_segments.api.models import FILE_LIFETIME, ExportStatus, SegmentExport

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RETENTION", "Decision", "StoredExport", "after_answer", "after_refusal", "before_asking"]

#: An export runs for hours at most and its file is kept for two days.
RETENTION = timedelta(days=3)


class Decision(Enum):
    """What a later try does about a stored export."""

    ASK = "ask the service for it"
    REATTACH = "reattach to it"
    REQUEST = "request another"


@dataclass(frozen=True, slots=True)
class StoredExport:
    """What an earlier try stored: `asked` are the parameters; `max_tries` changes only when a user clears the task."""

    export_id: str
    asked: Mapping[str, str]
    requested_at: str
    max_tries: int

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> StoredExport | None:
        """Read what `to_json` wrote; None for anything else."""
        try:
            stored = cls(**value)
            datetime.fromisoformat(stored.requested_at).astimezone()
        except (TypeError, ValueError, OverflowError):
            return None
        return stored if isinstance(stored.export_id, str) else None


def before_asking(stored: StoredExport, asked: Mapping[str, str], now: datetime) -> tuple[Decision, str]:
    """Decide without a call to the service; return the decision and the reason."""
    if dict(stored.asked) != dict(asked):
        return Decision.REQUEST, "the task now requests something else"
    if now - datetime.fromisoformat(stored.requested_at) > RETENTION:
        return Decision.REQUEST, f"it was requested more than {RETENTION.days} days ago"
    return Decision.ASK, "an earlier try requested it"


def after_answer(export: SegmentExport, cleared: bool, now: datetime) -> tuple[Decision, str]:
    """Decide by the export's state, and by whether a user has cleared the task; return the decision and the reason."""
    if not export.status.is_finished:
        return Decision.REATTACH, f"it is {export.status.value}"
    if export.status == ExportStatus.FAILED:
        return Decision.REQUEST, f"it is {export.status.value}"
    if not export.filename:
        return Decision.REQUEST, "it is complete without a file"
    if _expiry(export, now) <= now:
        return Decision.REQUEST, "its file has expired"
    if cleared:
        return Decision.REQUEST, "it is complete, but the task was cleared to have fresh data"
    return Decision.REATTACH, "it is complete and its file is still there"


def after_refusal(error: CallError) -> tuple[Decision, str] | None:
    """Decide by the error of the request; None if it says nothing about the export."""
    status = error.status or 0
    if isinstance(error, RefusedError) and 400 <= status < 500 and status not in (401, 403, 429):
        return Decision.REQUEST, f"the service does not know it (HTTP {error.status})"
    return None


def _expiry(export: SegmentExport, now: datetime) -> datetime:
    if export.expires_at:
        return export.expires_at
    return (export.start_time or now) + FILE_LIFETIME
