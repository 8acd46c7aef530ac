# SPDX-License-Identifier: Apache-2.0
"""A trigger that waits for an export."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_segments._deadline import utcnow
from airflow_provider_segments.api.errors import ExportTimeoutError, UserSegmentsError
from airflow_provider_segments.connection import DEFAULT_CONN_ID
from airflow_provider_segments.triggers._events import failure_event, finished_event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["UserSegmentExportTrigger"]

# Seconds: a deadline that passed while no triggerer ran still gets one look at the export.
_LAST_LOOK = 1.0


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
    :param not_before: the instant before which the service is not to be asked, as ISO 8601 with a time zone, when
        it said so to whoever waited before.
    """

    def __init__(
        self,
        export_id: str,
        mparticle_conn_id: str = DEFAULT_CONN_ID,
        deadline: str | None = None,
        poll_interval: float | None = None,
        deadline_name: str = "timeout",
        not_before: str | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.export_id = export_id
        self.mparticle_conn_id = mparticle_conn_id
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.deadline_name = deadline_name
        self.not_before = not_before

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, plain JSON without any secret."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "export_id": self.export_id,
            "mparticle_conn_id": self.mparticle_conn_id,
            "deadline": self.deadline,
            "poll_interval": self.poll_interval,
            "deadline_name": self.deadline_name,
            "not_before": self.not_before,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event when the wait ends. What is not one of our errors is left to Airflow to log."""
        yield TriggerEvent(await self._outcome())  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Say what a user's kill does not end; Airflow 3.3 and later ask."""
        self.log.warning(
            "The waiting task was killed, but export %s goes on: the service has no call to cancel it.",
            self.export_id,
        )

    async def _outcome(self) -> dict[str, Any]:
        from airflow_provider_segments.hooks.user_segments import UserSegmentsAsyncHook

        try:
            async with UserSegmentsAsyncHook(self.mparticle_conn_id) as hook:
                export = await hook.wait_for_export(
                    self.export_id,
                    max(_seconds_until(self.deadline, default=float("inf")), _LAST_LOOK),
                    self.poll_interval,
                    first_look_in=max(_seconds_until(self.not_before, default=0.0), 0.0),
                )
        except ExportTimeoutError as error:
            return failure_event(
                self.export_id, ExportTimeoutError(f"{error} ({self.deadline_name} ended the wait)")
            )
        except UserSegmentsError as error:
            return failure_event(self.export_id, error)
        return finished_event(export)


def _seconds_until(instant: str | None, default: float) -> float:
    return default if instant is None else (datetime.fromisoformat(instant) - utcnow()).total_seconds()
