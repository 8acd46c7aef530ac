# SPDX-License-Identifier: Apache-2.0
"""What processes use, read from Linux's /proc."""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """
    A process.

    :param cpu: seconds that it and those of its children that ended have used.
    """

    pid: int
    parent: int
    cpu: float


class Snapshot:
    """All processes at one moment."""

    def __init__(self) -> None:
        self._by_parent: dict[int, list[Process]] = defaultdict(list)
        self._by_pid: dict[int, Process] = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                self._add(int(pid), Path(f"/proc/{pid}/stat").read_text())

    def _add(self, pid: int, line: str) -> None:
        # The name before it may hold anything.
        _, parent, *fields = line.rpartition(") ")[2].split()
        process = Process(pid, int(parent), sum(map(int, fields[9:13])) / _TICKS)
        self._by_pid[pid] = process
        self._by_parent[process.parent].append(process)

    def tree(self, pid: int) -> list[Process]:
        """Return a process and all that come from it, whatever groups and sessions they are in."""
        if pid not in self._by_pid:
            return []
        return [self._by_pid[pid], *(one for child in self._by_parent[pid] for one in self.tree(child.pid))]


def memory(processes: list[Process]) -> float:
    """Return how many MiB they hold; what several share is counted once (PSS)."""
    return sum(_pss(process.pid) for process in processes) / 1024


def _pss(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0
