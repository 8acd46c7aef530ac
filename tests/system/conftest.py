# SPDX-License-Identifier: Apache-2.0
"""A real Airflow with the service and S3 beside it, which the tests share."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from airflow_provider_segments.emulator import EmulatedSegment, Emulator
from airflow_provider_segments.emulator.pytest_plugin import aws_connection
from tests.system.running_airflow import AIRFLOW_3, RunningAirflow

if TYPE_CHECKING:
    from collections.abc import Iterator

BUCKET = "my-bucket"
HERE = Path(__file__).parent
# An export ends when the test says so, not when a machine happens to be fast enough.
NEVER = 24 * 3600
TOKEN = "token-that-must-not-be-seen-3f9c81"


@dataclass
class System:
    """What runs."""

    airflow: RunningAirflow
    service: Emulator
    s3: Any

    def pending(self) -> list[str]:
        """Return the ids of the exports that run."""
        return [export_id for export_id, status in self.service.exports.items() if status == "PENDING"]

    def end_all(self) -> None:
        """End all exports that run."""
        for export_id in self.pending():
            self.service.end(export_id)

    def states(self, dag_id: str, run_id: str, task_id: str) -> list[str | None]:
        """Return the states of a task's instances."""
        return [task.state for task in self.airflow.tasks(dag_id, run_id) if task.task_id == task_id]

    def recorded(self, task_id: str) -> set[str]:
        """Return which callbacks were called for a task."""
        file = Path(self.airflow.environment["RECORD"])
        lines = file.read_text().splitlines() if file.exists() else []
        return {what for name, _, what in (line.partition(" ") for line in lines) if name == task_id}

    def body(self, bucket: str, key: str) -> bytes:
        """Return a file."""
        found: bytes = self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        return found


@contextmanager
def running_system(
    root: Path,
    s3_url: str,
    database: Path | None = None,
    dags: Path = HERE / "dags",
    segments: int | list[EmulatedSegment] = 20,
    *,
    examples: str = "*.py",
    connected: bool = True,
    ui: bool = False,
    **environment: str,
) -> Iterator[System]:
    """
    Run Airflow with the example DAGs and others, the emulator, and an empty bucket.

    :param root: an empty folder.
    :param s3_url: a local S3.
    :param database: an empty metadata database to copy; None makes one.
    :param dags: the folder of the other DAGs.
    :param segments: the emulator's.
    :param examples: which of the example DAGs; parsing one takes CPU.
    :param connected: whether Airflow has a Connection to the emulator.
    :param ui: whether Airflow's web UI is needed.
    :param environment: more variables.
    """
    shutil.copytree(dags, root / "dags")
    for example in (HERE.parents[1] / "example_dags").glob(examples):
        shutil.copy(example, root / "dags")
    if database:
        (root / "home").mkdir()
        shutil.copy(database, root / "home")
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
    s3 = boto3.client("s3", endpoint_url=s3_url, **keys)
    s3.create_bucket(Bucket=BUCKET)
    with Emulator(
        s3_endpoint_url=s3_url, segments=segments, export_seconds=NEVER, access_token=TOKEN
    ) as service:
        environment |= {
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws_connection(s3_url)),
            "SEGMENT_BUCKET": BUCKET,
            "SEGMENT_ID": service.segments[0].segment_id,
            "PYTHONPATH": str(HERE.parents[1]),
            "RECORD": str(root / "record.txt"),
        }
        if connected:
            environment["AIRFLOW_CONN_MPARTICLE_ANALYTICS_DEFAULT"] = json.dumps(service.airflow_connection())
        parallelism = 8 if AIRFLOW_3 else 1
        with RunningAirflow(root / "home", root / "dags", environment, parallelism, ui=ui) as airflow:
            yield System(airflow, service, s3)


@pytest.fixture(scope="package")  # ends with its tests, for an idle Airflow takes CPU
def system(tmp_path_factory: pytest.TempPathFactory, s3_url: str, new_database: Path) -> Iterator[System]:
    """Airflow with two example DAGs and the tests' own, and the emulator with 20 segments."""
    root, examples = tmp_path_factory.mktemp("system"), "example_export_*.py"
    with running_system(root, s3_url, new_database, examples=examples) as running:
        yield running
