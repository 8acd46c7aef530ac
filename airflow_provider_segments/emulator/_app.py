# SPDX-License-Identifier: Apache-2.0
"""The parts of the server put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from airflow_provider_segments.emulator._control import Control
from airflow_provider_segments.emulator._server import AUTHORIZATION, SERVICE, add_calls
from airflow_provider_segments.emulator._strikes import LOG_REQUESTS, strikes

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_segments.emulator._service import Service


def build_app(
    service: Service, *, authorization: bytes, log: bool, connections: Callable[[], int]
) -> web.Application:
    """
    Build the application.

    :param service: What it serves.
    :param authorization: The credentials it accepts, encoded for a header.
    :param log: Log one line for each request.
    :param connections: Tells how many connections have been accepted.
    """
    app = web.Application(middlewares=[strikes])
    app[SERVICE] = service
    app[AUTHORIZATION] = authorization
    app[LOG_REQUESTS] = log
    add_calls(app)
    Control(connections).add_to(app)
    return app
