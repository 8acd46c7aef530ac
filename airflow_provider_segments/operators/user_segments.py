# SPDX-License-Identifier: Apache-2.0
"""Operators that list and export user segments."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowException, BaseOperator

from airflow_provider_segments._deferral import defer, refuse_end_from_trigger
from airflow_provider_segments._story import name_mapped_task, tell_complete, tell_details
from airflow_provider_segments.api.errors import ConfigurationError, ExportTimeoutError
from airflow_provider_segments.connection.settings import DEFAULT_CONN_ID
from airflow_provider_segments.exceptions import UserSegmentsException, airflow_errors
from airflow_provider_segments.links import DocumentationLink, ExportedFileLink
from airflow_provider_segments.operators._outlets import lineage, tell_outlets
from airflow_provider_segments.operators._take_up import RunningExport
from airflow_provider_segments.utils.deadline import Deadline, deadline_of, ended_by, in_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_segments.api.models import SegmentExport
    from airflow_provider_segments.hooks.user_segments import UserSegmentsHook

__all__ = ["UserSegmentExportOperator", "UserSegmentsListOperator"]

# What Airflow resumes a task with when its trigger has failed or its second deadline has passed.
_TRIGGER_FAILED = "__fail__"


class UserSegmentsListOperator(BaseOperator):
    """
    List the project's user segments, as plain dicts fit for dynamic task mapping.

    Each has the keys ``segment_id``, ``name``, ``description``, ``category``, ``project_id``, ``segment_type`` and
    ``last_run`` (ISO 8601 in UTC, or None).

    :param name_pattern: a regular expression that the name has to match somewhere (templated).
    :param category: the category a segment has to be filed under, to the letter (templated).
    :param segment_type: ``Static`` or ``Dynamic`` (templated).
    :param mparticle_conn_id: the Connection (templated).
    """

    template_fields: Sequence[str] = ("name_pattern", "category", "segment_type", "mparticle_conn_id")
    ui_color = "#dcebf7"

    def __init__(
        self,
        *,
        name_pattern: str | None = None,
        category: str | None = None,
        segment_type: str | None = None,
        mparticle_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name_pattern = name_pattern
        self.category = category
        self.segment_type = segment_type
        self.mparticle_conn_id = mparticle_conn_id

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Return the segments that pass all filters, in the service's order."""
        from airflow_provider_segments.hooks.user_segments import UserSegmentsHook

        with airflow_errors():
            pattern = self._pattern()
            self._check_type()
            segments = [
                segment.to_dict() for segment in UserSegmentsHook(self.mparticle_conn_id).list_segments()
            ]
        found = [segment for segment in segments if self._fits(segment, pattern)]
        self.log.info("%d of the project's %d segments pass the filters.", len(found), len(segments))
        return found

    def _pattern(self) -> re.Pattern[str]:
        try:
            return re.compile(self.name_pattern or "")
        except re.error as error:
            raise ConfigurationError(
                f"name_pattern {self.name_pattern!r} is no regular expression: {error}."
            ) from error

    def _check_type(self) -> None:
        from airflow_provider_segments.api.models import SegmentType

        if self.segment_type and not SegmentType(self.segment_type).is_known:
            known = " or ".join(repr(kind.value) for kind in SegmentType)
            raise ConfigurationError(f"segment_type is {self.segment_type!r}, but it has to be {known}.")

    def _fits(self, segment: dict[str, Any], pattern: re.Pattern[str]) -> bool:
        return (
            bool(pattern.search(segment["name"]))
            and (not self.category or segment["category"] == self.category)
            and (not self.segment_type or segment["segment_type"] == self.segment_type)
        )


