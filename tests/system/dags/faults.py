# SPDX-License-Identifier: Apache-2.0
"""DAGs for the fault tests: as many exports as the run's conf says, in several ways."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_segments.operators.user_segments import UserSegmentExportOperator
from tests.system.killed import DiesRightAfterThePost

SEGMENT_ID = os.environ.get("SEGMENT_ID", "unset")


def exports(dag_id: str, operator: type[UserSegmentExportOperator], **arguments: Any) -> DAG:
    """Make a DAG that maps over as many exports as its run's conf says."""
    with DAG(
        dag_id, schedule=None, start_date=datetime(2026, 1, 1), params={"count": 1}, catchup=False
    ) as dag:

        @task
        def segments(params: Any = None) -> list[str]:
            return [SEGMENT_ID] * int(params["count"])

        # More than a test needs: a busy Airflow fails tries of its own accord, see docs/reliability.md.
        defaults = {"retries": 6, "retry_delay": timedelta(seconds=1), "defer_after": 0}
        operator.partial(task_id="export", **(defaults | arguments)).expand(segment_id=segments())
    return dag


waiting = exports("waiting", UserSegmentExportOperator)
killed_deferred = exports("killed_deferred", DiesRightAfterThePost)
killed_on_worker = exports("killed_on_worker", DiesRightAfterThePost, deferrable=False)
killed_late_retry = exports("killed_late_retry", DiesRightAfterThePost, retry_delay=timedelta(seconds=10))
timed_out = exports(
    "timed_out",
    UserSegmentExportOperator,
    retry_delay=timedelta(hours=1),  # one try is enough
    execution_timeout=timedelta(seconds=10),
)
