# SPDX-License-Identifier: Apache-2.0
"""The asynchronous hook; import it from `user_segments`."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

from airflow_provider_segments.api import calls, flow
from airflow_provider_segments.api.errors import CallError
from airflow_provider_segments.api.flow import Connect, Outcome, Send
from airflow_provider_segments.api.retries import ON_A_WORKER, RetryBudget
from airflow_provider_segments.connection.settings import DEFAULT_CONN_ID
from airflow_provider_segments.transports.pool import shared_client
from airflow_provider_segments.utils.clock import Clock
from airflow_provider_segments.utils.deadline import checked_poll_interval, in_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Self

    from airflow_provider_segments.api.flow import Flow, Poll
    from airflow_provider_segments.api.models import SegmentExport, UserSegment
    from airflow_provider_segments.transports.pool import SharedClient

__all__ = ["UserSegmentsAsyncHook"]

T = TypeVar("T")


class UserSegmentsAsyncHook:
    """
    Talk to the User Segments Export API from an event loop.

    All hooks in use on one Connection share one client. Entering the hook as an async context manager is optional and
    keeps that client open between calls. It can't start an export, because a trigger may run twice.

    :param mparticle_conn_id: the Connection.
    """

    clock = Clock()

    def __init__(self, mparticle_conn_id: str = DEFAULT_CONN_ID) -> None:
        self.mparticle_conn_id = mparticle_conn_id
        # Airflow's own hooks log below this name, and only these show at INFO in a trigger's log.
        self.log = logging.getLogger(f"airflow.task.hooks.{__name__}.{type(self).__name__}")
        self._entered_client: SharedClient | None = None

    async def __aenter__(self) -> Self:
        self._entered_client = await shared_client(self.mparticle_conn_id).__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._entered_client:
            await self._entered_client.__aexit__(*exception)

    async def list_segments(self, *, unlimited_retries: bool = False) -> list[UserSegment]:
        """
        Return all segments of the project.

        :param unlimited_retries: retry outages and 429s indefinitely.
        """
        budget = RetryBudget() if unlimited_retries else ON_A_WORKER
        return await self._run(lambda client: flow.perform(calls.list_segments(), client, budget))

    async def get_export(self, export_id: str) -> SegmentExport:
        """
        Return an export as it is now.

        :param export_id: the export.
        """
        return await self._run(lambda client: flow.perform(calls.get_export(export_id), client))

    def poll_until(
        self,
        export_id: str,
        timeout: timedelta | float,
        poll_interval: float | None = None,
        *,
        initial_delay: float = 0.0,
    ) -> Coroutine[Any, Any, Poll]:
        """
        Poll an export until it is finished or the timeout passes, and return the last poll.

        :param export_id: the export.
        :param timeout: a timedelta or seconds.
        :param poll_interval: fixed seconds between two polls; None for the adaptive schedule.
        :param initial_delay: seconds before the first poll.
        """
        interval, seconds = checked_poll_interval(poll_interval), in_seconds("timeout", timeout)
        deadline, call = self.clock.monotonic() + seconds, calls.get_export(export_id)
        # Not awaited here: thousands wait at a time, and each frame counts.
        return self._run(
            lambda client: flow.poll_until(call, client, deadline, interval, initial_delay=initial_delay)
        )

    async def wait_for_export(
        self,
        export_id: str,
        timeout: timedelta | float = timedelta(days=1),
        poll_interval: float | None = None,
    ) -> SegmentExport:
        """
        Wait until an export is complete. Outages and 429s don't end the wait before its deadline.

        :param export_id: the export.
        :param timeout: a timedelta or seconds.
        :param poll_interval: fixed seconds between two polls; None for the adaptive schedule.
        :raises ExportFailedError: the export failed, or is complete without a file.
        :raises ExportTimeoutError: it took longer than the timeout.
        """
        return (await self.poll_until(export_id, timeout, poll_interval)).finished_export().ensure_complete()

    async def _run(self, flow_with: Callable[[SharedClient], Flow[T]]) -> T:
        async with shared_client(self.mparticle_conn_id) as client:
            steps, outcome = flow_with(client), cast("Any", None)
            del flow_with
            while True:
                try:
                    step = steps.send(outcome)
                except StopIteration as end:
                    return cast("T", end.value)
                reply, failure, outcome = None, None, None  # drop references before sleeping
                try:
                    if isinstance(step, Send):
                        reply = await client.send(step)
                    elif isinstance(step, Connect):
                        await client.connect(step.read_after, self.clock.monotonic())
                    else:  # Sleep
                        if step.message:
                            self.log.log(step.level, "%s", step.message)
                        if step.seconds > 0:
                            await self.clock.asleep(step.seconds)
                except CallError as error:
                    failure = error
                now = self.clock.monotonic()
                outcome = Outcome(now, self.clock.time(), self.clock.jitter(), reply, failure)
