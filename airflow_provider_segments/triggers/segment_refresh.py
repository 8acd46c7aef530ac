# SPDX-License-Identifier: Apache-2.0
"""A trigger that starts DAGs when a segment is refreshed."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowOptionalProviderFeatureException
from airflow.providers.common.compat.triggers import BaseEventTrigger
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS
from airflow.triggers.base import TriggerEvent

from airflow_provider_segments.api.errors import ConfigurationError
from airflow_provider_segments.connection.settings import DEFAULT_CONN_ID
from airflow_provider_segments.triggers.loading import load_hook
from airflow_provider_segments.triggers.watch import Memory, Seen, Watch, poll_segments
from airflow_provider_segments.utils.deadline import in_seconds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable
    from datetime import timedelta

    from airflow_provider_segments.triggers.shared_polls import ListPoll, SharedPolls

__all__ = ["UserSegmentRefreshTrigger"]


class UserSegmentRefreshTrigger(BaseEventTrigger):
    """
    Emit an asset event each time a Dynamic segment is refreshed; for an ``AssetWatcher`` of Airflow 3.

    The event's payload has ``segment_id``, ``segment_name``, ``previous_last_run`` (None if there was none) and
    ``last_run``, times as ISO 8601 in UTC. The first poll ever emits none. The trigger
    never ends: it logs errors and keeps polling.

    :param segment_id: the segment's id. Give either this or the name.
    :param segment_name: the segment's exact name.
    :param mparticle_conn_id: the Connection; credentials are read from it in the triggerer.
    :param poll_interval: seconds between two polls, or a timedelta. From Airflow 3.3 on, watchers of one Connection
        with the same interval share each poll.
    :raises ConfigurationError: the arguments are wrong.
    :raises AirflowOptionalProviderFeatureException: this is Airflow 2.
    """

    def __init__(
        self,
        segment_id: str | None = None,
        segment_name: str | None = None,
        mparticle_conn_id: str = DEFAULT_CONN_ID,
        poll_interval: timedelta | float = 300,
    ) -> None:
        if not AIRFLOW_V_3_0_PLUS:
            raise AirflowOptionalProviderFeatureException(
                "UserSegmentRefreshTrigger needs Airflow 3.0 or later: Airflow 2 has no asset watchers."
            )
        super().__init__()  # type: ignore[no-untyped-call]
        _check(segment_id, segment_name, mparticle_conn_id)
        self.segment_id = segment_id
        self.segment_name = segment_name
        self.mparticle_conn_id = mparticle_conn_id
        self.poll_interval = in_seconds("poll_interval", poll_interval)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, plain JSON without any secret."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "segment_id": self.segment_id,
            "segment_name": self.segment_name,
            "mparticle_conn_id": self.mparticle_conn_id,
            "poll_interval": self.poll_interval,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll alone and without memory, which is all that Airflow below 3.3 can do."""
        watch = self._watch(None)
        async with await load_hook(self.mparticle_conn_id) as hook:
            while True:
                segments, pause = await poll_segments(hook, self.poll_interval, self.log)
                if segments is not None and (event := watch.update(segments)):
                    yield TriggerEvent(event)
                await asyncio.sleep(pause)

    def shared_stream_key(self) -> Hashable:
        """Return the key under which watchers share polls."""
        return self.serialize()[0], self.mparticle_conn_id, self.poll_interval

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedPolls:
        """Return the producer for all watchers that share the key; `kwargs` are one watcher's."""
        from airflow_provider_segments.triggers.shared_polls import SharedPolls

        one = cls(**kwargs)
        return SharedPolls(one.shared_stream_key(), one.mparticle_conn_id, one.poll_interval)

    async def filter_shared_stream(
        self, shared_stream: AsyncIterator[ListPoll]
    ) -> AsyncIterator[TriggerEvent]:
        """Emit events from the shared polls."""
        from airflow_provider_segments.triggers.shared_polls import join

        join(self.shared_stream_key())
        memory = Memory(
            self.asset_state_store, [self.mparticle_conn_id, self.segment_id, self.segment_name], self.log
        )
        watch: Watch | None = None
        latest: ListPoll | None = None
        async for poll in shared_stream:
            try:
                watch = watch or self._watch(await memory.recall())
            except Exception as error:  # noqa: BLE001 - without its memory this poll would be the first
                self.log.warning("The asset state store can't be read; the next poll tries again: %s", error)
                continue
            event = watch.update(poll.segments)
            # Keep nothing while an earlier event may not be stored: this poll may be settled although that one failed.
            if event or (not memory.knows(watch.seen) and (latest is None or latest.settled)):
                poll.when_stored.append(partial(memory.keep, watch.seen))
                latest = poll
            if event:
                yield TriggerEvent(event)

    def _watch(self, seen: Seen | None) -> Watch:
        return Watch(self.segment_id, self.segment_name, seen, self.log)


def _check(segment_id: Any, segment_name: Any, mparticle_conn_id: Any) -> None:
    if (segment_id is None) == (segment_name is None):
        raise ConfigurationError("Give UserSegmentRefreshTrigger exactly one of segment_id and segment_name.")
    given = {"segment_id": segment_id, "segment_name": segment_name, "mparticle_conn_id": mparticle_conn_id}
    for name, value in given.items():
        if value is not None and (not isinstance(value, str) or not value.strip()):
            raise ConfigurationError(
                f"UserSegmentRefreshTrigger: {name} is {value!r}, but it has to be text that is not empty. The output "
                "of a task can't be watched."
            )
