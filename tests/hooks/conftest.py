# SPDX-License-Identifier: Apache-2.0
"""Both transports behind one interface."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import OnAiohttp, OnRequests

if TYPE_CHECKING:
    from airflow_provider_segments.emulator import Emulator
    from tests.support import Client, FakeClock


@pytest.fixture(params=[OnRequests, OnAiohttp])
def client(request: pytest.FixtureRequest, connected: Emulator, clock: FakeClock) -> Client:
    """Each test runs on both transports."""
    made: Client = request.param(clock)
    return made
