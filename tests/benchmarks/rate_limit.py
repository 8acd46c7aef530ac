# SPDX-License-Identifier: Apache-2.0
"""Simulate services with limits that they do not publish; write the table and the plot of docs/rate-limit.md."""

from __future__ import annotations

import re
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from tests.benchmarks.simulated_service import Found, Service, Simulation

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parents[2] / "docs"
# Seconds that are simulated, and the limit after half of them where it changes.
SECONDS = {1: 3600, 5: 1800, 20: 900, 50: 600, 200: 240}
CHANGED = {1: 5, 5: 1, 20: 50, 50: 20, 200: 50}
PROCESSES = (1, 2, 5, 20)


@dataclass(frozen=True)
class Scenario:
    """A service, and who asks it."""

    limit: int
    processes: int
    changes: bool = False
    windows: bool = False
    retry_after: bool = False
    waits: int = 1000
    configured: bool = False  # whether each process has its share of the limit as its rate limit

    def allowed(self, now: float) -> float:
        """Return the service's limit."""
        return CHANGED[self.limit] if self.changes and now >= SECONDS[self.limit] / 2 else self.limit

    def run(self) -> Found:
        """Simulate it."""
        service = Service(self.allowed, self.windows, self.retry_after)
        per_second = self.limit / self.processes if self.configured else None
        simulation = Simulation(service, self.processes, self.waits, per_second=per_second)
        return simulation.run(SECONDS[self.limit])


@dataclass(frozen=True)
class Result:
    """What was found after the first minute."""

    refused: float  # share of the requests
    used: float | None  # share of the allowed rate while calls queued; None if they seldom did
    fairness: float  # Jain's index of the processes' accepted requests


def measure(scenario: Scenario) -> Result:
    """Simulate a scenario and sum it up."""
    found, seconds = scenario.run(), range(60, SECONDS[scenario.limit])
    shares = [
        sum(found.accepted[number, second] for second in seconds) for number in range(scenario.processes)
    ]
    refused = sum(found.refused[second] for second in seconds)
    busy = [second for second in seconds if second in found.busy]
    sent = sum(found.accepted[number, second] for number in range(scenario.processes) for second in busy)
    return Result(
        refused / max(1, refused + sum(shares)),
        sent / sum(map(scenario.allowed, busy)) if len(busy) > len(seconds) / 2 else None,
        sum(shares) ** 2 / max(1, len(shares) * sum(share**2 for share in shares)),
    )


def scenarios(limit: int, processes: int) -> list[Scenario]:
    """Return all services with a limit."""
    return [Scenario(limit, processes, *kind) for kind in product((False, True), repeat=3)]


def worst(results: list[Result]) -> str:
    """Return the cells of a row."""
    used = [result.used for result in results if result.used is not None]
    refused, least = max(result.refused for result in results), min(used, default=None)
    fairness = min(result.fairness for result in results)
    cells = [
        mark(f"{100 * refused:.1f} %", refused <= 0.05),
        mark(f"{100 * least:.0f} %", least >= 0.9) if least is not None else "–",
        mark(f"{fairness:.2f}", fairness >= 0.9) if used else "–",
    ]
    return " | ".join(cells)


def mark(text: str, reached: bool) -> str:
    """Emphasise what misses its goal."""
    return text if reached else f"**{text}**"


def table(pool: ProcessPoolExecutor) -> Iterator[str]:
    """Yield the rows for a thousand waits, then for few and for many."""
    yield "| limit | processes | waits | refused | used | fairness |"
    yield "| --- | --- | --- | --- | --- | --- |"
    rows = [scenarios(limit, processes) for limit in SECONDS for processes in PROCESSES]
    rows += [[Scenario(limit, 2, waits=waits)] for waits in (10, 20_000) for limit in SECONDS]
    results = pool.map(measure, [scenario for row in rows for scenario in row])
    for row in rows:
        found = [next(results) for _ in row]
        first = row[0]
        yield f"| {first.limit} | {first.processes} | {first.waits:,} | {worst(found)} |"


def steady(pool: ProcessPoolExecutor) -> Iterator[str]:
    """Yield how a learned limit compares to a configured one, where the service's limit stays the same."""
    yield "| limit | processes | refused | used | fairness | refused, configured | used, configured | fairness, configured |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    kinds = list(product((False, True), repeat=2))
    for limit, processes in product((1, 5, 20), PROCESSES):
        cells = [
            worst(
                list(
                    pool.map(
                        measure,
                        (Scenario(limit, processes, False, *kind, configured=given) for kind in kinds),
                    )
                )
            )
            for given in (False, True)
        ]
        yield f"| {limit} | {processes} | {' | '.join(cells)} |"


def end_of(
    told: float | None, processes: int, windows: bool, retry_after: bool, seed: int
) -> tuple[float, float]:
    """Return the share of refused requests and the p99 lateness of a thousand waits that begin at once."""
    service = Service(lambda now: 50.0, windows, retry_after)
    per_second = told / processes if told else None
    found = Simulation(service, processes, 1000, per_second=per_second, again=False, seed=seed).run(3600)
    refused, accepted = sum(found.refused.values()), sum(found.accepted.values())
    return refused / (refused + accepted), sorted(found.lateness)[989]


