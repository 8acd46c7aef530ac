# SPDX-License-Identifier: Apache-2.0
"""
When the calls of one client may be sent: the Connection's rate limit, and one that is learned from 429s.

Without either, nothing waits. With one, calls queue by the time by which each should be sent, the earliest first. Each
sleeps until its turn should come, and asks again. It reads no clock.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import count

__all__ = ["Place", "Throttle"]

#: The place of a call in the queue: the time by which it should be sent, and a number that keeps equal times in order.
Place = tuple[float, int]

# Seconds. One odd Retry-After must not stop all callers for days; only the one who received it waits that long.
_LONGEST_PAUSE = 3600.0
# A pause of this many seconds is logged.
_LOGGED_PAUSE = 60.0
# A sleeper may be this many seconds late without losing turns.
_LATE = 0.25
# The longest sleep, in seconds, before a call asks again: the rate may rise meanwhile.
_LONGEST_SLEEP = 30.0
# Seconds; a shorter wait is a rounding error.
_INSTANT = 1e-6


class _LearnedRate:
    """
    The requests a second that the service seems to allow this process; None before the first 429.

    It falls at a 429, returns quickly to near the rate that was refused, stays there for a while, and then rises faster
    and faster: CUBIC (RFC 9438), but the time in which it returns is given.
    """

    # The lowest rate if everything is refused, and if something is accepted: then others may be sending too much.
    _LOWEST, _LOW = 1 / 60, 1 / 5
    # Bounds of the first rate: one call says little, and neither do many that were sent when few were answered.
    _FIRST, _BURST = 1.0, 64.0
    _FALL, _STEEP_FALL = 0.85, 0.5
    _RETURN, _QUICK_RETURN = 30.0, 3.0  # seconds until it is back; a steep fall is a guess
    _SETTLED = 3  # accepted requests that show that a rate is sustainable; after fewer, the fall is steep
    _APART = 0.5  # seconds between two falls: a service that counts by the second refuses until its end

    def __init__(self) -> None:
        self.value: float | None = None
        self.refused = self._base = 0.0  # the rates at which the last fall began and ended
        self._return, self._returned = 0.0, 0.0  # seconds until it is back, and how many have passed
        self._accepted = 0
        self._fell_at = -math.inf
        self._logged: float | None = None
        self._answers, self._since, self._measured = 0, -math.inf, 0.0
        self.turns = 0  # in the present half second

    def answered(self, now: float, *, accepted: bool) -> None:
        """Measure the rate as botocore's adaptive mode does: by half seconds, the last one counts most."""
        self._answers += 1
        self._accepted += accepted
        if now - self._since >= 0.5:
            self._measured = 0.8 * self._answers / (now - self._since) + 0.2 * self._measured
            self.turns = self.turns if math.isinf(self._since) else 0
            self._answers, self._since = 0, now

    def fall(self, ceiling: float, pause: float, now: float) -> str | None:
        """Fall at a 429, unless it has fallen just now; return what to log."""
        if now < self._fell_at + self._APART:
            return None
        first, settled = self.value is None, self.value is not None and self._accepted >= self._SETTLED
        # The first answers to a burst may be few, and all 429s.
        measured = max(self._FIRST, self._measured, self._answers / 0.5, min(self.turns / 0.5, self._BURST))
        rate = min(ceiling, measured if self.value is None else self.value)
        # Where everything is refused, this rate is no worse than the last one.
        if first or self._accepted:
            self.refused = rate
        lowest = self._LOW if self._accepted else self._LOWEST
        self._base = self.value = max(lowest, rate * (self._FALL if settled else self._STEEP_FALL))
        self.refused = max(self.refused, self._base / self._FALL)  # else it could not rise from the lowest
        # At least the time of ten requests, and forty times the pause.
        self._return = max(self._RETURN if settled else self._QUICK_RETURN, 10 / self.refused, 40 * pause)
        self._returned = 0.0
        self._accepted, self._fell_at = 0, now
        return self._message(first, settled)

    def rise(self) -> None:
        """Rise when a call that had to wait is sent; not while everything is refused."""
        if self.value is None or not self._accepted:
            return
        self._returned += min(1 / self.value, self._return / 10)
        self.value = self.refused - (self.refused - self._base) * (1 - self._returned / self._return) ** 3

    def _message(self, first: bool, settled: bool) -> str | None:
        if first:
            return (
                "The service refuses requests as too many (HTTP 429). This process sends fewer of them on this "
                "Connection from now on, and finds out how many the service allows. Waits for exports continue."
            )
        found = self.refused if settled else self._base
        if not settled and found > self._LOWEST:
            return None
        if self._logged is not None and 0.5 < found / self._logged < 2:
            return None
        self._logged = found
        if not settled:
            return "The service refuses nearly everything (HTTP 429). This process tries once a minute."
        said = f"{found:.0f}" if found >= 10 else f"{found:.2g}"
        return (
            f"The service allows this process about {said} requests a second (HTTP 429). Calls beyond that wait for "
            "their turns, so the end of an export may be noticed later."
        )


