# SPDX-License-Identifier: Apache-2.0
"""What the components use while a scenario runs, looked at once a second."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import psycopg2

from tests.scale.cluster import APPLICATION
from tests.scale.outcome import Usage
from tests.scale.processes import Snapshot, memory

if TYPE_CHECKING:
    from typing import Self

    from tests.scale.cluster import Cluster

EVERY = 1.0
# Reading the memory of all processes takes longer.
MEMORY_EVERY = 10

_RUNNING = """
select t.hostname, x.value #>> '{}' from task_instance t
join xcom x on (x.dag_id, x.run_id, x.task_id, x.map_index) = (t.dag_id, t.run_id, t.task_id, t.map_index)
where t.state = 'running' and x.key = 'export_id'
"""
_WAITS = """
select coalesce(j.hostname, 'nobody'), count(*) from trigger t left join job j on j.id = t.triggerer_id group by 1
"""
_CONNECTIONS = f"""
select count(*) from pg_stat_activity where backend_type = 'client backend' and application_name <> '{APPLICATION}'
"""


class Sampler(threading.Thread):
    """Looks at a cluster while the `with` statement lasts."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(daemon=True)
        self.usage = Usage()
        self._cluster = cluster
        self._over = threading.Event()
        # What a process group had used when it was seen first and last; a component that is started again has several.
        self._seen: dict[tuple[str, int], tuple[float, float]] = {}

    def __enter__(self) -> Self:
        self._began, self._transactions = time.monotonic(), self._commits()
        self._look_at_processes(first=True)
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self.join()
        self._look_at_processes()
        for (name, _), (first, last) in self._seen.items():
            self.usage.cpu[name] += last - first
        self.usage.seconds = time.monotonic() - self._began
        self.usage.transactions = self._commits() - self._transactions

    def run(self) -> None:
        count = 0
        while not self._over.wait(EVERY):
            self._look_at_processes(memory_too=count % MEMORY_EVERY == 0)
            try:
                self._look_at_database()
            except psycopg2.Error:  # it may be starting again
                continue
            count += 1

    def _look_at_processes(self, *, first: bool = False, memory_too: bool = False) -> None:
        snapshot = Snapshot()
        for name, pid in self._cluster.pids().items():
            family = snapshot.tree(pid)
            if not family:
                continue
            used = sum(process.cpu for process in family)
            # One that is started meanwhile has used nothing before.
            begun, last = self._seen.get((name, pid), (used if first else 0.0, 0.0))
            self._seen[name, pid] = begun, max(used, last)
            if memory_too:
                self.usage.memory[name] = max(self.usage.memory[name], memory(family))

    def _look_at_database(self) -> None:
        # What ran on a worker that was killed counts as running until Airflow notices.
        alive = [row for row in self._cluster.query(_RUNNING) if not self._cluster.is_down(row[0])]
        ids = frozenset(export_id.strip('"') for _, export_id in alive)
        self.usage.running.append((time.time(), ids))
        for name, count in self._cluster.query(_WAITS):
            self.usage.waits[name] = max(self.usage.waits[name], count)
        self.usage.connections = max(self.usage.connections, self._cluster.query(_CONNECTIONS)[0][0])

    def _commits(self) -> int:
        sql = "select xact_commit from pg_stat_database where datname = 'postgres'"
        return int(self._cluster.query(sql)[0][0])
