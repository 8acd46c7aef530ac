# SPDX-License-Identifier: Apache-2.0
"""The only place of the hooks that knows what time it is; tests put another one in its stead."""

from __future__ import annotations

import asyncio
import random
import time

__all__ = ["Clock"]


class Clock:
    """Times, sleeps and chance."""

    def time(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes back."""
        return time.monotonic()

    def spread(self) -> float:
        """Return a random number from 0 to 1."""
        return random.random()

    def sleep(self, seconds: float) -> None:
        """Block for a while."""
        time.sleep(seconds)

    async def asleep(self, seconds: float) -> None:
        """Let others run for a while."""
        await asyncio.sleep(seconds)
