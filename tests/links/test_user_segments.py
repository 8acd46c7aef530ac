# SPDX-License-Identifier: Apache-2.0
"""Extra links: right to the letter, and none where there is nothing to see."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_segments.links import user_segments as links
from airflow_provider_segments.operators.user_segments import UserSegmentExportOperator
from airflow_provider_segments.sensors.user_segments import UserSegmentExportSensor
from tests.support import FakeTaskInstance, context

if TYPE_CHECKING:
    from airflow_provider_segments.emulator import Emulator

TASK = SimpleNamespace(link_values={})


@pytest.fixture
def returned(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a task has told: Airflow 3 asks the task itself, Airflow 2 its XComs."""
    told: dict[str, Any] = {}
    monkeypatch.setattr(TASK, "link_values", told)

    class Stored:
        @staticmethod
        def get_value(*, ti_key: Any, key: str) -> Any:
            assert not AIRFLOW_V_3_0_PLUS, "it would log an error for one that is not there"
            return told.get(key)

    monkeypatch.setattr(links, "XCom", Stored)
    return told


@pytest.mark.parametrize(
    "key", ["path/to/a.csv", "a b/c+d.csv", "a?b#c&d=e%20.csv", "ä/日本.csv", "/lead//x", "a&bucket=b"]
)
def test_a_key_arrives_as_it_is(key: str, returned: dict[str, Any]) -> None:
    """Whatever a key holds, the console is asked for that key and nothing else."""
    returned["return_value"] = {"s3_bucket": "some.bucket", "s3_key": key}
    url = urlsplit(links.ExportedFileLink().get_link(TASK, ti_key=FakeTaskInstance()))  # type: ignore[arg-type]
    assert (url.scheme, url.netloc, url.path) == (
        "https",
        "console.aws.amazon.com",
        "/s3/object/some.bucket",
    )
    assert parse_qs(url.query, strict_parsing=True) == {"prefix": [key]}
    assert not url.fragment


@pytest.mark.parametrize(("hours", "there"), [(1, True), (-1, False)])
def test_no_link_to_what_is_gone(hours: int, there: bool, returned: dict[str, Any]) -> None:
    """After 48 hours there is no file; Airflow 2 asks each time it shows the link."""
    expires_at = (datetime.now(timezone.utc) + timedelta(hours=hours)).isoformat()
    returned["return_value"] = {"s3_bucket": "b", "s3_key": "k", "expires_at": expires_at}
    assert bool(links.ExportedFileLink().get_link(TASK, ti_key=FakeTaskInstance())) is there  # type: ignore[arg-type]


def test_own_file(returned: dict[str, Any]) -> None:
    """The address is the one the task has written; without one there is no link."""
    link = links.S3FileLink()
    assert link.get_link(TASK, ti_key=FakeTaskInstance()) == ""  # type: ignore[arg-type]
    returned["s3_console_url"] = "https://console.example.com"
    assert link.get_link(TASK, ti_key=FakeTaskInstance()) == "https://console.example.com"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "result",
    [
        None,
        "text",
        {},
        {"s3_bucket": None, "s3_key": None},
        {"s3_bucket": "b", "s3_key": ""},
        {"s3_key": "k"},
    ],
)
def test_no_dead_link(result: Any, returned: dict[str, Any]) -> None:
    """Not there yet, not on S3, no XComs: no link."""
    returned["return_value"] = result
    assert links.ExportedFileLink().get_link(TASK, ti_key=FakeTaskInstance()) == ""  # type: ignore[arg-type]


@pytest.mark.parametrize("do_xcom_push", [True, False])
def test_task_knows_its_links(connected: Emulator, do_xcom_push: bool) -> None:
    """Operator and sensor, once they have ended, and not before; without XComs there is nothing to link to."""
    segment_id = connected.segments[0].segment_id
    export = UserSegmentExportOperator(task_id="e", segment_id=segment_id, do_xcom_push=do_xcom_push)
    assert not export.link_values
    result = export.execute(context())
    sensor = UserSegmentExportSensor(task_id="w", export_id=result["export_id"], do_xcom_push=do_xcom_push)
    assert not sensor.link_values
    sensor.poke(context())
    assert export.link_values == sensor.link_values == ({"return_value": result} if do_xcom_push else {})


def test_tasks_have_links() -> None:
    """Operator and sensor."""
    for task in (
        UserSegmentExportOperator(task_id="e", segment_id="s"),
        UserSegmentExportSensor(task_id="w", export_id="e"),
    ):
        assert [link.name for link in task.operator_extra_links] == [links.ExportedFileLink.name]
