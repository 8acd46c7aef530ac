# SPDX-License-Identifier: Apache-2.0
"""The command line as a person runs it: real processes against the emulator and a local S3."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import pty
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_2_PLUS

from airflow_provider_segments import __version__
from airflow_provider_segments.emulator import EmulatedSegment, Emulator, Fault, FaultKind

if TYPE_CHECKING:
    from pathlib import Path

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


@pytest.fixture
def user_segments_options() -> dict[str, Any]:
    """A token that can be looked for."""
    return {"segments": 4, "export_seconds": 0, "access_token": TOKEN}


@pytest.fixture
def s3(user_segments_s3: Any) -> Any:
    """The local S3, with its Connection set."""
    return user_segments_s3


@pytest.fixture
def service(s3: Any, user_segments: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Emulator:
    """The service with files on the local S3, both Connections set, and no database."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "home"))
    return user_segments


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where commands run."""
    made = tmp_path / "folder"
    made.mkdir()
    return made


def check(stdout: str, stderr: str) -> None:
    """No secret and no traceback, wherever."""
    both = stdout + stderr
    basic = base64.b64encode(f"emulator-key:{TOKEN}".encode()).decode()
    assert not [word for word in (TOKEN, basic, "Signature", "Traceback") if word in both], both


def run(*arguments: str, program: tuple[str, ...] = OURS, cwd: Path | None = None, code: int = 0) -> Any:
    """Run a command to its end."""
    done = subprocess.run(
        [sys.executable, *program, *arguments], capture_output=True, text=True, check=False, cwd=cwd
    )
    assert done.returncode == code, done.stdout + done.stderr
    check(done.stdout, done.stderr)
    assert len(done.stderr.splitlines()) <= 2 or code == 2 or program == AIRFLOW, done.stderr
    return done


def start(*arguments: str, program: tuple[str, ...] = OURS, **streams: Any) -> subprocess.Popen[str]:
    """Start a command that a Ctrl-C reaches, even if the tests themselves were started without."""
    return subprocess.Popen(
        [sys.executable, *program, *arguments],
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **({"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams),
    )


def requested(service: Emulator, *faults: FaultKind) -> str:
    """Return the id of an export that a command has requested."""
    for kind in faults:
        service.inject(Fault(kind, on="export"))
    segment_id = service.segments[0].segment_id
    found: str = json.loads(run("export", "--segment-id", segment_id, "-o", "json").stdout)["export_id"]
    return found


def key_of(export_id: str) -> dict[str, str]:
    """Return where an export's file is on S3."""
    return {"Bucket": "upload-bucket", "Key": f"path/to/{export_id}.csv"}


def stored(s3: Any, export_id: str) -> bytes:
    """Return the file of an export, from S3."""
    body: bytes = s3.get_object(**key_of(export_id))["Body"].read()
    return body


@pytest.mark.parametrize("program", BOTH)
def test_list_json(service: Emulator, program: tuple[str, ...]) -> None:
    """Everything the service says, on a stdout that holds nothing else."""
    done = run("list", "--output", "json", program=program)
    assert [(s["segment_id"], s["name"], s["segment_type"]) for s in json.loads(done.stdout)] == [
        (s.segment_id, s.name, s.type) for s in service.segments
    ]
    if program == OURS:
        assert done.stderr == ""


