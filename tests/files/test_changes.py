# SPDX-License-Identifier: Apache-2.0
"""The comparison of two files by key."""

from __future__ import annotations

import csv
import io
import logging
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_segments.api.errors import (
    ColumnsError,
    ComparisonError,
    ConfigurationError,
    CsvError,
    FileTransferError,
)
from airflow_provider_segments.files import changes
from airflow_provider_segments.files.changes import KINDS, Changes, compare, memory_in_bytes
from airflow_provider_segments.files.comparison import Comparison, database
from airflow_provider_segments.files.csv_file import open_csv, quoted_copy

if TYPE_CHECKING:
    from collections.abc import Sequence

Rows = list[tuple[str, ...]]


def compared(folder: Path, old: bytes | None, new: bytes, **options: Any) -> tuple[Changes, dict[str, str]]:
    """Compare two files; return the counts and what the three files hold."""
    (folder / "old.csv").write_bytes(old or b"")
    (folder / "new.csv").write_bytes(new)
    previous = None if old is None else open_csv(folder / "old.csv", "the old file")
    found = compare(previous, open_csv(folder / "new.csv", "the new file"), folder, **options)
    return found, {kind: (folder / f"{kind}.csv").read_bytes().decode() for kind in KINDS}


def counts(found: Changes) -> tuple[int, int, int, int]:
    return found.added, found.removed, found.changed, found.unchanged


def parsed(text: str, delimiter: str = ",") -> tuple[tuple[str, ...], Rows]:
    """Return a file's header and rows."""
    header, *rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    return tuple(header), [tuple(row) for row in rows]


def first_by_key(rows: Sequence[tuple[str, ...]], keys: int) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Return the row that counts for each key."""
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    for row in sorted(rows, key=lambda row: [value.encode() for value in row]):
        found.setdefault(row[:keys], row)
    return found


def written(columns: int, rows: Rows, delimiter: str, newline: str, bom: bool, quoting: Any) -> bytes:
    """Return a file with these rows."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=newline, quoting=quoting)
    writer.writerow([f"column {number}" for number in range(columns)])
    writer.writerows(rows)
    return b"\xef\xbb\xbf" * bom + text.getvalue().encode()


# Letters that mean something to a CSV reader, and few others, so that keys meet.
# No carriage return, which Python's writer leaves bare where lines end without one.
VALUES = st.text('ab0,;"\n\t é#', max_size=4) | st.sampled_from(
    ["007", "7", "1" * 20, "NULL", "", "true", "1e3"]
)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[int, int, Rows, Rows]:
    """Return how many columns there are, how many of them are the key, and the rows of two files."""
    columns = draw(st.integers(1, 3))
    row = st.tuples(*[VALUES] * columns).filter(any)  # an empty line is no row
    return columns, draw(st.integers(1, columns)), draw(st.lists(row)), draw(st.lists(row))


