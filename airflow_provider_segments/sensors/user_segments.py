# SPDX-License-Identifier: Apache-2.0
"""A sensor that waits for an export."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    BaseSensorOperator,
    PokeReturnValue,
)
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_segments._deferral import TRIGGER, defer, end_in_trigger, refuse_end_from_trigger
from airflow_provider_segments._story import name_mapped_task, tell_complete, tell_details
from airflow_provider_segments.api.errors import (
    CallError,
    ConfigurationError,
    ExportFailedError,
    ExportTimeoutError,
)
from airflow_provider_segments.connection.settings import DEFAULT_CONN_ID
from airflow_provider_segments.exceptions import airflow_errors
from airflow_provider_segments.links import DocumentationLink, ExportedFileLink
from airflow_provider_segments.utils.deadline import deadline_of, ended_by, in_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_segments.api.models import SegmentExport
    from airflow_provider_segments.hooks.user_segments import UserSegmentsHook

__all__ = ["UserSegmentExportSensor"]

# An export that failed stays so: another try of the sensor can't help. Both become what soft_fail looks for.
_INSTEAD = {ExportTimeoutError: AirflowSensorTimeout, ExportFailedError: AirflowFailException}
# Each look of a rescheduled sensor costs a task start.
_RESCHEDULE_INTERVAL = 60.0
# Seconds: so short a wait that it holds one look.
_ONE_LOOK = 1e-3


class UserSegmentExportSensor(BaseSensorOperator):
    """
    Wait for an export that something else has requested, and return the same XComs as the export operator.

    It waits in the triggerer unless told otherwise; ``mode="reschedule"`` frees the worker between two looks, and
    ``deferrable=False`` holds it. Outages and 429s are sat out in each mode.

    :param export_id: the export (templated).
    :param output_format: the format it was requested in, for the result: the service doesn't repeat it (templated).
    :param mparticle_conn_id: the Connection (templated).
    :param deferrable: wait in the triggerer. By default so, unless the mode is ``reschedule``.
    :param poke_interval: fixed seconds between two looks; None for the adaptive schedule (60 s in the mode
        ``reschedule``).
    :param end_from_trigger: finish the task in the triggerer when the export is complete, without waking a worker.
        Failures still resume on a worker. Not with outlets or an on_success_callback, nor where a plugin
        listens to task instances, as OpenLineage's does; ``post_execute`` is not called.
    :param start_from_trigger: start in the triggerer, without a worker before. Not with an id from an upstream
        task. A mapped sensor starts on a worker all the same. ``pre_execute`` and ``on_execute_callback`` are not
        called; with end_from_trigger, no task can be expanded over the result.
    """

    template_fields: Sequence[str] = ("export_id", "output_format", "mparticle_conn_id")
    operator_extra_links = (ExportedFileLink(), DocumentationLink())
    ui_color = "#e3edd5"

    def __init__(
        self,
        *,
        export_id: str,
        output_format: str = "csv",
        mparticle_conn_id: str = DEFAULT_CONN_ID,
        deferrable: bool | None = None,
        poke_interval: timedelta | float | None = None,
        end_from_trigger: bool = False,
        start_from_trigger: bool = False,
        multiple_outputs: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            poke_interval=_RESCHEDULE_INTERVAL if poke_interval is None else poke_interval,
            multiple_outputs=multiple_outputs,
            **kwargs,
        )
        if deferrable and self.mode == "reschedule":
            raise ValueError(
                f"{self.task_id}: deferrable=True and mode='reschedule' exclude each other; choose one."
            )
        in_seconds(f"{self.task_id}: timeout", self.timeout)
        self.export_id = export_id
        self.output_format = output_format
        self.mparticle_conn_id = mparticle_conn_id
        self.deferrable = self.mode != "reschedule" if deferrable is None else deferrable
        self.poll_interval = (
            None if poke_interval is None else in_seconds(f"{self.task_id}: poke_interval", poke_interval)
        )
        self._longer_pause = 0.0
        # What the links show, by the keys of the XComs.
        self._told: dict[str, Any] = {}
        self.end_from_trigger = end_from_trigger
        refuse_end_from_trigger(self)
        if start_from_trigger:
            self._start_from_trigger()

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once; on a worker that is held anyway, wait until the end."""
        name_mapped_task(self, context, self.export_id, now=True)
        with airflow_errors(_INSTEAD):
            if not isinstance(self.export_id, str) or not self.export_id.strip():
                raise ConfigurationError(f"{self.task_id}: export_id is {self.export_id!r} once rendered.")
            if self.deferrable:
                export = self._look_or_defer(context)
            elif self.reschedule:
                found = self._look()
                if found is None or not found.status.is_finished:
                    return PokeReturnValue(False)
                export = found
            else:
                export = self._hook.wait_for_export(self.export_id, self.timeout, self.poll_interval)
            return PokeReturnValue(True, self._result(context, export))

    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Resume after the trigger's event."""
        from airflow_provider_segments.triggers._events import read_event

        name_mapped_task(self, context, self.export_id)
        with airflow_errors(_INSTEAD):
            return self._result(context, read_event(event, self.export_id))

    @cached_property
    def _hook(self) -> UserSegmentsHook:
        from airflow_provider_segments.hooks.user_segments import UserSegmentsHook

        return UserSegmentsHook(self.mparticle_conn_id)

    def _look_or_defer(self, context: Context) -> SegmentExport:
        try:
            return self._hook.wait_for_export(self.export_id, _ONE_LOOK, self.poll_interval, last_look=False)
        except ExportTimeoutError as error:
            self._hook.close()
            deadline = deadline_of(context, self.timeout, self.execution_timeout)
            if error.refused and error.retry_in >= deadline.seconds_left:
                raise ended_by(error, deadline.name) from error
            defer(self, context, self.export_id, deadline, first_look_in=error.retry_in)

    def _look(self) -> SegmentExport | None:
        from airflow_provider_segments.api.pacing import ends_a_wait

        try:
            return self._hook.get_export(self.export_id)
        except CallError as error:
            if ends_a_wait(error):
                raise
            self._longer_pause = error.retry_after or 0.0
            self.log.warning("%s The wait goes on.", error)
            return None

    def _get_next_poke_interval(
        self, started_at: Any, run_duration: Callable[[], float], poke_count: int
    ) -> float:
        pause = super()._get_next_poke_interval(started_at, run_duration, poke_count)
        # Not past the timeout, which Airflow looks at only when it pokes.
        return min(max(pause, self._longer_pause), max(self.timeout - run_duration(), 0.0) + 1.0)

    def _start_from_trigger(self) -> None:
        """Have the scheduler start the trigger, with what is known when the DAG is parsed."""
        from airflow.triggers.base import StartTriggerArgs

        if not self.deferrable:
            raise ConfigurationError(f"{self.task_id}: start_from_trigger=True needs a deferrable sensor.")
        if not isinstance(self.export_id, str) or "xcom" in self.export_id:
            raise ConfigurationError(
                f"{self.task_id}: start_from_trigger=True can't take export_id from an upstream task, for no worker "
                "looks it up. Take start_from_trigger out, or give the id as text or as {{ dag_run.conf[...] }}."
            )
        if "{{" in self.export_id and not AIRFLOW_V_3_3_PLUS:
            raise ConfigurationError(
                f"{self.task_id}: start_from_trigger=True renders no template before Airflow 3.3; give export_id as "
                "plain text or take start_from_trigger out."
            )
        # Set on this task: the class's would be shared by all.
        self.start_from_trigger = True
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=TRIGGER,
            next_method="execute_complete",
            trigger_kwargs={
                "export_id": self.export_id,
                "mparticle_conn_id": self.mparticle_conn_id,
                "poll_interval": self.poll_interval,
                **end_in_trigger(self),
            },
            timeout=min(timedelta(seconds=self.timeout), self.execution_timeout or timedelta.max),
        )

    def _result(self, context: Context, export: SegmentExport) -> dict[str, Any]:
        name_mapped_task(self, context, export.segment.name)
        result = self._told["return_value"] = export.ensure_complete().result(self.output_format)
        tell_complete(self.log, export, result)
        tell_details(self.log, result)
        return result