class UserSegmentExportOperator(BaseOperator):
    """
    Export a user segment to a file on Amazon S3 and wait for it without holding a worker.

    The result, as return value and as one XCom a key: ``export_id``, ``segment_id``, ``segment_name``,
    ``segment_type``, ``status``, ``output_format``, ``start_time``, ``end_time``, ``expires_at``, ``filename``,
    ``s3_uri``, ``s3_bucket``, ``s3_key`` (null when the file is not on S3). ``export_id`` is pushed the moment it is
    known. The service keeps the file for 48 hours after the export is complete.

    A wrong key or token and a plan without the Export API fail the task at once; a failed export, a timeout and
    an outage that outlasts the deadline fail the try, and Airflow's retries apply. There is no call to cancel an
    export: when the task is killed, it goes on at the service.

    :param segment_id: the segment's id (templated); either this or the name.
    :param segment_name: the segment's name, to the letter (templated).
    :param output_format: the file's format; the service's page shows ``csv`` only (templated).
    :param mparticle_conn_id: the Connection (templated).
    :param wait_for_completion: False to succeed as soon as the export is requested; a sensor may wait for it.
    :param deferrable: wait in the triggerer, not on a worker.
    :param poll_interval: fixed seconds between two looks; None for the adaptive schedule.
    :param defer_after: seconds to wait on the worker before deferring: about what a deferral costs.
    :param timeout: of the wait, across deferrals: a timedelta or seconds. The task's execution_timeout counts
        too; the earlier ends the wait.
    :param durable: on Airflow 3.3 and later, keep the export's id so that a later try of the same request takes
        the running export up again instead of starting another.
    :param end_from_trigger: finish the task in the triggerer when the export is complete, without waking a worker.
        Failures still resume on a worker. Not with outlets or an on_success_callback, nor where a plugin
        listens to task instances, as OpenLineage's does; ``post_execute`` is not called.
    """

    template_fields: Sequence[str] = ("segment_id", "segment_name", "output_format", "mparticle_conn_id")
    operator_extra_links: Sequence[Any] = (ExportedFileLink(), DocumentationLink())
    ui_color = "#cfe3f5"

    def __init__(
        self,
        *,
        segment_id: str | None = None,
        segment_name: str | None = None,
        output_format: str = "csv",
        mparticle_conn_id: str = DEFAULT_CONN_ID,
        wait_for_completion: bool = True,
        deferrable: bool = True,
        poll_interval: float | None = None,
        defer_after: float = 4.0,
        timeout: timedelta | float = timedelta(days=1),
        durable: bool = True,
        end_from_trigger: bool = False,
        multiple_outputs: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        if (segment_id is None) == (segment_name is None):
            given = "neither" if segment_id is None else "both"
            raise ValueError(f"{self.task_id}: give exactly one of segment_id and segment_name, not {given}.")
        in_seconds(f"{self.task_id}: timeout", timeout)
        if poll_interval is not None:
            in_seconds(f"{self.task_id}: poll_interval", poll_interval)
        if not isinstance(defer_after, int | float) or not defer_after >= 0:
            raise ValueError(
                f"{self.task_id}: defer_after is {defer_after!r}, but it has to be a number of seconds from 0."
            )
        self.segment_id = segment_id
        self.segment_name = segment_name
        self.output_format = output_format
        self.mparticle_conn_id = mparticle_conn_id
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.defer_after = defer_after
        self.timeout = timeout
        self.durable = durable
        self.end_from_trigger = end_from_trigger
        refuse_end_from_trigger(self)
        self._export_id: str | None = None
        # What the links show, by the keys of the XComs.
        self._told: dict[str, Any] = {}

    def execute(self, context: Context) -> dict[str, Any]:
        """Request the export or take up the running one, and wait for it."""
        name_mapped_task(self, context, self.segment_name or self.segment_id)
        with airflow_errors():
            export = self._begin(context)
            if not self.wait_for_completion:
                return export.result(self.output_format)
            deadline = deadline_of(context, self.timeout, self.execution_timeout)
            export = (
                self._wait_briefly_or_defer(context, export, deadline)
                if self.deferrable
                else self._wait(export, deadline)
            )
            return self._finish(context, export)

    def execute_complete(
        self, context: Context, event: Any = None, export_id: str | None = None
    ) -> dict[str, Any]:
        """Resume after the trigger's event."""
        from airflow_provider_segments.triggers._events import read_event

        with airflow_errors():
            return self._finish(context, read_event(event, export_id or self._pushed_export_id(context)))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume, and say of which export the trigger failed or timed out, which Airflow does not know."""
        name_mapped_task(self, context, self.segment_name or self.segment_id)
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowException as error:
            if next_method != _TRIGGER_FAILED:
                raise
            raise UserSegmentsException(
                f"The wait for export {self._pushed_export_id(context)} ended without an event of its trigger "
                f"({error}). The export goes on at the service; what the trigger ran into stands above and in the "
                "triggerer's log."
            ) from error

    def on_kill(self) -> None:
        """Say what the kill does not end."""
        if self._export_id:
            self.log.warning(
                "The task was killed, but export %s goes on: the service has no call to cancel it.",
                self._export_id,
            )

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Tell OpenLineage, if it is installed, of the segment and of the object its users went to."""
        result = self._told.get("return_value")
        return result and lineage(self._hook.service_url, result)

    @cached_property
    def _hook(self) -> UserSegmentsHook:
        from airflow_provider_segments.hooks.user_segments import UserSegmentsHook

        return UserSegmentsHook(self.mparticle_conn_id)

    def _begin(self, context: Context) -> SegmentExport:
        running = RunningExport(context, self._asked(), durable=self.durable, log=self.log)
        export = running.take_up(self._hook)
        if export is None:
            segment_id = self.segment_id or self._hook.get_segment(name=self.segment_name).segment_id
            running.announce()
            export = self._hook.request_export(segment_id, self.output_format)
            running.keep(export)
        self._export_id = export.export_id
        name_mapped_task(self, context, export.segment.name, now=True)
        context["ti"].xcom_push(key="export_id", value=export.export_id)
        return export

    def _pushed_export_id(self, context: Context) -> str:
        """Return the id of this try's export; `dag.test()` loses what `defer` was given for the resumed half."""
        ti = context["ti"]
        return str(ti.xcom_pull(task_ids=self.task_id, key="export_id", map_indexes=ti.map_index))

    def _asked(self) -> dict[str, str]:
        """Return what is asked for, rendered; a later try of the same request asks for the same."""
        asked = (
            {"segment_id": self.segment_id}
            if self.segment_id is not None
            else {"segment_name": self.segment_name}
        )
        asked |= {"output_format": self.output_format, "mparticle_conn_id": self.mparticle_conn_id}
        for name, value in asked.items():
            if not isinstance(value, str) or not value.strip():
                raise ConfigurationError(
                    f"{self.task_id}: {name} is {value!r} once rendered, but it has to name something."
                )
        return asked  # type: ignore[return-value]

    def _wait(self, export: SegmentExport, deadline: Deadline) -> SegmentExport:
        try:
            return self._hook.wait_for_export(
                export.export_id, deadline.seconds_left, self.poll_interval, latest=export
            )
        except ExportTimeoutError as error:
            raise ended_by(error, deadline.name) from error

    def _wait_briefly_or_defer(
        self, context: Context, export: SegmentExport, deadline: Deadline
    ) -> SegmentExport:
        """Wait about as long as a deferral costs, for most exports take seconds."""
        if export.status.is_finished:
            return export
        if not self.defer_after:
            self._defer(context, export.export_id, deadline)
        brief = min(self.defer_after, deadline.seconds_left)
        try:
            return self._hook.wait_for_export(
                export.export_id, brief, self.poll_interval, latest=export, last_look=False
            )
        except ExportTimeoutError as error:
            if error.refused and error.retry_in >= deadline.seconds_left:
                raise ended_by(error, deadline.name) from error
            self._defer(context, export.export_id, deadline, error.retry_in)

    def _defer(
        self, context: Context, export_id: str, deadline: Deadline, first_look_in: float = 0.0
    ) -> NoReturn:
        self._hook.close()
        defer(
            self, context, export_id, deadline, first_look_in=first_look_in, kwargs={"export_id": export_id}
        )

    def _finish(self, context: Context, export: SegmentExport) -> dict[str, Any]:
        name_mapped_task(self, context, export.segment.name)
        result = self._told["return_value"] = self._deliver(context, export.ensure_complete())
        tell_details(self.log, result)
        tell_outlets(self, context, result)
        return result

    def _deliver(self, context: Context, export: SegmentExport) -> dict[str, Any]:
        result = export.result(self.output_format)
        tell_complete(self.log, export, result)
        return result
