# SPDX-License-Identifier: Apache-2.0
"""What the Test button of the Connection form answers."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_segments.emulator import Emulator, Fault, FaultKind
from airflow_provider_segments.hooks.user_segments import UserSegmentsHook
from tests.support import serving

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("conn_id", [None, "", 5])
def test_connection_id_that_is_none(conn_id: Any) -> None:
    """It is named as that."""
    ok, message = UserSegmentsHook(conn_id).test_connection()
    assert (ok, f"mparticle_conn_id is {conn_id!r}" in message) == (False, True)


def test_test_connection(connected: Emulator, connect: Callable[..., None]) -> None:
    """The button's answers: how many segments, or which of the things is wrong."""
    assert UserSegmentsHook().test_connection() == (True, "Connected. The project has 3 segments.")
    connect(connected, password="wrong")
    ok, message = UserSegmentsHook().test_connection()
    assert (ok, "401" in message) == (False, True)
    connect(connected)
    connected.inject(Fault(FaultKind.FORBIDDEN))
    ok, message = UserSegmentsHook().test_connection()
    assert (ok, "403" in message) == (False, True)
    connected.inject(Fault(FaultKind.HTML))
    ok, message = UserSegmentsHook().test_connection()
    assert (ok, message.startswith("Not the API. "), "Host is the API's" in message) == (False, True, True)
    for kind in (FaultKind.UNAVAILABLE, FaultKind.CUT_AFTER):
        connected.inject(Fault(kind))
        ok, message = UserSegmentsHook().test_connection()
        assert (ok, message.startswith("Unreachable.")) == (False, True), message
    connected.pause("refuse")
    ok, message = UserSegmentsHook().test_connection()
    assert (ok, message.startswith("Unreachable.")) == (False, True)


@pytest.mark.parametrize("status", [302, 404, 405, 407])
def test_test_connection_to_another_server(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a web server says that is not the service, the button says that, and to check the Host."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with serving(HTTPServer(("127.0.0.1", 0), Handler)) as server:
        fields = {"conn_type": "mparticle_analytics", "login": "k", "password": "t"}
        host = {"host": f"http://127.0.0.1:{server.server_port}"}
        monkeypatch.setenv("AIRFLOW_CONN_MPARTICLE_ANALYTICS_DEFAULT", json.dumps(fields | host))
        ok, message = UserSegmentsHook().test_connection()
    assert not ok
    assert message.startswith("Not the API. ")
    assert f"HTTP {status}" in message
    assert "the Connection's Host" in message
