# SPDX-License-Identifier: Apache-2.0
"""What a trigger tells the task it wakes: written and read here, and checked when read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_segments.api import errors
from airflow_provider_segments.api.errors import EventError, UserSegmentsError

if TYPE_CHECKING:
    from airflow_provider_segments.api.models import SegmentExport

__all__ = ["failure_event", "finished_event", "read_event"]

_FINISHED, _GAVE_UP = "finished", "gave_up"


def finished_event(export: SegmentExport) -> dict[str, Any]:
    """
    Tell that an export is finished, with the whole export, so that the task asks nothing again.

    :param export: the final answer; the query of a presigned URL is left out.
    """
    return {"outcome": _FINISHED, "export_id": export.export_id, "export": export.to_dict()}


def failure_event(export_id: str, error: UserSegmentsError) -> dict[str, Any]:
    """
    Tell that the wait ended without the export's end.

    :param export_id: the export waited for.
    :param error: why.
    """
    return {"outcome": _GAVE_UP, "export_id": export_id, "error": type(error).__name__, "message": str(error)}


def read_event(event: Any, export_id: str) -> SegmentExport:
    """
    Return the finished export an event carries.

    :param event: what the task was resumed with.
    :param export_id: the export it waited for.
    :raises EventError: there is no event, it is of another export, or it is not understood.
    :raises UserSegmentsError: the wait ended otherwise, as the event says.
    """
    if not isinstance(event, dict):
        raise EventError(
            f"The task waited for export {export_id} but was resumed without its trigger's event "
            f"(got {type(event).__name__}). Clear the task to try again."
        )
    if event.get("export_id") != export_id:
        raise EventError(
            f"The task waited for export {export_id} but was resumed with the event of export "
            f"{event.get('export_id')!r}. Clear the task to try again."
        )
    if event.get("outcome") == _GAVE_UP and event.get("error") in errors.__all__:
        raise getattr(errors, event["error"])(event.get("message"))
    if event.get("outcome") != _FINISHED:
        raise EventError(
            f"The task waited for export {export_id} but was resumed with an event it does not know "
            f"(outcome {event.get('outcome')!r}). Triggerer and workers may run different versions of "
            "airflow-provider-segments; clear the task once they are the same."
        )
    return _export_of(event, export_id)


def _export_of(event: dict[str, Any], export_id: str) -> SegmentExport:
    from pydantic import ValidationError

    from airflow_provider_segments.api.models import SegmentExport

    try:
        export = SegmentExport.model_validate(event.get("export"))
    except ValidationError as error:
        raise EventError(f"The event of export {export_id} can't be read: {error}") from error
    if export.export_id != export_id or not export.status.is_finished:
        raise EventError(
            f"The event of export {export_id} holds export {export.export_id} as {export.status.value}, not its end."
        )
    return export
