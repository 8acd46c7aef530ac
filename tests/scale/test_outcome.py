# SPDX-License-Identifier: Apache-2.0
"""The figures of `make scale`, of a run that is made up."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.scale import report
from tests.scale.outcome import Outcome, Task, Usage, add_usage, judge, quantile
from tests.scale.service import Export, Journal, Request

if TYPE_CHECKING:
    from pathlib import Path

A = Export("e-a", "a", "COMPLETE", 100, 110)
B = Export("e-b", "b", "COMPLETE", 101, 121)
DONE_A, DONE_B = Task("a", "success", 1, 113, "e-a"), Task("b", "success", 2, 122, "e-b")
ASKED = [
    Request(105, "status", 200, "e-a"),
    Request(111, "status", 429, "e-a"),
    Request(112, "status", 200, "e-a"),
    Request(113, "status", 200, "e-a"),
    Request(121.5, "status", 200, "e-b"),
    Request(99, "list", 200, None),
]


def test_all_is_well() -> None:
    """Each task has its export: nothing is lost or doubled; refusals and lateness are what the journal says."""
    outcome = judge("some", [DONE_A, DONE_B], Journal([A, B], ASKED))
    assert (outcome.expected, outcome.submitted, outcome.doubled, outcome.lost) == (2, 2, 0, 0)
    assert outcome.is_right
    assert (outcome.requests, outcome.refused) == ({"status": 5, "list": 1}, 1)
    assert (outcome.seen, outcome.done) == ([2, 0.5], [3, 1])


def test_requested_twice_is_doubled() -> None:
    """Also if the task ends well."""
    outcome = judge("some", [DONE_A], Journal([A, replace(A, export_id="e-2")], []))
    assert (outcome.submitted, outcome.doubled, outcome.lost) == (2, 1, 0)
    assert not outcome.is_right


@pytest.mark.parametrize(
    ("task", "exports"),
    [
        (replace(DONE_A, state="failed"), [A]),
        (replace(DONE_A, state=None), [A]),
        (replace(DONE_A, export_id="e-b"), [A]),
        (DONE_A, [B]),
    ],
    ids=["failed", "never ran", "another's export", "never requested"],
)
def test_lost(task: Task, exports: list[Export]) -> None:
    """A task that has not ended well, or with an export that is not its own."""
    outcome = judge("some", [task], Journal(exports, []))
    assert outcome.lost == 1
    assert not outcome.is_right


def test_slots_held_by_waiting_tasks() -> None:
    """Those that run while their export does; one whose export has ended is not waiting."""
    both = frozenset({"e-a", "e-b"})
    usage = Usage(running=[(105, both), (115, both), (125, both)], seconds=30)
    outcome = Outcome("some", 2)
    add_usage(outcome, usage, Journal([A, B], []))
    assert (outcome.slots, outcome.slot_seconds) == (2, pytest.approx(30))


def test_quantile() -> None:
    """The value that so many do not exceed."""
    assert [quantile(range(1, 101), share) for share in (0.5, 0.99, 1)] == [50, 99, 100]
    assert (quantile([7], 0.5), quantile([], 0.5)) == (7, None)


def test_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The tables name each scenario and component, and the file has the same."""
    outcome = judge("some", [DONE_A, DONE_B], Journal([A, B], ASKED))
    outcome.cpu, outcome.memory = {"triggerer-1": 3.0}, {"triggerer-1": 99.7}
    report.show([outcome], {"triggerer-1": 0.009})
    shown = capsys.readouterr().out
    for words in ("some", "1 (16.7%)", "triggerer-1", "0.9% of a core", "150.0 s; 100 MiB"):
        assert words in shown, words
    report.write([outcome], {"scale": "small"}, tmp_path / "build" / "scale.json")
    found = json.loads((tmp_path / "build" / "scale.json").read_text())
    assert found["settings"] == {"scale": "small"}
    assert found["scenarios"][0]["seen"] == [2, 0.5]
    assert found["scenarios"][0]["summary"]["submitted"] == "2"
