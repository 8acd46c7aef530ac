# SPDX-License-Identifier: Apache-2.0
"""The example DAGs that load a database."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from airflow_provider_segments.emulator import Emulator
from tests import dag_runs
from tests.handoff import recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "example_dags"


@pytest.fixture
def service(s3_url: str) -> Iterator[Emulator]:
    """The service, writing files to the local S3."""
    with Emulator(s3_endpoint_url=s3_url, export_seconds=0) as running:
        yield running


@pytest.mark.usefixtures("database")
def test_to_postgres(
    service: Emulator, s3_url: str, postgres: dict[str, Any], sql: Callable[[str], Any]
) -> None:
    """The table holds the file's rows, and after a second run those of the second file only."""
    connections = dag_runs.connections(service, s3_url, postgres_default=postgres)
    environment = dag_runs.environment(EXAMPLES, SEGMENT_TABLE="of_the_example", **connections)
    for _ in range(2):
        dag_runs.run("example_segment_to_postgres", environment)
        key = f"path/to/{service.submissions[-1].export_id}.csv"
        file = boto3.client("s3", endpoint_url=s3_url).get_object(Bucket="upload-bucket", Key=key)
        (_, *lines) = csv.reader(io.StringIO(file["Body"].read().decode()))
        expected = sorted((user, country, int(sessions)) for user, country, sessions in lines)
        assert len(expected) == 1000
        assert sorted(sql("select user_id, country, sessions from of_the_example")) == expected


@pytest.mark.usefixtures("database")
def test_changes(service: Emulator, s3_url: str, postgres: dict[str, Any], sql: Callable[[str], Any]) -> None:
    """After each run the table is the segment; a run without a refresh exports nothing."""
    dag_runs.users_bucket(s3_url)
    connections = dag_runs.connections(service, s3_url, postgres_default=postgres)
    environment = dag_runs.environment(EXAMPLES, SEGMENT_TABLE="of_the_changes", **connections)
    for run in range(2):
        log = dag_runs.run("example_segment_changes", environment)
        assert len(service.submissions) == run + 1
        assert ("removed: 10 users" in log) == (run > 0)
        key = f"path/to/{service.submissions[-1].export_id}.csv"
        file = boto3.client("s3", endpoint_url=s3_url).get_object(Bucket="upload-bucket", Key=key)
        (_, *lines) = csv.reader(io.StringIO(file["Body"].read().decode()))
        expected = sorted((user, country, int(sessions)) for user, country, sessions in lines)
        assert sorted(sql("select user_id, country, sessions from of_the_changes")) == expected
        if run == 0:
            service.refresh()
    dag_runs.run("example_segment_changes", environment)
    assert len(service.submissions) == 2


@pytest.mark.usefixtures("database")
def test_to_redshift(service: Emulator, s3_url: str, tmp_path: Path) -> None:
    """It runs up to the load, whose arguments name the exported file."""
    name = "example_segment_to_redshift"
    stop = "\nfrom tests.handoff.recorder import record\nload.pre_execute = record\n"
    (tmp_path / f"{name}.py").write_text((EXAMPLES / f"{name}.py").read_text() + stop)
    more = {recorder.FOLDER: str(tmp_path), "PYTHONPATH": str(ROOT), "SEGMENT_TABLE": "users"}
    environment = dag_runs.environment(tmp_path, **more, **dag_runs.connections(service, s3_url))
    dag_runs.run(name, environment)
    rendered = json.loads((tmp_path / "S3ToRedshiftOperator.json").read_text())
    (submission,) = service.submissions
    assert rendered["s3_bucket"] == "upload-bucket"
    assert rendered["s3_key"] == f"path/to/{submission.export_id}.csv"
    assert (rendered["schema"], rendered["table"], rendered["method"]) == ("public", "users", "REPLACE")
    assert rendered["copy_options"] == ["CSV", "IGNOREHEADER 1"]
