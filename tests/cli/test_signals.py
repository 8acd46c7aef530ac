# SPDX-License-Identifier: Apache-2.0
"""A signal ends a command, whatever Python was doing when it came."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os, signal, sys, time
from airflow_provider_segments.cli._signals import Interrupted, Signals

class Odd:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)

signals = Signals()
signals.install()
try:
    Odd()
    try:
        signals.check()
    except Interrupted:
        print("no request")
    os.kill(os.getpid(), signal.SIGHUP)
    time.sleep(600)
except Interrupted as error:
    signals.caught()
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1.5)
    print(int(error.number))
"""


def test_signal_that_python_drops_is_raised_again() -> None:
    """What a handler raises in a `__del__` is lost; others after the first change nothing, nor the cleaning up."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split("\n") == ["no request", "15", ""]
