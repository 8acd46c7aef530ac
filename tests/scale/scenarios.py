# SPDX-License-Identifier: Apache-2.0
"""What is done to the cluster, and what came of it."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3

from tests.scale.cluster import BUCKET, DAGS, TRIGGERERS, WORKERS
from tests.scale.outcome import Outcome, Task, add_usage, judge
from tests.scale.sampler import Sampler
from tests.system.demo import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.scale.cluster import Cluster
    from tests.scale.service import Journal, Service

# What the service allows a second, as the trial had it; no Connection says so.
LIMIT = 20
ABSENCE = 60
PROGRESS_EVERY = 10
BLOCKED = "async thread was blocked"
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
    A component's death at a moment, and its return a minute later.

    :param is_due: given how many exports were submitted.
    """

    choose: Callable[[Cluster], str]
    is_due: Callable[[int], bool]
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
    taken_over: list[float] = field(default_factory=list)
    _orphaned: dict[int, float] = field(default_factory=dict)

    def start(self) -> None:
        self.cluster.trigger(self.dag_id, self.run_id, {"segment_ids": self.segment_ids})

    def wait(self, seconds: float) -> None:
        """Wait for the run's end, with all that is to happen meanwhile."""
        self._told = 0.0
        self.cluster.wait_until(f"{self.dag_id} has ended", self._has_ended, seconds)
        for kill in self.kills:
            if kill.component and not kill.back:
                self.cluster.start(kill.component)

    def _has_ended(self) -> bool:
        submitted = self.service.submitted()
        for kill in self.kills:
            self._carry_out(kill, submitted)
        self._watch_takeover()
        if time.monotonic() > self._told + PROGRESS_EVERY:
            self._told = time.monotonic()
            say(f"  {self.dag_id}: {submitted} submitted; {self._progress()}")
        time.sleep(0.8)
        return self.cluster.run_state(self.dag_id, self.run_id) in ("success", "failed")

    def _carry_out(self, kill: Kill, submitted: int) -> None:
        if not kill.component and kill.is_due(submitted):
            kill.component = kill.choose(self.cluster)
            jobs = self._triggerer_jobs(kill.component)
            self.cluster.kill(kill.component)
            kill.at = time.monotonic()
            self._orphaned |= dict.fromkeys(jobs, kill.at)
            say(f"  {kill.component} is killed")
        elif kill.component and not kill.back and time.monotonic() > kill.at + ABSENCE:
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
    """Return the triggerer that has most waits."""
    rows = cluster.query(
        "select j.hostname, count(*) from trigger t join job j on j.id = t.triggerer_id group by 1 order by 2 desc"
    )
    alive = [name for name, _ in rows if name in TRIGGERERS and not cluster.is_down(name)]
    return alive[0] if alive else TRIGGERERS[0]


def run_dag(
    cluster: Cluster,
    dag_id: str,
    service: Service,
    count: int,
    kills: list[Kill] | None = None,
    run_id: str = "run",
    meanwhile: Callable[[Run], None] | None = None,
) -> tuple[Outcome, Journal]:
    """Export so many segments, and see what came of it."""
    segment_ids = [segment["segmentId"] for segment in service.segments()][:count]
    blocked, starts = count_blocked(cluster), cluster.worker_starts(dag_id, "export")
    api = count_api_requests(cluster)
    with Sampler(cluster) as sampler:
        run = Run(cluster, service, dag_id, run_id, segment_ids, kills or [])
        run.start()
        if meanwhile:
            meanwhile(run)
        run.wait(600 + 10 * count)
    journal = service.journal()
    outcome = judge(dag_id, run.tasks(), journal)
    add_usage(outcome, sampler.usage, journal)
    outcome.retried, outcome.taken_over = run.retries(), run.taken_over
    outcome.starts = cluster.worker_starts(dag_id, "export") - starts
    outcome.blocked = count_blocked(cluster) - blocked
    outcome.api = dict(count_api_requests(cluster) - api)
    return outcome, journal


def count_blocked(cluster: Cluster) -> int:
    return sum(cluster.log_file(name).read_text(errors="replace").count(BLOCKED) for name in TRIGGERERS)


def count_api_requests(cluster: Cluster) -> Counter[str]:
    """Return how many requests the API server has answered to workers and triggerers, by the first word of their path."""
    log = cluster.log_file("api-server").read_text(errors="replace")
    return Counter(re.findall(r"request finished .* path=/execution/([a-z-]+)", log))


def exports(cluster: Cluster, count: int) -> Outcome:
    """Exports of 2 to 90 s; a triggerer and a worker are killed, and come back a minute later."""
    service = cluster.serve(
        "exports", segments=count, rows=10, export_seconds="2-90", requests_per_second=LIMIT
    )
    kills = [
        Kill(busiest_triggerer, lambda submitted: submitted >= count / 3),
        Kill(lambda _: WORKERS[0], lambda submitted: submitted >= count * 2 / 3),
    ]
    outcome, _ = run_dag(cluster, "exports", service, count, kills)
    return outcome