@settings(max_examples=150)
@given(pairs(), st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n"]), st.booleans())
@example((2, 1, [("007", "a")], [("7", "a")]), ",", "\n", False)
def test_changes_lead_from_the_previous_file_to_the_current_one(
    pair: tuple[int, int, Rows, Rows], delimiter: str, newline: str, bom: bool
) -> None:
    """Previous without removed, with added and changed, is current, and the counts are those of the rows."""
    columns, keys, old, new = pair
    if columns == 1:
        delimiter = ","
    key_columns = [f"column {number}" for number in range(keys)]
    with tempfile.TemporaryDirectory() as folder:
        found, files = compared(
            Path(folder),
            written(columns, old, delimiter, newline, bom, csv.QUOTE_ALL),
            written(columns, new, delimiter, newline, not bom, csv.QUOTE_MINIMAL),
            key_columns=key_columns,
        )
    before, after = first_by_key(old, keys), first_by_key(new, keys)
    rows = {kind: parsed(text, delimiter)[1] for kind, text in files.items()}
    composed = dict(before)
    for row in rows["removed"]:
        assert composed.pop(row[:keys]) == row
    for row in rows["added"]:
        assert row[:keys] not in before
        composed[row[:keys]] = row
    for row in rows["changed"]:
        assert composed[row[:keys]] != row
        composed[row[:keys]] = row
    assert composed == after
    assert [len(rows[kind]) for kind in KINDS] == [found.added, found.removed, found.changed]
    assert found.unchanged == len(after) - found.added - found.changed


def test_parts_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of many parts is compared as one of a single part."""
    monkeypatch.setattr(changes, "_PARTS_PER_LIMIT", 400)
    old = b"id,n\n" + b"".join(b"%d,%d\n" % (n, n % 7) for n in range(60_000))
    new = b"id,n\n" + b"".join(b"%d,%d\n" % (n, n % 7 + (n % 1000 == 500)) for n in range(100, 60_100))
    found = [compared(tmp_path, old, new, memory_limit=limit) for limit in ("1GB", "32MB")]
    assert counts(found[0][0]) == counts(found[1][0]) == (100, 100, 60, 59_840)
    assert [{kind: sorted(text.splitlines()) for kind, text in files.items()} for _, files in found][0] == {
        kind: sorted(text.splitlines()) for kind, text in found[1][1].items()
    }


def test_line_breaks_in_a_large_file(tmp_path: Path) -> None:
    """A file of several of DuckDB's buffers is read right, though its fields look like rows."""
    field = '"' + 'a,b\n"",""\n1,"" 2' * 12 + '"'
    rows = "".join(f"{number},{field}\n" for number in range(200_000)).encode()
    assert len(rows) > 32 * 1024 * 1024
    found, _ = compared(tmp_path, b"id,n\n" + rows, b"id,n\n" + rows)
    assert counts(found) == (0, 0, 0, 200_000)


@pytest.mark.parametrize(
    "content",
    [
        b"id,n\r\n1,a\n2,b\n",
        b"id,n\n1,a\r\n2,b\n",
        b"id,n\r\n1,a\r2,b",
        b'\xef\xbb\xbf"id",n\r\n"1","a"\n\n2,b\r\n',
    ],
)
def test_line_ends_of_several_kinds(tmp_path: Path, content: bytes) -> None:
    """Each ends a row, as in a file that two programs have written."""
    found, _ = compared(tmp_path, b"id,n\n1,a\n2,b\n", content)
    assert counts(found) == (0, 0, 0, 2)


@pytest.mark.parametrize(
    "content",
    [b'id,"n\nm"\r\n1,a\r\n', b'id,"n\r\nm"\n1,a\n', b'\xef\xbb\xbf"i\nd",n\n1,a\n'],
)
def test_line_break_in_the_header(tmp_path: Path, content: bytes) -> None:
    """It neither hides rows nor makes one, whatever the other lines end with."""
    found, files = compared(tmp_path, content, content.replace(b"1,a", b'1,"a\r\nb\r"'))
    assert counts(found) == (0, 0, 1, 0)
    assert parsed(files["changed"]) == (found.columns, [("1", "a\r\nb\r")])


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b'id,n\n1,5"\n2,Bob\n3,x\n', [("1", '5"'), ("2", "Bob"), ("3", "x")]),
        (b'id,n\n1,a\n2, "b\n3,x\n4,y\n', [("1", "a"), ("2", ' "b'), ("3", "x"), ("4", "y")]),
        (b'id,n\n1,a"b"c\n2,""\n3,"a ""b"""\n', [("1", 'a"b"c'), ("2", ""), ("3", 'a "b"')]),
    ],
)
def test_quotation_marks_within_a_field(tmp_path: Path, content: bytes, rows: Rows) -> None:
    """They are text, and no row gets lost by them."""
    found, files = compared(tmp_path, None, content)
    assert found.added == len(rows)
    assert sorted(parsed(files["added"])[1]) == rows


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b'id,n\r\n1,"5"""\r\n"2","a,b"\r\n"","x"\r\n', [("", "x"), ("1", '5"'), ("2", "a,b")]),
        (b'"id";"n"\n\n"1;2";"\\"\n3;a', [("1;2", "\\"), ("3", "a")]),
        (b'\xef\xbb\xbf"id"\n"b"\n\n"a"\n', [("a",), ("b",)]),
    ],
)
def test_quoted_fields_on_one_line_are_read_without_a_copy(
    tmp_path: Path, content: bytes, rows: Rows
) -> None:
    """DuckDB can't misread them, and a copy takes most of the time."""
    found, files = compared(tmp_path, None, content)
    assert found.added == len(rows)
    assert sorted(parsed(files["added"], ";" if b";" in content else ",")[1]) == rows
    assert not (tmp_path / "copy.csv").exists()