def test_list_json_in_ascii(connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays JSON where the terminal knows no other letters."""
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    with Emulator(bucket=None, segments=[EmulatedSegment(name="é😀日")]) as service:
        connect(service)
        (segment,) = json.loads(run("list", "-o", "json").stdout)
    assert segment["name"] == "é😀日"


def test_empty_lists(connect: Any) -> None:
    """Nothing found is told, beside a result that is empty."""
    with Emulator(bucket=None, segments=[EmulatedSegment(name="A", type="Static")]) as service:
        connect(service)
        done = run("list", "--type", "dynamic", "-o", "json")
        assert (json.loads(done.stdout), done.stderr) == ([], "None of the project's segments is dynamic.\n")
    with Emulator(bucket=None, segments=[]) as service:
        connect(service)
        assert run("list").stderr == "The project has no segments.\n"


def test_version() -> None:
    """As tools have it."""
    assert run("--version").stdout == f"airflow-provider-segments {__version__}\n"


def test_list_csv(service: Emulator) -> None:
    """One row a segment, the same columns as in JSON."""
    rows = list(csv.DictReader(io.StringIO(run("list", "-o", "csv").stdout)))
    assert [row["segment_id"] for row in rows] == [s.segment_id for s in service.segments]
    assert list(rows[0]) == list(json.loads(run("list", "-o", "json").stdout)[0])


def test_list_table(connect: Any) -> None:
    """Ids whole, how long ago, and no name can steer the terminal."""
    segments = [
        EmulatedSegment(name="[bold]A\x1b[2J", type="Static"),
        EmulatedSegment(name="B", last_run=None),
    ]
    with Emulator(bucket=None, segments=segments) as service:
        connect(service)
        printed = run("list").stdout
        ids = [segment.segment_id for segment in service.segments]
    assert all(segment_id in printed for segment_id in ids)
    assert "years ago" in printed
    assert "never" in printed
    assert "[bold]A\N{REPLACEMENT CHARACTER}[2J" in printed


def test_unreachable(connect: Any) -> None:
    """One line that says so."""
    with Emulator(bucket=None) as service:
        connect(service, extra={"max_retries": 0})
    done = run("list", code=1)
    assert done.stdout == ""
    assert "could not connect" in done.stderr


def test_list_of_a_type(service: Emulator) -> None:
    """Only such segments."""
    listed = json.loads(run("list", "--type", "static", "-o", "json").stdout)
    assert [s["segment_id"] for s in listed] == [s.segment_id for s in service.segments if s.type == "Static"]
    assert listed


@pytest.mark.parametrize("program", BOTH)
def test_export_and_download(service: Emulator, s3: Any, program: tuple[str, ...], folder: Path) -> None:
    """From a name to a file on disk; the id is told before the wait."""
    done = run("export", "--segment-name", "Recent Registrants", "--wait", "-o", "json", program=program)
    (submission,) = service.submissions
    found = json.loads(done.stdout)
    assert found["export_id"] == submission.export_id
    assert found["status"] == "COMPLETE"
    assert submission.export_id in done.stderr
    got = run("download", submission.export_id, program=program, cwd=folder)
    assert got.stdout == f"{submission.export_id}.csv\n"
    assert [path.name for path in folder.iterdir()] == [f"{submission.export_id}.csv"]
    assert (folder / f"{submission.export_id}.csv").read_bytes() == stored(s3, submission.export_id)


@pytest.mark.parametrize("program", BOTH)
def test_status(service: Emulator, program: tuple[str, ...]) -> None:
    """For people and for scripts."""
    export_id = requested(service, FaultKind.NEVER)

    def status(*options: str) -> str:
        return str(run("status", export_id, *options, program=program).stdout)

    assert json.loads(status("-o", "json"))["status"] == "PENDING"
    service.end(export_id)
    (row,) = csv.DictReader(io.StringIO(status("-o", "csv")))
    assert (row["status"], row["s3_bucket"]) == ("COMPLETE", "upload-bucket")
    shown = status()
    assert export_id in shown
    assert "COMPLETE" in shown
    assert "in 2 days" in shown


def test_overwriting(service: Emulator, s3: Any, folder: Path) -> None:
    """Only by force; what is there stays if the transfer fails."""
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


def test_download_presigned(service: Emulator, s3: Any, folder: Path) -> None:
    """A presigned URL is read as it stands, and its query shown nowhere."""
    export_id = requested(service, FaultKind.PRESIGNED)
    run("download", export_id, "--to", str(folder))
    assert "is not a folder" in run("download", export_id, "--to", str(folder / "no" / "x"), code=1).stderr
    assert (folder / f"{export_id}.csv").read_bytes() == stored(s3, export_id)
    run("status", export_id)
    s3.delete_object(**key_of(export_id))
    assert "HTTP 404" in run("download", export_id, "--to", str(folder / "other"), code=1).stderr


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (FaultKind.NEVER, "is PENDING"),
        (FaultKind.FAILED, "as FAILED"),
        (FaultKind.NO_FILENAME, "names no file"),
    ],
)
def test_nothing_to_download(service: Emulator, fault: FaultKind, says: str, folder: Path) -> None:
    """It says why, and leaves nothing behind."""
    export_id = requested(service, fault)
    done = run("download", export_id, cwd=folder, code=1)
    assert says in done.stderr
    assert export_id in done.stderr
    assert list(folder.iterdir()) == []


def test_expired(service: Emulator, folder: Path) -> None:
    """After 48 hours there is nothing to ask S3 for."""
    export_id = requested(service)
    run("status", export_id)
    service.expire(export_id)
    assert "expired at" in run("download", export_id, cwd=folder, code=1).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("export",),
        ("export", "--segment-id", "a", "--segment-name", "b"),
        ("export", "--segment-id", "a", "--timeout", "5"),
        ("export", "--segment-id", "a", "--wait", "--timeout", "0"),
        ("list", "--type", "odd"),
        ("status", "https://not/an/id"),
        ("download",),
    ],
    ids=" ".join,
)
def test_wrong_usage(service: Emulator, arguments: tuple[str, ...]) -> None:
    """Exit code 2, and nothing was asked."""
    done = run(*arguments, code=2)
    assert done.stdout == ""
    assert "usage" in done.stderr
    assert service.requests == []


def test_refused(service: Emulator) -> None:
    """One line that says what to do."""
    service.inject(Fault(FaultKind.UNAUTHORIZED, times=None))
    done = run("list", code=1)
    assert done.stdout == ""
    assert "HTTP 401" in done.stderr
    assert "Access Token" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_repetitions_are_told(service: Emulator) -> None:
    """Whoever waits for an answer knows why."""
    service.inject(Fault(FaultKind.UNAVAILABLE))
    assert "HTTP 503" in run("list").stderr


@pytest.mark.parametrize("program", BOTH)
def test_no_such_connection(
    program: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told at once, even where Airflow's database was never made."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    done = run("list", "--conn-id", "nowhere", program=program, code=1)
    assert "'nowhere' does not exist" in done.stderr
    assert "AIRFLOW_CONN_NOWHERE" in done.stderr


def test_a_connection_no_variable_can_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then none is advised."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    assert "AIRFLOW_CONN" not in run("list", "--conn-id", "a b", code=1).stderr


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("program", BOTH)
def test_connection_in_the_database(user_segments: Emulator, program: tuple[str, ...]) -> None:
    """A Connection of the UI is found."""
    conn_id, connection = f"stored_{len(program)}", json.dumps(user_segments.airflow_connection())
    add = ["-m", "airflow", "connections", "add", conn_id, "--conn-json", connection]
    subprocess.run([sys.executable, *add], check=True, capture_output=True)
    listed = run("list", "--conn-id", conn_id, "-o", "json", program=program)
    assert len(json.loads(listed.stdout)) == len(user_segments.segments)


def test_wait_times_out(service: Emulator) -> None:
    """The id is on stderr all the same."""
    service.inject(Fault(FaultKind.NEVER, on="export"))
    done = run("export", "--segment-id", service.segments[0].segment_id, "--wait", "--timeout", "0.1", code=1)
    assert service.submissions[0].export_id in done.stderr
    assert "deadline" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("program", BOTH)
def test_interrupted(service: Emulator, program: tuple[str, ...]) -> None:
    """Ctrl-C says that the export goes on, and how to look at it."""
    service.inject(Fault(FaultKind.NEVER, on="export"))
    arguments = ("export", "--segment-id", service.segments[0].segment_id, "--wait")
    with start(*arguments, program=program) as process:
        assert process.stderr
        first = ""  # Airflow's command says things of its own before
        while "Requested" not in first:
            first = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=120)
    check(stdout, first + stderr)
    (submission,) = service.submissions
    assert process.returncode == 130
    assert submission.export_id in first
    assert "goes on" in stderr
    command = "python -m airflow_provider_segments" if program == OURS else "airflow user-segments"
    assert f"{command} status {submission.export_id}" in stderr
    assert stdout == ""


def test_interrupted_while_requesting(service: Emulator) -> None:
    """It says that nobody knows."""
    service.inject(Fault(FaultKind.SILENCE, on="export"))
    with start("export", "--segment-id", service.segments[0].segment_id) as process:
        while not service.requests:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=120)
    check(stdout, stderr)
    assert process.returncode == 130
    assert "may have started" in stderr


def test_progress_on_a_terminal(service: Emulator) -> None:
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
def test_closed_pipe(service: Emulator, program: tuple[str, ...]) -> None:
    """`list | head` ends like any tool does."""
    with start("list", "-o", "csv", program=program) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.wait(120) == 141
        told = process.stderr.read()
    assert told == "" or (program == AIRFLOW and "BrokenPipe" not in told)
