# SPDX-License-Identifier: Apache-2.0
"""One process that brings a file from an https address to S3; prints what it took as JSON."""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

BUCKET = "bench"


def ours(url: str) -> Callable[[], Any]:
    """Return what `UserSegmentToS3Operator` does once the URL is known."""
    from airflow_provider_segments.files.destination import Destination
    from airflow_provider_segments.files.url import open_url
    from airflow_provider_segments.hooks.user_segments import UserSegmentsHook

    destination = Destination(BUCKET, "ours", "aws_default", {}, {})
    destination.check_arguments()
    destination.exists()
    settings = UserSegmentsHook().settings

    def transfer() -> None:
        with open_url(url, settings) as source:
            destination.write(source)

    return transfer


def read(url: str) -> Callable[[], Any]:
    """Return what reads the file as the operator does, and drops it."""
    from airflow_provider_segments.files.url import open_url
    from airflow_provider_segments.hooks.user_segments import UserSegmentsHook

    settings = UserSegmentsHook().settings

    def transfer() -> None:
        with open_url(url, settings) as source:
            while source.read(1024 * 1024):
                pass

    return transfer


def peer(url: str) -> Callable[[], Any]:
    """Return what Amazon's operator does."""
    from airflow.providers.amazon.aws.transfers.http_to_s3 import HttpToS3Operator

    made = HttpToS3Operator(
        task_id="t",
        http_conn_id="http_default",
        endpoint=url.rpartition("/")[2],
        s3_bucket=BUCKET,
        s3_key="peer",
        replace=True,
    )
    made.http_hook.get_conn()
    made.s3_hook.check_for_bucket(BUCKET)
    return lambda: made.execute({})


def peak() -> int:
    """Return the most bytes that have been resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    run = {"ours": ours, "read": read, "peer": peer}[sys.argv[1]](sys.argv[2])
    before, begun = peak(), time.monotonic()
    run()
    print(json.dumps({"seconds": time.monotonic() - begun, "memory": peak() - before}))
