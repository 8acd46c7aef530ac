# SPDX-License-Identifier: Apache-2.0
"""When a task's wait ends, as an instant that holds across processes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_provider_segments.api.errors import ConfigurationError
from airflow_provider_segments.utils.clock import utcnow

#: Seconds. Longer waits make no sense, and would leave datetime's range.
LONGEST = 10 * 366 * 86400.0

# Airflow's own timeout has no message, so it comes this much after the trigger's.
_MARGIN = timedelta(minutes=2)


@dataclass(frozen=True)
class Deadline:
    instant: datetime
    name: str

    @property
    def seconds_left(self) -> float:
        return max((self.instant - utcnow()).total_seconds(), 1e-3)  # poll_until refuses 0

    def deferral_timeout(self) -> timedelta:
        return timedelta(seconds=self.seconds_left) + _MARGIN


def deadline_of(context: Any, timeout: timedelta | float, execution_timeout: timedelta | None) -> Deadline:
    """Return the earlier of the two ends that `timeout` and `execution_timeout` set."""
    now = utcnow()
    ends = [Deadline(now + timedelta(seconds=in_seconds("timeout", timeout)), "timeout")]
    if execution_timeout is not None:
        started = getattr(context["ti"], "start_date", None) or now
        longest = timedelta(seconds=LONGEST)
        ends.append(Deadline(started + min(execution_timeout, longest), "execution_timeout"))
    return min(ends, key=lambda end: end.instant)


def in_seconds(name: str, value: Any) -> float:
    """Return a duration in seconds, or raise ConfigurationError if it is not above 0 or is over ten years."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST:
        raise ConfigurationError(
            f"{name} is {value!r}, but it has to be a timedelta or a number of seconds above 0 "
            "and at most ten years."
        )
    return float(seconds)


def checked_instant(name: str, value: Any) -> datetime | None:
    """Return an instant, given as ISO 8601, or None; without a time zone, it is UTC."""
    if value is None:
        return None
    try:
        instant = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise ConfigurationError(f"{name} is {value!r}, but it has to be a time in ISO 8601.") from None
    return instant if instant.tzinfo else instant.replace(tzinfo=timezone.utc)


def checked_poll_interval(poll_interval: Any) -> float | None:
    """Return a fixed poll interval in seconds, or None for the adaptive schedule."""
    return None if poll_interval is None else in_seconds("poll_interval", poll_interval)
