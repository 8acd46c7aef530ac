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
    """Time, sleep and jitter."""

    def time(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes back."""
        return time.monotonic()

    def jitter(self) -> float:
        """Return a random number from 0 to 1."""
        return random.random()

    def sleep(self, seconds: float) -> None:
        """Block the thread."""
        time.sleep(seconds)

    def asleep(self, seconds: float) -> Awaitable[None]:
        """Let other coroutines run."""
        return asyncio.sleep(seconds)  # no frame of our own: thousands sleep at a time


def utcnow() -> datetime:
    """Return the time in UTC."""
    return datetime.now(timezone.utc)
