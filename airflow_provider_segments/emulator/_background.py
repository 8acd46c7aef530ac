# SPDX-License-Identifier: Apache-2.0
"""An event loop on a thread of its own, with the server on it."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from aiohttp import web

    from airflow_provider_segments.emulator._listener import Listener

_PATIENCE = 30.0


class Background:
    """
    Run a server in the background.

    :param listener: The port to serve on.
    :param app: What to serve.
    :param on_start: Called on the event loop once the server listens.
    """

    def __init__(self, listener: Listener, app: web.Application, on_start: Callable[[], None]) -> None:
        self._listener = listener
        self._app = app
        self._on_start = on_start
        self._stop = asyncio.Event()
        self._started: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=self._run, name="emulator", daemon=True)

    def start(self) -> None:
        """
        Start the server; when it returns, requests are answered.

        :raises OSError: If the port can't be had.
        """
        self._listener.bind()
        self._thread.start()
        self._started.result(_PATIENCE)

    def stop(self) -> None:
        """Cut all connections and end the thread."""
        self._started.result().call_soon_threadsafe(self._stop.set)
        self._thread.join(_PATIENCE)

    def call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """
        Run something on the event loop and wait for it.

        :param coroutine: What to run.
        """
        loop = self._started.result()
        asyncio.run_coroutine_threadsafe(coroutine, loop).result(_PATIENCE)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        try:
            await self._listener.open(self._app)
        except OSError as error:
            await self._listener.close()
            self._started.set_exception(error)
            return
        self._on_start()
        self._started.set_result(asyncio.get_running_loop())
        await self._stop.wait()
        await self._listener.close()
