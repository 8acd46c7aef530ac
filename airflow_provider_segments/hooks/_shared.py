# SPDX-License-Identifier: Apache-2.0
"""
One client for all waits of a process on one Connection.

A thousand waiting exports must not mean a thousand sessions, TLS handshakes or look-ups of the Connection.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_segments.api.calls import Call, read_reply
from airflow_provider_segments.api.errors import CallError
from airflow_provider_segments.api.pacing import RateLimit, SharedPause, reads_connection_again
from airflow_provider_segments.hooks._connection import no_such_connection, settings_of
from airflow_provider_segments.hooks._transports import AiohttpTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_segments.connection import Settings
    from airflow_provider_segments.hooks._clock import Clock

__all__ = ["SharedClient", "shared_client"]

T = TypeVar("T")
log = logging.getLogger(__name__)


class SharedClient:
    """
    Sends calls for whoever waits on one Connection.

    :param mparticle_conn_id: the Connection.
    """

    def __init__(self, mparticle_conn_id: str) -> None:
        self._conn_id = mparticle_conn_id
        self._opening = asyncio.Lock()
        self._transport: AiohttpTransport | None = None
        self._retired: list[AiohttpTransport] = []
        self._limit = RateLimit()
        self._pause = SharedPause()
        self.users = 0

    async def settings(self) -> Settings:
        """Return the Connection's settings."""
        return (await self._open()).settings

    async def send(self, call: Call[T], clock: Clock) -> T:
        """
        Send a call once, when it is its turn, and return what its answer holds.

        :param call: what to send.
        :param clock: for the rate limit and the pause.
        """
        transport = await self._open()
        settings = transport.settings
        await self._turn(clock)
        try:
            reply = await transport.send(call, settings.request_timeout)
            answer = read_reply(call, reply, now=clock.time(), secrets=settings.secrets)
        except CallError as error:
            self._pause.note(error, clock.monotonic())
            if reads_connection_again(error) and transport is self._transport:
                # Others may still be at work on it, so it is closed with the client.
                self._retired.append(transport)
                self._transport = None
            raise
        self._pause.note_success()
        return answer

    async def _turn(self, clock: Clock) -> None:
        """Wait for a slot of the rate limit outside of any pause; slots go in the order of asking."""
        while True:
            while (pause := self._pause.remaining(clock.monotonic(), clock.spread())) > 0:
                await clock.asleep(pause)
            if (slot := self._limit.reserve(clock.monotonic())) <= 0:
                return
            await clock.asleep(slot)
            if self._pause.remaining(clock.monotonic(), 0.0) <= 0:
                return

    async def _open(self) -> AiohttpTransport:
        async with self._opening:
            if self._transport is None:
                try:
                    connection = await get_async_connection(self._conn_id)
                except AirflowNotFoundException as error:
                    raise no_such_connection(self._conn_id) from error
                # Masking tells Airflow's supervisor in a blocking way.
                settings = await asyncio.to_thread(settings_of, connection, log)
                self._limit.change(settings.max_requests_per_second)
                self._transport = await AiohttpTransport.open(settings)
            return self._transport

    async def close(self) -> None:
        """Close all connections."""
        transports = [*self._retired, self._transport]
        self._retired, self._transport = [], None
        for transport in transports:
            if transport:
                await transport.close()


# A session belongs to the event loop it was made on, and ends with it.
_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, SharedClient]] = WeakKeyDictionary()


@asynccontextmanager
async def shared_client(mparticle_conn_id: str) -> AsyncIterator[SharedClient]:
    """
    Lend the client of a Connection; the last one to give it back closes it.

    :param mparticle_conn_id: the Connection.
    """
    clients: dict[str, Any] = _clients.setdefault(asyncio.get_running_loop(), {})
    client = clients.setdefault(mparticle_conn_id, SharedClient(mparticle_conn_id))
    client.users += 1
    try:
        yield client
    finally:
        client.users -= 1
        if client.users == 0:
            del clients[mparticle_conn_id]
            await client.close()
