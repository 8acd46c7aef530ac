# SPDX-License-Identifier: Apache-2.0
"""Tasks finished on a worker and in the triggerer, each read by a task downstream."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_segments.operators.user_segments import UserSegmentExportOperator
from airflow_provider_segments.sensors.user_segments import UserSegmentExportSensor

if TYPE_CHECKING:
    from collections.abc import Callable

SEGMENT_ID = os.environ.get("SEGMENT_ID", "unset")


@task
def read(result: Any, s3_key: Any, expires_at: Any) -> list[Any]:
    """Return what a downstream task is given."""
    return [result, s3_key, expires_at]


@task
def count(pair: Any) -> None:
    """Be one of as many as the result is long."""


def note(what: str) -> Callable[..., None]:
    """Return a callback that writes down that it was called."""

    def write(context: Any, result: Any = None) -> None:
        with Path(os.environ["RECORD"]).open("a") as file:
            file.write(f"{context['ti'].task_id} {what}\n")

    return write


NOTED = {name: note(name) for name in ("pre_execute", "on_execute_callback", "post_execute")}
SUCCESS = {"on_success_callback": note("on_success_callback")}


def read_from(source: Any, name: str) -> None:
    """Read a task's XComs as a whole and one by one."""
    read.override(task_id=f"read_{name}")(source.output, source.output["s3_key"], source.output["expires_at"])


with DAG("endings", schedule=None, start_date=datetime(2026, 1, 1), catchup=False) as endings:
    arguments: dict[str, Any] = {"segment_id": SEGMENT_ID, "defer_after": 0, "retries": 6}
    read_from(UserSegmentExportOperator(task_id="worker", **arguments, **NOTED, **SUCCESS), "worker")
    read_from(
        UserSegmentExportOperator(task_id="trigger", end_from_trigger=True, **arguments, **NOTED), "trigger"
    )
    expanded = UserSegmentExportOperator(task_id="expanded", end_from_trigger=True, **arguments)
    count.expand(pair=expanded.output)
    UserSegmentExportOperator.partial(
        task_id="mapped", defer_after=0, end_from_trigger=True, retries=6
    ).expand(segment_id=[SEGMENT_ID] * 3)

with DAG(
    "sensing", schedule=None, start_date=datetime(2026, 1, 1), catchup=False, params={"export_id": ""}
) as sensing:
    export_id = "{{ dag_run.conf['export_id'] }}"
    read_from(UserSegmentExportSensor(task_id="worker", export_id=export_id), "worker")
    read_from(
        UserSegmentExportSensor(task_id="trigger", export_id=export_id, end_from_trigger=True), "trigger"
    )
