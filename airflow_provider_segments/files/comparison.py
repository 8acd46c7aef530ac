# SPDX-License-Identifier: Apache-2.0
"""
The SQL that finds the differences of two CSV files.

Columns have numbers instead of names in the tables, because a header may have any name, such as `part` or `rowid`.
"""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_segments.api.errors import ComparisonError, CsvError
from airflow_provider_segments.files.csv_file import has_quotes, mixes_line_ends, quoted_copy
from airflow_provider_segments.files.scratch import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from airflow_provider_segments.files.csv_file import CsvFile

__all__ = ["KINDS", "Comparison", "Table", "database"]

#: The kinds of rows that differ; each has a file of this name.
KINDS = ("added", "removed", "changed")
_MOST_THREADS = 4
# Bytes. With less memory, one thread reads, in the smallest buffers that hold DuckDB's longest line, not in its usual
# ones of 30 MiB.
_ROOMY = 150 * 10**6
_SMALL_BUFFER = ", buffer_size = 2097152"
_AS_IT_IS = "compression = 'none', hive_partitioning = false"
_ERROR_LINE = re.compile(r"CSV Error on Line: (\d+)")
_ERROR_REASON = re.compile(
    r"^((?:Expected Number|Value with|Invalid unicode|Maximum line|The CSV Parser)[^\n]*)", re.M
)


