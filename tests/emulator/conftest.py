# SPDX-License-Identifier: Apache-2.0
"""Emulators with and without files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_segments.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def emulator(s3_url: str) -> Iterator[Emulator]:
    with Emulator(s3_endpoint_url=s3_url, export_seconds=0, segments=20) as running:
        yield running


@pytest.fixture
def bare() -> Iterator[Emulator]:
    with Emulator(bucket=None, export_seconds=0) as running:
        yield running
