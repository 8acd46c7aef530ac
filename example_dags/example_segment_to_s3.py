# SPDX-License-Identifier: Apache-2.0
"""
Export one user segment to a file in a bucket of yours, in one task.

Needs:

- the Connection ``mparticle_analytics_default`` (type mParticle Analytics),
- the Connection ``aws_default``, which may read the service's bucket and write yours; if it takes other credentials to
  read the service's, name their Connection as ``source_aws_conn_id``,
- the params ``segment_name`` and ``bucket``, whose defaults come from the environment variables
  ``SEGMENT_NAME`` and ``SEGMENT_BUCKET``.

DAGs with ``schedule=[AssetAlias("exported_segments")]`` start when the file is there; their event's ``extra`` is the
task's result.
"""

from __future__ import annotations

import os
from datetime import datetime

from airflow.providers.common.compat.sdk import DAG, AssetAlias

from airflow_provider_segments.transfers.user_segment_to_s3 import UserSegmentToS3Operator

with DAG(
    dag_id="example_segment_to_s3",
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
    # [START howto_operator_user_segment_to_s3]
    UserSegmentToS3Operator(
        task_id="segment_to_s3",
        segment_name="{{ params.segment_name }}",
        s3_bucket="{{ params.bucket }}",
        s3_key="segments/{{ params.segment_name }}/{{ run_id }}.csv",
        replace=True,
        outlets=[AssetAlias("exported_segments")],
        retries=2,
    )
    # [END howto_operator_user_segment_to_s3]
