# SPDX-License-Identifier: Apache-2.0
"""Record each request and apply the active faults, instead of its handler or to its answer."""

from __future__ import annotations

import asyncio
import logging
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from airflow_provider_segments.emulator._exports import RequestRecord
from airflow_provider_segments.emulator._faults import Fault, FaultKind
from airflow_provider_segments.emulator._server import (
    CHALLENGE,
    CONTROL,
    CURRENT,
    REDIRECTED,
    SERVICE,
    CurrentRequest,
    is_authorized,
    problem,
)

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

log = logging.getLogger(__name__)
LOG_REQUESTS = web.AppKey("log_requests", bool)
_CALLS = ("list", "export", "status")
_PAGE = (
    "<!DOCTYPE html>\n<html><head><title>Maintenance</title></head><body><h1>Back soon</h1></body></html>\n"
)
_REFUSALS = {
    FaultKind.UNAUTHORIZED: HTTPStatus.UNAUTHORIZED,
    FaultKind.FORBIDDEN: HTTPStatus.FORBIDDEN,
    FaultKind.TOO_MANY_REQUESTS: HTTPStatus.TOO_MANY_REQUESTS,
    FaultKind.INTERNAL_ERROR: HTTPStatus.INTERNAL_SERVER_ERROR,
    FaultKind.BAD_GATEWAY: HTTPStatus.BAD_GATEWAY,
    FaultKind.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    FaultKind.GATEWAY_TIMEOUT: HTTPStatus.GATEWAY_TIMEOUT,
}
_CUTS = (FaultKind.CUT_BEFORE, FaultKind.CUT_AFTER)
_COMBINED = (FaultKind.LATENCY, FaultKind.EXTRA_FIELDS)  # with one of the other kinds
_NO_FAULT = Fault(FaultKind.LATENCY)


@web.middleware
async def fault_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Record and answer a request, with the faults applied."""
    if request.path.startswith(f"{CONTROL}/"):
        return await handler(request)
    record = _record(request)
    try:
        return await _answer(request, handler, record)
    finally:
        if request.app[LOG_REQUESTS]:
            log.info("%s %s: %s", record.method, record.path, record.status or "no answer")


def _record(request: web.Request) -> RequestRecord:
    record = RequestRecord(
        time=time.monotonic(),
        method=request.method,
        path=request.path,
        route=request.match_info.route.name or "other",
        export_id=request.match_info.get("export_id"),
    )
    request.app[SERVICE].requests.append(record)
    return record


async def _answer(request: web.Request, handler: Handler, record: RequestRecord) -> web.StreamResponse:
    service = request.app[SERVICE]
    if service.silent:
        await asyncio.Future()
    if not service.limit.permits():
        record.status = HTTPStatus.TOO_MANY_REQUESTS
        return problem(record.status, HTTPStatus.TOO_MANY_REQUESTS.phrase)
    faults = service.faults.for_request(record.route) if record.route in _CALLS else []
    extra_fields = any(fault.kind is FaultKind.EXTRA_FIELDS for fault in faults)
    CURRENT.set(CurrentRequest(record, extra_fields))
    fault = next((fault for fault in faults if fault.kind not in _COMBINED), _NO_FAULT)

    response = _instead(request, fault)
    if response is None:  # on aiohttp 3.11, an empty one is falsy
        response = await _handle(request, handler)
    if delay := sum(fault.seconds for fault in faults):
        await asyncio.sleep(delay)
    return await _send(request, response, fault, record)


def _instead(request: web.Request, fault: Fault) -> web.Response | None:
    """Return what is answered in place of the handler's answer; None if the handler is to run."""
    if status := _REFUSALS.get(fault.kind):
        headers = dict(CHALLENGE) if status is HTTPStatus.UNAUTHORIZED else {}
        if fault.retry_after is not None:
            headers["Retry-After"] = fault.retry_after
        return problem(status, status.phrase, headers)
    if fault.kind is FaultKind.REDIRECT:
        return web.Response(status=HTTPStatus.FOUND, headers={"Location": REDIRECTED + request.path})
    if fault.kind is FaultKind.HTML:
        return web.Response(text=_PAGE, content_type="text/html")
    if fault.kind in (FaultKind.CUT_BEFORE, FaultKind.SILENCE):
        return web.Response()
    return None


async def _handle(request: web.Request, handler: Handler) -> web.Response:
    if request.match_info.route.name in _CALLS and not is_authorized(request):
        return problem(HTTPStatus.UNAUTHORIZED, "Invalid API key or access token", CHALLENGE)
    try:
        response = await handler(request)
    except web.HTTPException as error:
        return problem(error.status, error.reason)
    if not isinstance(response, web.Response):
        raise TypeError(response)
    return response


async def _send(
    request: web.Request, response: web.Response, fault: Fault, record: RequestRecord
) -> web.StreamResponse:
    if fault.kind is FaultKind.SILENCE and not fault.seconds:
        await asyncio.Future()
    if fault.kind is FaultKind.SILENCE or fault.kind in _CUTS:
        if request.transport is not None:
            request.transport.abort()
        return response
    record.status = response.status
    return await _send_half(request, response) if fault.kind is FaultKind.HALF_BODY else response


async def _send_half(request: web.Request, whole: web.Response) -> web.StreamResponse:
    body = whole.body if isinstance(whole.body, bytes) else b""
    half = web.StreamResponse(status=whole.status, headers=whole.headers)
    half.content_length = len(body)
    await half.prepare(request)
    await half.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return half
