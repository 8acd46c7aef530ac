# SPDX-License-Identifier: Apache-2.0
"""
Copy each user segment that the service has refreshed since the last run into a bucket of yours, under the day's date.

Static segments never change. The first run exports every Dynamic segment, the next ones those refreshed since the data
interval of the last successful run ended, each by a mapped task of its own. Unlike the time when a run began, that
stays the same when somebody clears its tasks.

Needs:

- the Connection ``mparticle_analytics_default`` (type mParticle Analytics),
- the Connection ``aws_default``, which may read the service's bucket and write yours,
- the param ``bucket``, whose default comes from the environment variable ``SEGMENT_BUCKET``.
"""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_segments.operators.user_segments import UserSegmentsListOperator
from airflow_provider_segments.transfers.user_segment_to_s3 import UserSegmentToS3Operator


def target(segment: dict[str, Any]) -> dict[str, str]:
    """Return what one mapped task is given; its templates are rendered."""
    key = "segments/{{ dag_run.start_date | ds }}/" + segment["segment_id"] + ".csv"
    return {"segment_id": segment["segment_id"], "s3_key": key}


with DAG(
    dag_id="example_sync_changed_segments",
    schedule=None,  # "@daily" in production
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    params={"bucket": os.environ.get("SEGMENT_BUCKET", "my-bucket")},
    tags=["example", "mparticle"],
    doc_md=__doc__,
) as dag:
    changed = UserSegmentsListOperator(
        task_id="list_changed_segments",
        segment_type="Dynamic",
        refreshed_since="{{ prev_data_interval_end_success | default('', true) }}",
    )

    UserSegmentToS3Operator.partial(
        task_id="segment_to_s3",
        s3_bucket="{{ params.bucket }}",
        replace=True,  # a second run of the day brings fresher data
        retries=2,
        max_active_tis_per_dag=16,  # before Airflow 3.2.2, only a pool limits deferred tasks
    ).expand_kwargs(changed.output.map(target))
