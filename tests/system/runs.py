# SPDX-License-Identifier: Apache-2.0
"""Runs of many exports, and what can happen to them: what tests/system and tests/faults share."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_segments.emulator import Fault, FaultKind
from tests.system.conftest import BUCKET
from tests.system.running_airflow import AIRFLOW_3

if TYPE_CHECKING:
    from tests.system.conftest import System

# Airflow 2 on SQLite runs one task at a time.
FEW, TWENTY, FIFTY = (4, 20, 50) if AIRFLOW_3 else (2, 3, 4)


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
        self.system.airflow.wait_until_deferred(self.dag_id, self.run_id, seconds, export=self.count)

    def succeeds(self, seconds: float = 300) -> None:
        """End exports as they come until the run has ended, which has to be well."""

        def ended() -> Any:
            self.system.end_all()
            return self.system.airflow.run_state(self.dag_id, self.run_id) in ("success", "failed")

        self.system.airflow.wait_until(f"{self.dag_id} has ended", ended, seconds)
        state = self.system.airflow.run_state(self.dag_id, self.run_id)
        assert state == "success", self.system.airflow.task_logs()


def kill_triggerer_and_scheduler(run: Run) -> None:
    """Kill both while exports wait, and end the exports before the scheduler is back."""
    system = run.system
    system.airflow.kill("triggerer")
    system.airflow.start("triggerer")
    waiting = set(system.pending())
    asked = len(system.service.requests)

    def all_are_asked_for_again() -> bool:
        again = {r.export_id for r in system.service.requests[asked:] if r.route == "status"}
        return again >= waiting

    system.airflow.wait_until("the new triggerer waits for all", all_are_asked_for_again, 120)
    system.airflow.kill("scheduler")
    system.end_all()
    system.airflow.start("scheduler")


def storm(run: Run, seconds: float, refusals: int, retry_after: str | None = None) -> None:
    """Answer 429 to every second request, for so long at least and until so many are refused."""
    service = run.system.service
    before = len(service.requests)
    service.inject(
        Fault(FaultKind.TOO_MANY_REQUESTS, on="status", every=2, times=None, retry_after=retry_after)
    )
    time.sleep(seconds)

    def refused() -> int:
        return sum(request.status == 429 for request in service.requests[before:])

    run.system.airflow.wait_until(f"{refusals} are refused", lambda: refused() >= refusals, 300)
    service.clear_faults()


def outage(run: Run, mode: Literal["refuse", "silence"], seconds: float) -> None:
    """Let the service be away for so long."""
    run.system.service.pause(mode)
    time.sleep(seconds)
    run.system.service.resume()


def export_many_segments(system: System, run_id: str, name_pattern: str) -> None:
    """Run the example that exports all segments whose names match, and check every file."""
    dag_id, task_id = "example_export_many_segments", "export_segment"
    before = len(system.service.submissions)
    segments = [s for s in system.service.segments if re.search(name_pattern, s.name)]
    names, ids = {s.name for s in segments}, {s.segment_id for s in segments}
    system.airflow.trigger(dag_id, run_id, {"name_pattern": name_pattern})
    system.airflow.wait_until_deferred(dag_id, run_id, export_segment=len(names))
    assert not [task for task in system.airflow.tasks(dag_id, run_id) if task.state == "running"]
    # The example's template shows the id first; Airflow 2 renders it at the end only.
    assert system.airflow.labels(dag_id, run_id, task_id) == (ids if AIRFLOW_3 else {None})
    system.end_all()
    assert system.airflow.wait_for_run(dag_id, run_id) == "success", system.airflow.task_logs()
    assert system.airflow.labels(dag_id, run_id, task_id) == names
    submissions = system.service.submissions[before:]
    assert len(submissions) == len(names)
    for submission in submissions:
        copied = system.body(BUCKET, f"segments/{submission.segment_id}/{submission.export_id}.csv")
        assert copied == system.body("upload-bucket", f"path/to/{submission.export_id}.csv")
