# SPDX-License-Identifier: Apache-2.0
"""One process with many waits in one event loop; prints what they cost as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import resource
import ssl
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_TICK = 0.005


def triggers(kind: str, count: int, interval: float | None) -> list[Any]:
    """Make as many waits, each for something of its own."""
    if kind == "ours":
        from airflow_provider_segments.triggers.user_segments import UserSegmentExportTrigger

        return [UserSegmentExportTrigger(f"export-{n}", poll_interval=interval) for n in range(count)]
    if kind == "aiohttp":
        import airflow.jobs.triggerer_job_runner  # noqa: F401 - for the garbage collector, whose passes it makes long

        session = bare_session()
        return [SimpleNamespace(run=partial(bare_wait, session, n, interval or 5)) for n in range(count)]
    from airflow.providers.dbt.cloud.triggers.dbt import DbtCloudRunJobTrigger

    end = time.time() + 86400
    return [DbtCloudRunJobTrigger("dbt_cloud_default", n, end, interval or 5, 1) for n in range(count)]


def bare_session() -> aiohttp.ClientSession:
    """Return what any client on aiohttp needs at least, with as many connections as ours."""
    from airflow_provider_segments.transports.common import POOL_SIZE

    host = json.loads(os.environ["AIRFLOW_CONN_MPARTICLE_ANALYTICS_DEFAULT"])["host"]
    trust = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
    return aiohttp.ClientSession(
        f"https://{host}", connector=aiohttp.TCPConnector(limit=POOL_SIZE, ssl=trust)
    )


async def bare_wait(session: aiohttp.ClientSession, number: int, interval: float) -> AsyncIterator[None]:
    """Ask and sleep, and decide nothing."""
    while True:
        async with session.get(f"/service/v1/export/export-{number}") as answer:
            if json.loads(await answer.read())["status"] != "PENDING":
                yield
        await asyncio.sleep(interval)


def memory() -> int:
    """Return this process's resident bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def drain(trigger: Any) -> None:
    """Run a trigger as the triggerer does."""
    async for _ in trigger.run():
        return


class Collector:
    """How long the passes of Python's garbage collector take, which hold up the event loop."""

    def __init__(self) -> None:
        self.seconds = self.longest = self._begun = 0.0
        gc.callbacks.append(self._on_pass)

    def _on_pass(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._begun = time.monotonic()
        else:
            took = time.monotonic() - self._begun
            self.seconds, self.longest = self.seconds + took, max(self.longest, took)


async def measure(kind: str, count: int, seconds: float, interval: float | None) -> dict[str, float]:
    """Start all waits, in the way of the triggerer, and let them wait for a while."""
    # What is loaded and opened once does not count for each wait.
    warm_up = [asyncio.create_task(drain(trigger)) for trigger in triggers(kind, 1, interval)]
    await asyncio.sleep(2)
    made = triggers(kind, count, interval)
    collector = Collector()
    before = memory()
    stall, cpu = 0.0, time.process_time()
    starting = asyncio.create_task(start(made))
    until = time.monotonic() + seconds
    while (begun := time.monotonic()) < until:
        collected = collector.seconds
        await asyncio.sleep(_TICK)
        stall = max(stall, time.monotonic() - begun - _TICK - (collector.seconds - collected))
    found = {"cpu": time.process_time() - cpu, "memory": memory() - before}
    found |= {"stall": stall, "collector": collector.longest}
    waits = await starting
    for wait in [*warm_up, *waits]:
        wait.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*warm_up, *waits, return_exceptions=True)
    return found


async def start(made: list[Any]) -> list[asyncio.Task[None]]:
    """Start triggers one by one; Airflow's triggerer lets other tasks run in between, too."""
    waits = []
    for trigger in made:
        await asyncio.sleep(0)
        waits.append(asyncio.create_task(drain(trigger)))
    return waits


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    _, which, number, length, every = sys.argv
    print(
        json.dumps(
            asyncio.run(measure(which, int(number), float(length), float(every) if every != "-" else None))
        )
    )
