# SPDX-License-Identifier: Apache-2.0
"""
List the segments, export each, and copy all files into a bucket of yours.

Needs:

- the Connection ``mparticle_analytics_default`` (type mParticle Analytics),
- the Connection ``aws_default``, which may read the service's bucket and write yours,
- the params ``name_pattern`` (a regular expression; empty for all) and ``bucket``, whose defaults come from the
  environment variables ``SEGMENT_NAME_PATTERN`` and ``SEGMENT_BUCKET``.
"""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

from airflow.providers.amazon.aws.operators.s3 import S3CopyObjectOperator
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_segments.operators.user_segments import (
    UserSegmentExportOperator,
    UserSegmentsListOperator,
)


def segment_id(segment: dict[str, Any]) -> str:
    """Return what an export needs of a segment."""
    return segment["segment_id"]


def copy_arguments(result: dict[str, Any]) -> dict[str, str]:
    """Return what a copy needs of an export's result."""
    return {
        "source_bucket_name": result["s3_bucket"],
        "source_bucket_key": result["s3_key"],
        "dest_bucket_key": f"segments/{result['segment_id']}/{result['export_id']}.{result['output_format']}",
    }


with DAG(
    dag_id="example_export_many_segments",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    params={
        "name_pattern": os.environ.get("SEGMENT_NAME_PATTERN", ""),
        "bucket": os.environ.get("SEGMENT_BUCKET", "my-bucket"),
    },
    tags=["example", "mparticle"],
    doc_md=__doc__,
) as dag:
    # [START howto_operator_user_segments_list]
    segments = UserSegmentsListOperator(task_id="list_segments", name_pattern="{{ params.name_pattern }}")

    exports = UserSegmentExportOperator.partial(
        task_id="export_segment",
        map_index_template="{{ user_segment_label | default(task.segment_id) }}",
        retries=2,
    ).expand(segment_id=segments.output.map(segment_id))
    # [END howto_operator_user_segments_list]

    copies = S3CopyObjectOperator.partial(
        task_id="copy_to_my_bucket", dest_bucket_name="{{ params.bucket }}", acl_policy="no-acl"
    ).expand_kwargs(exports.output.map(copy_arguments))
