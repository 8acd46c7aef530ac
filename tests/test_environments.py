# SPDX-License-Identifier: Apache-2.0
"""What keeps `make demo` and `make test` from starting is one line that says what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from tests import environments
from tests.environments import InstallError, check_space, explain, run
from tests.system.running_airflow import failure

ROOT = Path(__file__).parents[1]


def make_python(**variables: str) -> subprocess.CompletedProcess[str]:
    """Let make check the Python that it would use."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "PYTHON"))
    }
    command = [
        "make",
        "--no-print-directory",
        "python",
        *(f"{name}={value}" for name, value in variables.items()),
    ]
    return subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, check=False)


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_python_that_runs_the_tests_will_do() -> None:
    """Make accepts it without a word."""
    done = make_python(PYTHON=sys.executable)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_missing_python_is_one_line() -> None:
    """None on the PATH; make's own line follows."""
    done = make_python(PYTHON="")
    first, last = done.stderr.splitlines()
    assert first.startswith("Python 3.11 or later is needed; install it, or say where it is")
    assert last.startswith("make: ***")


def test_python_that_does_not_start_is_named() -> None:
    """Such as one of pyenv's that is not installed."""
    done = make_python(PYTHON="/absent/python")
    assert done.stderr.startswith("/absent/python does not start. Python 3.11 or later is needed")


def test_old_python_is_named_with_its_version(tmp_path: Path) -> None:
    """The version that was found, and the one that is needed."""
    old = script(
        tmp_path / "python", 'case "$1$2" in --version) echo Python 3.8.20;; *version_info*) exit 1;; esac'
    )
    done = make_python(PYTHON=old)
    assert done.stderr.startswith(f"{old} is Python 3.8.20. Python 3.11 or later is needed")


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "no space left",
        ),
        (
            "error: Failed to fetch: `https://x/simple/`\n  Caused by: error sending request",
            "index can't be reached",
        ),
        ("WARNING: Retrying\nERROR: Max retries exceeded with url: /simple/nox", "index can't be reached"),
        (
            "Error: Command '[… '-m', 'ensurepip']' returned non-zero exit status 1.",
            "apt-get install python3-venv",
        ),
        ("warning: x\nerror: No solution found\n", "error: No solution found"),
        ("", "it did not say why"),
    ],
)
def test_failed_installation_is_explained_in_one_line(output: str, says: str) -> None:
    """Whatever pip or uv print."""
    said = explain(output)
    assert says in said
    assert len(said.splitlines()) == 1


def test_failed_installer_is_named_with_its_task(tmp_path: Path) -> None:
    """Its exit code decides; its output explains."""
    failing = script(tmp_path / "uv", "echo error: sending request failed: dns; exit 2")
    with pytest.raises(
        InstallError, match="^Installing Airflow 3.3 failed: error: sending request failed: dns$"
    ):
        run([failing], "Installing Airflow 3.3")
    with pytest.raises(InstallError, match="^Installing Airflow 3.3 failed: .*No such file"):
        run([tmp_path / "absent"], "Installing Airflow 3.3")


def test_full_disk_is_said_before_airflow_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the folder, and how to choose another."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(environments.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 5 * 2**20))
    with pytest.raises(OSError, match="has 5 MB free, and 200 are needed; make room, or set TMPDIR"):
        check_space()


@pytest.mark.parametrize(
    ("printed", "says"),
    [
        ("Traceback\nOSError: [Errno 98] Address already in use", "another program has taken its port"),
        ("sqlite3.OperationalError: database or disk is full", "no space left on the disk"),
        ("one\nlast words\n", "last words"),
        ("", "it printed nothing"),
    ],
)
def test_component_that_ends_is_one_line(printed: str, says: str, tmp_path: Path) -> None:
    """With the log that has the rest."""
    error = failure("The scheduler ended", printed, tmp_path / "scheduler.log")
    assert says in str(error)
    assert str(error).endswith(f"see {tmp_path / 'scheduler.log'}")
    assert len(str(error).splitlines()) == 1