@pytest.mark.parametrize(
    "content", [b'id,n\n1,5"\n2,"Bob\n3,x\n4,y\n', b'id,n\n1,"a"b,"\n2,b\n', b'id,n\n1,a\n2,"b\n']
)
def test_quotation_mark_left_open(tmp_path: Path, content: bytes) -> None:
    """The rest of the file would be lost, and its users count as removed: whatever the number of marks is."""
    with pytest.raises(CsvError, match="line [0-9]"):
        compared(tmp_path, b"id,n\n1,a\n2,b\n3,x\n", content)


def test_checkpoint_of_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB makes one when it likes, and moves rows up where others were deleted; the right ones are written."""
    write = Comparison.write

    def checkpoint_and_write(self: Comparison, *arguments: Any) -> None:
        self._execute("checkpoint")
        write(self, *arguments)

    monkeypatch.setattr(Comparison, "write", checkpoint_and_write)
    users = [f"user-{number}" for number in range(200_000)]
    content = "user,n\n" + "".join(f"{user},1\n{user},2\n" for user in users)
    found, files = compared(tmp_path, None, content.encode())
    assert found.added == len(users)
    assert sorted(parsed(files["added"])[1]) == sorted((user, "1") for user in users)


def test_folder_that_looks_like_a_partition(tmp_path: Path) -> None:
    """A folder's name is no value of a column."""
    folder = tmp_path / "c0=5"
    folder.mkdir()
    assert parsed(compared(folder, None, b"id,n\n1,a\n")[1]["added"])[1] == [("1", "a")]


def test_other_first_column(tmp_path: Path) -> None:
    """Without key columns, it would be compared by another key than before."""
    old, new = b"user,country\n1,DE\n9,US\n", b"country,user\nDE,1\nUS,4\n"
    with pytest.raises(ColumnsError, match="'country', that of the old file is 'user'.*key_columns"):
        compared(tmp_path, old, new)
    assert counts(compared(tmp_path, old, new, key_columns=["user"])[0]) == (1, 1, 0, 1)


def test_long_fields(tmp_path: Path) -> None:
    """They may be longer than Python's own reader has them, beside an odd number of quotation marks too."""
    content = b"id,n\n1," + b"x" * 200_000 + b'\n2,5"\n'
    assert counts(compared(tmp_path, content, content)[0]) == (0, 0, 0, 2)


def test_empty_key(tmp_path: Path) -> None:
    """It is a key if it is written as one; an empty line is no row."""
    assert compared(tmp_path, None, b'id\n""\n\nu2\n')[0].added == 2
    assert compared(tmp_path, None, b'id,n\n"",1\n\n,2\n')[0].added == 1


def test_first_file(tmp_path: Path) -> None:
    """Everybody is added, and the other files have the header."""
    found, files = compared(tmp_path, None, b"id;name\n1;a\n2;\n")
    assert counts(found) == (2, 0, 0, 0)
    assert found.columns == ("id", "name")
    assert files["removed"] == files["changed"] == "id;name\n"
    assert sorted(files["added"].splitlines()) == ["1;a", "2;", "id;name"]


