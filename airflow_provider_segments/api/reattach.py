# SPDX-License-Identifier: Apache-2.0
"""
Whether a later try reattaches to the export of an earlier one or requests another.

Every request starts an export that can be neither cancelled nor found again, so a later try reattaches to one that
runs, and requests another only if the first is known to be of no use.
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

__all__ = ["LONGEST_MEMORY", "Decision", "Remembered", "after_answer", "after_refusal", "before_asking"]

#: An export takes hours at most and its file is kept for two days.
LONGEST_MEMORY = timedelta(days=3)


class Decision(Enum):
    """What becomes of a remembered export."""

    ASK = "ask the service for it"
    REATTACH = "reattach to it"
    START_ANEW = "request another"


@dataclass(frozen=True, slots=True)
class Remembered:
    """
    What an earlier try kept.

    :param export_id: the export it requested.
    :param asked: what it was asked for.
    :param requested_at: when, as ISO 8601 in UTC.
    :param max_tries: the task's limit of tries then; it moves when a user clears the task, and only then.
    """

    export_id: str
    asked: Mapping[str, str]
    requested_at: str
    max_tries: int

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> Remembered | None:
        """
        Read what `to_json` wrote; None for anything else.

        :param value: what the store holds.
        """
        try:
            remembered = cls(**value)
            datetime.fromisoformat(remembered.requested_at).astimezone()
        except (TypeError, ValueError, OverflowError):
            return None
        return remembered if isinstance(remembered.export_id, str) else None


def before_asking(remembered: Remembered, asked: Mapping[str, str], now: datetime) -> tuple[Decision, str]:
    """
    Decide without the service, and say why.

    :param remembered: what the earlier try kept.
    :param asked: what this try is asked for.
    :param now: the time, with a time zone.
    """
    if dict(remembered.asked) != dict(asked):
        return Decision.START_ANEW, "the task now asks for something else"
    if now - datetime.fromisoformat(remembered.requested_at) > LONGEST_MEMORY:
        return Decision.START_ANEW, f"it was requested more than {LONGEST_MEMORY.days} days ago"
    return Decision.ASK, "an earlier try requested it"


def after_answer(export: SegmentExport, cleared: bool, now: datetime) -> tuple[Decision, str]:
    """
    Decide by the service's answer, and say why.

    :param export: the answer.
    :param cleared: whether a user has cleared the task since.
    :param now: the time, with a time zone.
    """
    if not export.status.is_finished:
        return Decision.REATTACH, f"it is {export.status.value}"
    if export.status == ExportStatus.FAILED:
        return Decision.START_ANEW, f"it is {export.status.value}"
    if not export.filename:
        return Decision.START_ANEW, "it is complete without a file"
    if _expiry(export, now) <= now:
        return Decision.START_ANEW, "its file has expired"
    if cleared:
        return Decision.START_ANEW, "it is complete, but the task was cleared: fresh data is wanted"
    return Decision.REATTACH, "it is complete and its file is still there"


def after_refusal(error: CallError) -> tuple[Decision, str] | None:
    """
    Decide by the error the service could not be asked with, and say why; None if it says nothing of the export.

    :param error: what asking failed with, after the repetitions that are due.
    """
    status = error.status or 0
    if isinstance(error, RefusedError) and 400 <= status < 500 and status not in (401, 403, 429):
        return Decision.START_ANEW, f"the service does not know it (HTTP {error.status})"
    return None


def _expiry(export: SegmentExport, now: datetime) -> datetime:
    if export.expires_at:
        return export.expires_at
    return (export.start_time or now) + FILE_LIFETIME
