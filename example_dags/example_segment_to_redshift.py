# SPDX-License-Identifier: Apache-2.0
"""
Export one user segment and let Redshift load its file into a table, in place of the rows of the last run.

Needs:

- the Connection ``mparticle_analytics_default`` (type mParticle Analytics),
- the Connection ``aws_default``, whose role (``role_arn``) or keys let Redshift read the service's bucket,
- the Connection ``redshift_default``,
- the params ``segment_name``, ``schema`` and ``table``, whose defaults come from the environment variables
  ``SEGMENT_NAME``, ``SEGMENT_SCHEMA`` and ``SEGMENT_TABLE``; the table has to be there, with the file's columns.
"""

from __future__ import annotations

import os
from datetime import datetime

from airflow.providers.amazon.aws.transfers.s3_to_redshift import S3ToRedshiftOperator
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_segments.operators.user_segments import UserSegmentExportOperator

with DAG(
    dag_id="example_segment_to_redshift",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    params={
        "segment_name": os.environ.get("SEGMENT_NAME", "Recent Registrants"),
        "schema": os.environ.get("SEGMENT_SCHEMA", "public"),
        "table": os.environ.get("SEGMENT_TABLE", "segment_users"),
    },
    tags=["example", "mparticle"],
    doc_md=__doc__,
) as dag:
    export = UserSegmentExportOperator(
        task_id="export_segment",
        segment_name="{{ params.segment_name }}",
        retries=2,
    )

    # [START howto_segment_to_redshift]
    load = S3ToRedshiftOperator(
        task_id="load_into_table",
        s3_bucket=export.output["s3_bucket"],
        s3_key=export.output["s3_key"],
        schema="{{ params.schema }}",
        table="{{ params.table }}",
        method="REPLACE",
        copy_options=["CSV", "IGNOREHEADER 1"],
        aws_conn_id="aws_default",
        redshift_conn_id="redshift_default",
    )
    # [END howto_segment_to_redshift]
