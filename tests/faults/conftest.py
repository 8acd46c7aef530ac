# SPDX-License-Identifier: Apache-2.0
"""The same Airflow as the other tests of a real one."""

from __future__ import annotations

from tests.system.conftest import system

__all__ = ["system"]
