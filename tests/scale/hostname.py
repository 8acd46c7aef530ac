# SPDX-License-Identifier: Apache-2.0
"""What an Airflow's component calls its host: itself, for here all are on one machine."""

from __future__ import annotations

import os


def component() -> str:
    """Return the name of this process's component."""
    return os.environ["SCALE_COMPONENT"]
