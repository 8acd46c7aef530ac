# SPDX-License-Identifier: Apache-2.0
"""docs/handoff.md is run: its DAG, its tasks, its script."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_segments.emulator import Emulator
from tests import dag_runs
from tests.handoff import recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "handoff.md").read_text()
# No server of theirs runs here.
RENDERED_ONLY = {
    "S3ToRedshiftOperator",
    "CopyFromExternalStageToSnowflakeOperator",
    "DatabricksCopyIntoOperator",
    "S3ToGCSOperator",
}
RUN = {
    "S3CopyObjectOperator",
    "S3FileTransformOperator",
    "S3KeySensor",
    "S3ToSqlOperator",
    "S3ToSFTPOperator",
}
RECORD = """
from tests.handoff.recorder import record
dag.default_args["pre_execute"] = record
"""


def blocks(language: str, text: str) -> list[str]:
    """Return the code blocks of a text."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def tasks() -> dict[str, str]:
    """Return the code of each task by its heading."""
    sections = re.split(r"^### (\w+)$", PAGE, flags=re.MULTILINE)
    return {
        name: blocks("python", text)[0] for name, text in zip(sections[1::2], sections[2::2], strict=True)
    }


def dag_file() -> str:
    """Return the page's DAG with all its tasks."""
    found = tasks()
    real = [code for name, code in found.items() if name not in RENDERED_ONLY]
    rendered = [code for name, code in found.items() if name in RENDERED_ONLY]
    (head, *_) = blocks("python", PAGE)
    return head + indent("\n".join([*real, RECORD, *rendered]), "    ")


@dataclass
class Outcome:
    """What the page's DAG has left behind."""

    source: bytes
    bucket: str
    key: str
    s3: Any
    sftp_folder: Path
    rendered_folder: Path
    log: str

    def file(self, prefix: str) -> bytes:
        """Return the one file in the user's bucket under a prefix."""
        (found,) = self.s3.list_objects_v2(Bucket=dag_runs.BUCKET, Prefix=prefix)["Contents"]
        body: bytes = self.s3.get_object(Bucket=dag_runs.BUCKET, Key=found["Key"])["Body"].read()
        return body

    def rendered(self, operator: str) -> dict[str, Any]:
        """Return an operator's template fields."""
        found: dict[str, Any] = json.loads((self.rendered_folder / f"{operator}.json").read_text())
        return found


@pytest.fixture(scope="module")
def outcome(
    tmp_path_factory: pytest.TempPathFactory,
    database: None,
    s3_url: str,
    postgres: dict[str, Any],
    sftp: tuple[dict[str, Any], Path],
    sql: Callable[[str], Any],
) -> Iterator[Outcome]:
    """Run the page's DAG once, every task of it."""
    dags, rendered = tmp_path_factory.mktemp("dags"), tmp_path_factory.mktemp("rendered")
    (dags / "hand_off.py").write_text(dag_file())
    (script := dags / "only_ids.sh").write_text(blocks("bash", PAGE)[0])
    script.chmod(0o755)
    sql("create table segment_users (user_id text, country text, sessions integer)")
    s3 = dag_runs.users_bucket(s3_url)
    sftp_connection, sftp_folder = sftp
    with Emulator(s3_endpoint_url=s3_url, export_seconds=0) as service:
        more = {"postgres_default": postgres, "sftp_default": sftp_connection}
        environment = dag_runs.environment(dags, PYTHONPATH=str(ROOT), **{recorder.FOLDER: str(rendered)})
        log = dag_runs.run("hand_off", environment | dag_runs.connections(service, s3_url, **more))
        (submission,) = service.submissions
    bucket, key = "upload-bucket", f"path/to/{submission.export_id}.csv"
    source = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    yield Outcome(source, bucket, key, s3, sftp_folder, rendered, log)
    sql("drop table segment_users")


def test_every_task_is_tested() -> None:
    """A task added to the page needs a test; each stands in the table."""
    assert set(tasks()) == RUN | RENDERED_ONLY
    assert set(re.findall(r"^\| `(\w+)`", PAGE, re.MULTILINE)) == RUN | RENDERED_ONLY


def test_copy(outcome: Outcome) -> None:
    """The bytes are in the user's bucket."""
    assert outcome.file("segments/") == outcome.source


def test_file_transform(outcome: Outcome) -> None:
    """The script has read the whole file, and what it wrote has arrived."""
    ids = [row[0] for row in csv.reader(io.StringIO(outcome.source.decode()))]
    assert len(ids) == 1001
    assert outcome.file("ids/").decode().splitlines() == ids


def test_key_sensor(outcome: Outcome) -> None:
    """It has looked at the exported file and found it, without which it would have been skipped."""
    assert f"s3://{outcome.bucket}/{outcome.key}" in outcome.log
    assert "Success criteria met" in outcome.log


def test_to_sql(outcome: Outcome, sql: Callable[[str], Any]) -> None:
    """Each line after the header is a row."""
    (_, *lines) = csv.reader(io.StringIO(outcome.source.decode()))
    expected = sorted((user, country, int(sessions)) for user, country, sessions in lines)
    assert sorted(sql("select user_id, country, sessions from segment_users")) == expected


def test_to_sftp(outcome: Outcome) -> None:
    """The bytes are in the server's folder, under the rendered name."""
    (arrived,) = outcome.sftp_folder.iterdir()
    assert re.fullmatch(r"recent-registrants-\d{4}-\d\d-\d\d\.csv", arrived.name)
    assert arrived.read_bytes() == outcome.source


def test_to_redshift(outcome: Outcome) -> None:
    """Bucket and key apart; S3 is read as s3://bucket/key."""
    rendered = outcome.rendered("S3ToRedshiftOperator")
    assert (rendered["s3_bucket"], rendered["s3_key"]) == (outcome.bucket, outcome.key)
    assert rendered["table"] == "segment_users"
    assert rendered["copy_options"] == ["CSV", "IGNOREHEADER 1"]


def test_to_snowflake(outcome: Outcome) -> None:
    """The key, in a list."""
    assert outcome.rendered("CopyFromExternalStageToSnowflakeOperator")["files"] == [outcome.key]


def test_to_databricks(outcome: Outcome) -> None:
    """The URI."""
    rendered = outcome.rendered("DatabricksCopyIntoOperator")
    assert rendered["file_location"] == f"s3://{outcome.bucket}/{outcome.key}"
    assert rendered["table_name"] == "segment_users"


def test_to_gcs(outcome: Outcome) -> None:
    """Bucket and key apart, the key as a prefix."""
    rendered = outcome.rendered("S3ToGCSOperator")
    assert (rendered["bucket"], rendered["prefix"]) == (outcome.bucket, outcome.key)
    assert rendered["dest_gcs"] == "gs://my-gcs-bucket/segments/"