@contextmanager
def database(folder: Path, memory_limit: str, for_duckdb: int) -> Iterator[Any]:
    """Yield a connection to a database on disk, which is deleted afterwards."""
    import duckdb

    with temporary_folder("", folder) as scratch:
        config: dict[str, Any] = {
            "memory_limit": f"{for_duckdb}B",
            "temp_directory": f"{scratch}/spilled",
            "threads": min(os.cpu_count() or 1, _MOST_THREADS if for_duckdb >= _ROOMY else 1),
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        try:
            with duckdb.connect(f"{scratch}/tables.duckdb", config=config) as connection:
                yield connection
        except duckdb.OutOfMemoryException as error:
            raise ComparisonError(
                f"The comparison ran out of memory (memory_limit={memory_limit!r}) or of disk space in {folder}: "
                f"{_first_line(error)}. Allow it more memory (memory_limit, or --memory-limit) or a larger disk "
                "(TMPDIR, or --output)."
            ) from error
        except duckdb.Error as error:
            hint = (
                f" Make room in {folder}, or set TMPDIR to another folder." if "write" in str(error) else ""
            )
            raise ComparisonError(f"DuckDB can't compare the files: {_first_line(error)}.{hint}") from error


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a file; without one, there are none."""

    name: str
    columns: tuple[str, ...]
    file: CsvFile | None
    duplicates: int = 0

    def field(self, column: str) -> str:
        return f"{self.name}.c{self.columns.index(column)}"


class Comparison:
    """Two tables in a database, compared part by part of the keys' hashes."""

    def __init__(
        self, connection: Any, folder: Path, keys: Sequence[str], parts: int, for_duckdb: int
    ) -> None:
        self._connection, self._folder, self._keys, self._parts = connection, folder, keys, parts
        self._options = _AS_IT_IS + ("" if for_duckdb >= _ROOMY else _SMALL_BUFFER)

    def load(self, name: str, columns: tuple[str, ...], file: CsvFile | None) -> Table:
        """Load a file into a table and drop rows whose key is there already."""
        table = Table(name, columns, file)
        numbers = [f"c{number}" for number in range(len(columns))]
        self._execute(
            f"create table {name} ({', '.join(f'{number} varchar' for number in numbers)}, part usmallint)"
        )
        if file is None:
            return table
        values = ", ".join(f"coalesce({number}, '')" for number in numbers)
        keys = ", ".join(f"coalesce(c{columns.index(key)}, '')" for key in self._keys)
        # An empty line of a file with one column is no row; in others, DuckDB skips it.
        rows = "where c0 is not null" if len(columns) == 1 else ""
        self._read(f"insert into {name} select {values}, hash({keys}) % {self._parts} from {{}} {rows}", file)
        return replace(
            table, duplicates=sum(self._drop_duplicates(table, part) for part in range(self._parts))
        )

    def run(self, old: Table, new: Table, compared: Sequence[str]) -> dict[str, int]:
        """Find the rows that differ, and return how many there are of each kind, and how many are unchanged."""
        self._execute("create table difference (kind varchar, old_row bigint, new_row bigint)")
        same = " and ".join(f"{old.field(key)} = {new.field(key)}" for key in self._keys)
        changed = " or ".join(_differ(old, new, column) for column in compared) or "false"
        for part in range(self._parts):
            rows = [
                f"(select *, rowid from {table.name} where part = {part}) {table.name}"
                for table in (old, new)
            ]
            self._execute(
                "insert into difference select case when old_row is null then 'added' when new_row is null then "
                "'removed' else 'changed' end, old_row, new_row from "
                f"(select {old.name}.rowid old_row, {new.name}.rowid new_row from {rows[0]} full join {rows[1]} "
                f"on {same} where {old.name}.part is null or {new.name}.part is null or {changed})"
            )
        found = dict(self._execute("select kind, count(*) from difference group by kind").fetchall())
        (total,) = self._execute(f"select count(part) from {new.name}").fetchone()
        counts = {kind: int(found.get(kind, 0)) for kind in KINDS}
        return counts | {"unchanged": int(total) - counts["added"] - counts["changed"]}

    def write(self, kind: str, table: Table, columns: Sequence[str], delimiter: str, path: Path) -> None:
        """Write the rows of a kind with a header."""
        row = "old_row" if kind == "removed" else "new_row"
        # DuckDB writes an empty text as "" and NULL as nothing, which in a file of one column is an empty line.
        empty = "{}" if len(columns) == 1 else "nullif({}, '')"
        fields = [f"{empty.format(table.field(column))} as {_identifier(column)}" for column in columns]
        self._execute(
            f"copy (select {', '.join(fields)} from {table.name} where rowid in "
            f"(select {row} from difference where kind = '{kind}')) to {_text(path)} "
            f"(format csv, header true, delimiter {_text(delimiter)}, quote '\"', escape '\"')"
        )

    def _execute(self, statement: str) -> Any:
        """Execute on a thread: here, DuckDB would turn what a signal's handler raises into a RuntimeError."""
        with ThreadPoolExecutor(1) as executor:
            running = executor.submit(self._connection.execute, statement)
            try:
                return running.result()
            except BaseException:
                self._connection.interrupt()
                raise

    def _read(self, statement: str, file: CsvFile) -> None:
        """
        Fill the statement in with the file, or with a copy of it.

        DuckDB silently drops rows if a quotation mark is unclosed or in the middle of a field, and refuses mixed line
        ends.
        """
        quotes = has_quotes(file)
        if not quotes or self._has_a_row_on_each_line(file):
            try:
                return self._execute_on(statement, file, parallel=not quotes)
            except CsvError:
                if not quotes and not mixes_line_ends(file):
                    raise
        return self._execute_on(statement, quoted_copy(file, self._folder / "copy.csv"), parallel=False)

    def _has_a_row_on_each_line(self, file: CsvFile) -> bool:
        """Return whether DuckDB reads the quotation marks correctly: none is open at a line's end or in mid-field."""
        import duckdb

        delimiter = re.escape(file.delimiter)
        field = rf'("([^"\r]|"")*"|[^"\r{delimiter}]*)'
        row = f"{field}({delimiter}{field}){{{len(file.columns) - 1}}}"
        query = f"select bool_and(regexp_full_match(line, {_text(row)})) from {_lines(file, self._options)}"
        try:
            return bool(self._execute(query).fetchone()[0])
        except duckdb.InvalidInputException:
            return False

    def _execute_on(self, statement: str, file: CsvFile, *, parallel: bool) -> None:
        import duckdb

        try:
            self._execute(statement.format(_reader(file, parallel, self._options)))
        except duckdb.InvalidInputException as error:
            raise CsvError(f"{file.name} can't be read as CSV: {_reason(str(error))}.") from None

    def _drop_duplicates(self, table: Table, part: int) -> int:
        """
        Keep one row of each key, whatever the order of the file: the one that sorts first.

        The others get a null part: deleting them would let a checkpoint renumber the rows after them.
        """
        keys, name = ", ".join(map(table.field, self._keys)), table.name
        (repeated,) = self._execute(
            f"create or replace temp table repeated as select {keys} from {name} where part = {part} "
            f"group by {keys} having count(*) > 1"
        ).fetchone()
        if repeated:
            order = ", ".join(map(table.field, table.columns))
            self._execute(
                f"update {name} set part = null where rowid in (select id from (select rowid as id, row_number() over "
                f"(partition by {keys} order by {order}, rowid) as place from {name} "
                f"where part = {part} and ({keys}) in (from repeated)) where place > 1)"
            )
        return int(repeated)


def _differ(old: Table, new: Table, column: str) -> str:
    """Return when a column differs: always, if only one of the files has it."""
    if column not in old.columns or column not in new.columns:
        return "true"
    return f"{old.field(column)} <> {new.field(column)}"


def _reader(file: CsvFile, parallel: bool, options: str) -> str:
    """Return a file in SQL; not in parallel if fields are quoted, because threads may misread line breaks in them."""
    columns = ", ".join(f"'c{number}': 'VARCHAR'" for number in range(len(file.columns)))
    return (
        f"read_csv({_path(file)}, auto_detect = false, header = true, delim = {_text(file.delimiter)}, "
        f"quote = '\"', escape = '\"', columns = {{{columns}}}, allow_quoted_nulls = false, "
        f"parallel = {parallel}, {options})"
    )


def _lines(file: CsvFile, options: str) -> str:
    """Return the lines of a file in SQL."""
    return (
        f"read_csv({_path(file)}, auto_detect = false, header = false, delim = '', quote = '', escape = '', "
        f"columns = {{'line': 'VARCHAR'}}, {options})"
    )


def _path(file: CsvFile) -> str:
    return _text(re.sub(r"([*?[])", r"[\1]", str(file.path.absolute())))  # DuckDB takes it for a pattern


def _reason(message: str) -> str:
    """Return line and cause, without the row itself: it is about a person."""
    line, reason = _ERROR_LINE.search(message), _ERROR_REASON.search(message)
    said = reason[1].rstrip(" .") if reason else "its rows don't have the header's number of columns"
    return f"line {line[1]}: {said}" if line else said


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(" .")


def _text(value: object) -> str:
    return "'" + str(value).replace("'", "''") + "'"


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
