# SPDX-License-Identifier: Apache-2.0
"""
Export one user segment and load its file into a PostgreSQL table, in place of the rows of the last run.

Needs:

- the Connection ``mparticle_analytics_default`` (type mParticle Analytics),
- the Connection ``aws_default``, which may read the service's bucket,
- the Connection ``postgres_default``, and the providers ``postgres`` and ``common.sql``,
- the params ``segment_name`` and ``table``, whose defaults come from the environment variables ``SEGMENT_NAME``
  and ``SEGMENT_TABLE``; adapt the columns, which are those of the emulator's files.
"""

from __future__ import annotations

import csv
import os
from datetime import datetime
from typing import TYPE_CHECKING

from airflow.providers.amazon.aws.transfers.s3_to_sql import S3ToSqlOperator
from airflow.providers.common.compat.sdk import DAG
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator

from airflow_provider_segments.operators.user_segments import UserSegmentExportOperator

if TYPE_CHECKING:
    from collections.abc import Iterator


def rows(path: str) -> Iterator[list[str]]:
    """Yield the lines after the header."""
    with open(path, newline="") as file:
        lines = csv.reader(file)
        next(lines)
        yield from lines


with DAG(
    dag_id="example_segment_to_postgres",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    params={
        "segment_name": os.environ.get("SEGMENT_NAME", "Recent Registrants"),
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

    empty = SQLExecuteQueryOperator(
        task_id="empty_table",
        conn_id="postgres_default",
        sql=[
            "CREATE TABLE IF NOT EXISTS {{ params.table }} (user_id text, country text, sessions integer)",
            "TRUNCATE {{ params.table }}",
        ],
    )

    # [START howto_segment_to_postgres]
    load = S3ToSqlOperator(
        task_id="load_into_table",
        s3_bucket=export.output["s3_bucket"],
        s3_key=export.output["s3_key"],
        parser=rows,
        table="{{ params.table }}",
        column_list=["user_id", "country", "sessions"],
        sql_conn_id="postgres_default",
        retries=0,  # a retry would insert committed rows again: clear empty_table and downstream instead
    )
    # [END howto_segment_to_postgres]

    export >> empty >> load
