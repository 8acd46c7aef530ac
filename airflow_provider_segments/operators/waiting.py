# SPDX-License-Identifier: Apache-2.0
"""What the tasks that wait for an export share: the export operators and the sensor."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowException, AirflowSensorTimeout, AirflowSkipException

from airflow_provider_segments.api.errors import ExportTimeoutError
from airflow_provider_segments.exceptions import InvalidArgumentError, UserSegmentsException, airflow_errors
from airflow_provider_segments.links.user_segments import ExportedFileLink
from airflow_provider_segments.operators.base import UserSegmentsBaseOperator
from airflow_provider_segments.utils.assets import add_asset_events
from airflow_provider_segments.utils.clock import utcnow
from airflow_provider_segments.utils.log import log_complete, log_details

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_segments.api.flow import Poll
    from airflow_provider_segments.api.models import SegmentExport
    from airflow_provider_segments.utils.deadline import Deadline

__all__ = ["WaitingOperator"]

# What Airflow resumes a task with when its trigger has failed or its second deadline has passed.
_TRIGGER_FAILED = "__fail__"
# Of the context, for a task's own `map_index_template` too.
_LABEL = "user_segment_label"
_TEMPLATE = "{{ " + _LABEL + " }}"
# What the column in Airflow's database holds.
_LONGEST_LABEL = 250


class WaitingOperator(UserSegmentsBaseOperator):
    """The base of the tasks that wait for an export: deferral, resumption, result, links, outlets."""

    operator_extra_links: Sequence[Any] = (ExportedFileLink(),)

    def __init__(
        self,
        *,
        output_format: str,
        deferrable: bool,
        poll_interval: float | None,
        end_from_trigger: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.output_format = output_format
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.end_from_trigger = end_from_trigger
        #: What the links show, by the keys of the XComs.
        self.link_values: dict[str, Any] = {}
        self._result: dict[str, Any] | None = None

    def execute_complete(
        self, context: Context, event: Any = None, export_id: str | None = None
    ) -> dict[str, Any]:
        """Resume after the trigger's event."""
        from airflow_provider_segments.triggers.events import read_event

        with self._airflow_errors():
            export = read_event(event, export_id or self._awaited_export_id(context))
            return self._finish(context, export)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume, and say of which export the trigger failed or timed out, which Airflow does not know."""
        with self._airflow_errors():
            try:
                return super().resume_execution(next_method, next_kwargs, context)
            except AirflowException as error:
                if next_method != _TRIGGER_FAILED:
                    raise
                message = (
                    f"The wait for export {self._awaited_export_id(context)} ended without an event of its trigger "
                    f"({error}). The export goes on at the service; what the trigger ran into stands above and in the "
                    "triggerer's log."
                )
                if isinstance(error, AirflowSkipException | AirflowSensorTimeout):
                    self.log.error(message)  # noqa: TRY400 - Airflow logs the traceback
                    raise
                raise UserSegmentsException(message) from error

    def _awaited_export_id(self, context: Context) -> str | None:
        """Return the id of the export that the task waits for, where it can be known."""
        raise NotImplementedError

    def _airflow_errors(self) -> AbstractContextManager[None]:
        return airflow_errors()

    def _check_end_from_trigger(self) -> None:
        """Refuse, when the DAG is parsed, what finishing in the triggerer would lose or can't have."""
        if not self.end_from_trigger:
            return
        if self.outlets:
            raise InvalidArgumentError(
                f"{self.task_id}: end_from_trigger=True would lose the asset events of its outlets, for only a worker "
                "emits them. Take the outlets or end_from_trigger out."
            )
        if self.on_success_callback:
            raise InvalidArgumentError(
                f"{self.task_id}: end_from_trigger=True would lose the on_success_callback, which Airflow calls on a "
                "worker only. Take the callback or end_from_trigger out."
            )
        if not self.deferrable:
            raise InvalidArgumentError(f"{self.task_id}: end_from_trigger=True needs a deferrable task.")

    def _finished_or_defer(
        self, context: Context, poll: Poll, export_id: str, deadline: Deadline
    ) -> SegmentExport:
        """Return the finished export; defer while it is pending, if there is time to poll again."""
        if not poll.is_finished and not (poll.error and poll.delay >= deadline.seconds_left):
            self._defer(context, export_id, deadline, poll.delay)
        return self._finished(poll, deadline)

    def _finished(self, poll: Poll, deadline: Deadline) -> SegmentExport:
        if not poll.is_finished:
            raise ExportTimeoutError(f"{poll.reason} ({deadline.name} ended the wait)")
        return poll.finished_export()

    def _defer(self, context: Context, export_id: str, deadline: Deadline, delay: float = 0.0) -> NoReturn:
        """Defer; the service is not to be asked again before the delay, in seconds, has passed."""
        from airflow_provider_segments.triggers.user_segments import UserSegmentExportTrigger

        self.hook.close()
        keys = [] if not self.do_xcom_push else None if self.multiple_outputs else ["return_value"]
        self.defer(
            trigger=UserSegmentExportTrigger(
                export_id=export_id,
                mparticle_conn_id=self.mparticle_conn_id,
                deadline=deadline.instant.isoformat(),
                poll_interval=self.poll_interval,
                deadline_name=deadline.name,
                not_before=(utcnow() + timedelta(seconds=delay)).isoformat() if delay else None,
                end_from_trigger=self.end_from_trigger and not self._is_expanded_over(context),
                output_format=self.output_format,
                xcom_keys=keys,
            ),
            method_name="execute_complete",
            kwargs={"export_id": export_id},
            # Second line only: when this one fires, execute_complete is not called.
            timeout=deadline.with_margin(),
        )
        raise AssertionError("defer() does not return")

    def _is_expanded_over(self, context: Context) -> bool:
        """Return whether a task is expanded over this one's result: only a worker can write how long that is."""
        is_mapped = context["ti"].map_index not in (None, -1)
        if is_mapped or self.get_dag() is None or not any(self.iter_mapped_dependants()):
            return False
        if self.end_from_trigger:
            self.log.info("Another task is expanded over this one's result, so a worker finishes it.")
        return True

    def _finish(self, context: Context, export: SegmentExport) -> dict[str, Any]:
        self._show_label(context, export.segment.name)
        self._result = result = self._deliver(context, export.ensure_complete())
        if self.do_xcom_push:
            self.link_values["return_value"] = result
        log_details(self.log, result)
        if self.outlets:
            add_asset_events(self.outlets, context, result, self.log)
        return result

    def _deliver(self, context: Context, export: SegmentExport) -> dict[str, Any]:
        """Return the task's result, after what has to be done with the file."""
        result = export.result(self.output_format)
        log_complete(self.log, export, result)
        return result

    def _show_label(self, context: Context, label: Any) -> None:
        """
        Show a mapped task under this label where Airflow would show a number.

        Airflow renders the task's template from the context when a worker has ended the task; without a template it
        gets ours.
        """
        map_index = getattr(context["ti"], "map_index", None)
        if not label or not isinstance(map_index, int) or map_index < 0:
            return
        label = str(label)[:_LONGEST_LABEL]
        # Such a DAG would make a number of a name like "2026".
        context[_LABEL] = repr(label) if self.dag.render_template_as_native_obj else label  # type: ignore[literal-required]
        if context.get("map_index_template") is None:
            context["map_index_template"] = _TEMPLATE
