# SPDX-License-Identifier: Apache-2.0
"""The operator in `airflow dags test`, where Airflow has settings that change what happens around it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_segments.emulator import Emulator
from tests import dag_runs

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parents[2] / "example_dags"


@pytest.fixture
def s3(s3_url: str) -> Any:
    """The user's bucket on the local S3, empty."""
    return dag_runs.users_bucket(s3_url)


@pytest.fixture
def service(s3_url: str) -> Iterator[Emulator]:
    """The service, writing files to the local S3."""
    with Emulator(s3_endpoint_url=s3_url, segments=1, export_seconds=0) as running:
        yield running


def copies(s3: Any) -> list[str]:
    """Return the keys in the user's bucket."""
    return [found["Key"] for found in s3.list_objects_v2(Bucket=dag_runs.BUCKET).get("Contents", [])]


@pytest.mark.usefixtures("database")
def test_lineage_of_a_run(service: Emulator, s3: Any, s3_url: str, tmp_path: Path) -> None:
    """OpenLineage's own listener, in a real run, tells of the segment and the object."""
    told = tmp_path / "lineage.json"
    transport = {"type": "file", "log_file_path": str(told), "append": True}
    more = {"AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport)}
    environment = dag_runs.environment(EXAMPLES, **more, **dag_runs.connections(service, s3_url))
    dag_runs.run("example_segment_to_s3", environment)
    events = [json.loads(line) for line in told.read_text().splitlines()]
    (complete,) = [
        event
        for event in events
        if event["eventType"] == "COMPLETE" and event["job"]["name"].endswith(".segment_to_s3")
    ]
    (key,) = copies(s3)
    (source,), (target,) = complete["inputs"], complete["outputs"]
    (submission,) = service.submissions
    assert (source["namespace"], source["name"]) == (service.url, f"segments/{submission.segment_id}")
    assert (target["namespace"], target["name"]) == (f"s3://{dag_runs.BUCKET}", key)


@pytest.mark.usefixtures("database")
def test_runs_where_operators_may_not_be_nested(
    service: Emulator, s3: Any, s3_url: str, tmp_path: Path
) -> None:
    """Airflow 2 takes a second `execute` for a nested operator, which it warns of or forbids."""
    example = (EXAMPLES / "example_segment_to_s3.py").read_text()
    (tmp_path / "dag.py").write_text(example.replace("retries=2,", "allow_nested_operators=False,"))
    environment = dag_runs.environment(tmp_path, **dag_runs.connections(service, s3_url))
    log = dag_runs.run("example_segment_to_s3", environment)
    assert "outside" not in log
    assert len(copies(s3)) == 1
