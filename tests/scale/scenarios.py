# SPDX-License-Identifier: Apache-2.0
"""What is done to the cluster while it exports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3

from tests.scale.cluster import BUCKET, WORKERS
from tests.scale.runs import Kill, busiest_triggerer, run_dag

if TYPE_CHECKING:
    from tests.scale.cluster import Cluster
    from tests.scale.outcome import Outcome
    from tests.scale.service import Journal

# What the service allows a second, as the trial had it; no Connection says so.
LIMIT = 20


def exports(cluster: Cluster, count: int) -> Outcome:
    """Exports of 2 to 90 s; a triggerer and a worker are killed, and come back a minute later; so is the database."""
    service = cluster.serve(
        "exports", segments=count, rows=10, export_seconds="2-90", requests_per_second=LIMIT
    )
    kills = [
        Kill(lambda submitted: busiest_triggerer(cluster) if submitted >= count / 3 else ""),
        # After the last request: a death between a POST and the keeping of its id would double that export, and nobody
        # can close this gap (docs/reliability.md). `deaths` kills right after it.
        Kill(lambda submitted: WORKERS[0] if submitted >= count else ""),
    ]
    outcome, _ = run_dag(cluster, "exports", service, count, kills, restart_database_at=count * 5 / 6)
    return outcome


def deaths(cluster: Cluster, count: int) -> Outcome:
    """Each task's process is killed right after its POST."""
    service = cluster.serve("deaths", segments=count, rows=10, export_seconds="5-30")
    outcome, _ = run_dag(cluster, "deaths", service, count)
    return outcome


def files(cluster: Cluster, count: int) -> Outcome:
    """Files are copied to the user's bucket, and a worker is killed in the middle of one."""
    service = cluster.serve("files", segments=count, rows=300_000, export_seconds="5-30")
    told = cluster.home / "transferring"
    s3 = _s3(cluster)
    s3.create_bucket(Bucket=BUCKET)
    kill = Kill(lambda _: told.read_text() if told.exists() else "")
    outcome, journal = run_dag(cluster, "files", service, count, [kill])
    left = s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    whole = _count_whole(s3, journal, [segment["segmentId"] for segment in service.segments()][:count])
    outcome.lost = max(outcome.lost, count - whole)
    outcome.notes.append(f"{whole} of {count} files are whole; unfinished uploads left: {len(left)}")
    if not kill.component:
        outcome.notes.append("no worker was killed in a transfer")
    return outcome


def _s3(cluster: Cluster) -> Any:
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
    return boto3.client("s3", endpoint_url=cluster.s3_url, **keys)


def _count_whole(s3: Any, journal: Journal, segment_ids: list[str]) -> int:
    """Return how many of the user's objects are what the service wrote."""
    by_segment = {export.segment_id: export.export_id for export in journal.exports}

    def body(bucket: str, key: str) -> Any:
        return s3.get_object(Bucket=bucket, Key=key)["Body"].read()

    there = {found["Key"] for found in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])}
    return sum(
        f"{index}.csv" in there
        and body(BUCKET, f"{index}.csv") == body("upload-bucket", f"path/to/{by_segment[segment_id]}.csv")
        for index, segment_id in enumerate(segment_ids)
        if segment_id in by_segment
    )
