# SPDX-License-Identifier: Apache-2.0
"""Run all measurements, print a table and write docs/benchmarks.md."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import platform
import random
import re
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
from rich.console import Console
from rich.table import Table

from airflow_provider_segments.api.calls import Reply
from airflow_provider_segments.api.throttle import Throttle
from airflow_provider_segments.emulator.pytest_plugin import aws_connection
from airflow_provider_segments.hooks import user_segments_async
from airflow_provider_segments.transports.common import POOL_SIZE
from airflow_provider_segments.utils.clock import Clock
from tests.benchmarks import end_to_end
from tests.system.running_airflow import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
MEBIBYTE = 1024 * 1024
WAITS, INTERVAL, SECONDS = 1000, "5", "30"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    measure: str
    found: str
    goal: str

    @property
    def is_met(self) -> bool:
        """Whether the first figure reaches the goal: ``≤ 2``, ``≥ 2``, ``1 to 2``, ``2 …``, or none."""
        goals = [float(number) for number in re.findall(r"[\d.]+", self.goal)]
        if not goals:
            return True
        found = float(re.findall(r"[\d.]+", self.found)[0])
        if " to " in self.goal:
            return goals[0] <= found <= goals[1]
        return {"≤": found <= goals[0], "≥": found >= goals[0]}.get(self.goal[0], found == goals[0])

    def __str__(self) -> str:
        found = self.found if self.is_met else f"**{self.found}**"
        return f"| {self.measure} | {found} | {self.goal} |"


class Bench:
    """The server, and contenders against it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = subprocess.Popen([sys.executable, "-m", "tests.benchmarks.service", str(folder)])
        while not (folder / "port").exists():
            time.sleep(0.1)
        self._port = (folder / "port").read_text()
        self._ca = str(folder / "ca.pem")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def counts(self) -> dict[str, Any]:
        """Return what the server has counted, and begin anew."""
        context = ssl.create_default_context(cafile=self._ca)
        with urllib.request.urlopen(f"https://localhost:{self._port}/_counts", context=context) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def run(self, kind: str, count: int, seconds: str, interval: str, **extra: Any) -> dict[str, Any]:
        """Run one contender."""
        connections = {
            "MPARTICLE_ANALYTICS": {
                "conn_type": "mparticle_analytics",
                "login": "k",
                "password": "token",
                "extra": extra,
            },
            "DBT_CLOUD": {"conn_type": "dbt_cloud", "login": "1", "password": "token"},
        }
        environment = self._environment(connections)
        self.counts()
        done = subprocess.run(
            [
                sys.executable,
                "-W",
                "ignore",
                "-m",
                "tests.benchmarks.contender",
                kind,
                str(count),
                seconds,
                interval,
            ],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1]) | self.counts()
        return found

    def transfer(self, kind: str, size: int, query: str = "") -> dict[str, Any]:
        """Let one contender bring so many MiB into a local S3, which is a process of its own, or only read them."""
        port = free_port()
        s3_url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while not answers(port):
                time.sleep(0.1)
            keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
            s3 = boto3.client("s3", endpoint_url=s3_url, region_name="us-east-1", **keys)
            s3.create_bucket(Bucket="bench")
            connections = {
                "AWS": aws_connection(s3_url),
                "HTTP": {"conn_type": "http", "schema": "https", "host": f"localhost:{self._port}"},
                "MPARTICLE_ANALYTICS": {
                    "conn_type": "mparticle_analytics",
                    "login": "k",
                    "password": "token",
                },
            }
            url = f"https://localhost:{self._port}/file-{size * MEBIBYTE}{query}"
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.transfer", kind, url],
                env=self._environment(connections),
                capture_output=True,
                text=True,
                check=True,
            )
            if kind != "read":
                assert s3.head_object(Bucket="bench", Key=kind)["ContentLength"] == size * MEBIBYTE
        finally:
            server.kill()
            server.wait()
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    def _environment(self, connections: dict[str, dict[str, Any]]) -> dict[str, str]:
        found = {
            f"AIRFLOW_CONN_{name}_DEFAULT": json.dumps({"host": f"localhost:{self._port}"} | fields)
            for name, fields in connections.items()
        }
        return (
            os.environ
            | found
            | {
                "SSL_CERT_FILE": self._ca,
                "REQUESTS_CA_BUNDLE": self._ca,
                "AIRFLOW_HOME": str(self._folder / "home"),
                "NO_PROXY": "localhost,127.0.0.1",
            }
        )


