# SPDX-License-Identifier: Apache-2.0
"""
Compare two CSV files by key with DuckDB.

Both files become tables in a database on disk, every column as text. Their rows are split into parts by the hash of
the key, and compared one part at a time, so that memory is bounded whatever the size of the files.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_segments.api.errors import ColumnsError, ComparisonError, ConfigurationError
from airflow_provider_segments.api.text import quoted
from airflow_provider_segments.files.comparison import KINDS, Comparison, database
from airflow_provider_segments.files.csv_file import listed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from airflow_provider_segments.files.comparison import Table
    from airflow_provider_segments.files.csv_file import CsvFile

__all__ = ["KINDS", "Changes", "compare", "memory_in_bytes", "require_duckdb"]

log = logging.getLogger(__name__)

_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT])(i?)B", re.IGNORECASE)
_LEAST_MEMORY, _MOST_MEMORY = 32 * 10**6, 10**15
# A row in DuckDB's memory takes about three times its bytes in the file, and there are two tables.
_PARTS_PER_LIMIT = 4
_MOST_PARTS = 4096
# Of the memory limit; DuckDB does not count all that it takes, and caches what it read up to its limit.
_DUCKDBS_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class Changes:
    """
    How a file differs from the previous one.

    :param key_columns: the columns that identify a row.
    :param columns: the columns of the current file.
    :param added: rows whose key is new.
    :param removed: rows whose key is gone.
    :param changed: rows whose key stayed and whose other columns changed.
    :param unchanged: rows that stayed as they were.
    """

    key_columns: tuple[str, ...]
    columns: tuple[str, ...]
    added: int
    removed: int
    changed: int
    unchanged: int


def memory_in_bytes(limit: object) -> int:
    """Return a memory limit such as ``1GB`` or ``512 MiB``, as DuckDB takes it, in bytes."""
    found = _MEMORY.fullmatch(limit.strip()) if isinstance(limit, str) else None
    if found is None or not float(found[1]):
        raise ConfigurationError(
            f"memory_limit is {limit!r}, but it has to be a size such as '1GB' or '512MiB'."
        )
    base = 1024 if found[3] else 1000
    size = int(float(found[1]) * base ** ("KMGT".index(found[2].upper()) + 1))
    if not _LEAST_MEMORY <= size <= _MOST_MEMORY:
        raise ConfigurationError(f"memory_limit is {limit!r}, but it has to be from 32MB to 1000TB.")
    return size


def require_duckdb() -> None:
    """Fail if DuckDB is not installed."""
    try:
        import duckdb  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            "DuckDB, which compares the files, is not installed here. Install it with: "
            "pip install 'airflow-provider-segments[changes]'"
        ) from error


def compare(
    previous: CsvFile | None,
    current: CsvFile,
    folder: Path,
    *,
    key_columns: Sequence[str] | None = None,
    compare_columns: Sequence[str] | None = None,
    memory_limit: str = "1GB",
) -> Changes:
    """
    Write ``added.csv``, ``removed.csv`` and ``changed.csv``, each with its header, and return the counts.

    :param previous: the previous file; None if there is none, which makes every row an added one.
    :param current: the current file.
    :param folder: where to write, and where to keep what does not fit into memory.
    :param key_columns: the columns that identify a row; None for the first one.
    :param compare_columns: the columns whose change makes a row a changed one; None for all, with equal headers.
    :param memory_limit: how much memory the comparison may take.
    :raises ComparisonError: the files can't be compared.
    """
    require_duckdb()
    files = [file for file in (current, previous) if file]
    _check_paths(folder, *(file.path for file in files))
    keys = tuple(key_columns or current.columns[:1])
    for file in files:
        file.require(keys)
    if key_columns is None and previous and previous.columns[0] != current.columns[0]:
        raise ColumnsError(
            f"The first column of {current.name} is {quoted(current.columns[0])}, that of {previous.name} is "
            f"{quoted(previous.columns[0])}. Name the columns that identify a row (key_columns, or --key)."
        )
    _check_columns(previous or current, current, compare_columns)
    wanted = current.columns if compare_columns is None else compare_columns
    compared = [column for column in wanted if column not in keys]
    size = sum(file.path.stat().st_size for file in files)
    for_duckdb = int(memory_in_bytes(memory_limit) * _DUCKDBS_SHARE)
    parts = min(1 + _PARTS_PER_LIMIT * size // max(for_duckdb, 1), _MOST_PARTS)
    with database(folder, memory_limit, for_duckdb) as connection:
        comparison = Comparison(connection, folder, keys, parts, for_duckdb)
        old = comparison.load("previous", (previous or current).columns, previous)
        new = comparison.load("current", current.columns, current)
        _warn(old, new, keys)
        counts = comparison.run(old, new, compared)
        for kind in KINDS:
            table = old if kind == "removed" else new
            # In the current order; what only the previous file has comes last.
            columns = sorted(table.columns, key=lambda column: (*current.columns, column).index(column))
            comparison.write(kind, table, columns, current.delimiter, folder / f"{kind}.csv")
    return Changes(keys, current.columns, **counts)


def _check_paths(*paths: Path) -> None:
    for path in paths:
        if "\\" in str(path.absolute()):
            raise ComparisonError(
                f"DuckDB can't use {quoted(str(path))}, because its path has a backslash. Rename it."
            )
        try:
            str(path.absolute()).encode()
        except UnicodeEncodeError:
            raise ComparisonError(
                f"DuckDB can't use {quoted(str(path))}, because its path is not valid UTF-8. Rename it, or use another "
                "folder."
            ) from None


def _check_columns(previous: CsvFile, current: CsvFile, compared: Sequence[str] | None) -> None:
    """Fail if the headers differ and nothing says which columns count."""
    new = [column for column in current.columns if column not in previous.columns]
    gone = [column for column in previous.columns if column not in current.columns]
    if compared is not None:
        unknown = [column for column in compared if column not in {*previous.columns, *current.columns}]
        if unknown:
            raise ColumnsError(
                f"compare_columns has {listed(unknown)}, which neither {current.name} nor the previous file has. The "
                f"columns are {listed(current.columns)}."
            )
    elif new or gone:
        what = [f"{listed(new)} added"] * bool(new) + [f"{listed(gone)} dropped"] * bool(gone)
        raise ColumnsError(
            f"{current.name} has a different header than {previous.name}: {' and '.join(what)}. Name the columns whose "
            "change counts (compare_columns, or --compare); adding or dropping one makes each row a changed one."
        )


def _warn(old: Table, new: Table, keys: Sequence[str]) -> None:
    found = {table.file.name: table.duplicates for table in (old, new) if table.file and table.duplicates}
    if found:
        where = ", ".join(f"{count} in {name}" for name, count in found.items())
        log.warning(
            "Duplicate keys (%s): %s. Of each key, only the row that sorts first counts.",
            listed(keys),
            where,
        )
