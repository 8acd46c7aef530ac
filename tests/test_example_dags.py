# SPDX-License-Identifier: Apache-2.0
"""The example DAGs: they parse without any Connection, and run against the emulator and a local S3."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_segments.emulator import Emulator
from airflow_provider_segments.emulator.pytest_plugin import aws_connection

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parents[1] / "example_dags"
NAMES = sorted(path.stem for path in EXAMPLES.glob("example_*.py"))
# This one is started by an event; tests/system/test_refresh.py does that.
BY_EVENT = "example_on_refresh"
BUCKET = "my-bucket"


@pytest.fixture
def service(s3_url: str) -> Iterator[Emulator]:
    """The service, writing files to the local S3."""
    # Some exports end while their tasks wait on the worker, some after they have deferred.
    with Emulator(s3_endpoint_url=s3_url, segments=4, export_seconds=4.5) as running:
        yield running


@pytest.fixture
def s3(s3_url: str) -> Any:
    """The user's bucket on the local S3, empty."""
    s3 = boto3.client("s3", endpoint_url=s3_url)
    s3.create_bucket(Bucket=BUCKET)
    for found in s3.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        s3.delete_object(Bucket=BUCKET, Key=found["Key"])
    return s3


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment without any Connection, and more."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_CONN_")}
    return clean | {"AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES), "SEGMENT_BUCKET": BUCKET} | more


def connections(service: Emulator, s3_url: str) -> dict[str, str]:
    """Return the two Connections the examples need."""
    return {
        "AIRFLOW_CONN_MPARTICLE_ANALYTICS_DEFAULT": json.dumps(service.airflow_connection()),
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws_connection(s3_url)),
    }


@pytest.mark.parametrize("name", NAMES)
def test_parses_without_a_connection(name: str) -> None:
    """No call is made, no Connection read; the file says what it needs."""
    path = EXAMPLES / f"{name}.py"
    subprocess.run(
        [sys.executable, "-W", "ignore", str(path)], env=environment(), check=True, capture_output=True
    )
    assert "\nNeeds:\n" in path.read_text()


def test_has_a_dag_where_there_are_watchers() -> None:
    """On Airflow 2 the file is harmless in a folder that it shares."""
    dag = runpy.run_path(str(EXAMPLES / f"{BY_EVENT}.py")).get("dag")
    assert (dag is not None and dag.dag_id == BY_EVENT) is AIRFLOW_V_3_0_PLUS


@pytest.mark.parametrize("name", [name for name in NAMES if name != BY_EVENT])
@pytest.mark.usefixtures("database")
def test_runs(name: str, service: Emulator, s3: Any, s3_url: str) -> None:
    """`airflow dags test` succeeds, and the bytes in the user's bucket equal the service's."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "airflow", "dags", "test", name],
        env=environment(**connections(service, s3_url)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]

    def bodies(bucket: str, keys: list[str]) -> list[bytes]:
        return sorted(s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys)

    copied = [found["Key"] for found in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    source = [f"path/to/{submission.export_id}.csv" for submission in service.submissions]
    assert len(copied) == (4 if "many" in name else 1)
    assert bodies(BUCKET, copied) == bodies("upload-bucket", source)
