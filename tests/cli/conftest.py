# SPDX-License-Identifier: Apache-2.0
"""The service, a local S3 and a slow host of files, for commands."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.support import TOKEN
from tests.support import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_provider_segments.emulator import Emulator


@pytest.fixture
def user_segments_options() -> dict[str, Any]:
    """A token that can be looked for."""
    return {"segments": 4, "export_seconds": 0, "access_token": TOKEN}


@pytest.fixture
def s3(user_segments_s3: Any) -> Any:
    """The local S3, with its Connection set."""
    return user_segments_s3


@pytest.fixture
def service(s3: Any, user_segments: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Emulator:
    """The service with files on the local S3, both Connections set, and no database."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "home"))
    return user_segments


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where commands run."""
    made = tmp_path / "folder"
    made.mkdir()
    return made


class SlowHost:
    """A service whose one export's file comes half at once, and the rest when it may."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.half_sent = threading.Event()
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = f"http://127.0.0.1:{self.server.server_address[1]}/slow.csv"
                answer = {"exportId": "e-1", "status": "COMPLETE", "filename": url}
                is_file = self.path == "/slow.csv"
                body = b"user_id\nu1\n" if is_file else json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[:8])
                if is_file:
                    host.half_sent.set()
                    host.go_on.wait(120)
                self.wfile.write(body[8:])

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True


@pytest.fixture
def slow_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SlowHost]:
    """A host that stops in the middle of a file, with the Connection set."""
    host = SlowHost()
    fields = {"conn_type": "mparticle_analytics", "login": "key", "password": TOKEN}
    fields["host"] = f"http://127.0.0.1:{host.server.server_address[1]}"
    monkeypatch.setenv("AIRFLOW_CONN_MPARTICLE_ANALYTICS_DEFAULT", json.dumps(fields))
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "home"))
    with serving(host.server):
        yield host
        host.go_on.set()
