# SPDX-License-Identifier: Apache-2.0
"""
Real waits in one process and in two, against a local service with a rate limit that it does not publish.

``python -m tests.benchmarks.hidden_limit`` prints what the service has seen, with the limit learned and with the limit
in the Connection.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import resource
import subprocess
import sys
import tempfile
import time

from aiohttp import web

LIMIT, WAITS, SECONDS = 50, 1000, (30.0, 90.0)


class Service:
    """A token bucket of a second's requests, and exports whose time begins with their first poll."""

    def __init__(self) -> None:
        self.lateness: list[float] = []
        self.accepted = self.refused = 0
        self._chance = random.Random(1)
        self._left, self._at = float(LIMIT), time.monotonic()
        self._started: dict[str, float] = {}
        self._ends: dict[str, float] = {}

    async def answer(self, request: web.Request) -> web.Response:
        now, export_id = time.monotonic(), request.path.rpartition("/")[2]
        if export_id not in self._ends:
            self._started[export_id], self._ends[export_id] = (
                time.time(),
                now + self._chance.uniform(*SECONDS),
            )
        self._left, self._at = min(LIMIT, self._left + (now - self._at) * LIMIT), now
        if self._left < 1:
            self.refused += 1
            return web.Response(status=429)
        self._left -= 1
        self.accepted += 1
        ended = now >= self._ends[export_id]
        if ended:
            self.lateness.append(now - self._ends[export_id])
        return web.json_response(
            {
                "exportId": export_id,
                "status": "COMPLETE" if ended else "PENDING",
                "startTime": self._started[export_id],
                "filename": "s3://bucket/file",
            }
        )


async def wait_for_all(first: int, count: int) -> None:
    """Wait for so many exports in this process, and print what that took."""
    from airflow_provider_segments.hooks.user_segments_async import UserSegmentsAsyncHook

    async with UserSegmentsAsyncHook() as hook:
        names = [f"export-{number}" for number in range(first, first + count)]
        await asyncio.gather(*(hook.wait_for_export(name) for name in names))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_utime)


async def measure(processes: int, told: float | None, home: str) -> dict[str, float]:
    """Run the waits to their end."""
    service = Service()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", service.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host = f"http://127.0.0.1:{runner.addresses[0][1]}"
    extra = {"max_requests_per_second": told / processes} if told else {}
    connection = {
        "conn_type": "mparticle_analytics",
        "host": host,
        "login": "k",
        "password": "t",
        "extra": extra,
    }
    environment = os.environ | {
        "AIRFLOW_CONN_MPARTICLE_ANALYTICS_DEFAULT": json.dumps(connection),
        "AIRFLOW_HOME": home,
    }
    share = WAITS // processes
    started = [
        await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-W",
                "ignore",
                "-m",
                "tests.benchmarks.hidden_limit",
                str(n * share),
                str(share),
            ),
            env=environment,
            stdout=subprocess.PIPE,
        )
        for n in range(processes)
    ]
    printed = [(await process.communicate())[0] for process in started]
    await runner.cleanup()
    late = sorted(service.lateness)
    total = service.accepted + service.refused
    return {
        "waits": len(late),
        "requests": total,
        "refused": round(100 * service.refused / total, 1),
        "p50": round(late[len(late) // 2], 1),
        "p99": round(late[int(0.99 * len(late))], 1),
        "cpu": round(sum(float(text.split()[-1]) for text in printed), 1),
    }


async def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as home:
        for processes in (1, 2):
            for told in (LIMIT, None):
                print(
                    processes, "told" if told else "learned", await measure(processes, told, home), flush=True
                )


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(wait_for_all(int(sys.argv[1]), int(sys.argv[2])) if len(sys.argv) > 2 else main())
