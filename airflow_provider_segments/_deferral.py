# SPDX-License-Identifier: Apache-2.0
"""How a task lets go of its worker, the same for operator and sensor."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_segments.api.errors import ConfigurationError
from airflow_provider_segments.utils.clock import utcnow

if TYPE_CHECKING:
    from airflow_provider_segments.utils.deadline import Deadline

__all__ = ["TRIGGER", "defer", "end_in_trigger", "refuse_end_from_trigger"]

TRIGGER = "airflow_provider_segments.triggers.user_segments.UserSegmentExportTrigger"


def refuse_end_from_trigger(task: Any) -> None:
    """
    Refuse, when the DAG is parsed, what finishing in the triggerer would lose or can't have.

    :param task: an operator or sensor with ``end_from_trigger`` and ``deferrable``.
    """
    if not task.end_from_trigger:
        return
    if task.outlets:
        raise ConfigurationError(
            f"{task.task_id}: end_from_trigger=True would lose the asset events of its outlets, for only a worker "
            "emits them. Take the outlets or end_from_trigger out."
        )
    if task.on_success_callback:
        raise ConfigurationError(
            f"{task.task_id}: end_from_trigger=True would lose the on_success_callback, which Airflow calls on a "
            "worker only. Take the callback or end_from_trigger out."
        )
    if not task.deferrable:
        raise ConfigurationError(f"{task.task_id}: end_from_trigger=True needs a deferrable task.")


def end_in_trigger(task: Any) -> dict[str, Any]:
    """
    Return the trigger's arguments that say how the task is finished.

    :param task: an operator or sensor.
    """
    keys = [] if not task.do_xcom_push else None if task.multiple_outputs else ["return_value"]
    return {
        "end_from_trigger": task.end_from_trigger,
        "output_format": task.output_format,
        "xcom_keys": keys,
    }


def defer(
    task: Any,
    context: Any,
    export_id: str,
    deadline: Deadline,
    *,
    first_look_in: float = 0.0,
    kwargs: dict[str, Any] | None = None,
) -> NoReturn:
    """
    Defer until an export is finished.

    :param task: an operator or sensor.
    :param context: the running task's.
    :param export_id: the export.
    :param deadline: the end of the wait.
    :param first_look_in: seconds before the service may be asked again.
    :param kwargs: for the resumed half.
    """
    from airflow_provider_segments.triggers.user_segments import UserSegmentExportTrigger

    task.defer(
        trigger=UserSegmentExportTrigger(
            export_id=export_id,
            mparticle_conn_id=task.mparticle_conn_id,
            deadline=deadline.instant.isoformat(),
            poll_interval=task.poll_interval,
            deadline_name=deadline.name,
            not_before=(utcnow() + timedelta(seconds=first_look_in)).isoformat() if first_look_in else None,
            **end_in_trigger(task) | _end_on_worker_if_expanded(task, context),
        ),
        method_name="execute_complete",
        kwargs=kwargs,
        # Second line only: when this one fires, execute_complete is not called.
        timeout=deadline.with_margin(),
    )
    raise AssertionError("defer() does not return")


def _end_on_worker_if_expanded(task: Any, context: Any) -> dict[str, bool]:
    """Let a worker finish a task that another is expanded over: only a worker can write how long its result is."""
    if not task.end_from_trigger or context["ti"].map_index >= 0:
        return {}
    if not task.has_dag() or not any(task.iter_mapped_dependants()):
        return {}
    task.log.info("Another task is expanded over this one's result, so a worker finishes it.")
    return {"end_from_trigger": False}
