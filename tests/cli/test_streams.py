# SPDX-License-Identifier: Apache-2.0
"""stdout has the result and nothing else, and what goes wrong with it is one message."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_segments.emulator import EmulatedSegment, Emulator, Fault, FaultKind
from tests.cli.support import AIRFLOW, BOTH, requested, run, run_in_shell, start

if TYPE_CHECKING:
    from pathlib import Path


def test_json_in_a_terminal_without_utf_8(connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays JSON where the terminal knows no other letters."""
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    with Emulator(bucket=None, segments=[EmulatedSegment(name="é😀日")]) as service:
        connect(service)
        (segment,) = json.loads(run("list", "-o", "json").stdout)
    assert segment["name"] == "é😀日"


@pytest.mark.usefixtures("service")
def test_what_is_printed_while_airflow_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not the result."""
    (tmp_path / "airflow_local_settings.py").write_text("print('hello')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")  # as in containers
    command = [sys.executable, "-m", "airflow_provider_segments", "list", "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)
    assert "hello" in done.stderr


def test_progress_on_a_terminal_leaves_stdout_alone(service: Emulator) -> None:
    """A clock runs on stderr while stdout stays pure."""
    service.inject(Fault(FaultKind.NEVER, on="export"))
    ours, theirs = pty.openpty()
    arguments = ("export", "--segment-id", service.segments[0].segment_id, "--wait", "-o", "json")
    with start(*arguments, stderr=theirs, env=os.environ | {"TERM": "xterm", "COLUMNS": "200"}) as process:
        os.close(theirs)
        seen = b""
        while b"Waiting for" not in seen or b"0:00:01" not in seen:
            seen += os.read(ours, 1024)
        service.end(service.submissions[0].export_id)
        assert process.stdout
        result = process.stdout.read()
    os.close(ours)
    assert process.returncode == 0
    assert json.loads(result)["status"] == "COMPLETE"


@pytest.mark.parametrize("program", BOTH)
def test_stdout_closed_by_its_reader_ends_the_command(service: Emulator, program: tuple[str, ...]) -> None:
    """`list | head` ends like any tool does."""
    with start("list", program=program) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.wait(120) == 141
        printed = process.stderr.read()
    assert printed == "" or (program == AIRFLOW and "BrokenPipe" not in printed)


def test_full_stdout_is_one_message(service: Emulator) -> None:
    """Of a result, and of a file."""
    export_id = requested(service)
    for arguments in (f"status {export_id}", f"download {export_id} --to -"):
        done = run_in_shell(f"{arguments} >/dev/full", code=1)
        assert done.stderr == "Failed: stdout can't be written: No space left on device.\n"


def test_stdout_closed_by_its_reader_ends_a_download(service: Emulator) -> None:
    """`download --to - | head` too."""
    export_id = requested(service)
    with start("download", export_id, "--to", "-") as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert (process.wait(120), process.stderr.read()) == (141, "")


def test_closed_stdout_is_one_message_before_anything_is_asked(service: Emulator) -> None:
    """An export whose id nobody gets is not started."""
    done = run_in_shell("export --segment-name x >&-", code=1)
    assert done.stderr == "Failed: stdout is closed.\n"
    assert service.requests == []


def test_closed_or_full_stderr_changes_no_result(service: Emulator) -> None:
    """Exit code and stdout hold."""
    assert len(json.loads(run_in_shell("list -o json 2>&-").stdout)) == len(service.segments)
    assert run_in_shell("list --conn-id nowhere 2>/dev/full", code=1).stdout == ""
    segment_id = service.segments[0].segment_id
    assert run_in_shell(f"export --segment-id {segment_id} 2>/dev/full").stdout
    assert run_in_shell("list --nonsense 2>/dev/full", code=2).stdout == ""


@pytest.mark.parametrize("arguments", ["--help", "--version", "list --help"])
def test_help_for_nobody(arguments: str) -> None:
    """It ends as other tools do."""
    said = run_in_shell(f"{arguments} >/dev/full", code=1).stderr
    assert said == "Failed: stdout can't be written: No space left on device.\n"
    with start(*arguments.split()) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert (process.wait(120), process.stderr.read()) == (141, "")


def test_stdout_that_does_not_block_gets_all(connect: Any) -> None:
    """A full pipe is waited for."""
    segments = [EmulatedSegment(name=f"{number} " + "x" * 1000) for number in range(500)]
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with Emulator(bucket=None, segments=segments) as service:
        connect(service)
        with start("list", "-o", "json", stdout=writer) as process, open(reader, "rb") as end:
            os.close(writer)
            printed = end.read()
    assert process.returncode == 0
    assert len(json.loads(printed)) == 500
