# SPDX-License-Identifier: Apache-2.0
"""What tests of several places share."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from http.server import HTTPServer
from threading import Thread
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_segments.hooks.user_segments import UserSegmentsAsyncHook, UserSegmentsHook
from airflow_provider_segments.utils.clock import Clock

try:
    from airflow.sdk.execution_time.context import OutletEventAccessors
except ImportError:
    from airflow.utils.context import OutletEventAccessors  # type: ignore[no-redef]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_segments.api.models import SegmentExport, UserSegment


Server = TypeVar("Server", bound=HTTPServer)


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Let a server answer on a thread of its own while the context lasts."""
    with server:
        # By default it looks every half second whether it shall end.
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@contextmanager
def answering(*parts: bytes, pause: float = 0.0) -> Iterator[str]:
    """Serve the same bytes on each connection, with a pause before each part but the first; yield the URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                while connection.recv(65536):
                    for number, part in enumerate(parts):
                        time.sleep(pause if number else 0)
                        connection.sendall(part)

        def serve() -> None:
            with suppress(OSError):
                while True:
                    Thread(target=answer, args=(server.accept()[0],), daemon=True).start()

        Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


class FakeClock(Clock):
    """Sleeping moves the hands, and is written down."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.sleeps: list[float] = []
        self.on_sleep: Callable[[], Any] = lambda: None

    def time(self) -> float:
        return super().time() + self.ahead

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.sleeps.append(seconds)
        self.ahead += seconds
        self.on_sleep()

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)
        await asyncio.sleep(0)


class OnRequests:
    """The calls both hooks have, on requests."""

    def __init__(self, clock: Clock) -> None:
        self.hook = UserSegmentsHook()
        self.hook._log = logging.getLogger("tests")  # where a test can read it on each Airflow
        self.hook.clock = clock

    def list_segments(self) -> list[UserSegment]:
        return self.hook.list_segments()

    def get_export(self, export_id: str) -> SegmentExport:
        return self.hook.get_export(export_id)

    def wait(
        self, export_id: str, timeout: float = 86400, poll_interval: float | None = None
    ) -> SegmentExport:
        return self.hook.wait_for_export(export_id, timeout, poll_interval)


class OnAiohttp:
    """The same calls, on aiohttp."""

    def __init__(self, clock: Clock) -> None:
        self.hook = UserSegmentsAsyncHook()
        self.hook.clock = clock

    def list_segments(self) -> list[UserSegment]:
        return asyncio.run(self.hook.list_segments())

    def get_export(self, export_id: str) -> SegmentExport:
        return asyncio.run(self.hook.get_export(export_id))

    def wait(
        self, export_id: str, timeout: float = 86400, poll_interval: float | None = None
    ) -> SegmentExport:
        return asyncio.run(self.hook.wait_for_export(export_id, timeout, poll_interval))


Client = OnRequests | OnAiohttp


class FakeTaskInstance:
    """What operators use of a task instance."""

    def __init__(self, max_tries: int = 2) -> None:
        self.max_tries = max_tries
        self.start_date = datetime.now(timezone.utc)
        self.dag_id, self.task_id, self.run_id, self.map_index, self.try_number = "dag", "task", "run", -1, 1
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value

    def xcom_pull(self, task_ids: str, key: str, map_indexes: int) -> Any:
        return self.pushed.get(key)


class FakeStore:
    """A task state store that lives as long as the test."""

    def __init__(self, **values: Any) -> None:
        self.values = values
        self.retention: Any = None

    def get(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        self.values[key] = json.loads(json.dumps(value))
        self.retention = retention


class BrokenStore:
    """A task state store whose backend is away."""

    def get(self, key: str, default: Any = None) -> Any:
        raise RuntimeError("the store is away")

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        raise RuntimeError("the store is away")


class StoreOfAGoneTask:
    """The store of a try that Airflow has given up: reading finds nothing, writing is refused."""

    class NotFound(Exception):
        error = SimpleNamespace(detail={"status_code": 404})

    def get(self, key: str, default: Any = None) -> Any:
        return default

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        raise self.NotFound("Task instance not found")


def context(store: Any = None, max_tries: int = 2) -> Any:
    """Return what a task's context has that operators use."""
    found: dict[str, Any] = {"ti": FakeTaskInstance(max_tries), "map_index_template": None}
    return found if store is None else found | {"task_state_store": store}


def outlet_events() -> Any:
    """Return what a context has for the events of a task's outlets."""
    return OutletEventAccessors()


def alias_events(accessor: Any) -> list[Any]:
    """Return the events that were added to an alias, each with its ``extra``."""
    if hasattr(accessor, "asset_alias_events"):
        found: list[Any] = accessor.asset_alias_events
        return found
    return [SimpleNamespace(**event) for event in accessor.dataset_alias_events]
