# SPDX-License-Identifier: Apache-2.0
"""The servers these tests start."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import asyncssh
import psycopg2
import pytest

from tests.handoff import servers


def test_nothing_installed_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a PATH on which there is no program at all, both servers start."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with servers.postgresql() as connection, servers.sftp() as (_, files):
        where = {"host": connection["host"], "user": connection["login"], "dbname": connection["schema"]}
        with closing(psycopg2.connect(**where)) as database, database.cursor() as cursor:
            cursor.execute("show data_directory")
            assert cursor.fetchone() == (f"{connection['host']}/data",)
        assert files.is_dir()
    assert not Path(connection["host"]).exists()
    assert not files.exists()


def test_postgresql_is_not_run_by_root() -> None:
    """Root starts it as another user, anyone else as they are."""
    with servers.postgresql() as connection:
        owner = (Path(connection["host"]) / "data" / "postmaster.pid").stat().st_uid
    assert owner != 0
    assert os.geteuid() in (0, owner)


async def test_sftp_serves_its_folder_to_the_key_only() -> None:
    """The key's owner sees the folder as /; another key is refused."""
    with servers.sftp() as (connection, files):
        (files / "there.txt").write_text("found")
        where = {"host": connection["host"], "port": connection["port"], "username": connection["login"]}
        where["known_hosts"] = asyncssh.import_known_hosts(
            f"{where['host']} {connection['extra']['host_key']}"
        )
        where |= {"config": None, "agent_path": None}
        key = connection["extra"]["key_file"]
        async with (
            asyncssh.connect(**where, client_keys=key) as client,
            client.start_sftp_client() as session,
        ):
            assert await session.exists("/there.txt")
        stranger = asyncssh.generate_private_key("ssh-ed25519")
        with pytest.raises(asyncssh.PermissionDenied):
            await asyncssh.connect(**where, client_keys=[stranger])