class Throttle:
    """The queue of the calls of one client."""

    def __init__(self) -> None:
        #: Counts the 429s after which calls that have got their turn, but are not sent yet, need another.
        self.cuts = 0
        self._ceiling = math.inf
        self._learned = _LearnedRate()
        self._queue: list[Place] = []
        self._numbers = count()
        self._next_turn = -math.inf
        self._paused_until = -math.inf
        self._news: str | None = None

    @property
    def learned(self) -> float | None:
        """The learned limit in requests a second; None before the first 429."""
        return self._learned.value

    @property
    def waiting(self) -> int:
        """The number of calls in the queue."""
        return len(self._queue)

    @property
    def _rate(self) -> float:
        return min(self._ceiling, self._learned.value or math.inf)

    def set_limit(self, per_second: float | None) -> None:
        """Set the Connection's rate limit; a learned one can only be lower."""
        self._ceiling = per_second or math.inf

    def place(self, now: float, slack: float = 0.0) -> Place:
        """Return a place for a call that is due now and may be sent up to `slack` seconds late."""
        return now + slack, next(self._numbers)

    def turn(self, place: Place, now: float) -> float:
        """Return 0.0 if a call may be sent now; else queue it, and return the seconds until it should ask again."""
        index = bisect_left(self._queue, place)
        waited = index < len(self._queue) and self._queue[index] == place
        first = max(self._next_turn, self._paused_until, now - _LATE if waited else now)
        wait = first + index / self._rate - now
        if wait > _INSTANT:
            if not waited:
                self._queue.insert(index, place)
            return self._sleep(wait, index)
        if waited:
            del self._queue[index]
            self._learned.rise()
        self._learned.turns += 1
        self._next_turn = first + 1 / self._rate
        return 0.0

    def leave(self, place: Place) -> None:
        """Take a call that is no longer to be sent out of the queue."""
        index = bisect_left(self._queue, place)
        if index < len(self._queue) and self._queue[index] == place:
            del self._queue[index]

    def pause(self, now: float) -> float:
        """Return the seconds for which the service has asked everybody to wait."""
        return max(0.0, self._paused_until - now)

    def delay(self, now: float) -> float:
        """Return the seconds until the next turn, whosever it is."""
        return max(self.pause(now), self._next_turn - now)

    def accepted(self, now: float) -> None:
        """Count a request that was carried out."""
        self._learned.answered(now, accepted=True)

    def too_many_requests(self, retry_after: float | None, cuts: int, now: float, jitter: float) -> None:
        """
        Lower the rate after a 429, and begin the pause that it asks for.

        :param cuts: the value of `cuts` at the request's turn: a 429 to an earlier one says nothing about the rate.
        """
        self._learned.answered(now, accepted=False)
        pause = min(retry_after or 0.0, _LONGEST_PAUSE)
        if cuts == self.cuts:
            self._news = self._learned.fall(self._ceiling, pause, now) or self._news
            self.cuts += 1
        if pause >= _LOGGED_PAUSE and now >= self._paused_until:
            self._news = f"The service asks for a pause of {pause:.0f} s (HTTP 429)."
        self._paused_until = max(self._paused_until, now + pause)
        # Other processes may have been refused at the same time.
        self._next_turn = max(self._next_turn, now + pause + (jitter if pause else 1 + jitter) / self._rate)

    def news(self) -> str | None:
        """Return what is to be logged, once."""
        news, self._news = self._news, None
        return news

    def _sleep(self, wait: float, index: int) -> float:
        """Return a wait; if the rate may rise meanwhile, less than that."""
        if self._learned.value is None:
            return wait
        queued = index / self._rate
        hoped = 1.25 * min(self._ceiling, max(self._learned.value, self._learned.refused))
        return max(wait - queued, 0.0) + min(max(index / hoped, min(wait, queued, _LATE)), _LONGEST_SLEEP)
