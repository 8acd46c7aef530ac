# SPDX-License-Identifier: Apache-2.0
"""What a task tells of its export in the UI: the end of its log, and a mapped task's name in the list of its kind."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_segments.api.models import SegmentExport

__all__ = ["name_mapped_task", "tell_complete", "tell_details"]

_LABEL = "user_segment_label"
_TEMPLATE = "{{ " + _LABEL + " }}"
# What the column in Airflow's database holds.
_LONGEST_LABEL = 250


def name_mapped_task(task: Any, context: Any, label: Any, *, now: bool = False) -> None:
    """
    Show a mapped task under its segment's name where Airflow would show a number, unless it has a template for that.

    Airflow renders the template from the context when a worker has ended the task, but not when it defers.

    :param task: the running task.
    :param context: its context.
    :param label: what to show; nothing leaves it as it is.
    :param now: show it while the task waits, too (Airflow 3.2 and later).
    """
    map_index = getattr(context["ti"], "map_index", None)
    is_mapped = isinstance(map_index, int) and map_index >= 0
    if not label or not is_mapped or context.get("map_index_template") not in (None, _TEMPLATE):
        return
    label = str(label)[:_LONGEST_LABEL]
    # Such a DAG would make a number of a name like "2026".
    context[_LABEL] = repr(label) if task.dag.render_template_as_native_obj else label
    context["map_index_template"] = _TEMPLATE
    if now:
        _show(label)


def _show(label: str) -> None:
    try:
        from airflow.sdk.execution_time.comms import SetRenderedMapIndex
        from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

        SUPERVISOR_COMMS.send(msg=SetRenderedMapIndex(rendered_map_index=label))
    except Exception as error:  # noqa: BLE001 - not of Airflow's public interface: then the name comes at the end
        logging.getLogger(__name__).debug("The name %r can't be shown yet: %s", label, error)


def tell_complete(log: Any, export: SegmentExport, result: dict[str, Any]) -> None:
    """
    Tell that an export is complete, where its file is and until when.

    :param log: the task's.
    :param export: the export.
    :param result: what it is as XComs.
    """
    log.info("Complete: %s.", export.label)
    until = f" until {export.expires_at:%Y-%m-%d %H:%M:%S} UTC" if export.expires_at else ""
    log.info("The file is at %s%s.", result["filename"], until)


def tell_details(log: Any, result: dict[str, Any]) -> None:
    """
    Tell all of a task's result, in a block that Airflow folds.

    :param log: the task's.
    :param result: what the task returns.
    """
    log.info("::group::Details of the export")
    for name, value in result.items():
        log.info("%s: %s", name, value)
    log.info("::endgroup::")
