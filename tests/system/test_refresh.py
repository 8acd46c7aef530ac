# SPDX-License-Identifier: Apache-2.0
"""Watched segments in a real Airflow: each refresh starts a run, and nothing else does, whoever dies."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_segments.emulator import EmulatedSegment
from tests.system.conftest import BUCKET, HERE, System, running_system
from tests.system.running_airflow import AIRFLOW_3

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 has no asset watchers"),
]

TEN = [f"watched_{n}" for n in range(10)]
DYING = ["dies_before", "dies_after"]
EXAMPLE = "Recent Registrants"
# Seconds, in tests/system/watchers too.
INTERVAL = 2


class Watching:
    """What runs, with what the tests ask it."""

    def __init__(self, system: System, die: Any) -> None:
        self.system, self.airflow, self.die = system, system.airflow, die
        self.ids = {segment.name: segment.segment_id for segment in system.service.segments}

    def refresh(self, name: str) -> None:
        self.system.service.refresh(self.ids[name])

    @property
    def polls(self) -> int:
        """How often the list has been asked for."""
        return sum(request.route == "list" for request in self.system.service.requests)

    def runs(self, *names: str) -> dict[str, int]:
        """How many runs each DAG has."""
        counts = dict(self.airflow.query("select dag_id, count(*) from dag_run group by dag_id"))
        return {name: counts.get(name, 0) for name in names}

    def events(self, name: str) -> list[dict[str, Any]]:
        """The payloads of an asset's events."""
        rows = self.airflow.query(
            "select e.extra from asset_event e join asset a on a.id = e.asset_id where a.name = ? order by e.id",
            f"{name}_refreshed",
        )
        return [json.loads(extra)["payload"] for (extra,) in rows]

    def wait_for_runs(self, expected: dict[str, int]) -> None:
        self.airflow.wait_until(f"runs: {expected}", lambda: self.runs(*expected) == expected, 180)

    def let_pass(self, polls: int = 3) -> None:
        """Wait for more polls, and for what could come of them."""
        until = self.polls + polls
        self.airflow.wait_until("some polls pass", lambda: self.polls >= until, 120)


@pytest.fixture(scope="module")
def watching(tmp_path_factory: pytest.TempPathFactory, s3_url: str, new_database: Path) -> Iterator[Watching]:
    """Ten watched segments, two whose watchers may die, and the example's; all have their baseline."""
    root = tmp_path_factory.mktemp("refresh")
    segments = [EmulatedSegment(name=name) for name in [EXAMPLE, *TEN, *DYING]]
    environment = {
        "WATCHED": ",".join(TEN + DYING),
        "SEGMENT_POLL_SECONDS": str(INTERVAL),
        "DIE": str(root / "die"),
    }
    examples = "example_on_refresh.py"
    with running_system(
        root, s3_url, new_database, HERE / "watchers", segments, examples=examples, **environment
    ) as system:
        kept = "select count(*) from asset_state_store"
        system.airflow.wait_until("all baselines", lambda: system.airflow.query(kept) == [(13,)], 180)
        yield Watching(system, root / "die")


def test_thirty_refreshes_thirty_runs(watching: Watching) -> None:
    """One poll an interval for all; exactly one run a refresh, none without."""
    watching.let_pass()
    assert watching.runs(*TEN) == dict.fromkeys(TEN, 0)
    began, before = time.monotonic(), watching.polls
    for round_ in range(1, 4):
        for name in TEN:
            watching.refresh(name)
        # Airflow puts events that wait for the same DAG into one run, so one at a time.
        watching.wait_for_runs(dict.fromkeys(TEN, round_))
    watching.let_pass()
    polls, intervals = watching.polls - before, (time.monotonic() - began) / INTERVAL
    assert polls <= intervals + 1
    assert watching.runs(*TEN) == dict.fromkeys(TEN, 3)
    for name in TEN:
        payloads = watching.events(name)
        assert [payload["segment_id"] for payload in payloads] == [watching.ids[name]] * 3
        assert [p["previous_last_run"] for p in payloads[1:]] == [p["last_run"] for p in payloads[:-1]]


def test_example(watching: Watching) -> None:
    """The segment that the event names is exported and copied."""
    system, dag_id = watching.system, "example_on_refresh"
    watching.refresh(EXAMPLE)
    watching.wait_for_runs({dag_id: 1})
    ((run_id,),) = watching.airflow.query("select run_id from dag_run where dag_id = ?", dag_id)
    watching.airflow.wait_until_deferred(dag_id, run_id, export_segment=1)
    (export_id,) = system.pending()
    system.end_all()
    assert watching.airflow.wait_for_run(dag_id, run_id) == "success", watching.airflow.task_logs()
    (submission,) = system.service.submissions
    assert submission.segment_id == watching.ids[EXAMPLE]
    copied = system.body(BUCKET, f"segments/{EXAMPLE}/{run_id}.csv")
    assert copied == system.body("upload-bucket", f"path/to/{export_id}.csv")


def test_killed_between_yielding_and_storing(watching: Watching) -> None:
    """The event comes after the restart, once; so does that of a refresh while no triggerer ran."""
    before = watching.runs(*TEN)
    watching.die.write_text("before")
    watching.refresh("dies_before")
    watching.airflow.wait_for_death("triggerer")
    assert watching.events("dies_before") == []
    watching.refresh(TEN[0])
    watching.airflow.start("triggerer")
    expected = before | {TEN[0]: before[TEN[0]] + 1, "dies_before": 1}
    watching.wait_for_runs(expected)
    watching.let_pass(6)
    assert watching.runs(*expected) == expected


def test_killed_between_storing_and_keeping(watching: Watching) -> None:
    """Nothing is missed, but the refresh comes twice, and both say so: the one gap that is left."""
    before = watching.runs(*TEN)
    watching.die.write_text("after")
    watching.refresh("dies_after")
    watching.airflow.wait_for_death("triggerer")
    assert len(watching.events("dies_after")) == 1
    watching.airflow.start("triggerer")
    watching.wait_for_runs({"dies_after": 2})
    watching.let_pass(6)
    first, second = watching.events("dies_after")
    assert first == second
    assert watching.runs("dies_after", *TEN) == {"dies_after": 2} | before
