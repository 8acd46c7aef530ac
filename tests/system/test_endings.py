# SPDX-License-Identifier: Apache-2.0
"""Finishing in the triggerer: downstream reads the very same values, and no worker wakes for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_segments.hooks.user_segments import UserSegmentsHook

if TYPE_CHECKING:
    from tests.system.conftest import System

pytestmark = pytest.mark.system


def xcoms(system: System, dag_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
    """Return a task's XComs as the database holds them, decoded once."""
    rows = system.airflow.query(
        "select key, value from xcom where dag_id = ? and task_id = ? and map_index = ?",
        dag_id,
        task_id,
        map_index,
    )
    return {key: json.loads(value) for key, value in rows if not key.startswith("_")}


def like(value: Any, export_id: str) -> Any:
    """Put a place-holder for what differs from export to export."""
    text = json.dumps(value).replace(export_id, "EXPORT")
    return {k: v for k, v in json.loads(text).items() if not k.endswith(("_time", "_at"))}


def run_to_the_end(system: System, dag_id: str, conf: dict[str, Any], **deferred: int) -> None:
    system.airflow.trigger(dag_id, "run", conf)
    system.airflow.wait_until_deferred(dag_id, "run", **deferred)
    system.end_all()
    assert system.airflow.wait_for_run(dag_id, "run") == "success", system.airflow.task_logs()


def starts(system: System, dag_id: str, *tasks: str) -> dict[str, int]:
    """Return how often a worker started each task's instances."""
    return {task: system.airflow.worker_starts(dag_id, task) for task in tasks}


def test_operator(system: System) -> None:
    """
    The XComs of a task finished in the triggerer are those of one finished on a worker.

    One that another is expanded over is finished on a worker all the same.
    """
    run_to_the_end(system, "endings", {}, worker=1, trigger=1, expanded=1, mapped=3)
    found = {task: xcoms(system, "endings", task) for task in ("worker", "trigger")}
    result = found["worker"]["return_value"]
    assert set(found["worker"]) == {*result, "return_value"} == set(found["trigger"])
    ids = {task: found[task]["export_id"] for task in found}
    assert like(found["trigger"]["return_value"], ids["trigger"]) == like(result, ids["worker"])
    for task, values in found.items():
        assert {key: values[key] for key in values["return_value"]} == values["return_value"]
        read = xcoms(system, "endings", f"read_{task}")["return_value"]
        assert read == [values["return_value"], values["s3_key"], values["expires_at"]]
    mapped = [xcoms(system, "endings", "mapped", index)["return_value"]["status"] for index in range(3)]
    assert mapped == ["COMPLETE"] * 3
    expected = {"worker": 2, "trigger": 1, "expanded": 2, "mapped": 3}
    assert starts(system, "endings", *expected) == expected
    assert system.states("endings", "run", "count") == ["success"] * len(result)
    before = {"pre_execute", "on_execute_callback"}
    assert system.recorded("worker") == before | {"post_execute", "on_success_callback"}
    assert system.recorded("trigger") == before


def test_sensor(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for the sensor."""
    monkeypatch.setenv(
        "AIRFLOW_CONN_MPARTICLE_ANALYTICS_DEFAULT",
        system.airflow.environment["AIRFLOW_CONN_MPARTICLE_ANALYTICS_DEFAULT"],
    )
    export_id = UserSegmentsHook().request_export(system.service.segments[0].segment_id).export_id
    tasks = ["worker", "trigger"]
    run_to_the_end(system, "sensing", {"export_id": export_id}, worker=1, trigger=1)
    found = [xcoms(system, "sensing", task) for task in tasks]
    assert found[0]["export_id"] == export_id
    assert all(values == found[0] for values in found)
    assert [xcoms(system, "sensing", f"read_{task}") for task in tasks] == [
        {"return_value": [values["return_value"], values["s3_key"], values["expires_at"]]} for values in found
    ]
    assert starts(system, "sensing", *tasks) == {"worker": 2, "trigger": 1}
