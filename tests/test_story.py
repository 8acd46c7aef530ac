# SPDX-License-Identifier: Apache-2.0
"""A mapped task's name in the UI."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowException, BaseOperator, TaskDeferred

from airflow_provider_segments._story import name_mapped_task, tell_complete
from airflow_provider_segments.api.models import SegmentExport
from airflow_provider_segments.emulator import Emulator
from airflow_provider_segments.hooks.user_segments import UserSegmentsHook
from airflow_provider_segments.operators.user_segments import UserSegmentExportOperator
from airflow_provider_segments.sensors.user_segments import UserSegmentExportSensor
from tests.support import context

NAMES = ["Recent Registrants", "2026", "[1, 2]", "{{ 1 / 0 }}", "'\"", "  a\n", "ä日本"]


def shown(task: BaseOperator, where: Any) -> Any:
    """Return what Airflow makes of the template."""
    return task.dag.get_template_env().from_string(where["map_index_template"]).render(where)


def mapped(template: str | None = None) -> Any:
    """Return the context of a mapped task."""
    where = context() | {"map_index_template": template}
    where["ti"].map_index = 3
    return where


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_shown_as_it_is(name: str, native: bool) -> None:
    """Whatever it holds, and whatever the DAG makes of its templates."""
    where = mapped()
    with DAG("d", schedule=None, render_template_as_native_obj=native):
        task = UserSegmentExportOperator(task_id="e", segment_name=name)
    name_mapped_task(task, where, name)
    assert shown(task, where) == name


def test_later_names_count_and_fit() -> None:
    """What is known later is better, nothing is not, and Airflow's column is 250 characters wide."""
    where = mapped()
    with DAG("d", schedule=None):
        task = UserSegmentExportOperator(task_id="e", segment_id="s")
    name_mapped_task(task, where, "s")
    name_mapped_task(task, where, "n" * 1000)
    name_mapped_task(task, where, "")
    assert shown(task, where) == "n" * 250


def test_only_where_nobody_else_says() -> None:
    """An author's template stays, and a task that is not mapped has no such name."""
    task = UserSegmentExportOperator(task_id="e", segment_id="s")
    where = mapped("{{ ds }}")
    name_mapped_task(task, where, "n")
    assert where["map_index_template"] == "{{ ds }}"
    where = context()
    name_mapped_task(task, where, "n")
    assert where["map_index_template"] is None


def test_operator_says_it(connected: Any) -> None:
    """By the segment's name once it is known; until then, and in a failure, by what was asked for."""
    segment_id, where = connected.segments[0].segment_id, mapped()
    with DAG("d", schedule=None):
        task = UserSegmentExportOperator(task_id="e", segment_id=segment_id)
        unknown = UserSegmentExportOperator(task_id="u", segment_name="Nobody's")
    task.execute(where)
    assert shown(task, where) == connected.segments[0].name
    where = mapped()
    with pytest.raises(AirflowException):
        unknown.execute(where)
    assert shown(unknown, where) == "Nobody's"
    where = mapped()
    with pytest.raises(AirflowException):
        task.resume_execution("__fail__", {"error": "gone"}, where)
    assert shown(task, where) == segment_id


@pytest.mark.parametrize("seconds", [0, 3600])
def test_sensor_says_it(connect: Any, seconds: float) -> None:
    """By the export's id while it waits, by the segment's name at the end."""
    where = mapped()
    with Emulator(bucket=None, export_seconds=seconds) as service, DAG("d", schedule=None):
        connect(service)
        export_id = UserSegmentsHook().request_export(service.segments[0].segment_id).export_id
        task = UserSegmentExportSensor(task_id="w", export_id=export_id)
        with suppress(TaskDeferred):
            task.poke(where)
        assert shown(task, where) == (export_id if seconds else service.segments[0].name)


def test_an_end_that_is_not_known() -> None:
    """The log does not name what the service has not said."""
    lines: list[str] = []
    log = SimpleNamespace(info=lambda text, *values: lines.append(text % values))
    said = {"exportId": "x", "status": "COMPLETE", "filename": "s3://b/k", "endTime": None}
    export = SegmentExport.model_validate(said)
    tell_complete(log, export, export.result("csv"))
    assert lines[-1] == "The file is at s3://b/k."
    export = SegmentExport.model_validate(said | {"endTime": "2019-04-09T12:25:06.789Z"})
    tell_complete(log, export, export.result("csv"))
    assert lines[-1] == "The file is at s3://b/k until 2019-04-11 12:25:06 UTC."


def test_a_context_of_an_authors_test() -> None:
    """A stand-in for the task instance, as authors' unit tests have, is not taken for a mapped one."""
    name_mapped_task(UserSegmentExportOperator(task_id="e", segment_id="s"), {"ti": MagicMock()}, "n")
