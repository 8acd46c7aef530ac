# SPDX-License-Identifier: Apache-2.0
"""A hook for mParticle Analytics' User Segments Export API, for workers."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_segments.api import calls, flow
from airflow_provider_segments.api.errors import CallError, ConfigurationError, UserSegmentsError, diagnosis
from airflow_provider_segments.api.flow import Connect, Outcome, Send
from airflow_provider_segments.api.models import find_segment
from airflow_provider_segments.api.retries import IN_A_POLL, RetryBudget
from airflow_provider_segments.connection import form
from airflow_provider_segments.connection.settings import (
    API_PATH,
    CONN_NAME_ATTR,
    CONN_TYPE,
    DEFAULT_CONN_ID,
    HOOK_NAME,
)
from airflow_provider_segments.hooks.user_segments_async import UserSegmentsAsyncHook
from airflow_provider_segments.transports.pool import WorkerClient
from airflow_provider_segments.utils.clock import Clock
from airflow_provider_segments.utils.deadline import checked_poll_interval, in_seconds

if TYPE_CHECKING:
    from airflow_provider_segments.api.flow import Flow, Poll
    from airflow_provider_segments.api.models import SegmentExport, UserSegment
    from airflow_provider_segments.connection.settings import Settings

__all__ = ["UserSegmentsAsyncHook", "UserSegmentsHook"]

T = TypeVar("T")
_ONCE = RetryBudget(max_retries=0)


class UserSegmentsHook(BaseHook):
    """
    Talk to the User Segments Export API from a worker.

    All methods raise a subclass of `UserSegmentsError` once retries are exhausted or not allowed. A task returns what
    they return as ``to_dict()``: Airflow does not pass their classes from task to task.

    :param mparticle_conn_id: the Connection.
    """

    conn_name_attr = CONN_NAME_ATTR
    default_conn_name = DEFAULT_CONN_ID
    conn_type = CONN_TYPE
    hook_name = HOOK_NAME

    clock = Clock()

    def __init__(self, mparticle_conn_id: str = DEFAULT_CONN_ID) -> None:
        super().__init__()
        self.mparticle_conn_id = mparticle_conn_id
        self._client = WorkerClient(mparticle_conn_id)

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's extra fields, for Airflow before 3.2."""
        return form.widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how the form's standard fields look, for Airflow before 3.2."""
        return form.ui_field_behaviour()

    @property
    def settings(self) -> Settings:
        """What the Connection says."""
        return self._client.settings

    @property
    def service_url(self) -> str:
        """Scheme and host of the service."""
        return self.settings.base_url.removesuffix(API_PATH)

    def list_segments(self) -> list[UserSegment]:
        """Return all segments of the project."""
        return self._run(flow.perform(calls.list_segments(), self._client))

    def get_segment(self, segment_id: str | None = None, name: str | None = None) -> UserSegment:
        """
        Return the one segment with an id or with exactly a name.

        :param segment_id: the segment's id.
        :param name: the segment's exact name.
        :raises SegmentLookupError: there is none (the message names the closest ones), or the name belongs to several
            (the message lists their ids).
        """
        if (segment_id is None) == (name is None):
            raise ConfigurationError("Give exactly one of segment_id and name.")
        return find_segment(self.list_segments(), segment_id, name)

    def request_export(self, segment_id: str, output_format: str = "csv") -> SegmentExport:
        """
        Request an export. Every request that is accepted starts another one, and none can be cancelled.

        :param segment_id: the segment.
        :param output_format: the file's format.
        """
        call = calls.request_export(segment_id, output_format)
        export = self._run(flow.perform(call, self._client)).with_segment_id(segment_id)
        self.log.info("Requested %s (%s).", export.label, output_format)
        return export

    def get_export(self, export_id: str) -> SegmentExport:
        """
        Return an export as it is now.

        :param export_id: the export.
        """
        return self._run(flow.perform(calls.get_export(export_id), self._client))

    def poll_export(self, export_id: str, poll_interval: float | None = None, *, retry: bool = True) -> Poll:
        """
        Poll an export once.

        An outage or a 429 that outlasts the retries, or a ``Retry-After`` above a minute, returns a pending poll.

        :param export_id: the export.
        :param poll_interval: fixed seconds until the next poll; None for the adaptive schedule.
        :param retry: whether to repeat a call that failed, as the Connection's retries allow.
        """
        interval = checked_poll_interval(poll_interval)
        return self._run(
            flow.poll(calls.get_export(export_id), self._client, interval, IN_A_POLL if retry else _ONCE)
        )

    def poll_until(
        self,
        export_id: str,
        timeout: timedelta | float,
        poll_interval: float | None = None,
        *,
        latest: SegmentExport | None = None,
        final_poll: bool = True,
    ) -> Poll:
        """
        Poll an export until it is finished or the timeout passes, and return the last poll.

        :param export_id: the export.
        :param timeout: a timedelta or seconds.
        :param poll_interval: fixed seconds between two polls; None for the adaptive schedule.
        :param latest: the latest known state of the export, to skip the immediate first poll.
        :param final_poll: whether to poll right at the deadline when the next poll would be due after it.
        """
        interval = checked_poll_interval(poll_interval)
        deadline = self.clock.monotonic() + in_seconds("timeout", timeout)
        call = calls.get_export(export_id)
        return self._run(
            flow.poll_until(call, self._client, deadline, interval, latest=latest, final_poll=final_poll)
        )

    def wait_for_export(
        self,
        export_id: str,
        timeout: timedelta | float = timedelta(days=1),
        poll_interval: float | None = None,
    ) -> SegmentExport:
        """
        Block until an export is complete. Outages and 429s don't end the wait before its deadline.

        :param export_id: the export.
        :param timeout: a timedelta or seconds.
        :param poll_interval: fixed seconds between two polls; None for the adaptive schedule.
        :raises ExportFailedError: the export failed, or is complete without a file.
        :raises ExportTimeoutError: it took longer than the timeout.
        """
        return self.poll_until(export_id, timeout, poll_interval).finished_export().ensure_complete()

    def test_connection(self) -> tuple[bool, str]:
        """List the segments and say how many there are, or what is wrong."""
        try:  # no retries: a user is waiting on the Test button
            segments = self._run(flow.perform(calls.list_segments(), self._client, _ONCE))
        except UserSegmentsError as error:
            message = str(error).replace(f"Connection {self.mparticle_conn_id!r}", "The Connection")
            return False, f"{diagnosis(error)}{message}"
        return True, f"Connected. The project has {len(segments)} segment{'' if len(segments) == 1 else 's'}."

    def close(self) -> None:
        """Close the connections to the service; the next call opens new ones."""
        self._client.close()

    def _run(self, steps: Flow[T]) -> T:
        outcome: Any = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                return cast("T", end.value)
            reply, failure, outcome = None, None, None  # drop references before sleeping
            try:
                if isinstance(step, Send):
                    reply = self._client.send(step)
                elif isinstance(step, Connect):
                    self._client.connect(step.read_after, self.clock.monotonic())
                else:  # Sleep
                    if step.message:
                        self.log.log(step.level, "%s", step.message)
                    if step.seconds > 0:
                        self.clock.sleep(step.seconds)
            except CallError as error:
                failure = error
            outcome = Outcome(self.clock.monotonic(), self.clock.time(), self.clock.jitter(), reply, failure)
