# SPDX-License-Identifier: Apache-2.0
"""One poll of the list of segments, for those who must not end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_segments.api.errors import UserSegmentsError

if TYPE_CHECKING:
    from airflow_provider_segments.api.models import UserSegment
    from airflow_provider_segments.hooks.user_segments import UserSegmentsAsyncHook

__all__ = ["poll"]

# Seconds: what ended a poll (credentials, the fifth 500 in a row) is not to be met more often, however short
# the interval.
_AFTER_A_FAILURE = 60.0


async def poll(
    hook: UserSegmentsAsyncHook, poll_interval: float, log: Any
) -> tuple[list[UserSegment] | None, float]:
    """
    Return all segments, or None if they could not be had, and the seconds until the next poll.

    Outages and 429s are sat out. Nothing is raised: Airflow starts an asset's trigger that ends again at once,
    and for ever.

    :param hook: an open one.
    :param poll_interval: seconds between two polls.
    :param log: where a failure is told.
    """
    pause = max(poll_interval, _AFTER_A_FAILURE)
    try:
        return await hook.list_segments(unlimited_retries=True), poll_interval
    except UserSegmentsError as error:
        log.warning("The watched segments can't be looked at: %s Looking again in %.0f s.", error, pause)
    except Exception:
        log.exception("The watched segments can't be looked at. Looking again in %.0f s.", pause)
    return None, pause
