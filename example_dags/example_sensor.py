# SPDX-License-Identifier: Apache-2.0
"""
Request an export without waiting, do something else, and wait for it with the sensor.

Needs:

- the Connection ``mparticle_analytics_default`` (type mParticle Analytics),
- the Connection ``aws_default``, which may read the service's bucket and write yours,
- the params ``segment_name`` and ``bucket``, whose defaults come from the environment variables
  ``SEGMENT_NAME`` and ``SEGMENT_BUCKET``.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta

from airflow.providers.amazon.aws.operators.s3 import S3CopyObjectOperator
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_segments.operators.user_segments import UserSegmentExportOperator
from airflow_provider_segments.sensors.user_segments import UserSegmentExportSensor

with DAG(
    dag_id="example_sensor",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    params={
        "segment_name": os.environ.get("SEGMENT_NAME", "Recent Registrants"),
        "bucket": os.environ.get("SEGMENT_BUCKET", "my-bucket"),
    },
    tags=["example", "mparticle"],
    doc_md=__doc__,
) as dag:
    request = UserSegmentExportOperator(
        task_id="request_export",
        segment_name="{{ params.segment_name }}",
        wait_for_completion=False,
    )

    # [START howto_sensor_user_segment_export]
    wait = UserSegmentExportSensor(
        task_id="wait_for_export",
        export_id=request.output["export_id"],
        timeout=timedelta(hours=6),
    )
    # [END howto_sensor_user_segment_export]

    copy = S3CopyObjectOperator(
        task_id="copy_to_my_bucket",
        source_bucket_name=wait.output["s3_bucket"],
        source_bucket_key=wait.output["s3_key"],
        dest_bucket_name="{{ params.bucket }}",
        dest_bucket_key="segments/{{ params.segment_name }}/{{ run_id }}.csv",
        acl_policy="no-acl",  # new buckets refuse access control lists
    )
