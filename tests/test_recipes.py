# SPDX-License-Identifier: Apache-2.0
"""The DAGs that README.md and docs/recipes.md show run against the emulator and a local S3."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_provider_segments.emulator import Emulator
from tests import dag_runs

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
BLOCKS = {
    found[1]: block
    for page in ("README.md", "docs/recipes.md")
    for block in re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    if (found := re.search(r'DAG\(\s*"(\w+)"', block))
}
# All others run as files in tests/test_docs.py; these are unlike any example.
RUN = {"registrants", "registrants_with_notification", "segments_in_a_pool"}
IN_MY_BUCKET = {"registrants"}


@pytest.fixture
def service(s3_url: str) -> Iterator[Emulator]:
    """The service, writing files to the local S3."""
    with Emulator(s3_endpoint_url=s3_url, segments=3, export_seconds=1) as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them in one folder, for which Airflow is loaded once."""
    made = tmp_path_factory.mktemp("dags")
    for dag_id in RUN:
        (made / f"{dag_id}.py").write_text(BLOCKS[dag_id])
    return made


@pytest.mark.parametrize("dag_id", sorted(RUN))
@pytest.mark.usefixtures("database")
def test_runs(dag_id: str, service: Emulator, s3_url: str, folder: Path) -> None:
    """`airflow dags test` succeeds, an export has been requested, and its file is in the user's bucket."""
    s3 = dag_runs.users_bucket(s3_url)
    dag_runs.run(dag_id, dag_runs.environment(folder, **dag_runs.connections(service, s3_url)))
    dynamic = sum(segment.type == "Dynamic" for segment in service.segments)
    assert len(service.submissions) == (dynamic if dag_id == "segments_in_a_pool" else 1)
    copies = s3.list_objects_v2(Bucket=dag_runs.BUCKET).get("Contents", [])
    assert len(copies) == (dag_id in IN_MY_BUCKET)
