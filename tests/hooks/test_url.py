# SPDX-License-Identifier: Apache-2.0
"""Reading a URL that carries its own permission: whole or not at all, no credential sent, no query shown."""

from __future__ import annotations

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_segments.api.errors import FileTransferError
from airflow_provider_segments.connection.settings import Settings, read_settings
from airflow_provider_segments.hooks._url import open_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BODY = b"user_id\n" + b"x" * 300_000
PACKED = gzip.compress(BODY)
QUERY = "Policy=must-not-be-seen&X-Amz-Signature=must-not-be-seen"


class Host(BaseHTTPRequestHandler):
    """Answers as its path says."""

    def do_GET(self) -> None:
        self.server.seen.append(self.headers)  # type: ignore[attr-defined]
        kind = self.path.split("?")[0]
        if kind == "/whole":
            self._answer(200, BODY)
        elif kind == "/packed":
            self._answer(200, PACKED, ("Content-Encoding", "gzip"))
        elif kind == "/short":
            self._answer(200, BODY, ("Content-Length", str(len(BODY) + 1)))
        elif kind == "/moved":
            self._answer(307, b"", ("Location", f"/whole?{QUERY}"), ("Set-Cookie", "session=1"))
        elif kind == "/round":
            self._answer(302, b"", ("Location", f"/round?{QUERY}"))
        elif kind == "/elsewhere":
            self._answer(302, b"", ("Location", f"http://example.com/file?{QUERY}"))
        else:
            self._answer(403, b"<Code>AccessDenied</Code>")

    def _answer(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | dict(headers)).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def host() -> Iterator[Any]:
    """A host of files, which remembers what headers it got."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Host)
    server.seen = []
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def settings() -> Settings:
    """Return settings with credentials that must not be sent."""
    empty = dict.fromkeys(("host", "port", "schema", "extra"))
    return read_settings(SimpleNamespace(conn_id="c", login="key", password="token", **empty))


def read(url: str) -> tuple[bytes, int | None]:
    """Return what came, and how much was announced."""
    with open_url(f"{url}?{QUERY}", settings()) as source:
        return source.readall(), source.size


def test_whole(host: Any) -> None:
    """All bytes, and how many were announced."""
    assert read(f"{host.url}/whole") == (BODY, len(BODY))


def test_kept_compressed(host: Any) -> None:
    """As it is stored, so that the length tells whether it is whole."""
    assert read(f"{host.url}/packed") == (PACKED, len(PACKED))


def test_redirect_takes_no_credential(host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the Connection's, nor those of .netrc, nor a cookie."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    assert read(f"{host.url}/moved")[0] == BODY
    assert len(host.seen) == 2
    for headers in host.seen:
        assert not {"authorization", "cookie", "referer"} & {name.lower() for name in headers}


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/short", "can't be read"),
        ("/round", "more than 5 times"),
        ("/elsewhere", "example.com/file is not read"),
        ("/gone", "HTTP 403. It may have expired"),
    ],
)
def test_not_to_be_had(host: Any, path: str, says: str) -> None:
    """It says so without the query, cause included."""
    with pytest.raises(FileTransferError) as caught:
        read(f"{host.url}{path}")
    assert says in str(caught.value)
    assert "must-not" not in str(caught.value)
    assert caught.value.__suppress_context__ or not caught.value.__context__


def test_nobody_listens(host: Any) -> None:
    """Likewise."""
    host.shutdown()
    host.server_close()
    with pytest.raises(FileTransferError, match=r"/whole can't be read: .*refused") as caught:
        read(f"{host.url}/whole")
    assert "must-not" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://example.com/f", "https://a:b@example.com/f", "https://", "ftp://h/f"]
)
def test_not_asked_for(url: str) -> None:
    """What is not https, or carries a password, is not asked for."""
    with pytest.raises(FileTransferError, match="is not read"):
        read(url)
