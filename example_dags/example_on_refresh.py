# SPDX-License-Identifier: Apache-2.0
"""
Export a segment whenever the service has refreshed it, and copy its file into a bucket of yours.

Needs:

- Airflow 3.0 or later; on Airflow 2 this file has no DAG,
- the Connection ``mparticle_analytics_default`` (type mParticle Analytics), on triggerers too,
- the Connection ``aws_default``, which may read the service's bucket and write yours,
- the environment variable ``SEGMENT_NAME``, where the DAG is parsed: a Dynamic segment's name,
- the param ``bucket``, whose default comes from the environment variable ``SEGMENT_BUCKET``.
"""

from __future__ import annotations

import os
from datetime import datetime

from airflow.providers.amazon.aws.operators.s3 import S3CopyObjectOperator
from airflow.providers.common.compat.sdk import DAG, Asset
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_segments.operators.user_segments import UserSegmentExportOperator
from airflow_provider_segments.triggers.segment_refresh import UserSegmentRefreshTrigger

if AIRFLOW_V_3_0_PLUS:
    from airflow.sdk import AssetWatcher

    # [START howto_trigger_user_segment_refresh]
    refreshed = Asset(
        "segment_refreshed",
        watchers=[
            AssetWatcher(
                name="segment_watcher",
                trigger=UserSegmentRefreshTrigger(
                    segment_name=os.environ.get("SEGMENT_NAME", "Recent Registrants"),
                    poll_interval=float(os.environ.get("SEGMENT_POLL_SECONDS", "300")),
                ),
            )
        ],
    )

    with DAG(
        dag_id="example_on_refresh",
        schedule=[refreshed],
        start_date=datetime(2026, 1, 1),
        catchup=False,
        params={"bucket": os.environ.get("SEGMENT_BUCKET", "my-bucket")},
        tags=["example", "mparticle"],
        doc_md=__doc__,
    ) as dag:
        # The latest event, if there were several before this run.
        event = "(triggering_asset_events.values() | first | last).extra.payload"
        export = UserSegmentExportOperator(
            task_id="export_segment", segment_id="{{ " + event + ".segment_id }}", retries=2
        )
        # [END howto_trigger_user_segment_refresh]

        copy = S3CopyObjectOperator(
            task_id="copy_to_my_bucket",
            source_bucket_name=export.output["s3_bucket"],
            source_bucket_key=export.output["s3_key"],
            dest_bucket_name="{{ params.bucket }}",
            dest_bucket_key="segments/{{ " + event + ".segment_name }}/{{ run_id }}.csv",
            acl_policy="no-acl",  # new buckets refuse access control lists
        )
