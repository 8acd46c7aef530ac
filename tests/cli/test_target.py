# SPDX-License-Identifier: Apache-2.0
"""Where `download` writes, as curl and coreutils have it."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from airflow_provider_segments.cli._target import find_target, writing


def write(to: str, *, force: bool = False) -> Path:
    """Write to a target."""
    path = find_target(to, "own.csv")
    with writing(path, force) as sink:
        sink.write(b"new")
    return path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_target_in_a_folder_has_its_own_name(folder: Path) -> None:
    """With and without a slash; nothing but the file is left."""
    (folder / "deep").mkdir()
    assert find_target(None, "own.csv") == Path("own.csv")
    assert write("deep/") == Path("deep/own.csv")
    assert write("deep", force=True) == Path("deep/own.csv")
    assert [path.name for path in (folder / "deep").iterdir()] == ["own.csv"]


@pytest.mark.parametrize(
    ("to", "says"),
    [
        ("absent/", "absent is not a folder"),
        ("absent/.", "absent is not a folder"),
        ("absent/x.csv", "absent is not a folder"),
        ("file/", "file is not a folder"),
        ("file/x.csv", "file is not a folder"),
        ("", "An empty --to is not a folder"),
        ("folder", "own.csv is a folder"),
        ("x" * 300, "File name too long"),
        ("/proc/x.csv", "/proc/x.csv can't be written: "),
        ("/dev/full", "/dev/full can't be written: No space left on device."),
        ("/dev/fd/77", "Bad file descriptor"),
        ("/dev/fd/99999999999", "/dev/fd/99999999999 can't be written"),
        ("loop", "Too many levels of symbolic links"),
    ],
)
def test_target_in_an_impossible_place_is_named(folder: Path, to: str, says: str) -> None:
    """And nothing is made."""
    (folder / "file").write_text("")
    (folder / "folder" / "own.csv").mkdir(parents=True)
    (folder / "loop").symlink_to("loop")
    with pytest.raises(OSError, match=".") as raised:
        write(to, force=True)
    assert says in str(raised.value)
    assert sorted(path.name for path in folder.iterdir()) == ["file", "folder", "loop"]


def test_target_that_exists_needs_force(folder: Path) -> None:
    """What is there stays."""
    (folder / "there.csv").write_text("old")
    with pytest.raises(FileExistsError, match="--force"):
        write("there.csv")
    assert [path.read_text() for path in folder.iterdir()] == ["old"]


def test_target_that_has_come_meanwhile_needs_force(folder: Path) -> None:
    """Another's file is not lost."""

    def write_late() -> None:
        with writing(folder / "late.csv", False):
            (folder / "late.csv").write_text("old")

    with pytest.raises(FileExistsError, match="--force"):
        write_late()
    assert [path.read_text() for path in folder.iterdir()] == ["old"]


@pytest.mark.parametrize("before", ["old", None], ids=["there", "dangling"])
def test_link_stays_and_what_is_behind_it_is_replaced(folder: Path, before: str | None) -> None:
    """A dangling link is filled."""
    link, real = folder / "link.csv", folder / "deep" / "real.csv"
    real.parent.mkdir()
    if before is not None:
        real.write_text(before)
    link.symlink_to("deep/real.csv")
    assert write("link.csv", force=True) == Path("link.csv")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert list(real.parent.iterdir()) == [real]


def test_overwritten_file_keeps_mode_and_owner(folder: Path) -> None:
    """Whatever the umask; and what was written meanwhile was nobody else's to read."""
    there = folder / "there.csv"
    there.write_text("old")
    owner = 12345 if os.geteuid() == 0 else os.geteuid()
    os.chown(there, owner, -1)
    there.chmod(0o604)
    with writing(there, True) as sink:
        assert stat.S_IMODE(os.fstat(sink.fileno()).st_mode) == 0o600
        sink.write(b"new")
    assert (stat.S_IMODE(there.stat().st_mode), there.stat().st_uid) == (0o604, owner)
    assert there.read_text() == "new"


def test_overwritten_program_lends_its_owner_to_nobody(folder: Path) -> None:
    """What came from elsewhere does not run as somebody else."""
    there = folder / "there"
    there.write_text("old")
    there.chmod(0o6755)
    write("there", force=True)
    assert stat.S_IMODE(there.stat().st_mode) == 0o755


def test_new_file_has_the_mode_that_the_umask_leaves(folder: Path) -> None:
    """As any tool's."""
    before = os.umask(0o027)
    try:
        write("new.csv")
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "new.csv").stat().st_mode) == 0o640


def test_fifo_is_written_directly(folder: Path) -> None:
    """It stays a fifo, and needs no --force."""
    fifo = folder / "pipe"
    os.mkfifo(fifo)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(fifo.read_bytes()))
    reader.start()
    write("pipe")
    reader.join(60)
    assert received == [b"new"]
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_device_is_written_directly() -> None:
    """It stays one, and needs no --force."""
    write("/dev/null")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_descriptor_of_a_regular_file_is_written_as_it_is_open(folder: Path) -> None:
    """It is not replaced, and stays open."""
    with (folder / "log.csv").open("a+b", buffering=0) as log:
        log.write(b"before ")
        os.set_inheritable(log.fileno(), True)
        write(f"/dev/fd/{log.fileno()}")
        log.write(b" after")
    assert (folder / "log.csv").read_bytes() == b"before new after"


def test_descriptor_that_does_not_block_is_waited_for() -> None:
    """A full pipe is no error."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.set_inheritable(writer, True)
    received: list[bytes] = []

    def read() -> None:
        with open(reader, "rb") as end:
            received.append(end.read())

    thread = threading.Thread(target=read)
    with writing(Path(f"/dev/fd/{writer}"), False) as sink:
        thread.start()
        sink.write(b"x" * 1_000_000)
    os.close(writer)
    thread.join(60)
    assert received == [b"x" * 1_000_000]
