# SPDX-License-Identifier: Apache-2.0
"""A trigger that waits for an export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_provider_segments.api.errors import ConfigurationError, ExportFailedError, UserSegmentsError
from airflow_provider_segments.connection.settings import DEFAULT_CONN_ID
from airflow_provider_segments.triggers.events import failure_event, finished_event
from airflow_provider_segments.triggers.loading import load_hook
from airflow_provider_segments.utils.clock import utcnow
from airflow_provider_segments.utils.deadline import LONGEST, checked_instant, checked_poll_interval
from airflow_provider_segments.utils.log import log_complete, log_details

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_segments.api.models import SegmentExport

__all__ = ["UserSegmentExportTrigger"]

# Seconds; if the deadline passed while no triggerer ran, there is still time for one poll.
_MIN_WAIT = 1.0


class UserSegmentExportTrigger(BaseTrigger):
    """
    Wait until an export is finished.

    It only polls: a trigger may run twice, and an export requested twice can't be cancelled. All triggers of a
    Connection in a triggerer share one client. The event carries the whole final export.

    :param export_id: the export.
    :param mparticle_conn_id: the Connection; credentials are read from it in the triggerer.
    :param deadline: the instant at which the wait ends, as ISO 8601 with a time zone; None for no end.
    :param poll_interval: fixed seconds between two polls; None for the adaptive schedule.
    :param deadline_name: what set the deadline, for the message.
    :param not_before: the instant before which not to poll, as ISO 8601 with a time zone; it carries the delay after
        the last poll on a worker.
    :param end_from_trigger: finish the task here when the export is complete, without waking a worker.
    :param output_format: the format the export was requested in, for the XComs of a task that is finished here.
    :param xcom_keys: which XComs such a task gets; None for all of the result and the return value.
    """

    def __init__(
        self,
        export_id: str,
        mparticle_conn_id: str = DEFAULT_CONN_ID,
        deadline: str | None = None,
        poll_interval: float | None = None,
        deadline_name: str = "timeout",
        not_before: str | None = None,
        end_from_trigger: bool = False,
        output_format: str = "csv",
        xcom_keys: list[str] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        for name, given in (("export_id", export_id), ("mparticle_conn_id", mparticle_conn_id)):
            if not isinstance(given, str) or not given:
                raise ConfigurationError(f"{name} is {given!r}, but it has to be text.")
        checked_instant("deadline", deadline)
        checked_instant("not_before", not_before)
        self.export_id = export_id
        self.mparticle_conn_id = mparticle_conn_id
        self.deadline = deadline
        self.poll_interval = checked_poll_interval(poll_interval)
        self.deadline_name = deadline_name
        self.not_before = not_before
        self.end_from_trigger = end_from_trigger
        self.output_format = output_format
        self.xcom_keys = xcom_keys

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, plain JSON without any secret."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "export_id": self.export_id,
            "mparticle_conn_id": self.mparticle_conn_id,
            "deadline": self.deadline,
            "poll_interval": self.poll_interval,
            "deadline_name": self.deadline_name,
            "not_before": self.not_before,
            "end_from_trigger": self.end_from_trigger,
            "output_format": self.output_format,
            "xcom_keys": self.xcom_keys,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event when the wait ends. Airflow logs errors that are not this package's."""
        yield await self._event()

    async def on_kill(self) -> None:
        """Warn that the export keeps running; Airflow 3.3 and later call this."""
        self.log.warning(
            "The waiting task was killed, but export %s keeps running: the service has no call to cancel it.",
            self.export_id,
        )

    async def _event(self) -> TriggerEvent:
        hook = await load_hook(self.mparticle_conn_id)
        try:
            poll = await hook.poll_until(
                self.export_id,
                min(max(_seconds_until("deadline", self.deadline, default=LONGEST), _MIN_WAIT), LONGEST),
                self.poll_interval,
                initial_delay=max(_seconds_until("not_before", self.not_before, default=0.0), 0.0),
            )
            export = poll.finished_export(self.deadline_name)
        except UserSegmentsError as error:
            return TriggerEvent(failure_event(self.export_id, error))
        if self.end_from_trigger and await self._push_xcoms(export):
            return TaskSuccessEvent()
        return TriggerEvent(finished_event(self.export_id, export))

    async def _push_xcoms(self, export: SegmentExport) -> bool:
        """Push the XComs a worker would push; False if a worker has to finish the task after all."""
        try:
            result = export.ensure_complete().result(self.output_format)
        except ExportFailedError:  # a worker handles failures, so that retries and callbacks apply
            return False
        from airflow_provider_segments.triggers.xcoms import write_xcoms

        try:
            # In the thread in which Airflow allows such calls (see `get_settings_async`).
            await sync_to_async(write_xcoms)(self.task_instance, result, self.xcom_keys)
        except Exception as error:  # noqa: BLE001 - whatever Airflow raises, a worker can still finish the task
            self.log.warning("The XComs can't be written from the triggerer, so a worker does it: %s", error)
            return False
        log_complete(self.log, export, result)
        log_details(self.log, result)
        return True


def _seconds_until(name: str, given: str | None, default: float) -> float:
    instant = checked_instant(name, given)
    return default if instant is None else (instant - utcnow()).total_seconds()
