# SPDX-License-Identifier: Apache-2.0
"""The event between a trigger and the task it resumes: written and read here, and checked when read."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_segments.api import errors
from airflow_provider_segments.api.errors import CallError, EventError, UserSegmentsError

if TYPE_CHECKING:
    from airflow_provider_segments.api.models import SegmentExport

_FINISHED, _GAVE_UP = "finished", "gave_up"
# Former error classes by status: a triggerer that is not upgraded yet still sends them.
_FORMER = {
    "UnauthorizedError": 401,
    "ForbiddenError": 403,
    "TooManyRequestsError": 429,
    "InternalServerError": 500,
    "UnavailableError": 503,
}


def finished_event(export_id: str, export: SegmentExport) -> dict[str, Any]:
    """
    Return the event of a finished export: all of it but a presigned URL's query, so that the task needs no call.

    :param export_id: the id that the task waits for; the service may spell it in another way.
    """
    return {"outcome": _FINISHED, "export_id": export_id, "export": export.to_dict()}


def failure_event(export_id: str, error: UserSegmentsError) -> dict[str, Any]:
    """Return the event of a wait that ended with an error."""
    status = error.status if isinstance(error, CallError) else None
    return {
        "outcome": _GAVE_UP,
        "export_id": export_id,
        "error": type(error).__name__,
        "message": str(error),
        "status": status,
    }


def read_event(event: Any, export_id: str | None) -> SegmentExport:
    """Return an event's finished export; raise the error that it carries, or EventError if it is invalid."""
    if not isinstance(event, dict):
        raise EventError(
            f"The task waited for export {export_id} but was resumed without its trigger's event "
            f"(got {type(event).__name__}). Clear the task to try again."
        )
    export_id = event.get("export_id") if export_id is None else export_id
    if not isinstance(export_id, str) or event.get("export_id") != export_id:
        raise EventError(
            f"The task waited for export {export_id} but was resumed with the event of export "
            f"{event.get('export_id')!r}. Clear the task to try again."
        )
    if event.get("outcome") == _GAVE_UP and (error := _error_of(event)) is not None:
        raise error
    if event.get("outcome") != _FINISHED:
        raise EventError(
            f"The task waited for export {export_id} but was resumed with an event it does not know (outcome "
            f"{event.get('outcome')!r}, error {event.get('error')!r}, message {event.get('message')!r}). Triggerer "
            "and workers may run different versions of airflow-provider-segments; clear the task once they are the "
            "same."
        )
    return _export_of(event, export_id)


def _error_of(event: dict[str, Any]) -> UserSegmentsError | None:
    """Return the error an event names, or None if it is not one of ours."""
    name, message = str(event.get("error")), str(event.get("message"))
    if name in _FORMER:
        return errors.RefusedError(message, status=_FORMER[name])
    kind = getattr(errors, name, None)
    if not isinstance(kind, type) or not issubclass(kind, UserSegmentsError):
        return None
    status = {"status": _status_of(event)} if issubclass(kind, CallError) else {}
    try:
        return kind(message, **status)
    except TypeError:
        return None


def _status_of(event: dict[str, Any]) -> int | None:
    with suppress(TypeError, ValueError, OverflowError):
        return int(event.get("status"))  # type: ignore[arg-type]
    return None


def _export_of(event: dict[str, Any], export_id: str) -> SegmentExport:
    from pydantic import ValidationError

    from airflow_provider_segments.api.models import SegmentExport

    try:
        export = SegmentExport.model_validate(event.get("export"))
    except ValidationError as error:
        raise EventError(f"The event of export {export_id} can't be read: {error}") from error
    if not export.status.is_finished:
        raise EventError(f"The event holds export {export_id} as {export.status.value}, not as finished.")
    return export
