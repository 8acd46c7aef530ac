# SPDX-License-Identifier: Apache-2.0
"""
One client for all waits of a process on one Connection.

A thousand waiting exports must not mean a thousand sessions, TLS handshakes or look-ups of the Connection.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from asgiref.sync import sync_to_async

from airflow_provider_segments.api.calls import Call, read_reply
from airflow_provider_segments.api.errors import CallError, TooManyRequestsError
from airflow_provider_segments.api.pacing import RateLimit, SharedPause, reads_connection_again
from airflow_provider_segments.form import DEFAULT_RETRIES
from airflow_provider_segments.hooks._aiohttp import AiohttpTransport
from airflow_provider_segments.hooks._connection import no_such_connection, settings_of

if TYPE_CHECKING:
    from typing import Self

    from airflow_provider_segments.connection import Settings
    from airflow_provider_segments.hooks._clock import Clock

__all__ = ["SharedClient", "shared_client"]

T = TypeVar("T")
# Seconds: credentials that were refused and have not changed are not looked up for each wait again.
_REREAD_AFTER = 30.0
log = logging.getLogger(__name__)


class SharedClient:
    """
    Sends calls for whoever waits on one Connection.

    An async context manager that any number may have entered at a time; the last one to leave closes it.

    :param mparticle_conn_id: the Connection.
    """

    def __init__(self, mparticle_conn_id: str) -> None:
        self._conn_id = mparticle_conn_id
        self._opening = asyncio.Lock()
        self._transport: AiohttpTransport | None = None
        self._under_way: Counter[AiohttpTransport] = Counter()
        self._limit = RateLimit()
        self._pause = SharedPause()
        self._refused_until = -math.inf
        self._users = 0

    async def __aenter__(self) -> Self:
        self._users += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._users -= 1
        if self._users == 0:
            del _clients[asyncio.get_running_loop()][self._conn_id]
            await self._close()

    @property
    def max_retries(self) -> int:
        """The Connection's, or the default as long as it has not been read."""
        return self._transport.settings.max_retries if self._transport else DEFAULT_RETRIES

    async def send(self, call: Call[T], clock: Clock, longest_pause: float | None = None) -> T:
        """
        Send a call once, when it is its turn, and return what its answer holds.

        :param call: what to send.
        :param clock: for the rate limit and the pause.
        :param longest_pause: seconds; a longer pause is not kept, but reported as the 429 it comes from.
        """
        await self._turn(call, clock, longest_pause)
        transport = await self._open()
        self._under_way[transport] += 1
        try:
            reply = await transport.send(call, transport.settings.request_timeout)
            answer = read_reply(call, reply, now=clock.time(), secrets=transport.settings.secrets)
        except CallError as error:
            self._pause.note(error, clock.monotonic())
            if reads_connection_again(error):
                await self._read_again(transport, clock)
            raise
        finally:
            self._under_way[transport] -= 1
            await self._close_if_retired(transport)
        self._pause.note_success()
        return answer

    async def _turn(self, call: Call[Any], clock: Clock, longest_pause: float | None) -> None:
        """Wait for a slot of the rate limit outside of any pause; slots go in the order of asking."""
        await self._open()  # the limit is the Connection's
        while True:
            while (pause := self._pause.remaining(clock.monotonic(), clock.spread())) > 0:
                if longest_pause is not None and pause > longest_pause:
                    raise TooManyRequestsError(
                        f"{call.what}: not asked, for the service said to wait for {pause:.0f} s (HTTP 429).",
                        retry_after=pause,
                    )
                await clock.asleep(pause)
            if (slot := self._limit.reserve(clock.monotonic())) <= 0:
                return
            await clock.asleep(slot)
            if self._pause.remaining(clock.monotonic(), 0.0) <= 0:
                return

    async def _open(self) -> AiohttpTransport:
        if self._transport is not None:
            return self._transport
        async with self._opening:
            if self._transport is None:
                self._transport = await self._transport_for(await self._settings())
            return self._transport

    async def _settings(self) -> Settings:
        try:
            connection = await get_async_connection(self._conn_id)
        except AirflowNotFoundException as error:
            raise no_such_connection(self._conn_id) from error
        # Masking tells Airflow's supervisor in a blocking way. Airflow 3.0's answers get mixed up when another kind
        # of thread asks, and then its triggerer ends.
        return await sync_to_async(settings_of)(connection, log)

    async def _transport_for(self, settings: Settings) -> AiohttpTransport:
        self._limit.change(settings.max_requests_per_second)
        return await AiohttpTransport.open(settings)

    async def _read_again(self, refused: AiohttpTransport, clock: Clock) -> None:
        """Read the Connection once more for all that are refused together; keep the client if it is the same."""
        async with self._opening:
            if refused is not self._transport or clock.monotonic() < self._refused_until:
                return
            settings = await self._settings()
            if settings == refused.settings:
                self._refused_until = clock.monotonic() + _REREAD_AFTER
            else:
                self._transport = await self._transport_for(settings)

    async def _close_if_retired(self, transport: AiohttpTransport) -> None:
        if not self._under_way[transport]:
            del self._under_way[transport]
            if transport is not self._transport:
                await transport.close()

    async def _close(self) -> None:
        """Close all connections; one that is under way closes its own when it ends."""
        transport, self._transport = self._transport, None
        if transport and not self._under_way[transport]:
            await transport.close()


# A session belongs to the event loop it was made on, and ends with it.
_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, SharedClient]] = WeakKeyDictionary()


def shared_client(mparticle_conn_id: str) -> SharedClient:
    """
    Return the client that all on this event loop share, to be entered as an async context at once.

    :param mparticle_conn_id: the Connection.
    """
    clients = _clients.setdefault(asyncio.get_running_loop(), {})
    if (client := clients.get(mparticle_conn_id)) is None:
        client = clients[mparticle_conn_id] = SharedClient(mparticle_conn_id)
    return client
