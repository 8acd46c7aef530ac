# SPDX-License-Identifier: Apache-2.0
"""An export and a task that reads it, and many exports at a time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_segments.operators.user_segments import UserSegmentExportOperator

ON_DEMAND: dict[str, Any] = {"schedule": None, "start_date": datetime(2026, 1, 1), "catchup": False}


@task
def downstream(s3_key: str) -> None:
    """Do nothing but start."""


for seconds in (0, 4):
    with DAG(f"defer_after_{seconds}", **ON_DEMAND):
        export = UserSegmentExportOperator(
            task_id="export", segment_name="Segment 1", defer_after=seconds, mparticle_conn_id="quick"
        )
        downstream(export.output["s3_key"])

for where in (False, True):
    with DAG(f"end_from_trigger_{where}".lower(), **ON_DEMAND):
        UserSegmentExportOperator.partial(
            task_id="export", segment_name="Segment 1", end_from_trigger=where, mparticle_conn_id="slow"
        ).expand(output_format=["csv"] * 50)