def deaths(cluster: Cluster, count: int) -> Outcome:
    """Each task's process is killed right after its POST."""
    service = cluster.serve("deaths", segments=count, rows=10, export_seconds="5-30")
    outcome, _ = run_dag(cluster, "deaths", service, count)
    return outcome


def files(cluster: Cluster, count: int) -> Outcome:
    """Files are copied to the user's bucket, and a worker is killed in the middle of one."""
    service = cluster.serve("files", segments=count, rows=300_000, export_seconds="5-30")
    told = cluster.home / "transferring"
    s3 = _s3(cluster)
    s3.create_bucket(Bucket=BUCKET)
    kill = Kill(lambda _: told.read_text(), lambda _: told.exists() and bool(told.read_text()))
    outcome, journal = run_dag(cluster, "files", service, count, [kill])
    left = s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    whole = _count_whole(s3, journal, [segment["segmentId"] for segment in service.segments()][:count])
    outcome.lost = max(outcome.lost, count - whole)
    outcome.notes.append(f"{whole} of {count} files are whole; unfinished uploads left: {len(left)}")
    if not kill.component:
        outcome.notes.append("no worker was killed in a transfer")
    return outcome


def _s3(cluster: Cluster) -> Any:
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
    return boto3.client("s3", endpoint_url=cluster.s3_url, **keys)


def _count_whole(s3: Any, journal: Journal, segment_ids: list[str]) -> int:
    """Return how many of the user's objects are what the service wrote."""
    by_segment = {export.segment_id: export.export_id for export in journal.exports}

    def body(bucket: str, key: str) -> Any:
        return s3.get_object(Bucket=bucket, Key=key)["Body"].read()

    there = {found["Key"] for found in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])}
    return sum(
        f"{index}.csv" in there
        and body(BUCKET, f"{index}.csv") == body("upload-bucket", f"path/to/{by_segment[segment_id]}.csv")
        for index, segment_id in enumerate(segment_ids)
        if segment_id in by_segment
    )


class Watchers:
    """Watched segments, and what their DAGs did."""

    interval = 2

    def __init__(self, cluster: Cluster, count: int) -> None:
        self.cluster, self.count = cluster, count
        self.service = cluster.serve("watchers", segments=4 * count)
        dynamic = [one["segmentId"] for one in self.service.segments() if one["type"] == "Dynamic"]
        self.segment_ids = dynamic[:count]

    def watch(self) -> None:
        """Add the DAGs and wait until each watcher knows what there is."""
        dags = self.cluster.home / "dags"
        (dags / "watched.json").write_text(
            json.dumps({"segment_ids": self.segment_ids, "interval": self.interval})
        )
        shutil.copy(DAGS / "watchers.py", dags)
        known = "select count(*) from asset_state_store"
        self.cluster.wait_until("all baselines", lambda: self.cluster.query(known) == [(self.count,)], 300)

    def runs(self) -> list[int]:
        """Return how many runs each DAG has had to the end."""
        sql = "select dag_id, count(*) from dag_run where dag_id like 'watched_%%' and state = 'success' group by 1"
        found = dict(self.cluster.query(sql))
        return [found.get(f"watched_{number}", 0) for number in range(self.count)]

    def polls(self) -> int:
        return sum(request.route == "list" for request in self.service.journal().requests)


def watchers(cluster: Cluster, count: int) -> Outcome:
    """The triggerer that has the watchers is killed, and each segment refreshed before another takes over."""
    watching = Watchers(cluster, count)
    watching.watch()
    say(f"  {count} watchers have their baseline")
    with Sampler(cluster) as sampler:
        outcome = _kill_and_refresh(watching)
    add_usage(outcome, sampler.usage, watching.service.journal())
    return outcome


def _kill_and_refresh(watching: Watchers) -> Outcome:
    cluster, count = watching.cluster, watching.count
    holder = busiest_triggerer(cluster)
    cluster.kill(holder)
    killed = time.monotonic()
    say(f"  {holder}, which has most of the watchers, is killed; {count} segments are refreshed")
    for segment_id in watching.segment_ids:
        watching.service.refresh(segment_id)
    cluster.wait_until("each DAG has run", lambda: min(watching.runs()) >= 1, 300)
    taken_over = time.monotonic() - killed
    before, began = watching.polls(), time.monotonic()
    time.sleep(10 * watching.interval)
    polls, intervals = watching.polls() - before, (time.monotonic() - began) / watching.interval
    cluster.start(holder)
    runs = watching.runs()
    outcome = Outcome("watchers", count, sum(runs))
    outcome.doubled, outcome.lost = sum(max(n - 1, 0) for n in runs), runs.count(0)
    outcome.notes += [
        f"the last DAG run ended {taken_over:.0f} s after the death",
        f"{polls / intervals:.2f} polls of the list an interval",
    ]
    return outcome
