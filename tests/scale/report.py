# SPDX-License-Identifier: Apache-2.0
"""The table at the end, and the same for programs."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from tests.scale.outcome import Outcome, quantile

if TYPE_CHECKING:
    from pathlib import Path


def rows(outcome: Outcome) -> dict[str, str]:
    """Return what the table says of a scenario."""
    return {
        "expected": str(outcome.expected),
        "submitted": str(outcome.submitted),
        "doubled": str(outcome.doubled),
        "lost": str(outcome.lost),
        "retried": _counts(outcome.retried),
        "requests": _counts(outcome.requests),
        "refused (429)": _share(outcome.refused, sum(outcome.requests.values())),
        "end to poll that saw it, p50, p99": _span(outcome.seen),
        "end to task's end, p50, p99": _span(outcome.done),
        "worker slots held by waiting tasks": f"{outcome.slots} at most, {outcome.slot_seconds:.0f} s in all",
        "worker starts an export": f"{outcome.starts / outcome.expected:.2f}",
        "waits taken over after": ", ".join(f"{seconds:.0f} s" for seconds in outcome.taken_over) or "–",
        "requests to Airflow's API server": _counts(outcome.api),
        "most waits": _counts(outcome.waits),
        "database connections": str(outcome.connections),
        "transactions an export": f"{outcome.transactions / outcome.expected:.0f}",
        "triggerer stalls logged": ", ".join(f"{seconds:.2f} s" for seconds in outcome.stalls) or "0",
        "took": f"{outcome.seconds:.0f} s",
        "notes": "; ".join(outcome.notes) or "–",
    }


def show(outcomes: list[Outcome], idle: dict[str, float]) -> None:
    """Print the tables."""
    found = [rows(outcome) for outcome in outcomes]
    components = sorted({name for outcome in outcomes for name in outcome.cpu})
    used = {
        f"{name} (idle: {idle.get(name, 0):.1%} of a core)": [_used(outcome, name) for outcome in outcomes]
        for name in components
    }
    measures = {name: [one[name] for one in found] for name in found[0]}
    console = Console(width=34 + 26 * len(outcomes), highlight=False)
    for title, lines in (("Exports", measures), ("CPU seconds per 100 exports; most memory", used)):
        table = Table("", *(outcome.scenario for outcome in outcomes), title=title)
        for name, cells in lines.items():
            table.add_row(name, *cells)
        console.print(table)


def write(outcomes: list[Outcome], settings: dict[str, Any], file: Path) -> None:
    """Write all of it as JSON."""
    file.parent.mkdir(exist_ok=True)
    found = {"settings": settings, "scenarios": [asdict(one) | {"summary": rows(one)} for one in outcomes]}
    file.write_text(json.dumps(found, indent=1) + "\n")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()) if count) or "0"


def _share(part: int, whole: int) -> str:
    return f"{part} ({part / whole:.1%})" if whole else "0"


def _span(values: list[float]) -> str:
    middle, most = quantile(values, 0.5), quantile(values, 0.99)
    return "–" if middle is None or most is None else f"{middle:.1f} s, {most:.1f} s"


def _used(outcome: Outcome, component: str) -> str:
    if component not in outcome.cpu:
        return ""
    seconds = outcome.cpu[component] * 100 / outcome.expected
    return f"{seconds:.1f} s; {outcome.memory.get(component, 0):.0f} MiB"
