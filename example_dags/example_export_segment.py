# SPDX-License-Identifier: Apache-2.0
"""
Export one user segment and copy its file into a bucket of yours.

Needs:

- the Connection ``mparticle_analytics_default`` (type mParticle Analytics),
- the Connection ``aws_default``, which may read the service's bucket and write yours,
- the params ``segment_name`` and ``bucket``, whose defaults come from the environment variables
  ``SEGMENT_NAME`` and ``SEGMENT_BUCKET``.
"""

from __future__ import annotations

import os
from datetime import datetime

from airflow.providers.amazon.aws.operators.s3 import S3CopyObjectOperator
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_segments.operators.user_segments import UserSegmentExportOperator

with DAG(
    dag_id="example_export_segment",
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
    # [START howto_operator_user_segment_export]
    export = UserSegmentExportOperator(
        task_id="export_segment",
        segment_name="{{ params.segment_name }}",
        retries=2,
    )
    # [END howto_operator_user_segment_export]

    copy = S3CopyObjectOperator(
        task_id="copy_to_my_bucket",
        source_bucket_name=export.output["s3_bucket"],
        source_bucket_key=export.output["s3_key"],
        dest_bucket_name="{{ params.bucket }}",
        dest_bucket_key="segments/{{ params.segment_name }}/{{ run_id }}.csv",
        acl_policy="no-acl",  # new buckets refuse access control lists
    )
