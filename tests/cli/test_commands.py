# SPDX-License-Identifier: Apache-2.0
"""What the commands say and do: real processes against the emulator and a local S3."""

from __future__ import annotations

import csv
import io
import json
import signal
from typing import TYPE_CHECKING, Any

import pytest
from airflow.models import Connection
from airflow.utils.session import create_session

from airflow_provider_segments import __version__
from airflow_provider_segments.emulator import EmulatedSegment, Emulator, Fault, FaultKind
from tests.cli.support import BOTH, OURS, check, requested, run, start, stored

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("program", BOTH)
def test_list_as_json_holds_all_the_service_says(service: Emulator, program: tuple[str, ...]) -> None:
    """Everything the service says, on a stdout that holds nothing else."""
    done = run("list", "--output", "json", program=program)
    assert [(s["segment_id"], s["name"], s["segment_type"]) for s in json.loads(done.stdout)] == [
        (s.segment_id, s.name, s.type) for s in service.segments
    ]
    if program == OURS:
        assert done.stderr == ""


def test_list_of_a_type_has_only_such_segments(service: Emulator) -> None:
    """Only such segments."""
    listed = json.loads(run("list", "--type", "static", "-o", "json").stdout)
    assert [s["segment_id"] for s in listed] == [s.segment_id for s in service.segments if s.type == "Static"]
    assert listed


def test_list_without_segments_says_so(connect: Any) -> None:
    """Nothing found is told, beside a result that is empty."""
    with Emulator(bucket=None, segments=[EmulatedSegment(name="A", type="Static")]) as service:
        connect(service)
        done = run("list", "--type", "dynamic", "-o", "json")
        assert (json.loads(done.stdout), done.stderr) == ([], "None of the project's segments is dynamic.\n")
    with Emulator(bucket=None, segments=[]) as service:
        connect(service)
        assert run("list").stderr == "The project has no segments.\n"


def test_list_as_csv_has_the_columns_of_json(service: Emulator) -> None:
    """One row a segment, the same columns as in JSON."""
    rows = list(csv.DictReader(io.StringIO(run("list", "-o", "csv").stdout)))
    assert [row["segment_id"] for row in rows] == [s.segment_id for s in service.segments]
    assert list(rows[0]) == list(json.loads(run("list", "-o", "json").stdout)[0])


def test_version_is_shown() -> None:
    """As tools have it."""
    assert run("--version").stdout == f"airflow-provider-segments {__version__}\n"


def test_unreachable_service_is_one_message(connect: Any) -> None:
    """One line that says so."""
    with Emulator(bucket=None) as service:
        connect(service, extra={"max_retries": 0})
    done = run("list", code=1)
    assert done.stdout == ""
    assert "could not connect" in done.stderr


@pytest.mark.parametrize("program", BOTH)
def test_export_and_download_lead_from_a_name_to_a_file(
    service: Emulator, s3: Any, program: tuple[str, ...], folder: Path
) -> None:
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
def test_status_for_people_and_scripts(service: Emulator, program: tuple[str, ...]) -> None:
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


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("export",),
        ("export", "--segment-id", "a", "--segment-name", "b"),
        ("export", "--segment-id", "a", "--timeout", "5"),
        ("export", "--segment-id", "a", "--wait", "--timeout", "0"),
        ("export", "--segment-id", "a", "--wait", "--timeout", "2e8"),
        ("diff", "old.csv", "new.csv", "--memory-limit", "8"),
        ("list", "--type", "odd"),
        ("status", "https://not/an/id"),
        ("download",),
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2_and_asks_nothing(service: Emulator, arguments: tuple[str, ...]) -> None:
    """Exit code 2, and nothing was asked."""
    done = run(*arguments, code=2)
    assert done.stdout == ""
    assert "usage" in done.stderr
    assert service.requests == []


def test_refused_credentials_are_one_message(service: Emulator) -> None:
    """One line that says what to do."""
    service.inject(Fault(FaultKind.UNAUTHORIZED, times=None))
    done = run("list", code=1)
    assert done.stdout == ""
    assert "HTTP 401" in done.stderr
    assert "Access Token" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_retries_are_shown(service: Emulator) -> None:
    """Whoever waits for an answer knows why."""
    service.inject(Fault(FaultKind.UNAVAILABLE))
    assert "HTTP 503" in run("list").stderr


@pytest.mark.parametrize("program", BOTH)
def test_missing_connection_is_said_at_once(
    program: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told at once, even where Airflow's database was never made."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    done = run("list", "--conn-id", "nowhere", program=program, code=1, in_new_interpreter=True)
    assert "'nowhere' does not exist" in done.stderr
    assert "AIRFLOW_CONN_NOWHERE" in done.stderr


@pytest.mark.parametrize("value", ["{", "", "mparticle://a:b/c@h"])
def test_variable_that_is_no_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """It is not said to be missing, and not shown."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW_CONN_ODD", value)
    said = run("list", "--conn-id", "odd", code=1).stderr
    assert "AIRFLOW_CONN_ODD" in said
    assert "does not exist" not in said


def test_connection_that_no_variable_can_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then none is advised."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    assert "AIRFLOW_CONN" not in run("list", "--conn-id", "a b", code=1).stderr


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("program", BOTH)
def test_connection_in_the_database_is_found(user_segments: Emulator, program: tuple[str, ...]) -> None:
    """A Connection of the UI is found."""
    conn_id = f"stored_{len(program)}"
    with create_session() as session:
        session.add(Connection.from_json(json.dumps(user_segments.airflow_connection()), conn_id))
    listed = run("list", "--conn-id", conn_id, "-o", "json", program=program, in_new_interpreter=True)
    assert len(json.loads(listed.stdout)) == len(user_segments.segments)


def test_export_that_outlasts_the_timeout_leaves_its_id(service: Emulator) -> None:
    """The id is on stderr all the same."""
    service.inject(Fault(FaultKind.NEVER, on="export"))
    done = run("export", "--segment-id", service.segments[0].segment_id, "--wait", "--timeout", "0.1", code=1)
    assert service.submissions[0].export_id in done.stderr
    assert "deadline" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("program", BOTH)
def test_interrupted_wait_says_that_the_export_goes_on(service: Emulator, program: tuple[str, ...]) -> None:
    """Ctrl-C says that the export keeps running, and how to look at it."""
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
    assert "keeps running" in stderr
    command = "python -m airflow_provider_segments" if program == OURS else "airflow user-segments"
    assert f"{command} status {submission.export_id}" in stderr
    assert stdout == ""


def test_interrupted_request_may_have_started(service: Emulator) -> None:
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


def test_list_as_table_shows_whole_ids_and_when(connect: Any) -> None:
    """No name can steer the terminal."""
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
