# SPDX-License-Identifier: Apache-2.0
"""One DAG for each watched segment, of a task that costs nothing; two of the watchers can die at the worst moment."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset, AssetWatcher

from airflow_provider_segments.triggers.segment_refresh import UserSegmentRefreshTrigger
from tests.system.dying import DiesBeforeItIsStored

for name in os.environ["WATCHED"].split(","):
    kind: Any = DiesBeforeItIsStored if name == "dies_before" else UserSegmentRefreshTrigger
    watcher = AssetWatcher(name=f"{name}_watcher", trigger=kind(segment_name=name, poll_interval=2))
    with DAG(
        name, schedule=[Asset(f"{name}_refreshed", watchers=[watcher])], start_date=datetime(2026, 1, 1)
    ):
        EmptyOperator(task_id="started")
