# SPDX-License-Identifier: Apache-2.0
"""What the tasks that wait for an export share: the export operators and the sensor."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowException, AirflowSensorTimeout, AirflowSkipException
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_1_PLUS

from airflow_provider_segments.exceptions import (
    InvalidArgumentError,
    UserSegmentsException,
    airflow_errors,
    check_booleans,
)
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

__all__ = ["WaitingOperator", "is_mapped"]

# The method with which Airflow resumes a task whose trigger failed or timed out.
_TRIGGER_FAILED = "__fail__"
# In the context; a task's own `map_index_template` may use it too.
_LABEL = "user_segment_label"
_TEMPLATE = "{{ " + _LABEL + " }}"
_LABEL_ALONE = re.compile(r"\{\{-?\s*" + _LABEL + r"\s*(\|[^{}]*)?\}\}")
# The length of the column in Airflow's database.
_LONGEST_LABEL = 250


def is_mapped(context: Context) -> bool:
    """Return whether the task instance belongs to a mapped task."""
    # A user's test may call `poke` with an empty context, or with None.
    map_index = getattr(context and context.get("ti"), "map_index", None)
    return isinstance(map_index, int) and map_index >= 0


class WaitingOperator(UserSegmentsBaseOperator):
    """The base of the tasks that wait for an export: deferral, resumption, result, links, asset events."""

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
        check_booleans(deferrable=deferrable, end_from_trigger=end_from_trigger)
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
        """Resume; if the trigger failed or timed out, name the export, which Airflow does not know."""
        with self._airflow_errors():
            try:
                return super().resume_execution(next_method, next_kwargs, context)
            except AirflowException as error:
                if next_method != _TRIGGER_FAILED:
                    raise
                export_id = self._awaited_export_id(context)
                # A sensor of Airflow 3.3 that is to skip wraps the reason.
                reason = error.__cause__ if isinstance(error, AirflowSkipException) else None
                message = (
                    f"The wait for {f'export {export_id}' if export_id else 'an export'} ended without an event from "
                    f"its trigger ({reason or error}). The export may still be running. For the cause, see the log "
                    "above and the triggerer's log."
                )
                if isinstance(error, AirflowSkipException | AirflowSensorTimeout):
                    self.log.error(message)  # noqa: TRY400 - Airflow logs the traceback
                    raise
                raise UserSegmentsException(message) from error

    def _awaited_export_id(self, context: Context) -> str | None:
        """Return the id of the export that the task waits for, if it is known."""
        raise NotImplementedError

    def _airflow_errors(self) -> AbstractContextManager[None]:
        return airflow_errors()

    def _check_end_from_trigger(self) -> None:
        """Reject, when the DAG is parsed, what is incompatible with finishing in the triggerer."""
        if not self.end_from_trigger:
            return
        if self.outlets:
            raise InvalidArgumentError(
                f"{self.task_id}: end_from_trigger=True would lose the asset events of its outlets, which only a "
                "worker emits. Remove the outlets or end_from_trigger."
            )
        if self.on_success_callback:
            raise InvalidArgumentError(
                f"{self.task_id}: end_from_trigger=True would lose the on_success_callback, which Airflow calls only "
                "on a worker. Remove the callback or end_from_trigger."
            )
        if not self.deferrable:
            raise InvalidArgumentError(f"{self.task_id}: end_from_trigger=True needs a deferrable task.")

    def _return_or_defer(
        self, context: Context, poll: Poll, export_id: str, deadline: Deadline
    ) -> SegmentExport:
        """Return the finished export; defer while it is pending, if there is time to poll again."""
        out_of_time = poll.error is not None and poll.delay >= deadline.seconds_left
        if not (poll.is_finished or out_of_time):
            self._raise_deferral(context, export_id, deadline, poll.delay)
        return poll.finished_export(deadline.name)

    def _raise_deferral(
        self, context: Context, export_id: str, deadline: Deadline, delay: float = 0.0
    ) -> NoReturn:
        """Defer, with a delay in seconds before the trigger's first poll."""
        from airflow_provider_segments.triggers.user_segments import UserSegmentExportTrigger

        self.hook.close()
        self.defer(
            trigger=UserSegmentExportTrigger(
                export_id=export_id,
                mparticle_conn_id=self.mparticle_conn_id,
                deadline=deadline.instant.isoformat(),
                poll_interval=self.poll_interval,
                deadline_name=deadline.name,
                not_before=(utcnow() + timedelta(seconds=delay)).isoformat() if delay else None,
                end_from_trigger=self._may_end_from_trigger(context),
                output_format=self.output_format,
                xcom_keys=self._xcom_keys(),
            ),
            method_name="execute_complete",
            kwargs={"export_id": export_id},
            # A safety net for the trigger's own deadline: when it fires, Airflow does not call execute_complete.
            timeout=deadline.deferral_timeout(),
        )
        raise AssertionError("defer() does not return")

    def _xcom_keys(self) -> list[str] | None:
        if not self.do_xcom_push:
            return []
        return None if self.multiple_outputs else ["return_value"]

    def _may_end_from_trigger(self, context: Context) -> bool:
        """Return whether the trigger may finish the task: only a worker emits events and stores a result's length."""
        if not self.end_from_trigger:
            return False
        if self.outlets or self.on_success_callback:  # set later, such as by a policy of the cluster
            self.log.info("The task now has outlets or an on_success_callback, so a worker finishes it.")
            return False
        # A task downstream of a mapped one expands over its instances, not over a result.
        if is_mapped(context) or self.get_dag() is None or not any(self.iter_mapped_dependants()):
            return True
        self.log.info("Another task expands over this one's result, so a worker finishes it.")
        return False

    def _finish(self, context: Context, export: SegmentExport) -> dict[str, Any]:
        self._set_map_index_label(context, export.segment.name)
        self._result = result = self._deliver(context, export.ensure_complete())
        if self.do_xcom_push:
            self.link_values["return_value"] = result
        log_details(self.log, result)
        add_asset_events(self.outlets, context, result, self.log)
        return self._push_result(context, result)

    def _push_result(self, context: Context, result: dict[str, Any]) -> dict[str, Any]:
        """Return the result; Airflow 3.0 refuses an XCom that is None, so there the other keys are pushed here."""
        known = {key: value for key, value in result.items() if value is not None}
        is_3_0 = AIRFLOW_V_3_0_PLUS and not AIRFLOW_V_3_1_PLUS
        if is_3_0 and known != result and self.multiple_outputs and self.do_xcom_push:
            self.multiple_outputs = False
            for key, value in known.items():
                context["ti"].xcom_push(key=key, value=value)
        return result

    def _deliver(self, context: Context, export: SegmentExport) -> dict[str, Any]:
        """Do what the task does with the file, and return its result."""
        result = export.result(self.output_format)
        log_complete(self.log, export, result)
        return result

    def _set_map_index_label(self, context: Context, label: Any) -> None:
        """Show a mapped task in the UI under this label instead of its map index."""
        if not label or not is_mapped(context):
            return
        # Airflow renders it when a worker has finished the task.
        if context.get("map_index_template") is None:
            context["map_index_template"] = _TEMPLATE
        label = str(label)[:_LONGEST_LABEL]
        # Native rendering would turn a name like "2026" into a number, if nothing else is in the template.
        is_alone = _LABEL_ALONE.fullmatch(str(context["map_index_template"]).strip())
        native = self.dag.render_template_as_native_obj and is_alone
        context[_LABEL] = repr(label) if native else label  # type: ignore[literal-required]
