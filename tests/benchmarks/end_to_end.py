# SPDX-License-Identifier: Apache-2.0
"""What deferring costs and saves in a real Airflow, with its scheduler, triggerer and workers."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from airflow_provider_segments.emulator import EmulatedSegment, Emulator
from tests.system.running_airflow import RunningAirflow

DAGS = Path(__file__).parent / "dags"
ROUNDS = 7
SEGMENTS = [EmulatedSegment(segment_id="s-1", name="Segment 1")]


@dataclass
class EndToEnd:
    """
    What was found.

    :param seconds: from submission to the last look, to the task's end, and to the downstream task's start, by
        `defer_after`, in the order of the rounds.
    :param starts: how often a worker started one of 50 mapped tasks, by `end_from_trigger`.
    """

    seconds: dict[int, list[tuple[float, float, float]]]
    starts: dict[bool, int]

    def medians(self, defer_after: int) -> tuple[float, ...]:
        return tuple(statistics.median(phase) for phase in zip(*self.seconds[defer_after], strict=True))


def measure(folder: Path) -> EndToEnd:
    """Run the DAGs, in turn."""
    with (
        Emulator(bucket=None, segments=SEGMENTS, export_seconds=2) as quick,
        Emulator(bucket=None, segments=SEGMENTS, export_seconds=30) as slow,
        RunningAirflow(
            folder / "airflow",
            DAGS,
            {
                "AIRFLOW_CONN_QUICK": json.dumps(quick.airflow_connection()),
                "AIRFLOW_CONN_SLOW": json.dumps(slow.airflow_connection()),
                "PYTHONPATH": str(Path(__file__).parents[2]),
            },
            parallelism=8,
        ) as airflow,
    ):
        seconds: dict[int, list[tuple[float, float, float]]] = {0: [], 4: []}
        for number in range(ROUNDS):
            for defer_after, found in seconds.items():
                found.append(_one_run(airflow, quick, f"defer_after_{defer_after}", f"run-{number}"))
        starts = {where: _starts(airflow, f"end_from_trigger_{where}".lower()) for where in (True, False)}
    return EndToEnd(seconds, starts)


def _one_run(
    airflow: RunningAirflow, service: Emulator, dag_id: str, run_id: str
) -> tuple[float, float, float]:
    before = len(service.submissions)
    _run(airflow, dag_id, run_id)
    (submission,) = service.submissions[before:]
    looks = [r.time for r in service.requests if r.export_id == submission.export_id]
    ((ended, started),) = airflow.query(
        "select e.end_date, d.start_date from task_instance e join task_instance d using (dag_id, run_id) "
        "where dag_id = ? and run_id = ? and e.task_id = 'export' and d.task_id = 'downstream'",
        dag_id,
        run_id,
    )

    def after(moment: str) -> float:
        return (datetime.fromisoformat(moment).replace(tzinfo=timezone.utc) - submission.wall).total_seconds()

    return looks[-1] - submission.time, after(ended), after(started)


def _starts(airflow: RunningAirflow, dag_id: str) -> int:
    _run(airflow, dag_id, "run")
    return airflow.worker_starts(dag_id, "export")


def _run(airflow: RunningAirflow, dag_id: str, run_id: str) -> None:
    airflow.trigger(dag_id, run_id)
    if airflow.wait_for_run(dag_id, run_id, 600) != "success":
        raise RuntimeError(f"{dag_id} failed: {airflow.task_logs()}")
