# SPDX-License-Identifier: Apache-2.0
"""One DAG for each watched segment, of a task that no worker runs."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset, AssetWatcher

from airflow_provider_segments.triggers.segment_refresh import UserSegmentRefreshTrigger

WATCHED = json.loads(Path(__file__).with_name("watched.json").read_text())

for number, segment_id in enumerate(WATCHED["segment_ids"]):
    trigger = UserSegmentRefreshTrigger(
        segment_id=segment_id, mparticle_conn_id="watchers", poll_interval=WATCHED["interval"]
    )
    asset = Asset(f"watched_{number}", watchers=[AssetWatcher(name=f"watcher_{number}", trigger=trigger)])
    with DAG(f"watched_{number}", schedule=[asset], start_date=datetime(2026, 1, 1)):
        EmptyOperator(task_id="started")
