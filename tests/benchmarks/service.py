# SPDX-License-Identifier: Apache-2.0
"""A server on TLS that speaks both APIs, so that both contenders wait on the very same one."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import trustme
from aiohttp import web

OURS = json.dumps(
    {
        "exportId": "e",
        "segment": {"segmentId": "s", "name": "Segment", "type": "Static"},
        "status": "PENDING",
        "startTime": "2026-01-01T00:00:00.000Z",
        "endTime": None,
        "filename": None,
    }
).encode()
CHUNK = bytes(1024 * 1024)
DBT = json.dumps({"data": {"id": 1, "status": 3}}).encode()


class Service:
    """Answers that everything is still running, and counts."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.connections: set[object] = set()
        self.waits: set[str] = set()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path.startswith("/file-"):
            return await self._file(request, int(request.path.removeprefix("/file-")))
        if request.path == "/_counts":
            return web.json_response(self._counts())
        self.times.append(time.monotonic())
        self.connections.add(request.transport)
        self.waits.add(request.path)
        body = OURS if request.path.startswith("/service/v1/") else DBT
        return web.Response(body=body, content_type="application/json")

    async def _file(self, request: web.Request, size: int) -> web.StreamResponse:
        """Send so many zeros; `rate` limits the MB a second of a connection, `ranges` answers requests for a range."""
        span, rate = request.http_range, float(request.query.get("rate", "inf")) * 1e6
        start, end = (span.start or 0, span.stop or size) if "ranges" in request.query else (0, size)
        headers = {"Content-Length": str(end - start), "ETag": '"1"'}
        if "ranges" in request.query:
            headers["Accept-Ranges"] = "bytes"
        if start:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        response = web.StreamResponse(status=206 if start else 200, headers=headers)
        await response.prepare(request)
        begun = time.monotonic()
        with suppress(ConnectionError):  # whoever needs only the first part hangs up
            for sent in range(0, end - start, len(CHUNK)):
                await asyncio.sleep(begun + sent / rate - time.monotonic())
                await response.write(CHUNK[: end - start - sent])
        return response

    def _counts(self) -> dict[str, Any]:
        found = {"polls": len(self.times), "connections": len(self.connections), "waits": len(self.waits)}
        found["times"] = self.times
        self.__init__()  # type: ignore[misc]
        return found


async def main(folder: Path) -> None:
    """Serve until killed; the port and the CA lie in the folder."""
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", Service().answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    (folder / "port").write_text(str(runner.addresses[0][1]))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
