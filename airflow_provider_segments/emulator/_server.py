# SPDX-License-Identifier: Apache-2.0
"""The three calls over HTTP."""

from __future__ import annotations

import base64
import dataclasses
import hmac
import json
import re
from contextvars import ContextVar
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web

from airflow_provider_segments.emulator._exports import EXTRA_FIELDS
from airflow_provider_segments.emulator._service import Service

if TYPE_CHECKING:
    from airflow_provider_segments.emulator._exports import Export, RequestRecord


@dataclasses.dataclass(slots=True)
class Visit:
    """
    A request on its way to a handler.

    :param record: Its record.
    :param extra_fields: Whether the answer has fields nobody knows.
    """

    record: RequestRecord
    extra_fields: bool


SERVICE = web.AppKey("service", Service)
AUTHORIZATION = web.AppKey("authorization", bytes)
# A request's own storage takes keys of another kind in each generation of aiohttp; this works in all.
VISIT: ContextVar[Visit] = ContextVar("visit")
BASE = "/service/v1/segments"
REDIRECTED = "/redirected"
# The format becomes part of a file name.
_FORMAT = re.compile(r"[A-Za-z0-9_-]{1,16}")


def reply(data: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """
    Answer in JSON.

    :param data: What to say.
    :param status: HTTP status.
    :param headers: Further headers.
    """
    body = json.dumps(data).encode()
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


def problem(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    """
    Answer with an error.

    :param status: HTTP status.
    :param message: What is wrong.
    :param headers: Further headers.
    """
    return reply({"error": message, "status": status}, status, headers)


def basic(login: str, password: str) -> bytes:
    """
    Return what a Basic authentication header holds after the scheme.

    :param login: User name.
    :param password: Password.
    """
    return base64.b64encode(f"{login}:{password}".encode())


def is_authorized(request: web.Request) -> bool:
    """
    Tell whether the request has the right credentials.

    :param request: The request.
    """
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    expected = request.app[AUTHORIZATION]
    return scheme.lower() == "basic" and hmac.compare_digest(given.strip().encode(), expected)


def add_calls(app: web.Application) -> None:
    """
    Add the service's calls.

    :param app: The application.
    """
    router = app.router
    router.add_get(f"{BASE}/list", _list, name="list", allow_head=False)
    router.add_post(f"{BASE}/export/", _export, name="export")
    router.add_get(f"{BASE}/export/{{export_id}}", _status, name="status", allow_head=False)
    router.add_route("*", f"{REDIRECTED}{{tail:.*}}", _redirected, name="redirected")


async def _list(request: web.Request) -> web.Response:
    extra = EXTRA_FIELDS if VISIT.get().extra_fields else {}
    return reply([segment.as_json() | extra for segment in list(request.app[SERVICE].segments.values())])


async def _export(request: web.Request) -> web.Response:
    try:
        body = json.loads(await request.read())
    except ValueError:
        return problem(400, "The body is not JSON")
    if reason := _why_bad(body):
        return problem(400, reason)
    service = request.app[SERVICE]
    segment = service.segments.get(body["segmentId"])
    if segment is None:
        return problem(404, "Segment not found")
    visit = VISIT.get()
    export = service.submit(segment, body["outputFormat"], extra_fields=visit.extra_fields)
    visit.record.export_id = export.export_id
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
    export = await request.app[SERVICE].look_up(request.match_info["export_id"])
    if export is None:
        return problem(404, "Export not found")
    if export.problem is not None:
        # A FAILED export has no reason, so a client would take the emulator's trouble for the service's.
        return reply({"error": export.problem} | export.as_json(), HTTPStatus.FAILED_DEPENDENCY)
    return _shown(export)


def _shown(export: Export) -> web.Response:
    return reply(export.as_json() | (EXTRA_FIELDS if VISIT.get().extra_fields else {}))


async def _redirected(_: web.Request) -> web.Response:
    return reply({"redirected": True})
