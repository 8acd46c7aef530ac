# SPDX-License-Identifier: Apache-2.0
"""What became of the exports of a run: by the service's journal, Airflow's database and what the components used."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.scale.service import Export, Journal

TOO_MANY_REQUESTS = 429


@dataclass(frozen=True)
class Task:
    """
    A task instance after its run.

    :param export_id: what it has as XCom, if anything.
    :param ended: time of the epoch.
    """

    segment_id: str
    state: str | None
    tries: int
    ended: float | None
    export_id: str | None


@dataclass
class Usage:
    """
    What was seen.

    :param cpu: seconds, by component.
    :param memory: the most MiB, by component.
    :param running: at which times which exports' tasks were running on a worker, their ids known.
    :param waits: the most triggers at a time, by triggerer.
    :param connections: the most to the database at a time.
    :param transactions: of the database.
    :param seconds: how long it took.
    """

    cpu: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    memory: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    running: list[tuple[float, frozenset[str]]] = field(default_factory=list)
    waits: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    connections: int = 0
    transactions: int = 0
    seconds: float = 0.0


@dataclass
class Outcome:
    """
    A line of the report.

    :param seen: seconds from an export's end to the poll that saw it.
    :param done: seconds from an export's end to its task's end.
    :param retried: why how many tries were repeated.
    :param taken_over: seconds from a triggerer's death until another had all its waits.
    :param slots: the most worker slots that tasks held whose export was still running.
    :param slot_seconds: for how long, all together.
    :param starts: how often a worker started one of the tasks.
    :param api: requests to the API server, by their kind.
    :param stalls: for how many seconds a triggerer's event loop stood still, each time that it logged it.
    """

    scenario: str
    expected: int
    submitted: int = 0
    doubled: int = 0
    lost: int = 0
    retried: dict[str, int] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    seen: list[float] = field(default_factory=list)
    done: list[float] = field(default_factory=list)
    slots: int = 0
    slot_seconds: float = 0.0
    taken_over: list[float] = field(default_factory=list)
    starts: int = 0
    api: dict[str, int] = field(default_factory=dict)
    stalls: list[float] = field(default_factory=list)
    cpu: dict[str, float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    waits: dict[str, int] = field(default_factory=dict)
    connections: int = 0
    transactions: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def is_right(self) -> bool:
        return not self.lost and not self.doubled


def judge(scenario: str, tasks: list[Task], journal: Journal) -> Outcome:
    """Return what became of tasks that export a segment each."""
    exports: dict[str, list[Export]] = defaultdict(list)
    for export in journal.exports:
        exports[export.segment_id].append(export)
    outcome = Outcome(scenario, len(tasks), len(journal.exports))
    outcome.doubled = sum(len(found) - 1 for found in exports.values())
    outcome.lost = sum(not _is_whole(task, exports[task.segment_id]) for task in tasks)
    outcome.requests = dict(Counter(request.route for request in journal.requests))
    outcome.refused = sum(request.status == TOO_MANY_REQUESTS for request in journal.requests)
    outcome.seen = _seen(journal)
    ends = {export.segment_id: export.ended for export in journal.exports}
    outcome.done = [
        task.ended - ended for task in tasks if task.ended and (ended := ends.get(task.segment_id))
    ]
    return outcome


def _is_whole(task: Task, exports: list[Export]) -> bool:
    """Return whether a task has succeeded, with an export that was requested for it."""
    ids = {export.export_id for export in exports}
    return task.state == "success" and bool(ids) and task.export_id in (None, *ids)


def _seen(journal: Journal) -> list[float]:
    ends = {export.export_id: export.ended for export in journal.exports}
    first: dict[str, float] = {}
    for request in journal.requests:
        ended = ends.get(request.export_id or "")
        if request.route == "status" and request.status == 200 and ended and request.time >= ended:
            first.setdefault(request.export_id or "", request.time - ended)
    return list(first.values())


def add_usage(outcome: Outcome, usage: Usage, journal: Journal) -> None:
    """Add what the components used."""
    ends = {export.export_id: export.ended or math.inf for export in journal.exports}
    held = [sum(time < ends.get(one, 0) for one in ids) for time, ids in usage.running]
    outcome.slots = max(held, default=0)
    outcome.slot_seconds = usage.seconds * sum(held) / len(held) if held else 0.0
    outcome.cpu, outcome.memory, outcome.waits = dict(usage.cpu), dict(usage.memory), dict(usage.waits)
    outcome.connections, outcome.transactions = usage.connections, usage.transactions
    outcome.seconds = usage.seconds


def quantile(values: Iterable[float], share: float) -> float | None:
    """Return the value that so large a share of them does not exceed; None of none."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)), 1) - 1] if ordered else None
