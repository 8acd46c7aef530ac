# SPDX-License-Identifier: Apache-2.0
"""One poll of the list of segments, for triggers that must not end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_segments.api.errors import UserSegmentsError

if TYPE_CHECKING:
    from airflow_provider_segments.api.models import UserSegment
    from airflow_provider_segments.hooks.user_segments import UserSegmentsAsyncHook

# Seconds: after what ends a poll (credentials, the fifth 500 in a row), however short the interval.
_AFTER_A_FAILURE = 60.0


async def poll(
    hook: UserSegmentsAsyncHook, poll_interval: float, log: Any
) -> tuple[list[UserSegment] | None, float]:
    """
    Return all segments, or None if the poll failed, and the seconds until the next poll.

    Outages and 429s don't end a poll. Nothing is raised: Airflow would start the trigger of an asset again at once, and
    for ever.
    """
    pause = max(poll_interval, _AFTER_A_FAILURE)
    try:
        return await hook.list_segments(unlimited_retries=True), poll_interval
    except UserSegmentsError as error:
        log.warning("The watched segments can't be polled: %s Polling again in %.0f s.", error, pause)
    except Exception:
        log.exception("The watched segments can't be polled. Polling again in %.0f s.", pause)
    return None, pause