def answers(port: int) -> bool:
    """Return whether somebody listens."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def waits(bench: Bench) -> Iterator[Row]:
    """A thousand waits, against dbt Cloud's trigger, in turn."""
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "dbt": [], "aiohttp": []}
    for _ in range(3):
        for kind, found in runs.items():
            found.append(bench.run(kind, WAITS, SECONDS, INTERVAL))

    def median(kind: str, value: Any) -> float:
        return statistics.median(value(run) for run in runs[kind])

    cpu = {kind: median(kind, lambda run: 1000 * run["cpu"] / run["polls"]) for kind in runs}
    stall = {kind: median(kind, lambda run: run["stall"]) for kind in runs}
    passes = {kind: median(kind, lambda run: run["collector"]) for kind in runs}
    yield Row(
        "CPU per poll against dbt Cloud's trigger",
        f"{cpu['ours'] / cpu['dbt']:.2f} ({cpu['ours']:.2f} ms against {cpu['dbt']:.2f} ms)",
        "≤ 0.12",
    )
    yield Row(
        "the same for a bare loop of aiohttp requests, the minimum for any client built on aiohttp",
        f"{cpu['aiohttp'] / cpu['dbt']:.2f} ({cpu['aiohttp']:.2f} ms)",
        "",
    )
    connections = {kind: median(kind, lambda run: run["connections"]) for kind in runs}
    yield Row(
        "connections for 1,000 waits",
        f"{connections['ours']:.0f} (dbt Cloud: {connections['dbt']:.0f})",
        "≤ 32",
    )
    yield Row(
        "longest stall of the event loop, apart from Python's garbage collector",
        f"{stall['ours']:.2f} s (dbt Cloud: {stall['dbt']:.2f} s)",
        "≤ 0.1 s",
    )
    yield Row(
        "longest pass of the garbage collector, which walks all of Airflow's objects",
        f"{passes['ours']:.2f} s (dbt Cloud: {passes['dbt']:.2f} s; bare loop: {passes['aiohttp']:.2f} s)",
        "",
    )


def crowd(bench: Bench) -> Iterator[Row]:
    """Five thousand waits under a rate limit."""
    found = bench.run("ours", 5000, "90", "-", max_requests_per_second=100)
    times = found["times"][100:]  # without the warm-up
    busy = [moment for moment in times if moment < times[0] + 45]
    rate = (len(busy) - 1) / (busy[-1] - busy[0])
    yield Row("5,000 waits, limit 100 a second: requests a second", f"{rate:.1f}", "95 to 105")
    yield Row("5,000 waits: polled at least once", f"{found['waits']}", "5000")
    found = bench.run("ours", 10_000, "30", "-", max_requests_per_second=100)
    yield Row("10,000 waits: memory per wait", f"{found['memory'] / 10_000 / 1024:.1f} KiB", "≤ 6 KiB")


def whole(folder: Path) -> Iterator[Row]:
    """What deferring costs and saves in a real Airflow."""
    found = end_to_end.measure(folder)
    brief, at_once = found.medians(4), found.medians(0)
    yield Row(
        "exports of 2 s in a real Airflow, submission to the downstream task's start: `defer_after=4` against `0`",
        f"{brief[2] / at_once[2]:.2f} ({brief[2]:.1f} s against {at_once[2]:.1f} s, medians of {end_to_end.ROUNDS})",
        "≤ 0.5",
    )
    for what, index in (("last poll", 0), ("task's end", 1)):
        yield Row(
            f"of which until the {what}: `defer_after=4`, `0`",
            f"{brief[index]:.1f} s, {at_once[index]:.1f} s",
            "",
        )
    yield Row(
        "worker starts for 50 mapped exports of 30 s: `end_from_trigger=True` against `False`",
        f"{found.starts[True]} against {found.starts[False]}",
        "50 against 100",
    )


def transfers(bench: Bench) -> Iterator[Row]:
    """A file from an https address into S3, small and large, against Amazon's operator."""
    found = {(kind, size): bench.transfer(kind, size) for size in (256, 2048) for kind in ("ours", "peer")}
    memory = {key: run["memory"] / MEBIBYTE for key, run in found.items()}
    rate = {key: key[1] / run["seconds"] for key, run in found.items()}
    for size in (256, 2048):
        yield Row(
            f"{size} MiB streamed from https to S3: peak memory increase",
            f"{memory['ours', size]:.0f} MiB (`HttpToS3Operator`: {memory['peer', size]:.0f} MiB)",
            "≤ 200 MiB",
        )
    ratio = rate["ours", 2048] / rate["peer", 2048]
    yield Row(
        "2048 MiB streamed from https to S3: throughput against `HttpToS3Operator`",
        f"{ratio:.2f} ({rate['ours', 2048]:.0f} MiB/s against {rate['peer', 2048]:.0f} MiB/s)",
        "≥ 1",
    )


