# SPDX-License-Identifier: Apache-2.0
"""What is read from /proc."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.scale.processes import Snapshot, memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc like this")
# A child in a group and a session of its own; both tell their process ids and wait.
FAMILY = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "input()"], start_new_session=True, stdin=subprocess.PIPE)
sum(range(3_000_000))
print(os.getpid(), child.pid, flush=True)
input()
"""


def test_a_tree_has_children_in_other_sessions() -> None:
    """So a component that is killed takes its tasks along; what it has used is known."""
    with subprocess.Popen(
        [sys.executable, "-c", FAMILY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        expected = {int(pid) for pid in parent.stdout.readline().split()}
        found = Snapshot().tree(parent.pid)
        assert {process.pid for process in found} == expected
        assert found[0].cpu > 0
        assert memory(found) > 1
        parent.kill()


def test_a_process_that_is_gone() -> None:
    """It has no tree, and no memory."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    snapshot = Snapshot()
    assert snapshot.tree(process.pid) == []
    assert memory([]) == 0
    assert os.getpid() in {one.pid for one in snapshot.tree(os.getpid())}
