# SPDX-License-Identifier: Apache-2.0
"""What the tasks that wait share: a mapped task's name in the UI, and what is logged."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowException, BaseOperator, TaskDeferred

from airflow_provider_segments.api.models import SegmentExport
from airflow_provider_segments.emulator import EmulatedSegment, Emulator
from airflow_provider_segments.hooks.user_segments import UserSegmentsHook
from airflow_provider_segments.operators.user_segments import UserSegmentExportOperator
from airflow_provider_segments.sensors.user_segments import UserSegmentExportSensor
from airflow_provider_segments.utils.log import log_complete, log_details
from tests.support import FakeClock, context

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> None:
    monkeypatch.setattr(UserSegmentsHook, "clock", clock)


NAMES = ["Recent Registrants", "2026", "[1, 2]", "{{ 1 / 0 }}", "'\"", "  a\n", "ä日本", "n" * 1000]


def shown(task: BaseOperator, where: Any) -> Any:
    """Return what Airflow makes of the template."""
    return task.dag.get_template_env().from_string(where["map_index_template"]).render(where)


def mapped(template: str | None = None) -> Any:
    """Return the context of a mapped task."""
    where = context() | {"map_index_template": template}
    where["ti"].map_index = 3
    return where


@pytest.mark.parametrize("template", [None, "{{ user_segment_label | default('unknown') }}"])
@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_mapped_export_is_shown_under_its_segments_name(
    connect: Callable[..., None], name: str, native: bool, template: str | None
) -> None:
    """Whatever it holds, whatever the DAG makes of its templates; Airflow's column is 250 characters wide."""
    where = mapped(template)
    with Emulator(bucket=None, export_seconds=0, segments=[EmulatedSegment(name=name)]) as service:
        connect(service)
        with DAG("d", schedule=None, render_template_as_native_obj=native):
            segment_id = service.segments[0].segment_id
            task = UserSegmentExportOperator(task_id="e", segment_id=segment_id, deferrable=False)
        task.execute(where)
    assert shown(task, where) == name[:250]


def test_label_beside_other_text_has_no_quotes(connected: Emulator) -> None:
    """They are for native rendering of the label alone."""
    segment = connected.segments[0]
    with DAG("d", schedule=None, render_template_as_native_obj=True):
        task = UserSegmentExportOperator(task_id="e", segment_id=segment.segment_id, deferrable=False)
    where = mapped("segment {{ user_segment_label }}, {{ user_segment_label[:3] }}")
    task.execute(where)
    assert shown(task, where) == f"segment {segment.name}, {segment.name[:3]}"


def test_authors_template_stays(connected: Emulator) -> None:
    """It may use the label; a task that is not mapped gets none."""
    with DAG("d", schedule=None):
        segment_id = connected.segments[0].segment_id
        task = UserSegmentExportOperator(task_id="e", segment_id=segment_id, deferrable=False)
    where = mapped("{{ ds }}")
    task.execute(where)
    assert where["map_index_template"] == "{{ ds }}"
    where = context()
    task.execute(where)
    assert where["map_index_template"] is None
    assert "user_segment_label" not in where


def test_failed_export_is_shown_under_what_was_asked_for(connected: Emulator) -> None:
    """The segment's name or id as given, as long as nothing better is known."""
    with DAG("d", schedule=None):
        unknown = UserSegmentExportOperator(task_id="u", segment_name="Nobody's")
    where = mapped()
    with pytest.raises(AirflowException):
        unknown.execute(where)
    assert shown(unknown, where) == "Nobody's"


@pytest.mark.parametrize("seconds", [0, 3600])
def test_mapped_sensor_is_shown_under_its_segments_name(connect: Any, seconds: float) -> None:
    """By the export's id until the segment is known."""
    where = mapped()
    with Emulator(bucket=None, export_seconds=seconds) as service, DAG("d", schedule=None):
        connect(service)
        export_id = UserSegmentsHook().request_export(service.segments[0].segment_id).export_id
        task = UserSegmentExportSensor(task_id="w", export_id=export_id)
        with suppress(TaskDeferred):
            task.poke(where)
        assert shown(task, where) == (export_id if seconds else service.segments[0].name)


def test_context_of_an_authors_test(connected: Emulator) -> None:
    """A stand-in for the task instance, as authors' unit tests have, is not taken for a mapped one."""
    task = UserSegmentExportOperator(task_id="e", segment_id=connected.segments[0].segment_id)
    assert task.execute({"ti": MagicMock()})["status"] == "COMPLETE"  # type: ignore[arg-type]


def test_log_leaves_out_an_end_that_is_not_known() -> None:
    """The log does not name what the service has not said."""
    lines: list[str] = []
    log = SimpleNamespace(info=lambda text, *values: lines.append(text % values))
    said = {"exportId": "x", "status": "COMPLETE", "filename": "s3://b/k", "endTime": None}
    export = SegmentExport.model_validate(said)
    log_complete(log, export, export.result("csv"))
    assert lines[-1] == "The file is at s3://b/k."
    export = SegmentExport.model_validate(said | {"endTime": "2019-04-09T12:25:06.789Z"})
    log_complete(log, export, export.result("csv"))
    assert lines[-1] == "The file is at s3://b/k until 2019-04-11 12:25:06 UTC."


def test_log_shows_odd_names_as_messages_do() -> None:
    """A line of the log stays one line, and nothing in it steers a terminal."""
    lines: list[str] = []
    log = SimpleNamespace(info=lambda text, *values: lines.append(text % values))
    odd = {"segmentId": "s", "name": "a\n::endgroup::\x1b[31m"}
    said = {"exportId": "x", "status": "COMPLETE", "filename": "s3://b/\x1b[31m", "segment": odd}
    export = SegmentExport.model_validate(said)
    result = export.result("csv")
    log_complete(log, export, result)
    log_details(log, result)
    assert "segment_name: a\N{REPLACEMENT CHARACTER}::endgroup::\N{REPLACEMENT CHARACTER}[31m" in lines
    assert not any({"\n", "\x1b"} & set(line) for line in lines)
