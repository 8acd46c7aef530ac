# SPDX-License-Identifier: Apache-2.0
"""What a triggerer imports, and where: its event loop must not stand still for that."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_segments.hooks.user_segments import UserSegmentsHook

if TYPE_CHECKING:
    from airflow_provider_segments.emulator import Emulator

PROGRAM = """
import asyncio, importlib, sys, threading
import airflow.jobs.triggerer_job_runner
module, name, argument = sys.argv[1:]
trigger = getattr(importlib.import_module(module), name)(argument)
on_the_loop = []

class Watch:
    def find_spec(self, name, *_):
        if threading.current_thread() is threading.main_thread():
            on_the_loop.append(name.partition(".")[0])

async def run():
    polling = asyncio.ensure_future(anext(trigger.run()))
    async with asyncio.timeout(60):
        while not polling.done() and "airflow_provider_segments.transports.aiohttp" not in sys.modules:
            await asyncio.sleep(0.01)
    polling.cancel()

sys.meta_path.insert(0, Watch())
asyncio.run(run())
assert {"requests", "aiohttp"} <= {*sys.modules}
print("on the loop:", *({"requests", "aiohttp"} & {*on_the_loop}))
"""
TRIGGERS = "airflow_provider_segments.triggers"


@pytest.mark.parametrize(
    "trigger",
    [
        f"{TRIGGERS}.user_segments UserSegmentExportTrigger",
        pytest.param(
            f"{TRIGGERS}.segment_refresh UserSegmentRefreshTrigger",
            marks=pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow 2 has no asset watchers"),
        ),
    ],
)
def test_nothing_large_is_imported_on_the_event_loop(connected: Emulator, trigger: str) -> None:
    """Neither by the first wait nor by the first watcher."""
    export_id = UserSegmentsHook().request_export(connected.segments[0].segment_id).export_id
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, *trigger.split(), export_id]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].strip() == "on the loop:"
