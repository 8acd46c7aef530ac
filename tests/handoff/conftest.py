# SPDX-License-Identifier: Apache-2.0
"""Where files are handed to: a database and an SFTP server that are really there."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest

from tests.handoff import servers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def postgres() -> Iterator[dict[str, Any]]:
    """A Connection to a PostgreSQL of our own."""
    with servers.postgresql() as connection:
        yield connection


@pytest.fixture(scope="session")
def sftp() -> Iterator[tuple[dict[str, Any], Path]]:
    """A Connection to an SFTP server of our own, and its folder."""
    with servers.sftp() as running:
        yield running


@pytest.fixture(scope="session")
def sql(postgres: dict[str, Any]) -> Any:
    """Run a statement and return the rows it finds."""

    def run(statement: str) -> list[tuple[Any, ...]]:
        where = {"host": postgres["host"], "user": postgres["login"], "dbname": postgres["schema"]}
        with closing(psycopg2.connect(**where)) as database, database, database.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    return run
