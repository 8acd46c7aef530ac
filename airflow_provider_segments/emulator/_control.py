# SPDX-License-Identifier: Apache-2.0
"""Control over HTTP, for an emulator that runs as a process of its own."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from typing import TYPE_CHECKING

from airflow_provider_segments.emulator._faults import fault_from
from airflow_provider_segments.emulator._segments import timestamp
from airflow_provider_segments.emulator._server import SERVICE, problem, reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from airflow_provider_segments.emulator._exports import Submission


class Control:
    """
    The handlers below ``/_emulator``.

    :param connections: Tells how many connections have been accepted.
    """

    def __init__(self, connections: Callable[[], int]) -> None:
        self._connections = connections

    def add_to(self, app: web.Application) -> None:
        """
        Add the handlers.

        :param app: The application.
        """
        app.router.add_get("/_emulator/state", self._state)
        app.router.add_post("/_emulator/faults", self._inject)
        app.router.add_delete("/_emulator/faults", self._clear)
        app.router.add_post("/_emulator/refresh", self._refresh)

    async def _state(self, request: web.Request) -> web.Response:
        service = request.app[SERVICE]
        return reply(
            {
                "submissions": [_shown(submission) for submission in service.submissions],
                "requests": Counter(record.route for record in service.requests),
                "connections": self._connections(),
                "exports": Counter(export.status for export in service.exports.values()),
            }
        )

    async def _inject(self, request: web.Request) -> web.Response:
        try:
            fields = json.loads(await request.read())
            fault = fault_from(fields if isinstance(fields, dict) else {})
        except ValueError as error:
            return problem(400, str(error))
        request.app[SERVICE].faults.add(fault)
        return reply(dataclasses.asdict(fault), 201)

    async def _clear(self, request: web.Request) -> web.Response:
        request.app[SERVICE].faults.clear()
        return reply({})

    async def _refresh(self, request: web.Request) -> web.Response:
        """Refresh the segment named by ``?segment_id=``, else all Dynamic ones."""
        try:
            request.app[SERVICE].refresh(request.query.get("segment_id"))
        except KeyError:
            return problem(404, "Segment not found")
        return reply({})


def _shown(submission: Submission) -> dict[str, object]:
    return dataclasses.asdict(submission) | {"wall": timestamp(submission.wall)}
