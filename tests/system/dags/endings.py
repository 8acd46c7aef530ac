# SPDX-License-Identifier: Apache-2.0
"""Tasks finished on a worker and in the triggerer, each read by a task downstream."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_segments.operators.user_segments import UserSegmentExportOperator
from airflow_provider_segments.sensors.user_segments import UserSegmentExportSensor

SEGMENT_ID = os.environ.get("SEGMENT_ID", "unset")


@task
def read(result: Any, s3_key: Any, expires_at: Any) -> list[Any]:
    """Return what a downstream task is given."""
    return [result, s3_key, expires_at]


def read_from(source: Any, name: str) -> None:
    """Read a task's XComs as a whole and one by one."""
    read.override(task_id=f"read_{name}")(source.output, source.output["s3_key"], source.output["expires_at"])


with DAG("endings", schedule=None, start_date=datetime(2026, 1, 1), catchup=False) as endings:
    arguments: dict[str, Any] = {"segment_id": SEGMENT_ID, "defer_after": 0, "retries": 2}
    read_from(UserSegmentExportOperator(task_id="worker", **arguments), "worker")
    read_from(UserSegmentExportOperator(task_id="trigger", end_from_trigger=True, **arguments), "trigger")
    UserSegmentExportOperator.partial(
        task_id="mapped", defer_after=0, end_from_trigger=True, retries=2
    ).expand(segment_id=[SEGMENT_ID] * 3)

with DAG(
    "sensing", schedule=None, start_date=datetime(2026, 1, 1), catchup=False, params={"export_id": ""}
) as sensing:
    export_id = "{{ dag_run.conf['export_id'] }}"
    read_from(UserSegmentExportSensor(task_id="worker", export_id=export_id), "worker")
    read_from(
        UserSegmentExportSensor(task_id="trigger", export_id=export_id, end_from_trigger=True), "trigger"
    )
    if AIRFLOW_V_3_3_PLUS:
        read_from(
            UserSegmentExportSensor(
                task_id="triggerer_only", export_id=export_id, start_from_trigger=True, end_from_trigger=True
            ),
            "triggerer_only",
        )
