# SPDX-License-Identifier: Apache-2.0
"""What can happen to a real Airflow and to the service: no export requested twice, none lost."""

from __future__ import annotations

import base64
import sqlite3
from typing import TYPE_CHECKING

import pytest
from cryptography.fernet import Fernet

from airflow_provider_segments.emulator import Fault, FaultKind
from tests.system.conftest import TOKEN
from tests.system.running_airflow import AIRFLOW_3
from tests.system.runs import FEW, Run, kill_triggerer_and_scheduler, outage, storm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.conftest import System

pytestmark = pytest.mark.system

takes_up = pytest.mark.skipif(
    not AIRFLOW_3, reason="only Airflow 3.3 and later keep an export's id across tries"
)


@takes_up
def test_killed_right_after_the_post_deferring(system: System) -> None:
    """Each task process is killed: each export is submitted once, reattached to while pending, and succeeds."""
    run = Run(system, "killed_deferred", FEW)
    run.wait_until_deferred()
    assert run.tries == {2}
    run.succeeds()
    assert run.submissions == FEW


@takes_up
def test_killed_right_after_the_post_on_the_worker(system: System) -> None:
    """The same on the synchronous path."""
    run = Run(system, "killed_on_worker", FEW)
    run.succeeds()
    assert run.tries == {2}
    assert run.submissions == FEW


def test_triggerer_and_scheduler_killed(system: System) -> None:
    """Killed while exports wait, then started again: all succeed, each was submitted once, no try is used up."""
    run = Run(system, "waiting", FEW, "killed")
    run.wait_until_deferred()
    kill_triggerer_and_scheduler(run)
    run.succeeds()
    assert run.submissions == FEW
    assert run.tries == {1}


def test_storm_of_429s_and_outage(system: System) -> None:
    """429s at every second request, then an outage, a short one of each: all succeed, no try is used up."""
    run = Run(system, "waiting", FEW, "outage")
    run.wait_until_deferred()
    storm(run, seconds=0, refusals=2)
    storm(run, seconds=0, refusals=1, retry_after="1")
    outage(run, "refuse", seconds=2)
    assert set(run.states) == {"deferred"}
    run.succeeds()
    assert run.submissions == FEW
    assert run.tries == {1}


@takes_up
def test_expired_before_the_retry_and_cleared_by_a_user(system: System) -> None:
    """An expired file is of no use, and whoever clears a finished task wants fresh data."""
    run = Run(system, "killed_late_retry", 1)
    system.airflow.wait_until("the first try is dead", lambda: run.states == ["up_for_retry"], 120)
    (export_id,) = system.pending()
    system.service.end(export_id)
    system.service.expire(export_id)
    run.succeeds()
    assert run.submissions == 2
    cleared = {"dry_run": False, "dag_run_id": run.run_id, "task_ids": ["export"], "only_failed": False}
    system.airflow.call("POST", f"/api/v2/dags/{run.dag_id}/clearTaskInstances", cleared)
    system.airflow.wait_until("it runs again", lambda: run.submissions == 3, 120)
    run.succeeds()
    assert run.submissions == 3


def test_execution_timeout_counts_while_deferred(system: System) -> None:
    """It ends the wait, and the log says that it was this one and which export keeps running."""
    run = Run(system, "timed_out", 1)
    system.airflow.wait_until("the try has failed", lambda: run.states == ["up_for_retry"], 120)
    (export_id,) = system.pending()
    log = "".join(
        path.read_text()
        for path in (system.airflow.home / "logs").rglob("dag_id=timed_out/**/*")
        if path.is_file()
    )
    assert export_id in log
    # Airflow 2 has a watch of its own on this; either one ends the wait with the export named.
    assert "execution_timeout ended the wait" in log or (not AIRFLOW_3 and "ended without an event" in log)
    system.end_all()


@takes_up
def test_marked_failed_while_deferred(system: System) -> None:
    """A user who ends the task is told that the export keeps running."""
    run = Run(system, "waiting", 1, "marked")
    run.wait_until_deferred()
    (export_id,) = system.pending()
    system.airflow.wait_until("the trigger runs", lambda: _is_polled(system, export_id), 60)
    path = "/api/v2/dags/waiting/dagRuns/marked/taskInstances/export/0"
    system.airflow.call("PATCH", path, {"new_state": "failed"})
    logs = system.airflow.home / "logs"

    def told() -> bool:
        words = f"export {export_id} keeps running"
        return any(words in p.read_text(errors="replace") for p in logs.rglob("*") if p.is_file())

    system.airflow.wait_until("the trigger says so", told, 60)
    system.end_all()


def _is_polled(system: System, export_id: str) -> bool:
    return any(r.route == "status" and r.export_id == export_id for r in system.service.requests)


def test_no_secret_anywhere(system: System) -> None:
    """After all that: no token, no Basic header, no signature in logs, XComs, rendered fields or trigger rows."""
    system.service.inject(Fault(FaultKind.PRESIGNED, on="export"))
    run = Run(system, "waiting", 1, "presigned")
    run.wait_until_deferred()
    (export_id,) = system.pending()
    fernet = Fernet(system.airflow.environment["AIRFLOW__CORE__FERNET_KEY"])
    # Airflow 2 encrypts the arguments, Airflow 3 does not.
    rows = [row[0] for row in system.airflow.query("select kwargs from trigger")]
    triggers = [row if row.startswith("{") else fernet.decrypt(row).decode() for row in rows]
    run.succeeds()
    places = {"triggers": "\n".join(triggers), "database": "\n".join(_cells(system))}
    for path in (system.airflow.home / "logs").rglob("*"):
        if path.is_file():
            places[str(path)] = path.read_text(errors="replace")
    # The search can find something.
    assert export_id in places["triggers"]
    assert export_id in places["database"]
    assert any(export_id in text for name, text in places.items() if name.startswith("/"))
    basic = base64.b64encode(f"emulator-key:{TOKEN}".encode()).decode()
    for secret in (TOKEN, basic, "Signature=", "X-Amz-Credential"):
        assert [name for name, text in places.items() if secret in text] == []


def _cells(system: System) -> Iterator[str]:
    database = sqlite3.connect(f"file:{system.airflow.home}/airflow.db?mode=ro", uri=True)
    for (table,) in database.execute("select name from sqlite_master where type = 'table'"):
        for row in database.execute(f'select * from "{table}"'):
            for cell in row:
                yield cell.decode(errors="replace") if isinstance(cell, bytes) else str(cell)
    database.close()
