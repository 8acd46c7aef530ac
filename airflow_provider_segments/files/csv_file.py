# SPDX-License-Identifier: Apache-2.0
"""The header of a CSV file."""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_provider_segments.api.errors import ColumnsError, CsvError
from airflow_provider_segments.api.text import quoted
from airflow_provider_segments.files.scratch import disk_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

__all__ = ["CsvFile", "has_quotes", "listed", "mixes_line_ends", "open_csv", "quoted_copy"]

_DELIMITERS = ",;\t|"
_LONGEST_HEADER = _CHUNK = 1024 * 1024
_LONGEST_FIELD = 2_000_000  # as DuckDB has it; Python's own limit is lower
# What HTML, XML and JSON begin with.
_MARKUP = ("<", "{", "[")


@dataclass(frozen=True, slots=True)
class CsvFile:
    """
    A CSV file whose header has been read.

    :param path: where it is.
    :param name: its name in messages.
    :param delimiter: its field separator.
    :param columns: the names in its header.
    """

    path: Path
    name: str
    delimiter: str
    columns: tuple[str, ...]

    def require(self, columns: Iterable[str]) -> None:
        """Fail if one of these columns is missing."""
        if missing := [column for column in columns if column not in self.columns]:
            raise ColumnsError(
                f"{self.name} has no column {listed(missing)}. Its columns are {listed(self.columns)}."
            )


def open_csv(path: Path, name: str) -> CsvFile:
    """Read the header of a file, which messages call `name`."""
    text = _beginning(path, name)
    headers = {delimiter: _header(text, delimiter, name) for delimiter in _DELIMITERS}
    delimiter = max(headers, key=lambda found: len(headers[found]))
    columns = headers[delimiter]
    if not "".join(columns) and len(columns) < 2:
        raise CsvError(f"{name} has no header: {'it is empty' if not text else 'its first line is empty'}.")
    if not all(columns):
        raise CsvError(f"Column {columns.index('') + 1} of {name} has no name in the header.")
    count = Counter(map(str.lower, columns))
    if repeated := [column for column in columns if count[column.lower()] > 1]:
        raise CsvError(
            f"The header of {name} has the column {quoted(repeated[0])} more than once, ignoring case."
        )
    return CsvFile(path, name, delimiter, tuple(columns))


def has_quotes(file: CsvFile) -> bool:
    """Return whether there are quotation marks in a file."""
    with file.path.open("rb") as stream:
        return any(b'"' in chunk for chunk in iter(lambda: stream.read(_CHUNK), b""))


def mixes_line_ends(file: CsvFile) -> bool:
    """Return whether there are line ends of more than one kind in a file, in quotation marks or not."""
    with file.path.open(encoding="latin-1") as text:
        while text.read(_CHUNK):
            pass
        return isinstance(text.newlines, tuple)


def quoted_copy(file: CsvFile, path: Path) -> CsvFile:
    """Copy a file to a path: each field is quoted, each row ends with a line feed, the header is a line of numbers."""
    with (
        disk_errors(file.name, path.parent),
        path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as copy,
    ):
        writer = csv.writer(copy, delimiter=file.delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
        rows = _rows(file)
        next(rows)
        writer.writerow(range(len(file.columns)))
        writer.writerows(rows)
    return replace(file, path=path)


def listed(names: Sequence[str]) -> str:
    """Return names for a message."""
    return ", ".join(map(quoted, names))


def _beginning(path: Path, name: str) -> str:
    with path.open("rb") as file:
        data = file.read(_LONGEST_HEADER)
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(data)
    except UnicodeDecodeError as error:
        raise CsvError(f"{name} is not a CSV file: it is not text in UTF-8.") from error
    if "\0" in text:
        raise CsvError(f"{name} is not a CSV file: it has binary data.")
    if (start := text.lstrip()[:1]) in _MARKUP:
        raise CsvError(f"{name} is not a CSV file: it begins with {quoted(start)}, as HTML, XML and JSON do.")
    return text


def _rows(file: CsvFile) -> Iterator[list[str]]:
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_FIELD))
    with file.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        rows = csv.reader(text, delimiter=file.delimiter, strict=True)
        try:
            yield from rows
        except csv.Error as error:
            raise CsvError(f"{file.name} can't be read as CSV: line {rows.line_num}: {error}.") from error


def _header(text: str, delimiter: str, name: str) -> list[str]:
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_HEADER))
    try:
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
    except csv.Error as error:
        raise CsvError(f"The header of {name} can't be read: {error}.") from error
