# SPDX-License-Identifier: Apache-2.0
"""The event between a trigger and its task: only an error of this package is raised."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_segments.api import errors
from airflow_provider_segments.api.errors import EventError, RefusedError, UserSegmentsError
from airflow_provider_segments.api.models import ExportStatus, SegmentExport
from airflow_provider_segments.exceptions import UserSegmentsException
from airflow_provider_segments.operators.user_segments import UserSegmentExportOperator
from airflow_provider_segments.triggers.events import failure_event, finished_event, read_event
from tests.support import context

GAVE_UP = {"export_id": "e", "outcome": "gave_up", "message": "m"}
KINDS = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, UserSegmentsError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_error_comes_out_as_its_kind(kind: type[UserSegmentsError]) -> None:
    """With its message, and its status, which decides whether a retry can help."""
    error = kind("m", status=401) if issubclass(kind, errors.CallError) else kind("m")
    with pytest.raises(kind) as caught:
        read_event(json.loads(json.dumps(failure_event("e", error))), "e")
    assert type(caught.value) is kind
    assert str(caught.value) == "m"
    assert (caught.value.permanent, getattr(caught.value, "status", None)) == (
        error.permanent,
        getattr(error, "status", None),
    )


@pytest.mark.parametrize(
    "name",
    [
        "diagnosis",
        "refusal",
        "TYPE_CHECKING",
        "_ADVICE",
        "__name__",
        "__class__",
        "annotations",
        "Strange",
        "",
        7,
    ]
    + [None, ["CallError"], {"a": 1}],
)
def test_what_is_no_error_is_not_raised(name: Any) -> None:
    """A function, a constant, a class of something else, or no name at all."""
    with pytest.raises(EventError, match="does not know"):
        read_event(GAVE_UP | {"error": name}, "e")


@pytest.mark.parametrize("helper", ["Exception", "function", "demanding"])
def test_errors_module_may_have_other_names(monkeypatch: pytest.MonkeyPatch, helper: str) -> None:
    """Also a class that is no error of the package, and one that can't be made of a message."""

    class Demanding(UserSegmentsError):
        def __init__(self, one: str, two: str) -> None:
            super().__init__(one, two)

    values = {"Exception": Exception, "function": lambda message: None, "demanding": Demanding}
    monkeypatch.setattr(errors, "Anything", values[helper], raising=False)
    monkeypatch.setattr(errors, "__all__", [*errors.__all__, "Anything"])
    with pytest.raises(EventError, match="does not know"):
        read_event(GAVE_UP | {"error": "Anything"}, "e")


@pytest.mark.parametrize(
    ("given", "status"),
    [({}, None), ({"status": "401"}, 401), ({"status": float("inf")}, None), ({"status": []}, None)],
)
def test_status_of_an_event_may_be_anything(given: dict[str, Any], status: int | None) -> None:
    """Or missing; a number that came as text still decides whether a retry can help."""
    with pytest.raises(RefusedError) as caught:
        read_event(GAVE_UP | {"error": "RefusedError"} | given, "e")
    assert (caught.value.status, caught.value.permanent) == (status, status == 401)


@pytest.mark.parametrize(("name", "status"), [("UnauthorizedError", 401), ("ForbiddenError", 403)])
def test_event_of_a_triggerer_before_the_upgrade(name: str, status: int) -> None:
    """Errors by status had names of their own."""
    with pytest.raises(RefusedError) as caught:
        read_event(GAVE_UP | {"error": name}, "e")
    assert (caught.value.status, caught.value.permanent) == (status, True)


@pytest.mark.parametrize("event", [{"export_id": None}, {}, {"export_id": 7, "outcome": "finished"}])
def test_event_names_its_export_where_the_task_has_lost_it(event: dict[str, Any]) -> None:
    """One that names none is not believed."""
    with pytest.raises(EventError, match="the event of export"):
        read_event(event, None)


def test_id_that_the_service_spells_in_another_way() -> None:
    """The export is that of the id that was asked for, as on a worker."""
    export = SegmentExport(export_id="ab-1", status=ExportStatus.COMPLETE, filename="s3://b/k")
    assert read_event(finished_event("AB-1", export), "AB-1") == export


EVENTS: list[tuple[Any, str]] = [
    (None, "without its trigger's event"),
    ("done", "without its trigger's event"),
    ({}, "event of export None"),
    ({"export_id": "other", "outcome": "finished"}, "event of export 'other'"),
    ({"export_id": "e", "outcome": "exploded"}, "does not know"),
    ({"export_id": "e", "outcome": "gave_up", "error": "Strange", "message": "m"}, "message 'm'"),
    ({"export_id": "e", "outcome": "finished", "export": {}}, "can't be read"),
    (
        {"export_id": "e", "outcome": "finished", "export": {"export_id": "e"}},
        "as UNKNOWN, not as finished",
    ),
    (
        {
            "export_id": "e",
            "outcome": "finished",
            "export": {"export_id": "e", "status": "PENDING", "segment": {"segment_id": "s"}},
        },
        "not as finished",
    ),
]


@pytest.mark.parametrize(("event", "words"), EVENTS)
def test_events_are_checked(event: Any, words: str) -> None:
    """A resumed task believes nothing it did not wait for."""
    with pytest.raises(EventError, match=words):
        read_event(event, "e")
    with pytest.raises(UserSegmentsException, match=words):
        UserSegmentExportOperator(task_id="t", segment_id="s").execute_complete(context(), event, "e")


def test_events_bring_errors_of_their_kind() -> None:
    """What ended the wait decides whether a retry may help."""
    event = {"export_id": "e", "outcome": "gave_up", "error": "UnauthorizedError", "message": "wrong token"}
    with pytest.raises(AirflowFailException, match="wrong token"):
        UserSegmentExportOperator(task_id="t", segment_id="s").execute_complete(context(), event, "e")
    with pytest.raises(UserSegmentsException, match="too late"):
        UserSegmentExportOperator(task_id="t", segment_id="s").execute_complete(
            context(), event | {"error": "ExportTimeoutError", "message": "too late"}, "e"
        )