def against_told(pool: ProcessPoolExecutor) -> Iterator[str]:
    """Yield how a learned limit compares to the same limit in the Connection, medians of five."""
    yield "| processes | service | refused | p99 lateness, learned | p99 lateness, configured | ratio |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for processes, windows, retry_after in product((1, 2), (False, True), (False, True)):
        kind = (processes, windows, retry_after)
        learned, told = (
            list(pool.map(end_of, *zip(*((limit, *kind, seed) for seed in range(1, 6)), strict=True)))
            for limit in (None, 50.0)
        )
        late, least = (median(late for _, late in runs) for runs in (learned, told))
        name = ("fixed windows" if windows else "token bucket") + (", `Retry-After`" if retry_after else "")
        refused = 100 * median(share for share, _ in learned)
        yield f"| {processes} | {name} | {refused:.1f} % | {late:.0f} s | {least:.0f} s | {late / least:.2f} |"


def plot() -> str:
    """Return a picture of the rate over time, for a limit that changes."""
    scenario = Scenario(50, 2, changes=True)
    found, length, step = scenario.run(), SECONDS[50], 5
    lines: dict[str, list[float]] = {"limit": [], "accepted": [], "refused": []}
    for start in range(0, length, step):
        seconds = range(start, start + step)
        lines["limit"].append(scenario.allowed(start))
        lines["accepted"].append(sum(found.accepted[number, s] for number in (0, 1) for s in seconds) / step)
        lines["refused"].append(sum(found.refused[s] for s in seconds) / step)
    paths = "\n".join(f'  <path class="{name}" d="{path(values)}"/>' for name, values in lines.items())
    grid = "\n".join(
        f'  <path class="grid" d="M60 {270 - 4 * rate}H720"/><text class="y" x="52" y="{274 - 4 * rate}">{rate}</text>'
        for rate in range(0, 61, 20)
    )
    ticks = "\n".join(
        f'  <text class="x" x="{60 + 66 * minute}" y="290">{minute}</text>'
        for minute in range(length // 60 + 1)
    )
    return _SVG.format(grid=grid, ticks=ticks, paths=paths)


def path(values: list[float]) -> str:
    """Return the values as steps of a path."""
    width = 660 / len(values)
    steps = [f"V{270 - 4 * min(value, 62):.1f}H{60 + width * (n + 1):.1f}" for n, value in enumerate(values)]
    return f"M60 {270 - 4 * min(values[0], 62):.1f}" + "".join(steps)


_SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 780 320" role="img" aria-labelledby="rate-title rate-desc" \
class="rate-limit" font-family="system-ui, sans-serif" font-size="14" fill="currentColor">
  <title id="rate-title">A limit that is learned</title>
  <desc id="rate-desc">Requests a second of two processes over ten minutes. A burst is refused at the start. Then the \
accepted requests follow the hidden limit of 50, and that of 20 after five minutes, with few refusals.</desc>
  <style>
    svg:root {{ color: #1f2328; }}
    @media (prefers-color-scheme: dark) {{ svg:root {{ color: #d1d7e0; }} }}
    .rate-limit path {{ fill: none; stroke-width: 1.6; }}
    .rate-limit .grid {{ stroke: currentColor; opacity: 0.2; stroke-width: 1; }}
    .rate-limit .limit {{ stroke: currentColor; stroke-dasharray: 5 4; }}
    .rate-limit .accepted {{ stroke: #2f81f7; }}
    .rate-limit .refused {{ stroke: #e5534b; }}
    .rate-limit .y {{ text-anchor: end; }}
    .rate-limit .x {{ text-anchor: middle; }}
  </style>
{grid}
{ticks}
{paths}
  <text x="60" y="16">requests a second</text>
  <text x="720" y="312" text-anchor="end">minutes</text>
  <path class="limit" d="M280 11h28"/><text x="314" y="16">hidden limit</text>
  <path class="accepted" d="M430 11h28"/><text x="464" y="16">accepted</text>
  <path class="refused" d="M560 11h28"/><text x="594" y="16">refused</text>
</svg>
"""


def write(name: str, lines: Iterator[str]) -> None:
    """Print a table, and put it into the page."""
    page, rows = DOCS / "rate-limit.md", []
    for line in lines:
        print(line, flush=True)
        rows.append(line + "\n")
    between = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- end of {name} -->)", re.DOTALL)
    page.write_text(between.sub(lambda _: "".join(rows), page.read_text()))


def main() -> None:
    """Simulate everything."""
    with ProcessPoolExecutor() as pool:
        write("told", against_told(pool))
        write("services", table(pool))
        write("steady", steady(pool))
    (DOCS / "images" / "rate-limit.svg").write_text(plot())


if __name__ == "__main__":
    main()