def test_duplicate_keys_count_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In whatever order their rows come; one warning tells how many, and names none of them."""
    old, new = (
        b"id,n\n1,a\nsomebody,b\nsomebody,a\n2,x\n2,x\n",
        b"id,n\n2,x\nsomebody,a\nsomebody,b\nsomebody,a\n1,a\n",
    )
    found, _ = compared(tmp_path, old, new)
    assert counts(found) == (0, 0, 0, 3)
    (message,) = caplog.messages
    assert message.startswith("Duplicate keys ('id'): 2 in the old file, 1 in the new file.")
    assert "somebody" not in message


def test_everybody_twice(tmp_path: Path) -> None:
    """A file that holds each row twice is the same file."""
    rows = [b"%d,x\n" % number for number in range(5000)]
    found, _ = compared(
        tmp_path, b"id,n\n" + b"".join(rows * 2), b"id,n\n" + b"".join(rows), memory_limit="32MB"
    )
    assert counts(found) == (0, 0, 0, 5000)


def test_order_of_columns_does_not_count(tmp_path: Path) -> None:
    """Columns are compared by name, and all files have the current order."""
    found, files = compared(tmp_path, b"id,a,b\n1,x,y\n2,x,y\n", b"b,id,a\ny,1,x\n", key_columns=["id"])
    assert counts(found) == (0, 1, 0, 1)
    assert files["removed"] == "b,id,a\ny,2,x\n"


HEADERS = b"id,kept,gone\n1,x,y\n2,x,y\n3,x,y\n", b"id,kept,new\n1,x,z\n2,w,z\n4,x,z\n"


def test_other_header(tmp_path: Path) -> None:
    """It is refused by name, and nothing is written."""
    with pytest.raises(ColumnsError, match="'new' added and 'gone' dropped. Name the columns"):
        compared(tmp_path, *HEADERS)
    assert not list(tmp_path.glob("added.csv"))


@pytest.mark.parametrize(
    ("columns", "expected"),
    [(["kept"], (1, 1, 1, 1)), (["new"], (1, 1, 2, 0)), (["gone"], (1, 1, 2, 0)), (["id"], (1, 1, 0, 2))],
)
def test_compare_columns(tmp_path: Path, columns: list[str], expected: tuple[int, ...]) -> None:
    """Only these columns make a row changed; one that was added or dropped makes every row so."""
    found, files = compared(tmp_path, *HEADERS, compare_columns=columns)
    assert counts(found) == expected
    assert files["removed"] == "id,kept,gone\n3,x,y\n"
    assert files["added"] == "id,kept,new\n4,x,z\n"


@pytest.mark.parametrize(
    ("old", "new", "options", "words"),
    [
        (
            b"id,n\n",
            b"id,n\n",
            {"key_columns": ["user"]},
            "new file has no column 'user'. Its columns are 'id', 'n'",
        ),
        (b"n\n", b"id,n\n", {}, "old file has no column 'id'"),
        (b"id,n\n", b"id,n\n", {"compare_columns": ["x"]}, "compare_columns has 'x'"),
    ],
)
def test_missing_columns(tmp_path: Path, old: bytes, new: bytes, options: dict[str, Any], words: str) -> None:
    """The message names the file, the column and those that are there."""
    with pytest.raises(ColumnsError, match=words) as caught:
        compared(tmp_path, old, new, **options)
    assert caught.value.permanent


def test_columns_that_differ_by_more_than_case(tmp_path: Path) -> None:
    """An eszett is not two letters."""
    header = "id,Maße,Masse\n".encode()
    found, _ = compared(tmp_path, header + b"1,a,b\n", header + b"1,a,c\n")
    assert found.changed == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "new file has no header: it is empty"),
        (b"\nid\n", "its first line is empty"),
        (b"\x89PNG\xff\xfe", "not text in UTF-8"),
        (b"PAR1\x00\x00", "it has binary data"),
        (b"<!DOCTYPE html>\n<p>", "it begins with '<', as HTML"),
        (b'[{"id": 1}]', "it begins with '\\['"),
        (b"id,\n", "Column 2 of the new file has no name"),
        (b",\n", "Column 1 of the new file has no name"),
        (b"ID,Id\n", "has the column 'ID' more than once, ignoring case"),
        (b"id,n\n1,a\nsecret,b,c\n", "line 3: Expected Number of Columns: 2 Found: 3"),
        (b"id,n\nsecret\n", "line 2: Expected Number of Columns: 2 Found: 1"),
        (b'id,n\nsecret,"b\n', "line 2: unexpected end of data"),
        (b"id,n\nsecret,\xff\n", "not text in UTF-8"),
        (b"id,n\n" + b"1,a\n" * 300_000 + b"secret,\xff\n", "line 300002: Invalid unicode"),
    ],
)
def test_no_csv(tmp_path: Path, content: bytes, words: str) -> None:
    """It is refused with file, line and cause, and without the row itself."""
    with pytest.raises(CsvError, match=words) as caught:
        compared(tmp_path, b"id,n\n", content)
    assert "secret" not in str(caught.value)
    assert not list(tmp_path.glob("added.csv"))


def test_path_is_no_pattern(tmp_path: Path) -> None:
    """A file's name is taken to the letter, and says nothing of what is in it."""
    for name in ("a1.csv.gz", "a[1]*'.csv.gz"):
        (tmp_path / name).write_text(f"id\n{name}\n")
    found = compare(None, open_csv(tmp_path / "a[1]*'.csv.gz", "it"), tmp_path)
    assert (found.added, (tmp_path / "added.csv").read_text()) == (1, "id\na[1]*'.csv.gz\n")


