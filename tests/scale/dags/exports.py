# SPDX-License-Identifier: Apache-2.0
"""As many mapped exports as the run's conf names segments, in several ways."""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_segments.files.source import Source
from airflow_provider_segments.operators.user_segments import UserSegmentExportOperator
from airflow_provider_segments.transfers.user_segment_to_s3 import UserSegmentToS3Operator
from tests.system.killed import DiesRightAfterThePost

PART = 5 * 2**20
# The most seconds that a transfer waits for its worker's death.
PATIENCE = 60


class WaitsInTheTransfer(UserSegmentToS3Operator):
    """The first mapped task stops once in the middle of its upload and says where, so that its worker can be killed."""

    def _write(self, context: Any, *arguments: Any) -> dict[str, Any]:
        told = Path(os.environ["AIRFLOW_HOME"]) / "transferring"
        read = Source.readinto

        def read_or_wait(self: Source, buffer: Any) -> int:
            if self.bytes_read > PART and not told.exists():
                told.write_text(os.environ["SCALE_COMPONENT"])
                time.sleep(PATIENCE)
            return read(self, buffer)

        if context["ti"].map_index == 0:
            Source.readinto = read_or_wait  # type: ignore[method-assign]
        return super()._write(context, *arguments)


def exports(
    dag_id: str,
    service: str,
    operator: type[UserSegmentExportOperator] = UserSegmentExportOperator,
    **arguments: Any,
) -> None:
    """Make a DAG of mapped exports from an emulator."""
    with DAG(
        dag_id, schedule=None, start_date=datetime(2026, 1, 1), params={"segment_ids": []}, catchup=False
    ):

        @task
        def segments(params: Any = None) -> list[str]:
            return list(params["segment_ids"])

        # As tests/system has it: a busy Airflow fails tries of its own accord.
        retries: dict[str, Any] = {"retries": 6, "retry_delay": timedelta(seconds=5)}
        operator.partial(task_id="export", mparticle_conn_id=service, **retries, **arguments).expand(
            segment_id=segments()
        )


exports("exports", "exports")
exports("deaths", "deaths", DiesRightAfterThePost)
exports(
    "files",
    "files",
    WaitsInTheTransfer,
    s3_bucket=os.environ.get("SEGMENT_BUCKET", "my-bucket"),
    s3_key="{{ ti.map_index }}.csv",
    # Another Connection than the destination's, so that the file is streamed.
    source_aws_conn_id="aws_source",
    transfer_config_args={"multipart_threshold": PART, "multipart_chunksize": PART},
)
for seconds in (0, 4):
    exports(f"slots_{seconds}", "slots", defer_after=seconds)
exports("slots_end", "slots", defer_after=0, end_from_trigger=True)
exports("xcoms_all", "xcoms", defer_after=0)
exports("xcoms_one", "xcoms", defer_after=0, multiple_outputs=False)
exports("xcoms_none", "xcoms", defer_after=0, do_xcom_push=False)
