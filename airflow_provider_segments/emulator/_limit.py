# SPDX-License-Identifier: Apache-2.0
"""A rate limit of the emulated service."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Limit:
    """
    A bucket that holds the requests of one second.

    :param rate: Requests a second; None for no limit.
    """

    def __init__(self, rate: float | None, now: Callable[[], float] = time.monotonic) -> None:
        if rate is not None and not 0 < rate < float("inf"):
            raise ValueError(f"requests_per_second must be above 0, or None: {rate}")
        self._rate, self._now = rate, now
        self._left = self._most = max(rate or 0, 1)
        self._since = now()

    def permits(self) -> bool:
        """Return whether one more request is answered, and count it if so."""
        if self._rate is None:
            return True
        now = self._now()
        self._left = min(self._most, self._left + (now - self._since) * self._rate)
        self._since = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