def ranges(bench: Bench) -> Iterator[Row]:
    """A file read over several connections against one, from a server that limits each and from one that does not."""
    size, limit = 2048, 20
    for kind, what in (("read", "read"), ("ours", "streamed to S3")):
        for rate, goal in ((f"rate={limit}", "≥ 4"), ("", "≥ 1")):
            many, one = (bench.transfer(kind, size, f"?{rate}{more}") for more in ("&ranges", ""))
            found = [size * MEBIBYTE / run["seconds"] / 1e6 for run in (many, one)]
            server = (
                f"a server that allows {limit} MB/s per connection" if rate else "a server without a limit"
            )
            yield Row(
                f"{size} MiB {what} from {server}: throughput against one connection",
                f"{found[0] / found[1]:.2f} ({found[0]:.0f} MB/s against {found[1]:.0f} MB/s, "
                f"memory {many['memory'] / MEBIBYTE:.0f} MiB)",
                goal,
            )


def changes(folder: Path) -> Iterator[Row]:
    """Two files compared by key: ten million users, against pandas' outer merge, and twenty million."""
    found = {}
    for users, fields in ((10, "plain"), (10, "quoted"), (20, "plain")):
        place = folder / "compared"
        place.mkdir()
        contender("make", str(place), str(users * 1_000_000), fields)
        for kind in ("ours", "pandas") if users == 10 else ("ours",):
            found[kind, users, fields] = json.loads(contender(kind, str(place)))
        shutil.rmtree(place)
    (ours, pandas), twice = (
        (found[kind, 10, "plain"] for kind in ("ours", "pandas")),
        found["ours", 20, "plain"],
    )
    quoted = [found[kind, 10, "quoted"]["seconds"] for kind in ("ours", "pandas")]
    assert len({tuple(run["counts"]) for (_, users, _), run in found.items() if users == 10}) == 1
    memory = {key: run["memory"] / MEBIBYTE for key, run in found.items()}
    yield Row(
        "two files of 10 million users compared: peak memory of the process, Airflow included",
        f"{memory['ours', 10, 'plain']:.0f} MiB; of 20 million: {memory['ours', 20, 'plain']:.0f} MiB in {twice['seconds']:.0f} s",
        "≤ 1229 MiB",
    )
    yield Row(
        "the same, time against pandas' outer merge",
        f"{ours['seconds'] / pandas['seconds']:.2f} ({ours['seconds']:.0f} s against {pandas['seconds']:.0f} s)",
        "≤ 0.33",
    )
    yield Row(
        "the same with each field in quotation marks, time against pandas' outer merge",
        f"{quoted[0] / quoted[1]:.2f} ({quoted[0]:.0f} s against {quoted[1]:.0f} s)",
        "≤ 0.33",
    )
    yield Row(
        "the same without quotation marks, memory against pandas' outer merge",
        f"{memory['ours', 10, 'plain'] / memory['pandas', 10, 'plain']:.2f} (pandas: {memory['pandas', 10, 'plain']:.0f} MiB)",
        "≤ 0.17",
    )


