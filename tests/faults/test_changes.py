# SPDX-License-Identifier: Apache-2.0
"""Three days of one segment in a real Airflow, whose worker is killed in each step once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.system.conftest import BUCKET
from tests.system.running_airflow import AIRFLOW_3
from tests.system.runs import Run
from tests.transfers.chain import check_chain

if TYPE_CHECKING:
    from tests.system.conftest import System

pytestmark = pytest.mark.system


def test_three_days_compose(system: System) -> None:
    """Each day's changes lead to that day's export, and no try of a day requests another one (3.3 and later)."""
    for day in (1, 2, 3):
        run = Run(system, "changing", 1, f"day-{day}")
        run.succeeds()
        assert run.tries == {3} or max(run.tries) > 3  # a busy Airflow fails a try now and then by itself
        if AIRFLOW_3:
            assert run.submissions == 1
    died = Path(system.airflow.environment["RECORD"]).parent.glob("died-*")
    assert sorted(path.name for path in died) == [f"died-{step}" for step in range(6)]
    chain = check_chain(system.s3, BUCKET, f"audiences/{system.service.segments[0].segment_id}")
    # Below 3.3, the try after one that died right after latest.json exports anew and takes its place.
    assert len(chain) == 3
