# SPDX-License-Identifier: Apache-2.0
"""A server of one file that cuts connections, resumes or doesn't, and remembers its requests."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from tests.support import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = bytes(range(256)) * 4000


class FileHost(ThreadingHTTPServer):
    """
    Serve a file, and cut some of the answers.

    :param cuts: after how many bytes each of the first answers is cut.
    :param ranges: whether to answer requests for a range.
    :param says_ranges: whether to say so; None if it does.
    :param etags: of the answers in turn; the last one stays.
    :param total: the size of the file as an answer to a range has it; a star is allowed.
    :param failures: what happens to the first requests: ``503``, or ``cut``.
    :param chunked: whether answers leave out their size.
    :param refuses_ranges: whether requests for a range are refused as too many.
    :param together: requests for a range that have to be there before any of them is answered.
    """

    daemon_threads = True

    def __init__(
        self,
        cuts: list[int],
        *,
        ranges: bool = True,
        says_ranges: bool | None = None,
        etags: tuple[str | None, ...] = ('"1"',),
        total: str = str(len(DATA)),
        together: int = 1,
        failures: list[str] | None = None,
        chunked: bool = False,
        refuses_ranges: bool = False,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.says_ranges = ranges if says_ranges is None else says_ranges
        self.cuts, self.ranges, self.etags, self.total = list(cuts), ranges, list(etags), total
        self.failures, self.chunked, self.refuses_ranges = failures or [], chunked, refuses_ranges
        self._together, self._arrived, self._met = together, 0, threading.Event()
        self._lock, self.all_met = threading.Lock(), True
        self.range_headers: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def meet(self) -> None:
        """Wait until as many requests for a range have come as are to come together."""
        with self._lock:
            self._arrived += 1
            if self._arrived >= self._together:
                self._met.set()
        self.all_met &= self._met.wait(60)


class _Handler(BaseHTTPRequestHandler):
    server: FileHost

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range")
        server.range_headers.append(asked)
        failure = (
            server.failures.pop(0) if server.failures else "503" * (server.refuses_ranges and bool(asked))
        )
        if failure == "cut":
            self.close_connection = True
            return
        if failure:
            self._answer(int(failure), {}, b"")
            return
        etag = server.etags.pop(0) if len(server.etags) > 1 else server.etags[0]
        if self.headers.get("If-Match") not in (None, etag):
            self._answer(412, {}, b"")
            return
        headers = ({"ETag": etag} if etag else {}) | (
            {"Accept-Ranges": "bytes"} if server.says_ranges else {}
        )
        first, _, last = (
            (asked if asked and server.ranges else "bytes=0-").removeprefix("bytes=").partition("-")
        )
        start, end = int(first), int(last or len(DATA) - 1) + 1
        if start:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{server.total}"
            server.meet()
        cut = server.cuts.pop(0) if server.cuts else None
        self._answer(206 if start else 200, headers, DATA[start:end], cut)

    def _answer(self, status: int, headers: dict[str, str], body: bytes, cut: int | None = None) -> None:
        self.send_response(status)
        chunked = self.server.chunked and status < 300
        size = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": f"{len(body)} "}
        for name, value in (size | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if chunked:
            self.wfile.write(f"{len(body):x}\r\n".encode())
        self.wfile.write(body[:cut])
        if chunked and cut is None:
            self.wfile.write(b"\r\n0\r\n\r\n")
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def file_host(cuts: list[int], **options: Any) -> Iterator[FileHost]:
    """Serve while the context lasts."""
    with serving(FileHost(cuts, **options)) as server:
        yield server
