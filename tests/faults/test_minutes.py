# SPDX-License-Identifier: Apache-2.0
"""Faults that last minutes or hit many exports; `tests/system/test_faults.py` has a short form of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.system.running_airflow import AIRFLOW_3
from tests.system.runs import (
    FIFTY,
    TWENTY,
    Run,
    export_many_segments,
    kill_triggerer_and_scheduler,
    outage,
    storm,
)

if TYPE_CHECKING:
    from tests.system.conftest import System

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


def test_storm_of_429s_and_outage(system: System) -> None:
    """A minute of 429s at every second request, then two minutes of outage: all succeed, no try is used up."""
    run = Run(system, "waiting", TWENTY, "outage")
    run.wait_until_deferred()
    storm(run, seconds=30, refusals=4)
    storm(run, seconds=30, refusals=4, retry_after="2")
    assert set(run.states) == {"deferred"}
    outage(run, "refuse", seconds=60)
    outage(run, "silence", seconds=60)
    assert set(run.states) == {"deferred"}
    run.succeeds()
    assert run.submissions == TWENTY
    assert run.tries == {1}


def test_triggerer_and_scheduler_killed(system: System) -> None:
    """Killed while fifty exports wait, then started again: fifty submissions, fifty successes, no try used up."""
    run = Run(system, "waiting", FIFTY, "killed")
    run.wait_until_deferred()
    kill_triggerer_and_scheduler(run)
    run.succeeds()
    assert run.submissions == FIFTY
    assert run.tries == {1}


@pytest.mark.skipif(not AIRFLOW_3, reason="only Airflow 3.3 and later keep an export's id across tries")
@pytest.mark.parametrize("dag_id", ["killed_deferred", "killed_on_worker"])
def test_killed_right_after_the_post(system: System, dag_id: str) -> None:
    """Twenty task processes killed: twenty submissions, twenty successes, taken up while pending."""
    run = Run(system, dag_id, 20)
    run.succeeds()
    assert run.tries == {2}
    assert run.submissions == 20


@pytest.mark.skipif(not AIRFLOW_3, reason="one task at a time: tests/system runs two of them")
def test_export_many_segments(system: System) -> None:
    """All twenty wait at once in the triggerer, and none of them on a worker."""
    export_many_segments(system, "all", "")
