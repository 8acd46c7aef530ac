# SPDX-License-Identifier: Apache-2.0
"""The only clock of the package; tests replace it."""

from __future__ import annotations

import asyncio
import random
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable


class Clock:
    """Time and sleep in seconds, and jitter from 0 to 1."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def jitter(self) -> float:
        return random.random()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def asleep(self, seconds: float) -> Awaitable[None]:
        return asyncio.sleep(seconds)  # no frame of our own: thousands sleep at a time


def utcnow() -> datetime:
    return datetime.now(timezone.utc)
