# SPDX-License-Identifier: Apache-2.0
"""The example DAGs: they parse without any Connection, and run against the emulator and a local S3."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_segments.emulator import Emulator
from tests import dag_runs

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parents[1] / "example_dags"
NAMES = sorted(path.stem for path in EXAMPLES.glob("example_*.py"))
# This one is started by an event; tests/system/test_refresh.py does that.
BY_EVENT = "example_on_refresh"
# Run in tests/handoff, which has what they load, and by a real scheduler in tests/system.
ELSEWHERE = {"example_segment_to_postgres", "example_segment_to_redshift", "example_segment_changes"} | {
    "example_export_segment",
    "example_export_many_segments",
    "example_sync_changed_segments",  # below
}


@pytest.fixture
def service(s3_url: str) -> Iterator[Emulator]:
    """The service, writing files to the local S3."""
    # Some exports end while their tasks wait on the worker, some after they have deferred.
    with Emulator(s3_endpoint_url=s3_url, segments=4, export_seconds=4.5) as running:
        yield running


@pytest.fixture
def s3(s3_url: str) -> Any:
    """The user's bucket on the local S3, empty."""
    return dag_runs.users_bucket(s3_url)


@pytest.mark.parametrize("name", NAMES)
def test_parses_without_a_connection(name: str) -> None:
    """No call is made, no Connection read; the file says what it needs."""
    path = EXAMPLES / f"{name}.py"
    done = dag_runs.LOADED.run(path, env=dag_runs.environment(EXAMPLES))
    assert done.returncode == 0, done.stderr
    assert "\nNeeds:\n" in path.read_text()


def test_has_a_dag_where_there_are_watchers() -> None:
    """On Airflow 2 the file is harmless in a folder that it shares."""
    dag = runpy.run_path(str(EXAMPLES / f"{BY_EVENT}.py")).get("dag")
    assert (dag is not None and dag.dag_id == BY_EVENT) is AIRFLOW_V_3_0_PLUS


@pytest.mark.parametrize("name", sorted(set(NAMES) - ELSEWHERE - {BY_EVENT}))
@pytest.mark.usefixtures("database")
def test_runs(name: str, service: Emulator, s3: Any, s3_url: str) -> None:
    """`airflow dags test` succeeds, and the bytes in the user's bucket equal the service's."""
    dag_runs.run(name, dag_runs.environment(EXAMPLES, **dag_runs.connections(service, s3_url)))

    def bodies(bucket: str, keys: list[str]) -> list[bytes]:
        return sorted(s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys)

    copied = [found["Key"] for found in s3.list_objects_v2(Bucket=dag_runs.BUCKET)["Contents"]]
    source = [f"path/to/{submission.export_id}.csv" for submission in service.submissions]
    assert len(copied) == 1
    assert bodies(dag_runs.BUCKET, copied) == bodies("upload-bucket", source)


@pytest.mark.usefixtures("database", "s3")
def test_syncs_only_changed_segments(s3_url: str) -> None:
    """A second run exports only what was refreshed since the first."""
    with Emulator(s3_endpoint_url=s3_url, segments=4, export_seconds=0) as service:
        environment = dag_runs.environment(EXAMPLES, **dag_runs.connections(service, s3_url))
        dag_runs.run("example_sync_changed_segments", environment)
        (refreshed, *_) = [segment.segment_id for segment in service.segments if segment.type == "Dynamic"]
        service.refresh(refreshed)
        before = len(service.submissions)
        dag_runs.run("example_sync_changed_segments", environment)
        assert [submission.segment_id for submission in service.submissions[before:]] == [refreshed]
