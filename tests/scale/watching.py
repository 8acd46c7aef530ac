# SPDX-License-Identifier: Apache-2.0
"""Watched segments, whose triggerer is killed."""

from __future__ import annotations

import json
import shutil
import time
from typing import TYPE_CHECKING

from tests.scale.cluster import DAGS
from tests.scale.outcome import Outcome, add_usage
from tests.scale.runs import busiest_triggerer
from tests.scale.sampler import Sampler
from tests.system.demo import say

if TYPE_CHECKING:
    from tests.scale.cluster import Cluster


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
