# SPDX-License-Identifier: Apache-2.0
"""What an argument costs or saves: the same exports in turn, with one value and another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.scale.runs import run_dag

if TYPE_CHECKING:
    from tests.scale.cluster import Cluster
    from tests.scale.outcome import Outcome

ROUNDS = 2


def slots(cluster: Cluster, count: int) -> list[Outcome]:
    """Exports of 2 to 90 s, more than there are worker slots, with the brief wait on the worker, without it, and ended in the triggerer."""
    return _in_turn(cluster, "slots", ("slots_4", "slots_0", "slots_end"), count, "2-90")


def xcoms(cluster: Cluster, count: int) -> list[Outcome]:
    """Exports that push all keys, the result only, and nothing."""
    return _in_turn(cluster, "xcoms", ("xcoms_all", "xcoms_one", "xcoms_none"), count, "10-20")


def _in_turn(
    cluster: Cluster, name: str, dag_ids: tuple[str, ...], count: int, export_seconds: str
) -> list[Outcome]:
    found = []
    for number in range(ROUNDS):
        for dag_id in dag_ids:
            service = cluster.serve(name, segments=count, rows=10, export_seconds=export_seconds)
            outcome, _ = run_dag(cluster, dag_id, service, count, run_id=f"round-{number}")
            outcome.scenario = f"{dag_id} {number + 1}"
            found.append(outcome)
            cluster.kill(service.component)
    return found
