# SPDX-License-Identifier: Apache-2.0
"""The rate limit, and the pause of all callers of one client after a 429. It reads no clock."""

from __future__ import annotations

import math

# Seconds. One odd Retry-After must not stop all callers for days; only the one who received it waits that long.
_LONGEST_PAUSE = 3600.0


def backoff(failures: int) -> float:
    """Return 1, 2, 4, … and at most 60 seconds."""
    return float(min(60, 2 ** min(failures - 1, 6)))


class Throttle:
    """Keep the requests of one client apart, first come first served, and pause them all after a 429."""

    def __init__(self) -> None:
        self._interval = 0.0
        self._next_slot = -math.inf
        self._paused_until = -math.inf
        self._pause_length = 0.0
        self._pauses = 0

    def set_limit(self, per_second: float | None) -> None:
        """Set the rate limit; slots that were reserved before stay so."""
        self._interval = 1 / per_second if per_second else 0.0

    def reserve(self, now: float) -> float:
        """Reserve the next slot and return the seconds until it."""
        slot = max(now, self._next_slot)
        self._next_slot = slot + self._interval
        return slot - now

    def pause(self, now: float, jitter: float) -> float:
        """Return the seconds one caller has to pause."""
        left = self._paused_until - now
        return 0.0 if left <= 0 else left + jitter * max(1.0, self._pause_length / 4)

    def too_many_requests(self, retry_after: float | None, now: float) -> None:
        """
        Begin a pause after a 429.

        A 429 during a pause answers a request sent before it: it can make the pause longer, but not count as another.
        """
        paused = now < self._paused_until
        if not paused:
            self._pauses += 1
        length = backoff(self._pauses) if retry_after is None else min(retry_after, _LONGEST_PAUSE)
        if now + length > self._paused_until and not (paused and retry_after is None):
            self._paused_until, self._pause_length = now + length, length

    def accepted(self) -> None:
        """Let the next pause be a short one again."""
        self._pauses = 0
