# SPDX-License-Identifier: Apache-2.0
"""Operators that list and export user segments."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_segments.api.errors import ConfigurationError
from airflow_provider_segments.connection.settings import DEFAULT_CONN_ID
from airflow_provider_segments.exceptions import (
    InvalidArgumentError,
    airflow_errors,
    argument_errors,
    check_booleans,
)
from airflow_provider_segments.operators.base import UserSegmentsBaseOperator
from airflow_provider_segments.operators.reattach import ExportRecord
from airflow_provider_segments.operators.waiting import WaitingOperator, is_mapped
from airflow_provider_segments.utils.assets import lineage
from airflow_provider_segments.utils.deadline import checked_poll_interval, deadline_of, in_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_segments.api.models import SegmentExport

__all__ = ["UserSegmentExportOperator", "UserSegmentsListOperator"]

# Seconds; about what deferring and resuming costs.
_BRIEF_WAIT = 4.0


class UserSegmentsListOperator(UserSegmentsBaseOperator):
    """
    List the project's user segments, as plain dicts fit for dynamic task mapping.

    Each has the keys ``segment_id``, ``name``, ``description``, ``category``, ``project_id``, ``segment_type`` and
    ``last_run`` (ISO 8601 in UTC, or None).

    :param name_pattern: a regular expression that the name has to match somewhere (templated).
    :param category: the category a segment has to be filed under, exact match (templated).
    :param segment_type: ``Static`` or ``Dynamic`` (templated).
    :param refreshed_since: only Dynamic segments whose last refresh is later: a datetime or ISO 8601, in UTC if there
        is no zone; None or an empty string for all (templated).
    :param mparticle_conn_id: the Connection (templated).
    """

    template_fields: Sequence[str] = (
        "name_pattern",
        "category",
        "segment_type",
        "refreshed_since",
        "mparticle_conn_id",
    )
    ui_color = "#dcebf7"

    def __init__(
        self,
        *,
        name_pattern: str | None = None,
        category: str | None = None,
        segment_type: str | None = None,
        refreshed_since: str | datetime | None = None,
        mparticle_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(mparticle_conn_id=mparticle_conn_id, **kwargs)
        self.name_pattern = name_pattern
        self.category = category
        self.segment_type = segment_type
        self.refreshed_since = refreshed_since
        with argument_errors(self.task_id):
            if _is_literal(refreshed_since):
                _moment(refreshed_since)
            if name_pattern and _is_literal(name_pattern):
                self._pattern()

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Return the segments that pass all filters, in the service's order."""
        with airflow_errors():
            self.require_text("mparticle_conn_id")
            self.require_text_or_none("name_pattern", "category", "segment_type")
            pattern = self._pattern()
            self._check_type()
            since = _moment(self.refreshed_since)
            segments = [segment.to_dict() for segment in self.hook.list_segments()]
        found = [segment for segment in segments if self._fits(segment, pattern, since)]
        self.log.info("%d of the project's %d segments pass the filters.", len(found), len(segments))
        return found

    def _pattern(self) -> re.Pattern[str]:
        try:
            return re.compile(self.name_pattern or "")
        except re.error as error:
            wrong = f"name_pattern {self.name_pattern!r} is not a valid regular expression: {error}."
            raise ConfigurationError(wrong) from error

    def _check_type(self) -> None:
        from airflow_provider_segments.api.models import SegmentType

        if self.segment_type and not SegmentType(self.segment_type).is_known:
            known = " or ".join(repr(kind.value) for kind in SegmentType)
            raise ConfigurationError(f"segment_type is {self.segment_type!r}, but it has to be {known}.")

    def _fits(self, segment: dict[str, Any], pattern: re.Pattern[str], since: datetime | None) -> bool:
        last_run = segment["last_run"]
        is_refreshed = segment["segment_type"] == "Dynamic" and last_run is not None
        return (
            bool(pattern.search(segment["name"]))
            and (since is None or (is_refreshed and datetime.fromisoformat(last_run) > since))
            and (not self.category or segment["category"] == self.category)
            and (not self.segment_type or segment["segment_type"] == self.segment_type)
        )


