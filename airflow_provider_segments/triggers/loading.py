# SPDX-License-Identifier: Apache-2.0
"""Import the hook without blocking the event loop: the triggerer itself imports only the triggers."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_segments.hooks.user_segments import UserSegmentsAsyncHook


async def load_hook(mparticle_conn_id: str) -> UserSegmentsAsyncHook:
    """Return a hook; importing it, with requests, takes some 0.2 s the first time."""
    if not _hook_class.cache_info().currsize:
        await asyncio.to_thread(_hook_class)
    return _hook_class()(mparticle_conn_id)


@cache
def _hook_class() -> type[UserSegmentsAsyncHook]:
    from airflow_provider_segments.hooks.user_segments import UserSegmentsAsyncHook

    return UserSegmentsAsyncHook
