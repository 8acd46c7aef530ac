# SPDX-License-Identifier: Apache-2.0
"""What can happen to a real Airflow and to the service: no export requested twice, none lost."""

from __future__ import annotations

import base64
import sqlite3
import time
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.fernet import Fernet

from airflow_provider_segments.emulator import Fault, FaultKind
from tests.system.conftest import TOKEN
from tests.system.running_airflow import AIRFLOW_3

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.conftest import System

pytestmark = pytest.mark.system

takes_up = pytest.mark.skipif(
    not AIRFLOW_3, reason="only Airflow 3.3 and later keep an export's id across tries"
)
# Airflow 2 on SQLite runs one task at a time.
FIFTY, TWENTY = (50, 20) if AIRFLOW_3 else (4, 3)


class Run:
    """One run of a DAG with so many exports."""

    def __init__(self, system: System, dag_id: str, count: int, run_id: str = "run") -> None:
        self.system, self.dag_id, self.count, self.run_id = system, dag_id, count, run_id
        self._before = len(system.service.submissions)
        system.airflow.trigger(dag_id, run_id, {"count": count})

    @property
    def submissions(self) -> int:
        return len(self.system.service.submissions) - self._before

    @property
    def states(self) -> list[str | None]:
        return self.system.states(self.dag_id, self.run_id, "export")

    @property
    def tries(self) -> set[int]:
        return {
            task.try_number
            for task in self.system.airflow.tasks(self.dag_id, self.run_id)
            if task.task_id == "export"
        }

    def wait_until_deferred(self, seconds: float = 300) -> None:
        expected = ["deferred"] * self.count
        self.system.airflow.wait_until(
            f"{self.dag_id}: all deferred", lambda: self.states == expected, seconds
        )

    def succeeds(self, seconds: float = 300) -> None:
        """End exports as they come until the run has ended, which has to be well."""

        def ended() -> Any:
            self.system.end_all()
            return self.system.airflow.run_state(self.dag_id, self.run_id) in ("success", "failed")

        self.system.airflow.wait_until(f"{self.dag_id} has ended", ended, seconds)
        state = self.system.airflow.run_state(self.dag_id, self.run_id)
        assert state == "success", self.system.airflow.task_logs()


@takes_up
def test_killed_right_after_the_post_deferring(system: System) -> None:
    """Twenty task processes killed: twenty submissions, twenty successes, taken up while pending."""
    run = Run(system, "killed_deferred", 20)
    run.wait_until_deferred()
    assert run.tries == {2}
    run.succeeds()
    assert run.submissions == 20


@takes_up
def test_killed_right_after_the_post_on_the_worker(system: System) -> None:
    """The same on the synchronous path."""
    run = Run(system, "killed_on_worker", 20)
    run.succeeds()
    assert run.tries == {2}
    assert run.submissions == 20


def test_triggerer_and_scheduler_killed(system: System) -> None:
    """Killed while fifty exports wait, then started again: fifty submissions, fifty successes, no try used up."""
    run = Run(system, "waiting", FIFTY, "killed")
    run.wait_until_deferred()
    system.airflow.kill("triggerer")
    system.airflow.start("triggerer")
    polled = {request.export_id for request in system.service.requests}
    asked = len(system.service.requests)

    def all_are_asked_for_again() -> bool:
        again = {r.export_id for r in system.service.requests[asked:] if r.route == "status"}
        return len(again & polled) >= FIFTY

    system.airflow.wait_until("the new triggerer waits for all", all_are_asked_for_again, 120)
    system.airflow.kill("scheduler")
    system.end_all()
    system.airflow.start("scheduler")
    run.succeeds()
    assert run.submissions == FIFTY
    assert run.tries == {1}


def test_storm_of_429s_and_outage(system: System) -> None:
    """A minute of 429s at every second request, then two minutes of outage: all succeed, no try is used up."""
    run = Run(system, "waiting", TWENTY, "outage")
    run.wait_until_deferred()
    service = system.service
    before = len(service.requests)
    service.inject(Fault(FaultKind.TOO_MANY_REQUESTS, on="status", every=2, times=None))
    time.sleep(30)
    service.clear_faults()
    service.inject(Fault(FaultKind.TOO_MANY_REQUESTS, on="status", every=2, times=None, retry_after="2"))
    time.sleep(30)
    service.clear_faults()
    answers = [request.status for request in service.requests[before:]]
    assert answers.count(429) > 10
    assert set(run.states) == {"deferred"}
    service.pause("refuse")
    time.sleep(60)
    service.resume()
    service.pause("silence")
    time.sleep(60)
    service.resume()
    assert set(run.states) == {"deferred"}
    run.succeeds()
    assert run.submissions == TWENTY
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
    """It ends the wait, and the log says that it was this one and which export goes on."""
    run = Run(system, "timed_out", 1)
    assert system.airflow.wait_for_run(run.dag_id, run.run_id, 120) == "failed"
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
    """A user who ends the task is told that the export goes on."""
    run = Run(system, "waiting", 1, "marked")
    run.wait_until_deferred()
    (export_id,) = system.pending()
    system.airflow.wait_until("the trigger runs", lambda: _is_polled(system, export_id), 60)
    path = "/api/v2/dags/waiting/dagRuns/marked/taskInstances/export/0"
    system.airflow.call("PATCH", path, {"new_state": "failed"})
    logs = system.airflow.home / "logs"

    def told() -> bool:
        words = f"export {export_id} goes on"
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
