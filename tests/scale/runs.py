# SPDX-License-Identifier: Apache-2.0
"""A DAG run of mapped exports, what is killed while it goes, and what came of it."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.scale.cluster import TRIGGERERS
from tests.scale.outcome import Outcome, Task, add_usage, judge
from tests.scale.sampler import Sampler
from tests.system.demo import say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.scale.cluster import Cluster
    from tests.scale.service import Journal, Service

PROGRESS_EVERY = 10
BLOCKED = re.compile(r"async thread was blocked for ([\d.]+) seconds")
# Airflow's words for what it found.
REASONS = {"heartbeat timeout": "worker gone", "state mismatch": "process killed", None: "error"}
_RETRIES = """
select (
  select min(event) from log l where (l.dag_id, l.run_id, l.task_id, l.map_index, l.try_number)
  = (h.dag_id, h.run_id, h.task_id, h.map_index, h.try_number) and event in ('heartbeat timeout', 'state mismatch')
), count(*) from task_instance_history h where dag_id = ? and run_id = ? and task_id = 'export' group by 1
"""


@dataclass
class Kill:
    """
    A component's death, and its return.

    :param choose: which one, given how many exports were submitted; "" for none yet.
    :param absence: seconds until it is started again.
    """

    choose: Callable[[int], str]
    absence: float = 60
    component: str = ""
    at: float = 0.0
    back: bool = False


@dataclass
class Run:
    """A DAG run of mapped exports, one for each of the service's segments."""

    cluster: Cluster
    service: Service
    dag_id: str
    run_id: str
    segment_ids: list[str]
    kills: list[Kill] = field(default_factory=list)
    restart_database_at: float = math.inf
    told: float = 0.0
    taken_over: list[float] = field(default_factory=list)
    _orphaned: dict[int, float] = field(default_factory=dict)

    def start(self) -> None:
        self.cluster.trigger(self.dag_id, self.run_id, {"segment_ids": self.segment_ids})

    def wait(self, seconds: float) -> None:
        """Wait for the run's end, with all that is to happen meanwhile."""
        self.cluster.wait_until(f"{self.dag_id} has ended", self._has_ended, seconds)
        for kill in self.kills:
            if kill.component and not kill.back:
                self.cluster.start(kill.component)

    def _has_ended(self) -> bool:
        submitted = self.service.submitted()
        for kill in self.kills:
            self._carry_out(kill, submitted)
        if submitted >= self.restart_database_at:
            self.restart_database_at = math.inf
            say("  PostgreSQL is restarted")
            self.cluster.restart_database()
        self._watch_takeover()
        if time.monotonic() > self.told + PROGRESS_EVERY:
            self.told = time.monotonic()
            say(f"  {self.dag_id}: {submitted} submitted; {self._progress()}")
        time.sleep(0.8)
        return self.cluster.run_state(self.dag_id, self.run_id) in ("success", "failed")

    def _carry_out(self, kill: Kill, submitted: int) -> None:
        if not kill.component:
            kill.component = kill.choose(submitted)
            if kill.component:
                jobs = self._triggerer_jobs(kill.component)
                self.cluster.kill(kill.component)
                kill.at = time.monotonic()
                self._orphaned |= dict.fromkeys(jobs, kill.at)
                say(f"  {kill.component} is killed")
        elif not kill.back and time.monotonic() > kill.at + kill.absence:
            kill.back = True
            self.cluster.start(kill.component)
            say(f"  {kill.component} is started again")

    def _triggerer_jobs(self, component: str) -> list[int]:
        """Return which of a triggerer's jobs have waits."""
        sql = "select distinct j.id from job j join trigger t on t.triggerer_id = j.id where j.hostname = ?"
        return [row[0] for row in self.cluster.query(sql, component)]

    def _watch_takeover(self) -> None:
        for job, killed in list(self._orphaned.items()):
            if not self.cluster.query("select 1 from trigger where triggerer_id = ? limit 1", job):
                del self._orphaned[job]
                self.taken_over.append(time.monotonic() - killed)

    def _progress(self) -> str:
        states = Counter(
            task.state or "waiting"
            for task in self.cluster.tasks(self.dag_id, self.run_id)
            if task.task_id == "export"
        )
        return ", ".join(f"{count} {state}" for state, count in sorted(states.items()))

    def tasks(self) -> list[Task]:
        rows = self.cluster.query(
            "select t.map_index, t.state, t.try_number, extract(epoch from t.end_date), x.value #>> '{}' "
            "from task_instance t left join xcom x on x.key = 'export_id' "
            "and (x.dag_id, x.run_id, x.task_id, x.map_index) = (t.dag_id, t.run_id, t.task_id, t.map_index) "
            "where t.dag_id = ? and t.run_id = ? and t.task_id = 'export'",
            self.dag_id,
            self.run_id,
        )
        found = {row[0]: row[1:] for row in rows}
        return [
            Task(
                segment_id,
                state,
                tries,
                None if ended is None else float(ended),
                export_id and export_id.strip('"'),
            )
            for index, segment_id in enumerate(self.segment_ids)
            for state, tries, ended, export_id in [found.get(index, (None, 0, None, None))]
        ]

    def retries(self) -> dict[str, int]:
        """Return how many tries were repeated and why: what Airflow found wrong with them, else an error of their own."""
        found = self.cluster.query(_RETRIES, self.dag_id, self.run_id)
        return {REASONS.get(event, event): count for event, count in found}


def busiest_triggerer(cluster: Cluster) -> str:
    """Return the triggerer that has most waits, "" if none has any."""
    rows = cluster.query(
        "select j.hostname, count(*) from trigger t join job j on j.id = t.triggerer_id group by 1 order by 2 desc"
    )
    return next((name for name, _ in rows if not cluster.is_down(name)), "")


def run_dag(
    cluster: Cluster,
    dag_id: str,
    service: Service,
    count: int,
    kills: Sequence[Kill] = (),
    restart_database_at: float = math.inf,
    run_id: str = "run",
) -> tuple[Outcome, Journal]:
    """Export so many segments, and see what came of it."""
    segment_ids = [segment["segmentId"] for segment in service.segments()][:count]
    stalls, starts = Counter(find_stalls(cluster)), cluster.worker_starts(dag_id, "export")
    api = count_api_requests(cluster)
    with Sampler(cluster) as sampler:
        run = Run(cluster, service, dag_id, run_id, segment_ids, list(kills), restart_database_at)
        run.start()
        run.wait(600 + 10 * count)
    journal = service.journal()
    outcome = judge(dag_id, run.tasks(), journal)
    add_usage(outcome, sampler.usage, journal)
    outcome.retried, outcome.taken_over = run.retries(), run.taken_over
    outcome.starts = cluster.worker_starts(dag_id, "export") - starts
    outcome.stalls = sorted((Counter(find_stalls(cluster)) - stalls).elements())
    outcome.api = dict(count_api_requests(cluster) - api)
    return outcome, journal


def find_stalls(cluster: Cluster) -> list[float]:
    """Return for how many seconds the triggerers' event loops stood still, by their logs."""
    logs = [cluster.log_file(name).read_text(errors="replace") for name in TRIGGERERS]
    return [float(seconds) for log in logs for seconds in BLOCKED.findall(log)]


def count_api_requests(cluster: Cluster) -> Counter[str]:
    """Return how many requests the API server has answered to workers and triggerers, by the first word of their path."""
    log = cluster.log_file("api-server").read_text(errors="replace")
    return Counter(re.findall(r"request finished .* path=/execution/([a-z-]+)", log))