def contender(*arguments: str) -> str:
    """Run a step of the comparison in a process of its own, and return what it prints."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.changes", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


class Simulated(Clock):
    """A clock on which an hour takes no time."""

    def __init__(self) -> None:
        self.now = 1.8e9

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    async def asleep(self, seconds: float) -> None:
        self.now += seconds


async def lateness(duration: float) -> tuple[float, int]:
    """Wait for one export through the real hook; return the lateness of noticing and the number of polls."""
    clock, polls = Simulated(), 0
    started = clock.now - random.random()  # the wait begins at any moment of the export's first second

    async def connect(*_: Any) -> None: ...

    async def send(*_: Any) -> Reply:
        nonlocal polls
        polls += 1
        status = "PENDING" if clock.now < started + duration else "COMPLETE"
        export = {"exportId": "e", "status": status, "startTime": started, "filename": "f"}
        return Reply(200, {}, json.dumps(export).encode())

    @asynccontextmanager
    async def client(_: str) -> AsyncIterator[Any]:
        yield SimpleNamespace(throttle=Throttle(), max_retries=5, secrets=(), connect=connect, send=send)

    hook = user_segments_async.UserSegmentsAsyncHook()
    hook.clock = clock
    user_segments_async.shared_client = client  # type: ignore[assignment]
    await hook.wait_for_export("e")
    return clock.now - started - duration, polls


async def schedule() -> list[Row]:
    """How late an export's end is noticed, and how often it is asked for."""
    logging.disable(logging.CRITICAL)  # thousands of lines that a wait begins
    rows = []
    for duration, goal in ((2, "1.3"), (20, "2.6"), (200, "24"), (3600, "66")):
        found = [await lateness(duration * random.uniform(0.95, 1.05)) for _ in range(2000)]
        late = sorted(value for value, _ in found)[int(0.99 * len(found))]
        rows.append(
            Row(f"lateness, export of {duration} s, p99 (simulated clock)", f"{late:.1f} s", f"≤ {goal} s")
        )
        if duration == 3600:
            rows.append(
                Row(
                    "requests for an export of an hour (maximum of 2,000)",
                    f"{max(n for _, n in found)}",
                    "≤ 110",
                )
            )
    return rows


def imports() -> Row:
    """What importing the operators adds to importing a DAG, against dbt Cloud's."""
    code = "import time; from airflow.sdk import DAG; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
    found: dict[str, list[float]] = {
        "airflow_provider_segments.operators.user_segments": [],
        "airflow.providers.dbt.cloud.operators.dbt": [],
    }
    for _ in range(7):
        for module, times in found.items():
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", code.format(module)],
                capture_output=True,
                text=True,
                check=True,
            )
            times.append(float(done.stdout.splitlines()[-1]))
    ours, dbt = (statistics.median(times) for times in found.values())
    return Row(
        "time that importing the operators adds, against dbt Cloud's",
        f"{ours / dbt:.2f} ({ours * 1000:.0f} ms against {dbt * 1000:.0f} ms)",
        "≤ 0.15",
    )


def main() -> None:
    """Measure and tell."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AIRFLOW_HOME"] = folder
        bench = Bench(Path(folder))
        try:
            rows = [
                *waits(bench),
                *crowd(bench),
                *transfers(bench),
                *ranges(bench),
                imports(),
                *asyncio.run(schedule()),
            ]
        finally:
            bench.close()
        rows += [*changes(Path(folder)), *whole(Path(folder))]
    table = Table("measure", "found", "goal")
    for row in rows:
        table.add_row(row.measure, row.found, row.goal)
    Console().print(table)
    PAGE.write_text(page(rows))


def page(rows: list[Row]) -> str:
    """Return the page for the docs."""
    lines = "\n".join(map(str, rows))
    packages = ("apache-airflow", "apache-airflow-providers-dbt-cloud", "aiohttp")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return f"""# Benchmarks

This page says what the provider costs in time, memory and requests, and how that was measured. Values that miss their
goal are bold.

| measure | found | goal |
| --- | --- | --- |
{lines}

## How it was measured

`make bench` wrote this page on {date.today():%Y-%m-%d}, on {os.cpu_count()} cores ({platform.machine()}, Python {platform.python_version()}),
with {versions}.

| rows | method |
| --- | --- |
| CPU, connections, stall of the event loop, 5,000 and 10,000 waits | each contender is one process with all its waits in one event loop; \
it polls every {INTERVAL} s for {SECONDS} s; medians of three runs, with the contenders taking turns; the bare loop sends the same \
requests over {POOL_SIZE} connections, and reads only the status |
| memory per wait | growth of the resident memory once 10,000 waits have been started |
| streaming | one run each, against a local S3 in a separate process; `HttpToS3Operator` is the Amazon provider's |
| files compared | local files of three columns of text, 39 bytes per user; one user in a hundred left, joined or changed; \
one run each, `memory_limit="1GB"` |
| lateness | simulated: the real hook on a clock that does not wait, 2,000 exports each, without the network |
| exports in a real Airflow | scheduler, triggerer and workers on SQLite, against the emulator; both times \
include the 2 s of the export itself, which `defer_after` can't shorten; the time after the task's end is what the scheduler needs to start the next task |
| worker starts | counted in the tasks' logs |

The server of the first rows is one process with TLS on the same machine. It speaks both APIs.
"""


if __name__ == "__main__":
    main()
