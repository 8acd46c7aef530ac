# SPDX-License-Identifier: Apache-2.0
"""A task that tells who entered and who left, and is killed in each of its steps once, over three runs."""

from __future__ import annotations

import os
import signal
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_segments.files.destination import Destination
from airflow_provider_segments.files.stored import LatestExport
from airflow_provider_segments.transfers.user_segment_changes_to_s3 import UserSegmentChangesToS3Operator

STEPS = {"day-1": (0, 1), "day-2": (2, 3), "day-3": (4, 5)}


class DiesInEachStep(UserSegmentChangesToS3Operator):
    """The process is killed before each of the four uploads, before latest.json and right after it."""

    def _write(self, context: Any, *arguments: Any) -> dict[str, Any]:
        folder = Path(os.environ["RECORD"]).parent
        steps = [step for step in STEPS[context["run_id"]] if not (folder / f"died-{step}").exists()]
        uploads, write, put = iter(range(4)), Destination.write, LatestExport._put

        def die_at(step: int) -> None:
            if step in steps:
                (folder / f"died-{step}").touch()
                os.kill(os.getpid(), signal.SIGKILL)

        def write_or_die(self: Destination, source: Any) -> int:
            die_at(next(uploads))
            return write(self, source)

        def put_or_die(self: LatestExport, value: Any) -> bool:
            die_at(4)
            done = put(self, value)
            die_at(5)
            return done

        Destination.write, LatestExport._put = write_or_die, put_or_die  # type: ignore[method-assign]
        return super()._write(context, *arguments)


with DAG("changing", schedule=None, start_date=datetime(2026, 1, 1), catchup=False, params={"count": 1}):
    DiesInEachStep(
        task_id="export",
        segment_id=os.environ.get("SEGMENT_ID", "unset"),
        s3_bucket=os.environ.get("SEGMENT_BUCKET", "my-bucket"),
        s3_prefix="audiences",
        retries=6,
        retry_delay=timedelta(seconds=1),
    )
