# SPDX-License-Identifier: Apache-2.0
"""Run a DAG file for real: one process, the emulator and a local S3 behind its Connections."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import boto3
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_segments.emulator.pytest_plugin import aws_connection
from tests import forked

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_segments.emulator import Emulator

BUCKET = "my-bucket"
LOADED = forked.Interpreter("tests.api_routes")
# Up to Airflow 3.2, `dags test` and `dag.test()` do not wait until their API server in the same process is ready.
WAIT_FOR_THE_API_SERVER = """
import asyncio

submit = asyncio.run_coroutine_threadsafe


def submit_and_wait(coroutine, loop):
    future = submit(coroutine, loop)
    if coroutine.__name__ == "start_lifespan":
        future.result()
    return future


asyncio.run_coroutine_threadsafe = submit_and_wait
"""


def users_bucket(s3_url: str) -> Any:
    """Return a client of the local S3, with the user's bucket empty."""
    s3 = boto3.client("s3", endpoint_url=s3_url)
    s3.create_bucket(Bucket=BUCKET)
    for found in s3.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        s3.delete_object(Bucket=BUCKET, Key=found["Key"])
    return s3


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Return this process's environment without any Connection, the DAGs' folder, and more."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_CONN_")}
    return clean | {"AIRFLOW__CORE__DAGS_FOLDER": str(folder), "SEGMENT_BUCKET": BUCKET} | more


def connections(service: Emulator, s3_url: str, **more: dict[str, Any]) -> dict[str, str]:
    """Return the Connections to the service and to the local S3, and more by their ids."""
    found = {
        "mparticle_analytics_default": service.airflow_connection(),
        "aws_default": aws_connection(s3_url),
    } | more
    return {f"AIRFLOW_CONN_{name.upper()}": json.dumps(fields) for name, fields in found.items()}


def run(dag_id: str, environment: dict[str, str]) -> str:
    """Let `airflow dags test` run a DAG; return what it says, or fail with that."""
    if not AIRFLOW_V_3_0_PLUS:  # its `dags test` does not write down the aliases among the outlets
        _airflow(environment, "dags", "reserialize")
    return _airflow(environment, "dags", "test", dag_id)


def _airflow(environment: dict[str, str], *arguments: str) -> str:
    done = LOADED.run(__file__, *arguments, env=environment)
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-6000:]
    return done.stdout + done.stderr


if __name__ == "__main__":
    from airflow.__main__ import main
    from airflow.listeners.listener import get_listener_manager

    exec(WAIT_FOR_THE_API_SERVER)
    try:
        main()
    finally:
        get_listener_manager().hook.before_stopping(
            component=None
        )  # else OpenLineage leaves a process behind
