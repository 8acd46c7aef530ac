# SPDX-License-Identifier: Apache-2.0
"""A trigger that waits for an export."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_segments.api.errors import ExportTimeoutError, UserSegmentsError
from airflow_provider_segments.connection import DEFAULT_CONN_ID
from airflow_provider_segments.triggers._events import failure_event, finished_event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["UserSegmentExportTrigger"]


class UserSegmentExportTrigger(BaseTrigger):
    """
    Wait until an export is finished.

    It only looks: a trigger may run twice, and a request started twice can't be taken back. All that wait on
    one Connection in one triggerer share one client. The event carries the whole final export.

    :param export_id: the export.
    :param mparticle_conn_id: the Connection; credentials are read from it in the triggerer.
    :param deadline: the instant at which the wait ends, as ISO 8601 with a time zone; None for no end.
    :param poll_interval: fixed seconds between two looks; None for the adaptive schedule.
    :param deadline_name: what set the deadline, for the message.
    """

    def __init__(
        self,
        export_id: str,
        mparticle_conn_id: str = DEFAULT_CONN_ID,
        deadline: str | None = None,
        poll_interval: float | None = None,
        deadline_name: str = "timeout",
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.export_id = export_id
        self.mparticle_conn_id = mparticle_conn_id
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.deadline_name = deadline_name

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, plain JSON without any secret."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "export_id": self.export_id,
            "mparticle_conn_id": self.mparticle_conn_id,
            "deadline": self.deadline,
            "poll_interval": self.poll_interval,
            "deadline_name": self.deadline_name,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event when the wait ends. What is not one of our errors is left to Airflow to log."""
        yield TriggerEvent(await self._outcome())  # type: ignore[no-untyped-call]

    async def _outcome(self) -> dict[str, Any]:
        from airflow_provider_segments.hooks.user_segments import UserSegmentsAsyncHook

        try:
            async with UserSegmentsAsyncHook(self.mparticle_conn_id) as hook:
                export = await hook.wait_for_export(self.export_id, self._timeout(), self.poll_interval)
        except ExportTimeoutError as error:
            return failure_event(
                self.export_id, ExportTimeoutError(f"{error} ({self.deadline_name} ended the wait)")
            )
        except UserSegmentsError as error:
            return failure_event(self.export_id, error)
        return finished_event(export)

    def _timeout(self) -> float:
        if self.deadline is None:
            return float("inf")
        left = datetime.fromisoformat(self.deadline) - datetime.now(timezone.utc)
        # A deadline that passed while no triggerer ran still gets its last look.
        return max(left.total_seconds(), 1.0)
