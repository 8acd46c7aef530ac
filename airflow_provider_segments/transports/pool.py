# SPDX-License-Identifier: Apache-2.0
"""Clients of a Connection: one for each hook on a worker, one for all waits of an event loop, often thousands."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from importlib import import_module
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from airflow_provider_segments.api.errors import NotSentError
from airflow_provider_segments.api.throttle import Throttle
from airflow_provider_segments.connection.form import DEFAULT_RETRIES
from airflow_provider_segments.connection.lookup import get_settings, get_settings_async
from airflow_provider_segments.transports.common import POOL_SIZE
from airflow_provider_segments.transports.requests import RequestsTransport

if TYPE_CHECKING:
    from typing import Self

    from airflow_provider_segments.api.calls import Reply
    from airflow_provider_segments.api.flow import Send
    from airflow_provider_segments.connection.settings import Settings
    from airflow_provider_segments.transports.aiohttp import AiohttpTransport

# Seconds before refused credentials that have not changed are looked up again.
_REREAD_AFTER = 1.0


class _Client:
    def __init__(self, mparticle_conn_id: str) -> None:
        self._conn_id = mparticle_conn_id
        self._settings: Settings | None = None
        self._read_at = -math.inf
        self.throttle = Throttle()
        self.secrets: tuple[str, ...] = ()

    @property
    def max_retries(self) -> int:
        return self._settings.max_retries if self._settings else DEFAULT_RETRIES

    def _is_current(self, read_after: float) -> bool:
        return self._settings is not None and self._read_at > read_after

    def _use(self, settings: Settings, now: float) -> None:
        self.throttle.set_limit(settings.max_requests_per_second)
        # An answer may echo credentials that have been replaced since.
        self.secrets = tuple(dict.fromkeys((*self.secrets, *settings.secrets)))
        self._settings, self._read_at = settings, now


class WorkerClient(_Client):
    """Sends the calls of one hook, over requests."""

    def __init__(self, mparticle_conn_id: str) -> None:
        super().__init__(mparticle_conn_id)
        self._transport: RequestsTransport | None = None

    @property
    def settings(self) -> Settings:
        if self._settings is None:
            self._use(get_settings(self._conn_id), 0.0)  # any time after -inf: current until a refusal
        assert self._settings
        return self._settings

    def connect(self, read_after: float, now: float) -> None:
        """Open the transport, and read the Connection if it was not read after an instant."""
        if not self._is_current(read_after):
            self.close()
            self._use(get_settings(self._conn_id), now)
        if self._transport is None:
            self._transport = RequestsTransport(self.settings)

    def send(self, step: Send) -> Reply:
        """Send a call once; `connect` comes first."""
        assert self._transport
        return self._transport.send(step.call, min(step.timeout, self.settings.request_timeout))

    def close(self) -> None:
        """Close the connections; `connect` opens new ones."""
        transport, self._transport = self._transport, None
        if transport:
            transport.close()


class SharedClient(_Client):
    """Sends the calls of all waits on one Connection. Any number may enter it; the last to leave closes it."""

    def __init__(self, mparticle_conn_id: str) -> None:
        super().__init__(mparticle_conn_id)
        self._opening = asyncio.Lock()
        self._transport: AiohttpTransport | None = None
        self._in_flight: Counter[AiohttpTransport] = Counter()
        self._connections = asyncio.Semaphore(POOL_SIZE)
        self._reread_at = -math.inf
        self._users = 0

    async def __aenter__(self) -> Self:
        self._users += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._users -= 1
        if self._users == 0:
            del _clients[asyncio.get_running_loop()][self._conn_id]
            transport, self._transport = self._transport, None
            await self._retire(transport)

    async def connect(self, read_after: float, now: float) -> None:
        """Read the Connection if it was not read after an instant, once for all that wait."""
        if self._transport and self._is_current(read_after):
            return
        async with self._opening:
            if self._transport is None:
                await self._open(await get_settings_async(self._conn_id), now)
            elif not self._is_current(read_after) and now >= self._reread_at:
                settings = await get_settings_async(self._conn_id)
                if settings != self._settings:
                    await self._open(settings, now)
                else:
                    self._reread_at = now + _REREAD_AFTER

    async def _open(self, settings: Settings, now: float) -> None:
        # On a thread: importing aiohttp would block the loop for some 0.1 s.
        module = await asyncio.to_thread(import_module, "airflow_provider_segments.transports.aiohttp")
        replaced, self._transport = self._transport, await module.AiohttpTransport.open(settings)
        self._use(settings, now)
        await self._retire(replaced)

    async def _retire(self, transport: AiohttpTransport | None) -> None:
        """Close a transport, unless it is in use: then `_send` does when its last call ends."""
        if transport and not self._in_flight[transport]:
            await transport.close()

    async def send(self, step: Send) -> Reply | None:
        """Send a call once; None if another call got a 429 while it waited for a connection. `connect` comes first."""
        try:
            async with asyncio.timeout(step.timeout):
                await self._connections.acquire()
        except TimeoutError:
            raise NotSentError(
                f"{step.call.what}: not sent, because all {POOL_SIZE} connections of this process were busy for "
                f"{step.timeout:.0f} s."
            ) from None
        try:
            return None if step.cuts != self.throttle.cuts else await self._send(step)
        finally:
            self._connections.release()

    async def _send(self, step: Send) -> Reply:
        transport = self._transport
        assert transport
        self._in_flight[transport] += 1
        try:
            return await transport.send(step.call, min(step.timeout, transport.settings.request_timeout))
        finally:
            self._in_flight[transport] -= 1
            if not self._in_flight[transport]:
                del self._in_flight[transport]
                if transport is not self._transport:
                    await transport.close()


# A session belongs to the event loop it was made on, and ends with it.
_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, SharedClient]] = WeakKeyDictionary()


def shared_client(mparticle_conn_id: str) -> SharedClient:
    """Return the client that this event loop shares; enter it as an async context at once."""
    clients = _clients.setdefault(asyncio.get_running_loop(), {})
    if (client := clients.get(mparticle_conn_id)) is None:
        client = clients[mparticle_conn_id] = SharedClient(mparticle_conn_id)
    return client
