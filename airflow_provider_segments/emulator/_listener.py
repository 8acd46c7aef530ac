# SPDX-License-Identifier: Apache-2.0
"""The port: listening, counting connections, and refusing them for a while."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    import ssl

_BACKLOG = 1024
_WILDCARDS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


class Listener:
    """A listening socket that can go away and come back on the same port; its coroutines share one event loop."""

    def __init__(self, host: str, port: int, ssl_context: ssl.SSLContext | None) -> None:
        self.connections = 0
        self._host = host
        self._port = port
        self._ssl = ssl_context
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """The address a client on this machine uses."""
        host = _WILDCARDS.get(self._host, self._host)
        scheme = "http" if self._ssl is None else "https"
        return f"{scheme}://[{host}]:{self._port}" if ":" in host else f"{scheme}://{host}:{self._port}"

    async def open(self, app: web.Application) -> None:
        """Serve an application."""
        self._bind()
        # Without cancellation a request that is never answered would outlive its client.
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
        await self._runner.setup()
        await self.resume()

    async def refuse(self) -> None:
        """Cut all connections and refuse new ones: keep the port bound, but don't listen on it."""
        if self._server is not None:
            await self._stop()
            self._bind()

    async def resume(self) -> None:
        """Listen on the bound port, unless listening already."""
        if self._server is None and self._socket is not None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(
                self._accept, sock=self._socket, ssl=self._ssl, backlog=_BACKLOG
            )
            self._socket = None

    async def close(self) -> None:
        """Cut all connections and give up the port."""
        await self._stop()
        if self._runner is not None:
            await self._runner.cleanup()

    def _bind(self) -> None:
        """Take the port without listening yet."""
        found = socket.getaddrinfo(
            self._host or None, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, proto, _, address = found[0]
        self._socket = socket.socket(family, kind, proto)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(address)
        self._port = self._socket.getsockname()[1]

    def _accept(self) -> asyncio.BaseProtocol:
        self.connections += 1
        server = self._runner.server if self._runner else None
        if server is None:
            raise ConnectionAbortedError
        return server()

    async def _stop(self) -> None:
        for held in (self._server, self._socket):
            if held is not None:
                held.close()
        self._server = self._socket = None
        server = self._runner.server if self._runner else None
        for connection in server.connections if server else []:
            if connection.transport is not None:
                connection.transport.abort()
        # Transports inform their protocols in the next round of the loop.
        await asyncio.sleep(0)