def test_path_that_is_not_utf_8(tmp_path: Path) -> None:
    """DuckDB takes none; the error says so."""
    folder = tmp_path / "caf\udce9"
    folder.mkdir()
    with pytest.raises(ComparisonError, match="not valid UTF-8"):
        compared(folder, None, b"id\n1\n")


def test_path_with_a_backslash(tmp_path: Path) -> None:
    """DuckDB would take it for a slash."""
    folder = tmp_path / "a\\b"
    folder.mkdir()
    with pytest.raises(ComparisonError, match="has a backslash"):
        compared(folder, None, b"id\n1\n")


def test_header_longer_than_pythons_longest_field(tmp_path: Path) -> None:
    """Whatever has been read before."""
    before = csv.field_size_limit(131072)
    try:
        header = ",".join(f"user_property_with_a_long_name_{number}" for number in range(4000))
        (tmp_path / "wide.csv").write_text(f"{header}\n")
        assert len(open_csv(tmp_path / "wide.csv", "the file").columns) == 4000
    finally:
        csv.field_size_limit(before)


def test_copy_that_the_disk_does_not_hold(tmp_path: Path) -> None:
    """The message says what to do."""
    (tmp_path / "new.csv").write_bytes(b'id,n\n1,"a\nb"\n')
    with pytest.raises(FileTransferError, match="the file can't be kept in .*absent: .* set TMPDIR"):
        quoted_copy(open_csv(tmp_path / "new.csv", "the file"), tmp_path / "absent" / "copy.csv")


def test_least_memory_and_a_larger_file(tmp_path: Path) -> None:
    """DuckDB's usual buffers would not fit."""
    rows = [b"u%07d,%d,zzz\n" % (number, number % 7) for number in range(1_000_000)]
    text = b"id,n,c\n" + b"".join(rows)
    found, _ = compared(tmp_path, text, text + b"new,1,a\n", memory_limit="32MB")
    assert counts(found) == (1, 0, 0, 1_000_000)


def test_too_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says which limit, and nothing is left in the folder."""
    monkeypatch.setattr(changes, "_LEAST_MEMORY", 0)
    with pytest.raises(ComparisonError, match="memory_limit='1KB'"):
        compared(tmp_path, b"id\n1\n", b"id\n2\n", memory_limit="1KB")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.csv", "old.csv"]


@pytest.mark.parametrize(
    "limit", ["", "1", "0GB", "1KB", "99999999TB", "lots", "80%", 1000, None, "1GB; drop table x"]
)
def test_memory_limit_that_is_none(limit: Any) -> None:
    """It is refused by name."""
    with pytest.raises(ConfigurationError, match="memory_limit is "):
        memory_in_bytes(limit)


def test_memory_limit_in_bytes() -> None:
    """With decimal and binary units, as DuckDB has them."""
    assert [memory_in_bytes(limit) for limit in ("1GB", "1.5 gib", "512MiB")] == [10**9, 3 * 2**29, 2**29]


def test_signal_ends_it_with_the_error_of_its_handler(tmp_path: Path) -> None:
    """As Ctrl-C has, or Airflow's timeout of a task."""

    def handle(*_: Any) -> None:
        raise TimeoutError("time is up")

    before = signal.signal(signal.SIGUSR1, handle)
    timer = threading.Timer(0.2, signal.pthread_kill, (threading.get_ident(), signal.SIGUSR1))
    try:
        with database(tmp_path, "1GB", 10**9) as connection:
            comparison = Comparison(connection, tmp_path, [], 1, 10**9)

            def run() -> None:
                timer.start()
                comparison._execute("select count(*) from range(1000000000000) where range % 7 = 3")

            with pytest.raises(TimeoutError, match="time is up"):
                run()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_without_duckdb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install."""
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ConfigurationError, match=r"airflow-provider-segments\[changes\]"):
        compared(tmp_path, b"id\n", b"id\n")


def test_nothing_is_logged_without_duplicates(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The counts are the caller's to tell."""
    caplog.set_level(logging.INFO)
    compared(tmp_path, b"id\n1\n", b"id\n2\n")
    assert caplog.messages == []
