# SPDX-License-Identifier: Apache-2.0
"""Hooks for mParticle Analytics' User Segments Export API: two transports of one protocol."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook
from tenacity import AsyncRetrying, Retrying

from airflow_provider_segments import connection, form
from airflow_provider_segments._deadline import in_seconds
from airflow_provider_segments.api import calls, pacing
from airflow_provider_segments.api.errors import (
    CallError,
    ConfigurationError,
    ExportTimeoutError,
    UserSegmentsError,
    diagnosis,
)
from airflow_provider_segments.api.lookup import pick
from airflow_provider_segments.hooks._clock import Clock
from airflow_provider_segments.hooks._connection import no_such_connection, settings_of
from airflow_provider_segments.hooks._loops import Deadline, Retries, Wait
from airflow_provider_segments.hooks._requests import RequestsTransport
from airflow_provider_segments.hooks._shared import shared_client

if TYPE_CHECKING:
    from typing import Self

    from airflow_provider_segments.api.calls import Call
    from airflow_provider_segments.api.models import SegmentExport, UserSegment
    from airflow_provider_segments.connection import Settings
    from airflow_provider_segments.hooks._shared import SharedClient

__all__ = ["UserSegmentsAsyncHook", "UserSegmentsHook"]

T = TypeVar("T")


class UserSegmentsHook(BaseHook):
    """
    Talk to the User Segments Export API from a worker.

    All methods raise a child of `UserSegmentsError` when something goes wrong and repeating the call does not
    help or is not allowed.

    :param mparticle_conn_id: the Connection.
    """

    conn_name_attr = connection.CONN_NAME_ATTR
    default_conn_name = connection.DEFAULT_CONN_ID
    conn_type = connection.CONN_TYPE
    hook_name = connection.HOOK_NAME

    _clock = Clock()

    def __init__(self, mparticle_conn_id: str = connection.DEFAULT_CONN_ID) -> None:
        super().__init__()
        self.mparticle_conn_id = mparticle_conn_id
        self._transport: RequestsTransport | None = None
        self._limit = pacing.RateLimit()

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
        return self._open().settings

    @property
    def service_url(self) -> str:
        """Scheme and host of the service."""
        return self.settings.base_url.removesuffix(connection.API_PATH)

    def list_segments(self) -> list[UserSegment]:
        """Return all segments of the project."""
        return self._perform(calls.list_segments())

    def get_segment(self, segment_id: str | None = None, name: str | None = None) -> UserSegment:
        """
        Return the one segment with an id or with exactly a name.

        :param segment_id: the segment's id.
        :param name: the segment's name, to the letter.
        :raises SegmentLookupError: there is none (the message names the closest ones), or the name belongs to
            several (the message lists their ids).
        """
        if (segment_id is None) == (name is None):
            raise ConfigurationError("Give exactly one of segment_id and name.")
        return pick(self.list_segments(), segment_id, name)

    def request_export(self, segment_id: str, output_format: str = "csv") -> SegmentExport:
        """
        Request an export. Every request that is accepted starts another one, and none can be cancelled.

        :param segment_id: the segment.
        :param output_format: the file's format.
        """
        export = self._perform(calls.request_export(segment_id, output_format)).of(segment_id)
        self.log.info("Requested %s (%s).", export.label, output_format)
        return export

    def get_export(self, export_id: str) -> SegmentExport:
        """
        Return how far an export is.

        :param export_id: the export.
        """
        return self._perform(calls.get_export(export_id))

    def wait_for_export(
        self,
        export_id: str,
        timeout: timedelta | float = timedelta(days=1),
        poll_interval: float | None = None,
        *,
        latest: SegmentExport | None = None,
        last_look: bool = True,
    ) -> SegmentExport:
        """
        Block until an export is complete. Outages and 429s are sat out until the deadline.

        :param export_id: the export.
        :param timeout: of the wait: a timedelta or seconds.
        :param poll_interval: fixed seconds between two looks; None for the adaptive schedule.
        :param latest: the latest answer, if one is at hand, so that it is not asked for at once.
        :param last_look: whether to look right at the deadline when the next look would be due after it.
        :raises ExportFailedError: the export failed, or is complete without a file.
        :raises ExportTimeoutError: it took longer than the timeout.
        """
        if poll_interval is not None:
            in_seconds("poll_interval", poll_interval)
        deadline = Deadline(self._clock, in_seconds("timeout", timeout))
        wait = Wait(deadline, poll_interval, self._clock, self.log, last_look=last_look)
        call = calls.get_export(export_id)
        export = latest or self._perform(call, pacing.WAIT, deadline)
        while (pause := wait.pause_after(export)) is not None:
            self._clock.sleep(pause)
            export = self._perform(call, pacing.WAIT, deadline)
        return export.ensure_complete()

    def test_connection(self) -> tuple[bool, str]:
        """List the segments and say how many there are, or what is wrong."""
        try:  # somebody looks at a button: one try, no waiting
            segments = self._perform(calls.list_segments(), pacing.worker_patience(max_retries=0))
        except UserSegmentsError as error:
            said = str(error).replace(f"Connection {self.mparticle_conn_id!r}", "The Connection")
            return False, f"{diagnosis(error)}{said}"
        return True, f"Connected. The project has {len(segments)} segment{'' if len(segments) == 1 else 's'}."

    def close(self) -> None:
        """Close the connections to the service; the next call opens them anew."""
        transport, self._transport = self._transport, None
        if transport:
            transport.close()

    def _perform(
        self, call: Call[T], patience: pacing.Patience | None = None, deadline: Deadline | None = None
    ) -> T:
        def of_a_worker() -> pacing.Patience:
            known = self._transport and self._transport.settings
            return pacing.worker_patience(known.max_retries if known else form.DEFAULT_RETRIES)

        retries = Retries(call, lambda: patience or of_a_worker(), deadline, self._clock, self.log)
        loop = Retrying(sleep=self._clock.sleep, **retries.for_tenacity())
        answer: T = loop(self._attempt, call, deadline)
        return answer

    def _attempt(self, call: Call[T], deadline: Deadline | None) -> T:
        transport = self._open()
        settings = transport.settings
        if (pause := self._limit.reserve(self._clock.monotonic())) > 0:
            self._clock.sleep(pause)
        timeout = min(settings.request_timeout, deadline.for_a_call) if deadline else settings.request_timeout
        try:
            reply = transport.send(call, timeout)
            return calls.read_reply(call, reply, now=self._clock.time(), secrets=settings.secrets)
        except CallError as error:
            if pacing.reads_connection_again(error):
                self.close()
            raise

    def _open(self) -> RequestsTransport:
        if self._transport is None:
            try:
                found = self.get_connection(self.mparticle_conn_id)
            except AirflowNotFoundException as error:
                raise no_such_connection(self.mparticle_conn_id) from error
            settings = settings_of(found, self.log)
            self._limit.change(settings.max_requests_per_second)
            self._transport = RequestsTransport(settings)
        return self._transport


class UserSegmentsAsyncHook:
    """
    Talk to the User Segments Export API from an event loop.

    An async context manager: all that are open at a time on one Connection share one client. It has no call
    that starts an export, for a coroutine in the triggerer may run twice.

    :param mparticle_conn_id: the Connection.
    """

    _clock = Clock()

    def __init__(self, mparticle_conn_id: str = connection.DEFAULT_CONN_ID) -> None:
        self.mparticle_conn_id = mparticle_conn_id
        # Where Airflow puts its hooks' loggers, which it shows at INFO in a trigger's log too.
        self.log = logging.getLogger(f"airflow.task.hooks.{__name__}.{type(self).__name__}")
        self._lent: SharedClient | None = None

    async def __aenter__(self) -> Self:
        self._lent = await shared_client(self.mparticle_conn_id).__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._lent:
            await self._lent.__aexit__(*exception)

    async def list_segments(self, *, patient: bool = False) -> list[UserSegment]:
        """
        Return all segments of the project.

        :param patient: sit out outages and 429s however long they last, as a wait does.
        """
        return await self._perform(calls.list_segments(), pacing.WAIT if patient else None)

    async def get_export(self, export_id: str) -> SegmentExport:
        """
        Return how far an export is.

        :param export_id: the export.
        """
        return await self._perform(calls.get_export(export_id))

    async def wait_for_export(
        self,
        export_id: str,
        timeout: timedelta | float = timedelta(days=1),
        poll_interval: float | None = None,
        *,
        first_look_in: float = 0.0,
    ) -> SegmentExport:
        """
        Wait until an export is finished and return it, failed ones too.

        :param export_id: the export.
        :param timeout: of the wait: a timedelta or seconds.
        :param poll_interval: fixed seconds between two looks; None for the adaptive schedule.
        :param first_look_in: seconds before the service may be asked for the first time.
        :raises ExportTimeoutError: it took longer than the timeout.
        """
        if poll_interval is not None:
            in_seconds("poll_interval", poll_interval)
        deadline = Deadline(self._clock, in_seconds("timeout", timeout))
        wait = Wait(deadline, poll_interval, self._clock, self.log)
        call = calls.get_export(export_id)
        # Cuts off what does not end by itself: a place in the queue of the rate limit, an answer that does not come.
        limit = asyncio.timeout(deadline.with_last_look)
        pause: float | None = min(first_look_in, deadline.remaining)
        try:
            async with shared_client(self.mparticle_conn_id) as client, limit:
                while pause is not None:
                    if pause > 0:
                        await self._clock.asleep(pause)
                    export = await self._ask(client, call, pacing.WAIT, deadline)
                    if (pause := wait.pause_after(export)) is not None:
                        del export  # thousands may be asleep at a time
                return export
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise ExportTimeoutError(f"{call.what}: no answer before the deadline.") from error

    async def _perform(self, call: Call[T], patience: pacing.Patience | None = None) -> T:
        async with shared_client(self.mparticle_conn_id) as client:
            return await self._ask(client, call, patience)

    async def _ask(
        self,
        client: SharedClient,
        call: Call[T],
        patience: pacing.Patience | None = None,
        deadline: Deadline | None = None,
    ) -> T:
        def lasting() -> pacing.Patience:
            return patience or pacing.worker_patience(client.max_retries)

        longest_pause = lasting().longest_wait
        try:
            return await client.send(call, self._clock, longest_pause)
        except CallError as error:
            failed: CallError | None = error

        # Only now: most calls don't fail, and setting the loop up costs a third of what sending one does.
        async def again() -> T:
            nonlocal failed
            if failed:
                error, failed = failed, None
                raise error
            return await client.send(call, self._clock, longest_pause)

        retries = Retries(call, lasting, deadline, self._clock, self.log)
        return await AsyncRetrying(sleep=self._clock.asleep, **retries.for_tenacity())(again)
