# SPDX-License-Identifier: Apache-2.0
"""
A triggerer that dies right after an event is yielded, or right after Airflow has stored it.

It does so once, when the file that ``DIE`` names holds which.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_segments.triggers.segment_refresh import UserSegmentRefreshTrigger
from airflow_provider_segments.triggers.watch import Memory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_segments.triggers.watch import Seen


def die_if_told(when: str) -> None:
    """Kill the whole triggerer, supervisor included."""
    told = Path(os.environ["DIE"])
    if told.exists() and told.read_text() == when:
        told.unlink()
        os.killpg(0, signal.SIGKILL)


class DiesBeforeItIsStored(UserSegmentRefreshTrigger):
    """Airflow's runner has taken the event, but not handed it on to where it is stored."""

    def shared_stream_key(self) -> Any:
        return UserSegmentRefreshTrigger(**self.serialize()[1]).shared_stream_key()

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for event in super().filter_shared_stream(shared_stream):
            yield event
            die_if_told("before")


_keep = Memory.keep


async def _keep_or_die(self: Memory, seen: Seen | None) -> None:
    """Airflow has stored the event, but the memory does not know it."""
    if seen != self._kept:
        die_if_told("after")
    await _keep(self, seen)


Memory.keep = _keep_or_die  # type: ignore[method-assign]
