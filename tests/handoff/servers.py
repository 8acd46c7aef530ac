# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL and an SFTP server from the package index, each for as long as a `with` statement."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncssh

from tests.postgresql import USERNAME, PostgreSQL

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def postgresql() -> Iterator[dict[str, Any]]:
    """Yield a Connection to an empty database."""
    with PostgreSQL() as server:
        yield {"conn_type": "postgres", "host": str(server.folder), "login": USERNAME, "schema": "postgres"}


@contextmanager
def sftp() -> Iterator[tuple[dict[str, Any], Path]]:
    """Yield a Connection to a server on loopback, and the folder that its clients see."""
    with tempfile.TemporaryDirectory(prefix="handoff-") as name:
        folder = Path(name)
        (files := folder / "files").mkdir()
        host_key, user_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
        user_key.write_private_key(folder / "user_key")
        user_key.write_public_key(folder / "user_key.pub")
        options = {
            "server_host_keys": [host_key],
            "authorized_client_keys": str(folder / "user_key.pub"),
            "sftp_factory": partial(asyncssh.SFTPServer, chroot=str(files).encode()),
        }
        key = " ".join(host_key.export_public_key().decode().split()[:2])
        extra = {"key_file": str(folder / "user_key"), "host_key": key}
        connection = {"conn_type": "sftp", "host": "127.0.0.1", "login": USERNAME, "extra": extra}
        with _serving(options) as port:
            yield connection | {"port": port}, files


@contextmanager
def _serving(options: dict[str, Any]) -> Iterator[int]:
    """Run the SSH server on an event loop of its own, and yield its port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen("127.0.0.1", 0, **options)

    async def stop() -> None:
        server.close()
        await server.wait_closed()

    try:
        server = asyncio.run_coroutine_threadsafe(start(), loop).result(timeout=60)
        yield server.get_port()
        asyncio.run_coroutine_threadsafe(stop(), loop).result(timeout=60)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=60)
        loop.close()
