# SPDX-License-Identifier: Apache-2.0
"""
Find out who entered and who left a segment since its last export, and keep a PostgreSQL table and an audience in step.

If the service has not refreshed the segment since the last run, nothing is exported. Each run's changes are applied
after those of the run before (``depends_on_past``), and may be applied twice without harm.

Needs:

- the package with its extra: ``pip install 'airflow-provider-segments[changes]'``,
- the Connection ``mparticle_analytics_default`` (type mParticle Analytics),
- the Connection ``aws_default``, which may read the service's bucket, and read and write yours,
- the Connection ``postgres_default``, and the providers ``postgres`` and ``common.sql``,
- the params ``segment_name``, ``bucket`` and ``table``, whose defaults come from the environment variables
  ``SEGMENT_NAME``, ``SEGMENT_BUCKET`` and ``SEGMENT_TABLE``; adapt the columns, which are those of the
  emulator's files.
"""

from __future__ import annotations

import codecs
import csv
import os
import re
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.common.compat.sdk import DAG, task
from airflow.providers.postgres.hooks.postgres import PostgresHook

from airflow_provider_segments.operators.user_segments import UserSegmentsListOperator
from airflow_provider_segments.transfers.user_segment_changes_to_s3 import UserSegmentChangesToS3Operator

if TYPE_CHECKING:
    from collections.abc import Iterator

COLUMNS = ["user_id", "country", "sessions"]
BATCH = 10_000


def rows_of(result: dict[str, Any], kind: str) -> Iterator[list[str]]:
    """Yield the rows of added.csv, removed.csv or changed.csv; a file without rows has its header only."""
    place = {"Bucket": result["s3_bucket"], "Key": result[f"{kind}_s3_key"]}
    body = S3Hook("aws_default").get_conn().get_object(**place)["Body"]
    lines = csv.reader(codecs.getreader("utf-8")(body))
    next(lines)
    yield from lines


def batches(rows: Iterator[list[str]]) -> Iterator[list[str]]:
    """Yield the users' ids in batches."""
    while batch := [row[0] for row in islice(rows, BATCH)]:
        yield batch


with DAG(
    dag_id="example_segment_changes",
    schedule=None,  # "@daily" in production
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    params={
        "segment_name": os.environ.get("SEGMENT_NAME", "Recent Registrants"),
        "bucket": os.environ.get("SEGMENT_BUCKET", "my-bucket"),
        "table": os.environ.get("SEGMENT_TABLE", "segment_users"),
    },
    tags=["example", "mparticle"],
    doc_md=__doc__,
    user_defined_filters={"escape": re.escape},
) as dag:
    # [START howto_operator_user_segment_changes]
    refreshed = UserSegmentsListOperator(
        task_id="list_refreshed_segments",
        name_pattern="^{{ params.segment_name | escape }}$",
        refreshed_since="{{ prev_data_interval_end_success | default('', true) }}",
    )

    changes = UserSegmentChangesToS3Operator(
        task_id="segment_changes",
        segment_name="{{ params.segment_name }}",
        s3_bucket="{{ params.bucket }}",
        s3_prefix="audiences",
        key_columns=["user_id"],
        retries=2,
    )
    # [END howto_operator_user_segment_changes]

    @task.short_circuit
    def is_refreshed(segments: list[dict[str, Any]]) -> bool:
        """Skip the rest if the segment is unchanged."""
        return bool(segments)

    @task(retries=2, depends_on_past=True)
    def sync_table(result: dict[str, Any], table: str) -> None:
        """Upsert those who came or changed, delete those who left."""
        hook = PostgresHook("postgres_default")
        hook.run(
            f"CREATE TABLE IF NOT EXISTS {table} (user_id text PRIMARY KEY, country text, sessions integer)"
        )
        for kind in ("added", "changed"):
            hook.insert_rows(
                table,
                rows_of(result, kind),
                target_fields=COLUMNS,
                replace=True,
                replace_index="user_id",
                commit_every=BATCH,
            )
        for ids in batches(rows_of(result, "removed")):
            hook.run(f"DELETE FROM {table} WHERE user_id = ANY(%s)", parameters=(ids,))

    @task(retries=2, depends_on_past=True)
    def sync_audience(result: dict[str, Any]) -> None:
        """Send what an advertising platform takes: whom to add, whom to remove; here it is only printed."""
        for kind in ("added", "removed"):
            for ids in batches(rows_of(result, kind)):
                print(f"{kind}: {len(ids)} users, from {ids[0]} to {ids[-1]}")

    is_refreshed(refreshed.output) >> changes
    sync_table(changes.output, "{{ params.table }}")
    sync_audience(changes.output)
