# SPDX-License-Identifier: Apache-2.0
"""The service over HTTP: its three calls, and control of the emulator for other processes."""

from __future__ import annotations

import base64
import dataclasses
import hmac
import json
import re
from collections import Counter
from contextvars import ContextVar
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web

from airflow_provider_segments.emulator._exports import EXTRA_FIELDS
from airflow_provider_segments.emulator._faults import fault_from
from airflow_provider_segments.emulator._segments import timestamp
from airflow_provider_segments.emulator._service import Service

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_segments.emulator._exports import Export, RequestRecord, Submission


@dataclasses.dataclass(slots=True)
class CurrentRequest:
    """The request that is being handled: its record, and whether its answer has undocumented fields."""

    record: RequestRecord
    extra_fields: bool


SERVICE = web.AppKey("service", Service)
CREDENTIALS = web.AppKey("credentials", bytes)
# Versions of aiohttp differ in the keys that a request's storage takes; this works in all.
CURRENT: ContextVar[CurrentRequest] = ContextVar("current_request")
BASE = "/service/v1/segments"
CONTROL = "/_emulator"
REDIRECTED = "/redirected"
CHALLENGE = {"WWW-Authenticate": 'Basic realm="emulator"'}
# The format becomes part of a file name.
_FORMAT = re.compile(r"[A-Za-z0-9_-]{1,16}")


def add_routes(app: web.Application) -> None:
    """Add the calls, named as in `RequestRecord.route`, and the control paths."""
    router = app.router
    router.add_get(f"{BASE}/list", _list, name="list", allow_head=False)
    router.add_post(f"{BASE}/export/", _export, name="export")
    router.add_get(f"{BASE}/export/{{export_id}}", _status, name="status", allow_head=False)
    router.add_route("*", f"{REDIRECTED}{{tail:.*}}", _redirected, name="redirected")
    router.add_get(f"{CONTROL}/state", _state)
    router.add_get(f"{CONTROL}/requests", _requests)
    router.add_get(f"{CONTROL}/exports", _exports)
    router.add_post(f"{CONTROL}/faults", _inject)
    router.add_delete(f"{CONTROL}/faults", _clear)
    router.add_post(f"{CONTROL}/refresh", _refresh)


def reply(data: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Answer in JSON."""
    body = json.dumps(data).encode()
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


def problem(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """Answer with an error."""
    return reply({"error": message, "status": status}, status, headers)


def basic(login: str, password: str) -> bytes:
    """Return what a Basic authentication header holds after the scheme."""
    return base64.b64encode(f"{login}:{password}".encode())


def is_authorized(request: web.Request) -> bool:
    """Return whether the request has the right credentials."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    expected = request.app[CREDENTIALS]
    return scheme.lower() == "basic" and hmac.compare_digest(given.strip().encode(), expected)


async def _list(request: web.Request) -> web.Response:
    segments = list(request.app[SERVICE].segments.values())
    return reply([segment.as_json() | _extra_fields() for segment in segments])


async def _export(request: web.Request) -> web.Response:
    try:
        body = json.loads(await request.read())
    except ValueError:
        return problem(400, "The body is not JSON")
    if reason := _why_bad(body):
        return problem(400, reason)
    service, current = request.app[SERVICE], CURRENT.get()
    segment = service.segments.get(body["segmentId"])
    if segment is None:
        return problem(404, "Segment not found")
    export = service.submit(segment, body["outputFormat"], extra_fields=current.extra_fields)
    current.record.export_id = export.export_id
    return _shown(export)


def _why_bad(body: Any) -> str | None:
    if not isinstance(body, dict):
        return "The body is not an object"
    if not isinstance(body.get("segmentId"), str):
        return "segmentId is missing or not a string"
    output_format = body.get("outputFormat")
    if not isinstance(output_format, str) or not _FORMAT.fullmatch(output_format):
        return "outputFormat is missing or not a format"
    return None


async def _status(request: web.Request) -> web.Response:
    export = await request.app[SERVICE].get(request.match_info["export_id"])
    if export is None:
        return problem(404, "Export not found")
    if export.problem is not None:
        # FAILED carries no reason, so a client would blame the service for the emulator's failure.
        return reply({"error": export.problem} | export.as_json(), HTTPStatus.FAILED_DEPENDENCY)
    return _shown(export)


def _shown(export: Export) -> web.Response:
    return reply(export.as_json() | _extra_fields())


def _extra_fields() -> dict[str, object]:
    return EXTRA_FIELDS if CURRENT.get().extra_fields else {}


async def _redirected(_: web.Request) -> web.Response:
    return reply({"redirected": True})


async def _state(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    return reply(
        {
            "submissions": [_submission(submission) for submission in service.submissions],
            "requests": Counter(record.route for record in service.requests),
            "connections": service.count_connections(),
            "exports": Counter(export.status for export in service.exports.values()),
        }
    )


async def _requests(request: web.Request) -> web.Response:
    return reply([dataclasses.asdict(record) for record in request.app[SERVICE].requests])


async def _exports(request: web.Request) -> web.Response:
    return reply([export.as_json() for export in request.app[SERVICE].exports.values()])


def _submission(submission: Submission) -> dict[str, object]:
    return dataclasses.asdict(submission) | {"wall": timestamp(submission.wall)}


async def _inject(request: web.Request) -> web.Response:
    try:
        fields = json.loads(await request.read())
        fault = fault_from(fields if isinstance(fields, dict) else {})
    except ValueError as error:
        return problem(400, str(error))
    request.app[SERVICE].faults.add(fault)
    return reply(dataclasses.asdict(fault), 201)


async def _clear(request: web.Request) -> web.Response:
    request.app[SERVICE].faults.clear()
    return reply({})


async def _refresh(request: web.Request) -> web.Response:
    """Refresh the segment named by ``?segment_id=``, else all Dynamic ones."""
    try:
        request.app[SERVICE].refresh(request.query.get("segment_id"))
    except KeyError:
        return problem(404, "Segment not found")
    return reply({})
