# SPDX-License-Identifier: Apache-2.0
"""The example DAGs in a real Airflow: they succeed, the bytes arrive, and no worker is held meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.system.conftest import BUCKET
from tests.system.running_airflow import AIRFLOW_3
from tests.system.runs import export_many_segments

if TYPE_CHECKING:
    from tests.system.conftest import System

pytestmark = pytest.mark.system

# Eight segments; Airflow 2 on SQLite runs one task at a time, so only two there. tests/faults exports all.
NAME_PATTERN = "series 2$" if AIRFLOW_3 else "^Recent Registrants"


def test_export_segment(system: System) -> None:
    """Export, defer, copy."""
    dag_id, run_id = "example_export_segment", "one"
    system.airflow.trigger(dag_id, run_id)
    system.airflow.wait_until_deferred(dag_id, run_id, export_segment=1)
    (export_id,) = system.pending()
    assert not [task for task in system.airflow.tasks(dag_id, run_id) if task.state == "running"]
    system.end_all()
    assert system.airflow.wait_for_run(dag_id, run_id) == "success", system.airflow.task_logs()
    copied = system.body(BUCKET, f"segments/Recent Registrants/{run_id}.csv")
    assert copied == system.body("upload-bucket", f"path/to/{export_id}.csv")
    assert len(copied.splitlines()) == 1001


def test_export_many_segments(system: System) -> None:
    """All wait at once in the triggerer, and none of them on a worker."""
    export_many_segments(system, "many", NAME_PATTERN)
