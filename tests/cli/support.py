# SPDX-License-Identifier: Apache-2.0
"""Run the command line as a person does, in a process of its own."""

from __future__ import annotations

import base64
import signal
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_2_PLUS

from airflow_provider_segments.emulator import Fault, FaultKind
from airflow_provider_segments.hooks.user_segments import UserSegmentsHook
from tests import forked

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_segments.emulator import Emulator

TOKEN = "token-that-must-not-be-seen-51c7d0"
OURS = ("-m", "airflow_provider_segments")
AIRFLOW = ("-m", "airflow", "user-segments")
BOTH = [
    pytest.param(OURS, id="python -m"),
    pytest.param(
        AIRFLOW,
        id="airflow",
        marks=pytest.mark.skipif(not AIRFLOW_V_3_2_PLUS, reason="earlier ones have no commands of providers"),
    ),
]


# As the programs load Airflow, and where there is no database.
HOME = tempfile.mkdtemp(prefix="airflow-home-")
LOADED = {
    OURS: forked.Interpreter(AIRFLOW__LOGGING__LOGGING_LEVEL="CRITICAL", AIRFLOW_HOME=HOME),
    AIRFLOW: forked.Interpreter("airflow.cli.cli_parser", AIRFLOW_HOME=HOME),
}


def check(stdout: str, stderr: str) -> None:
    """No secret and no traceback, wherever."""
    both = stdout + stderr
    basic = base64.b64encode(f"emulator-key:{TOKEN}".encode()).decode()
    unwanted = (TOKEN, basic, "Signature", "Traceback", "Exception ignored")
    assert not [word for word in unwanted if word in both], both


def run(
    *arguments: str,
    program: tuple[str, ...] = OURS,
    cwd: Path | None = None,
    code: int = 0,
    in_new_interpreter: bool = False,
) -> Any:
    """Run a command to its end."""
    if in_new_interpreter:
        command = [sys.executable, *program, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    else:
        done = LOADED[program].run(*program[1:], *arguments, cwd=cwd)
    assert done.returncode == code, done.stdout + done.stderr
    check(done.stdout, done.stderr)
    assert len(done.stderr.splitlines()) <= 2 or code == 2 or program == AIRFLOW, done.stderr
    return done


def run_in_shell(
    arguments: str, *, program: tuple[str, ...] = OURS, cwd: Path | None = None, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run a command with the redirections of a shell."""
    command = " ".join((sys.executable, *program, arguments))
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == code, done.stdout + done.stderr
    check(done.stdout, done.stderr)
    return done


def start(*arguments: str, program: tuple[str, ...] = OURS, **options: Any) -> subprocess.Popen[str]:
    """Start a command that signals reach, even if the tests themselves were started in the background or by nohup."""
    return subprocess.Popen(
        [sys.executable, *program, *arguments],
        text=True,
        **{
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "preexec_fn": _reset_signals,
        }
        | options,
    )


def _reset_signals() -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def requested(service: Emulator, *faults: FaultKind) -> str:
    """Return the id of an export that has been requested."""
    for kind in faults:
        service.inject(Fault(kind, on="export"))
    return UserSegmentsHook().request_export(service.segments[0].segment_id).export_id


def key_of(export_id: str) -> dict[str, str]:
    """Return where an export's file is on S3."""
    return {"Bucket": "upload-bucket", "Key": f"path/to/{export_id}.csv"}


def stored(s3: Any, export_id: str) -> bytes:
    """Return the file of an export, from S3."""
    body: bytes = s3.get_object(**key_of(export_id))["Body"].read()
    return body
