# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL and an SFTP server of Debian's packages, each for as long as a `with` statement."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paramiko
import psycopg2

from tests.system.running_airflow import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IS_ROOT = os.geteuid() == 0


def program(name: str, package: str) -> str:
    """Return where a program is; Debian keeps servers off the PATH."""
    folders = [*sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True), "/usr/sbin"]
    found = shutil.which(name, path=os.pathsep.join([*folders, os.environ.get("PATH", "")]))
    if found is None:
        raise FileNotFoundError(
            f"{name} is not installed, and these tests need it: apt-get install {package}"
        )
    return found


@contextmanager
def started(command: list[str], log: Path, answers: Callable[[], Any], user: str | None) -> Iterator[None]:
    """Run a server from its first answer to the end of the block; the time only bounds a test that fails."""
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, user=user)
    try:
        until = time.monotonic() + 60
        while True:
            try:
                answers()
                break
            except (OSError, psycopg2.OperationalError, paramiko.SSHException) as error:
                if server.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"{command[0]} did not start: {log.read_text()}") from error
                time.sleep(0.1)
        yield
    finally:
        server.send_signal(signal.SIGQUIT)  # to PostgreSQL: don't wait for clients; to sshd: end
        server.wait(timeout=60)


@contextmanager
def temporary_folder(owner: str | None = None) -> Iterator[Path]:
    """Make a folder that another user can reach, unlike those of pytest."""
    with tempfile.TemporaryDirectory(prefix="handoff-") as name:
        if owner:
            shutil.chown(name, owner)
        yield Path(name)


@contextmanager
def postgresql() -> Iterator[dict[str, Any]]:
    """Yield a Connection to an empty database; it listens on a socket in its own folder only."""
    initdb, postgres = (program(name, "postgresql") for name in ("initdb", "postgres"))
    # It refuses to run as root; its package brings this user.
    user = "postgres" if IS_ROOT else None
    with temporary_folder(user) as folder:
        data = str(folder / "data")
        options = ["--username=tests", "--auth=trust", "--encoding=UTF8", "--no-sync"]
        subprocess.run([initdb, *options, data], check=True, capture_output=True, user=user, cwd=folder)
        command = [postgres, "-D", data, "-k", str(folder), "-c", "listen_addresses=", "-c", "fsync=off"]
        fields = {"host": str(folder), "user": "tests", "dbname": "postgres"}
        with started(command, folder / "log", lambda: psycopg2.connect(**fields).close(), user):
            yield {"conn_type": "postgres", "host": str(folder), "login": "tests", "schema": "postgres"}


@contextmanager
def sftp() -> Iterator[tuple[dict[str, Any], Path]]:
    """Yield a Connection to a server on loopback, and the folder that its clients start in."""
    sshd, keygen = program("sshd", "openssh-server"), program("ssh-keygen", "openssh-client")
    if IS_ROOT:
        Path("/run/sshd").mkdir(
            mode=0o755, exist_ok=True
        )  # it won't start without; the package's service makes it
    with temporary_folder() as folder:
        for name in ("host_key", "user_key"):
            command = [keygen, "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)]
            subprocess.run(command, check=True)
        (files := folder / "files").mkdir()
        port, user = free_port(), pwd.getpwuid(os.geteuid()).pw_name
        (folder / "config").write_text(_sshd_config(folder, port))
        host_key = " ".join((folder / "host_key.pub").read_text().split()[:2])
        extra = {"key_file": str(folder / "user_key"), "host_key": host_key}
        server = [sshd, "-D", "-e", "-f", str(folder / "config")]
        with started(server, folder / "log", lambda: _shakes_hands(port), None):
            yield (
                {"conn_type": "sftp", "host": "127.0.0.1", "port": port, "login": user, "extra": extra},
                files,
            )


def _sshd_config(folder: Path, port: int) -> str:
    return f"""
        ListenAddress 127.0.0.1:{port}
        HostKey {folder}/host_key
        AuthorizedKeysFile {folder}/user_key.pub
        PidFile none
        StrictModes no
        UsePAM no
        PasswordAuthentication no
        KbdInteractiveAuthentication no
        PermitRootLogin prohibit-password
        Subsystem sftp internal-sftp -d {folder}/files
    """


def _shakes_hands(port: int) -> None:
    transport = paramiko.Transport(("127.0.0.1", port))
    try:
        transport.start_client(timeout=10)
    finally:
        transport.close()