def _is_literal(value: Any) -> bool:
    """Return whether a field is neither a template nor another task's output."""
    return not hasattr(value, "resolve") and "{" not in str(value)


def _moment(value: Any) -> datetime | None:
    """Return what `refreshed_since` says."""
    if isinstance(value, str) and value.strip():
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError as error:
            raise ConfigurationError(
                f"refreshed_since is {value!r} once rendered, but it has to be a time such as "
                "'2026-01-31T04:00:00+00:00', or empty. If it comes from a template that may have none, write "
                "\"{{ prev_data_interval_end_success | default('', true) }}\"."
            ) from error
    if value is None or isinstance(value, str):  # blank
        return None
    if not isinstance(value, datetime):
        raise ConfigurationError(
            f"refreshed_since is {value!r}, but it has to be a datetime or ISO 8601 text."
        )
    return value if value.tzinfo else value.replace(tzinfo=timezone.utc)


class UserSegmentExportOperator(WaitingOperator):
    """
    Export a user segment to a file on Amazon S3 and wait for it without holding a worker.

    The result, as return value and as one XCom per key: ``export_id``, ``segment_id``, ``segment_name``,
    ``segment_type``, ``status``, ``output_format``, ``start_time``, ``end_time``, ``expires_at``, ``filename``,
    ``s3_uri``, ``s3_bucket``, ``s3_key`` (null when the file is not on S3). ``export_id`` is pushed the moment it is
    known. The service keeps the file for 48 hours after the export is complete.

    A wrong key or token and a plan without the Export API fail the task at once; a failed export, a timeout and
    an outage that outlasts the deadline fail the try, and Airflow's retries apply. There is no call to cancel an
    export: when the task is killed, it keeps running at the service.

    :param segment_id: the segment's id (templated); either this or the name.
    :param segment_name: the segment's exact name (templated).
    :param output_format: the file's format; the service's page shows ``csv`` only (templated).
    :param mparticle_conn_id: the Connection (templated).
    :param wait_for_completion: False to succeed as soon as the export is requested; a sensor may wait for it.
    :param deferrable: wait in the triggerer, not on a worker.
    :param poll_interval: fixed seconds between two polls; None for the adaptive schedule.
    :param defer_after: seconds to wait on the worker before deferring. None is 4, about what a deferral costs, and 0
        for a mapped task, whose instances would hold the slots that others need to resume.
    :param timeout: of the wait, across deferrals: a timedelta or seconds. The task's execution_timeout counts
        too; the earlier ends the wait.
    :param durable: on Airflow 3.3 and later, keep the export's id so that a later try of the same request reattaches
        to the running export instead of requesting another.
    :param end_from_trigger: finish the task in the triggerer when the export is complete, without waking a worker.
        Failures still resume on a worker. Not with outlets or an on_success_callback, nor where a plugin
        listens to task instances, as OpenLineage's does; ``post_execute`` is not called.
    """

    template_fields: Sequence[str] = ("segment_id", "segment_name", "output_format", "mparticle_conn_id")
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
        defer_after: float | None = None,
        timeout: timedelta | float = timedelta(days=1),
        durable: bool = True,
        end_from_trigger: bool = False,
        multiple_outputs: bool = True,
        **kwargs: Any,
    ) -> None:
        with argument_errors(kwargs.get("task_id")):
            super().__init__(
                output_format=output_format,
                mparticle_conn_id=mparticle_conn_id,
                deferrable=deferrable,
                poll_interval=checked_poll_interval(poll_interval),
                end_from_trigger=end_from_trigger,
                multiple_outputs=multiple_outputs,
                **kwargs,
            )
            in_seconds("timeout", timeout)
            check_booleans(wait_for_completion=wait_for_completion, durable=durable)
            if defer_after is not None and not (isinstance(defer_after, int | float) and defer_after >= 0):
                raise InvalidArgumentError(
                    f"{self.task_id}: defer_after is {defer_after!r}, but it has to be 0 or more seconds."
                )
        self.segment_id = segment_id
        self.segment_name = segment_name
        self._segment_field = "segment_name" if segment_id is None else "segment_id"
        self.wait_for_completion = wait_for_completion
        self.defer_after = defer_after
        self.timeout = timeout
        self.durable = durable
        self._export_id: str | None = None
        self._check_end_from_trigger()
        self._check_segment_and_outlets()

    def execute(self, context: Context) -> dict[str, Any]:
        """Request the export or reattach to the running one, and wait for it."""
        with self._airflow_errors():
            return self._export(context)

    def on_kill(self) -> None:
        """Warn that the export keeps running."""
        if self._export_id:
            self.log.warning(
                "The task was killed, but export %s keeps running: the service has no call to cancel it.",
                self._export_id,
            )

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Return OpenLineage's datasets: the segment as input, the S3 object as output."""
        return self._result and lineage(self.hook.service_url, self._result)

    def _check_segment_and_outlets(self) -> None:
        if (self.segment_id is None) == (self.segment_name is None):
            given = "neither" if self.segment_id is None else "both"
            raise InvalidArgumentError(
                f"{self.task_id}: give exactly one of segment_id and segment_name, not {given}."
            )
        if self.outlets and not self.wait_for_completion:
            raise InvalidArgumentError(
                f"{self.task_id}: with wait_for_completion=False the task ends before there is a file, so its outlets "
                "would get an event too early. Move them to the sensor that waits."
            )

    def _export(self, context: Context) -> dict[str, Any]:
        self._set_map_index_label(context, self.segment_name or self.segment_id)
        export = self._reattach_or_request(context)
        if not self.wait_for_completion:
            return self._push_result(context, export.result(self.output_format))
        return self._finish(context, self._wait_or_defer(context, export))

    def _reattach_or_request(self, context: Context) -> SegmentExport:
        record = ExportRecord(context, self._export_params(), durable=self.durable, log=self.log)
        export = record.reattach(self.hook)
        if export is None:
            segment_id = self.segment_id or self.hook.get_segment(name=self.segment_name).segment_id
            record.store_intent()
            export = self.hook.request_export(segment_id, self.output_format)
            record.store_export(export)
        self._export_id = export.export_id
        if self.do_xcom_push:
            context["ti"].xcom_push(key="export_id", value=export.export_id)
        return export

    def _export_params(self) -> dict[str, str]:
        """Return the rendered parameters of the export; a later try with the same ones reattaches."""
        names = (self._segment_field, "output_format", "mparticle_conn_id")
        self.require_text(*names)
        return {name: getattr(self, name) for name in names}

    def _wait_or_defer(self, context: Context, export: SegmentExport) -> SegmentExport:
        """Wait on the worker; a deferrable task does so for `defer_after` seconds only."""
        deadline = deadline_of(context, self.timeout, self.execution_timeout)
        if export.status.is_finished:
            return export
        poll_until = partial(self.hook.poll_until, poll_interval=self.poll_interval, latest=export)
        if not self.deferrable:
            return poll_until(export.export_id, deadline.seconds_left).finished_export(deadline.name)
        if (defer_after := self.defer_after) is None:
            defer_after = 0.0 if is_mapped(context) else _BRIEF_WAIT
        if not defer_after:  # poll_until refuses a timeout of 0
            self._raise_deferral(context, export.export_id, deadline)
        poll = poll_until(export.export_id, min(defer_after, deadline.seconds_left), final_poll=False)
        return self._return_or_defer(context, poll, export.export_id, deadline)

    def _awaited_export_id(self, context: Context) -> str | None:
        """Return the id from its XCom: `dag.test()` and a failed trigger drop the deferral's kwargs."""
        if not self.do_xcom_push:
            return None
        ti = context["ti"]
        pushed = ti.xcom_pull(task_ids=self.task_id, key="export_id", map_indexes=ti.map_index)
        return None if pushed is None else str(pushed)
