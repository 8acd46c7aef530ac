# SPDX-License-Identifier: Apache-2.0
"""`download`: to a file that appears whole or not at all, to a pipe or a device as it comes."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_segments.api.location import file_location
from airflow_provider_segments.cli._download import _name
from airflow_provider_segments.emulator import FaultKind
from tests.cli.support import AIRFLOW, BOTH, OURS, check, key_of, requested, run, run_in_shell, start, stored

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_segments.emulator import Emulator
    from tests.cli.conftest import SlowHost


def test_download_overwrites_only_by_force(service: Emulator, s3: Any, folder: Path) -> None:
    """What is there stays if the transfer fails."""
    export_id, target = requested(service), folder / "here.csv"
    target.write_text("mine")
    assert "--force" in run("download", export_id, "--to", str(target), code=1).stderr
    assert target.read_text() == "mine"
    run("download", export_id, "--to", str(target), "--force")
    assert target.read_bytes() == stored(s3, export_id)
    s3.delete_object(**key_of(export_id))
    gone = run("download", export_id, "--to", str(target), "--force", code=1)
    assert "aws_default" in gone.stderr
    assert list(folder.iterdir()) == [target]
    assert target.read_bytes().startswith(b"user_id,")


def test_download_of_presigned_url_hides_its_query(service: Emulator, s3: Any, folder: Path) -> None:
    """A presigned URL is read as it stands, and its query shown nowhere."""
    export_id = requested(service, FaultKind.PRESIGNED)
    run("download", export_id, "--to", str(folder))
    assert (folder / f"{export_id}.csv").read_bytes() == stored(s3, export_id)
    run("status", export_id)
    s3.delete_object(**key_of(export_id))
    assert "HTTP 404" in run("download", export_id, "--to", str(folder / "other"), code=1).stderr


@pytest.mark.parametrize(
    ("filename", "export_id", "name"),
    [
        ("s3://b/a/users.csv", "e-1", "users.csv"),
        ("https://h/K%C3%A4ufer.csv", "e-1", "K\u00e4ufer.csv"),
        ("https://h/%2e%2e", "e-1", "e-1"),
        ("https://h/a%0Ab", "e-1", "e-1"),
        ("s3://b/a/", "../e-1", "export"),
        (f"s3://b/{256 * 'x'}", "..", "export"),
    ],
)
def test_names_from_the_service_lead_nowhere_else(filename: str, export_id: str, name: str) -> None:
    """The file's if it can be one, else the export's."""
    assert _name(file_location(filename), export_id) == name


def test_name_that_the_file_system_can_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a locale of Latin-1: the file is named by the export's id."""
    monkeypatch.setattr(os, "fsencode", lambda text: text.encode("latin-1"))
    assert _name(file_location("s3://b/用户.csv"), "the-id") == "the-id"


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (FaultKind.NEVER, "is PENDING"),
        (FaultKind.FAILED, "as FAILED"),
        (FaultKind.NO_FILENAME, "names no file"),
    ],
)
def test_download_without_a_file_says_why(
    service: Emulator, fault: FaultKind, says: str, folder: Path
) -> None:
    """And leaves nothing behind."""
    export_id = requested(service, fault)
    done = run("download", export_id, cwd=folder, code=1)
    assert says in done.stderr
    assert export_id in done.stderr
    assert list(folder.iterdir()) == []


def test_download_of_expired_file(service: Emulator, folder: Path) -> None:
    """After 48 hours there is nothing to ask S3 for."""
    export_id = requested(service)
    run("status", export_id)
    service.expire(export_id)
    assert "expired at" in run("download", export_id, cwd=folder, code=1).stderr


@pytest.mark.parametrize("program", BOTH)
def test_download_to_stdout_writes_the_file_only(
    service: Emulator, s3: Any, folder: Path, program: tuple[str, ...]
) -> None:
    """Nothing else is on stdout, and no file is made."""
    export_id = requested(service)
    done = run("download", export_id, "--to", "-", cwd=folder, program=program)
    assert done.stdout.encode() == stored(s3, export_id)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("to", ["/dev/stdout", "/dev/fd/3"])
def test_download_to_a_redirected_descriptor_appends(
    service: Emulator, s3: Any, folder: Path, to: str
) -> None:
    """What the shell has opened is written to as it was opened."""
    export_id = requested(service)
    (folder / "log.csv").write_text("before\n")
    run_in_shell(f"download {export_id} --to {to} >>log.csv 3>&1", cwd=folder)
    written = (folder / "log.csv").read_bytes()
    assert written.startswith(b"before\n" + stored(s3, export_id))
    assert [path.name for path in folder.iterdir()] == ["log.csv"]


