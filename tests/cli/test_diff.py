# SPDX-License-Identifier: Apache-2.0
"""Two files are compared by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.support import BOTH, run

if TYPE_CHECKING:
    from pathlib import Path

COUNTS = "added\t1\nremoved\t1\nchanged\t1\nunchanged\t1\n"


@pytest.fixture
def files(folder: Path) -> Path:
    """A folder with two files."""
    (folder / "old.csv").write_text("id,n\n1,a\n2,b\n3,c\n")
    (folder / "new.csv").write_text("id,n\n1,a\n3,x\n4,d\n")
    return folder


@pytest.mark.parametrize("program", BOTH)
def test_counts(files: Path, program: tuple[str, ...]) -> None:
    """They are printed, and nothing is written."""
    assert run("diff", "old.csv", "new.csv", program=program, cwd=files).stdout == COUNTS
    assert sorted(path.name for path in files.iterdir()) == ["new.csv", "old.csv"]


def test_files_are_written_into_a_folder(files: Path) -> None:
    """Each has the header; the folder is made, and holds nothing else."""
    assert run("diff", "old.csv", "new.csv", "--output", "out", cwd=files).stdout == COUNTS
    assert {path.name: path.read_text() for path in (files / "out").iterdir()} == {
        "added.csv": "id,n\n4,d\n",
        "removed.csv": "id,n\n2,b\n",
        "changed.csv": "id,n\n3,x\n",
    }


def test_folder_that_was_made_goes_when_there_is_nothing_for_it(files: Path) -> None:
    """As if nothing had been tried."""
    run("diff", "old.csv", "new.csv", "--key", "user", "--output", "out", cwd=files, code=1)
    assert not (files / "out").exists()


def test_memory_limit_is_the_one_that_is_given(files: Path) -> None:
    """Little memory is enough for little files; what is no size is wrong usage."""
    assert run("diff", "old.csv", "new.csv", "--memory-limit", "32MB", cwd=files).stdout == COUNTS
    stderr = run("diff", "old.csv", "new.csv", "--memory-limit", "8", cwd=files, code=2).stderr
    assert "--memory-limit: '8', but it has to be a size such as '1GB'" in stderr


@pytest.mark.parametrize("keys", [("--key", "id", "n"), ("--key", "id", "--key", "n")])
def test_several_keys(files: Path, keys: tuple[str, ...]) -> None:
    """With both columns in the key, a changed row is one that left and one that came."""
    done = run("diff", "old.csv", "new.csv", *keys, cwd=files)
    assert done.stdout == "added\t2\nremoved\t2\nchanged\t0\nunchanged\t1\n"


def test_headers_that_differ(files: Path) -> None:
    """The columns that count are named by hand, as the message says."""
    (files / "new.csv").write_text("id,m,n\n1,x,a\n3,y,x\n4,z,d\n")
    assert "--compare" in run("diff", "old.csv", "new.csv", cwd=files, code=1).stderr
    assert run("diff", "old.csv", "new.csv", "--compare", "n", cwd=files).stdout == COUNTS


def test_duplicate_keys_are_told(files: Path) -> None:
    """On stderr, beside the result."""
    (files / "new.csv").write_text("id,n\n1,a\n1,b\n")
    done = run("diff", "old.csv", "new.csv", cwd=files)
    assert "1 in new.csv" in done.stderr
    assert done.stdout == "added\t0\nremoved\t2\nchanged\t0\nunchanged\t1\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("old.csv", "none.csv"), "none.csv does not exist"),
        (("old.csv", "."), ". is not a regular file"),
        (("old.csv", "empty.csv"), "empty.csv has no header"),
        (("old.csv", "new.csv", "--key", "user"), "no column 'user'"),
        (("old.csv", "new.csv", "--output", "a/b"), "a/b can't be written: No such file"),
        (("old.csv", "new.csv", "--output", ""), "An empty --output can't be written: No such file"),
        (("old.csv", "new.csv", "--output", "full"), "added.csv exists. Remove it"),
    ],
)
def test_errors_are_one_message(files: Path, arguments: tuple[str, ...], words: str) -> None:
    """It names what is wrong; nothing is printed or overwritten."""
    (files / "empty.csv").touch()
    (files / "full").mkdir()
    (files / "full" / "added.csv").write_text("precious")
    done = run("diff", *arguments, cwd=files, code=1)
    assert words in done.stderr
    assert done.stdout == ""
    assert [path.name for path in (files / "full").iterdir()] == ["added.csv"]
    assert (files / "full" / "added.csv").read_text() == "precious"