@pytest.mark.parametrize(
    "to", ["link", "/dev/./stdout", "/proc/thread-self/fd/1", "/dev/fd/01", "//dev/stdout"]
)
def test_download_to_another_name_of_stdout(service: Emulator, s3: Any, folder: Path, to: str) -> None:
    """The file goes there, and not where stdout leads while the command runs."""
    export_id = requested(service)
    (folder / "link").symlink_to("/dev/stdout")
    done = run("download", export_id, "--to", to, cwd=folder)
    assert done.stdout.encode() == stored(s3, export_id)


@pytest.mark.parametrize("descriptor", [3, 4, 5])
def test_download_to_a_descriptor_that_nobody_has_opened(
    service: Emulator, folder: Path, descriptor: int
) -> None:
    """It is none of the command's own."""
    done = run("download", requested(service), "--to", f"/dev/fd/{descriptor}", cwd=folder, code=1)
    assert "Bad file descriptor" in done.stderr


def test_printed_path_is_that_of_the_file(service: Emulator, folder: Path) -> None:
    """Whatever its bytes are."""
    command = [sys.executable, *OURS, "download", requested(service), "--to", b"\xff.csv"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=True)
    assert done.stdout == b"\xff.csv\n"
    assert os.listdir(os.fsencode(folder)) == [b"\xff.csv"]


def test_download_to_fifo_writes_directly(service: Emulator, s3: Any, folder: Path) -> None:
    """The fifo stays one, and needs no --force."""
    export_id, fifo = requested(service), folder / "pipe"
    os.mkfifo(fifo)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(fifo.read_bytes()))
    reader.start()
    assert run("download", export_id, "--to", str(fifo)).stdout == f"{fifo}\n"
    reader.join(60)
    assert received == [stored(s3, export_id)]
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_download_to_process_substitution(service: Emulator, s3: Any, folder: Path) -> None:
    """Bash's `>(…)` is a pipe below /dev/fd."""
    export_id = requested(service)
    script = f"download {export_id} --to >(cat >copy.csv); wait $!"
    command = f"exec bash -c '{sys.executable} -m airflow_provider_segments {script}'"
    subprocess.run(command, shell=True, check=True, cwd=folder, capture_output=True)
    assert (folder / "copy.csv").read_bytes() == stored(s3, export_id)


@pytest.mark.parametrize(
    ("number", "program"),
    [
        pytest.param(signal.SIGINT, OURS, id="SIGINT"),
        pytest.param(signal.SIGTERM, OURS, id="SIGTERM"),
        pytest.param(signal.SIGHUP, OURS, id="SIGHUP"),
        pytest.param(signal.SIGTERM, AIRFLOW, id="airflow", marks=BOTH[1].marks),
    ],
)
def test_download_ended_by_signal_leaves_nothing(
    slow_host: SlowHost, folder: Path, number: signal.Signals, program: tuple[str, ...]
) -> None:
    """It ends with 128 + n, as a shell has it."""
    with start("download", "e-1", "--to", "slow.csv", cwd=folder, program=program) as process:
        assert slow_host.half_sent.wait(120)
        while not list(folder.iterdir()):
            assert process.poll() is None
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=120)
    check(stdout, stderr)
    assert process.returncode == 128 + number
    assert (stdout, stderr.splitlines()[-1]) == ("", "Interrupted.")
    assert list(folder.iterdir()) == []


def test_download_under_nohup_goes_on(slow_host: SlowHost, folder: Path) -> None:
    """A SIGHUP that the shell ignores is ignored."""

    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with start("download", "e-1", "--to", "slow.csv", cwd=folder, preexec_fn=ignore) as process:
        assert slow_host.half_sent.wait(120)
        process.send_signal(signal.SIGHUP)
        slow_host.go_on.set()
        process.communicate(timeout=120)
    assert process.returncode == 0
    assert (folder / "slow.csv").read_bytes() == b"user_id\nu1\n"


def test_download_without_space_is_one_message(service: Emulator, folder: Path) -> None:
    """And the half of a file is gone."""
    export_id = requested(service)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    # Without coverage, whose own file would not fit either.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    with start("download", export_id, "--to", "big.csv", cwd=folder, preexec_fn=limit, env=env) as process:
        stdout, stderr = process.communicate(timeout=120)
    check(stdout, stderr)
    assert (process.returncode, stdout) == (1, "")
    assert stderr == "Failed: big.csv can't be written: File too large.\n"
    assert list(folder.iterdir()) == []
