# SPDX-License-Identifier: Apache-2.0
"""
Random histories of one task against the pacing and take-up logic.

The operator, the trigger and both hooks are the real ones; the service, the clock and death are simulated, so that
hours pass in no time. Chance decides each answer, each kill and each jump of the wall clock.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, TaskDeferred
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_segments.api.calls import Call, Reply
from airflow_provider_segments.api.errors import NoAnswerError, NotSentError
from airflow_provider_segments.api.reattach import RETENTION
from airflow_provider_segments.api.throttle import Throttle
from airflow_provider_segments.connection.settings import read_settings
from airflow_provider_segments.hooks.user_segments import UserSegmentsAsyncHook, UserSegmentsHook
from airflow_provider_segments.operators.user_segments import UserSegmentExportOperator
from airflow_provider_segments.triggers.user_segments import UserSegmentExportTrigger
from airflow_provider_segments.utils.clock import Clock
from tests.support import FakeStore, FakeTaskInstance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from random import Random

    from airflow_provider_segments.api.flow import Send

SETTINGS = read_settings(
    SimpleNamespace(conn_id="c", host=None, port=None, schema=None, login="k", password="t", extra=None)  # type: ignore[arg-type]
)
ANSWERS = ["ok"] * 8 + [
    "429",
    "429 after",
    "500",
    "503",
    "401",
    "html",
    "cut before",
    "cut after",
    "not sent",
]
TOLERANCE = 3.0  # simulated requests take up to a second


class Killed(BaseException):
    """The process dies."""


class World(Clock):
    """The service, the clocks and chance; it also holds what must never happen against what happens."""

    def __init__(self, chance: Random, *, mortal: bool, fixed: float | None) -> None:
        self.chance, self.mortal, self.fixed = chance, mortal, fixed
        self.wall, self.mono = 1.8e9, 1000.0
        self.store = FakeStore()
        self.ends: dict[str, float] = {}
        self.bad: set[str] = set()
        self.not_before = 0.0
        self.early_only_after = float("inf")
        self.polls = 0

    # The clock

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.mono

    def jitter(self) -> float:
        return self.chance.random()

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.mono += seconds
        self.wall += seconds
        if self.chance.random() < 0.02:
            self.wall += self.chance.uniform(-6, 6) * 3600
        if self.mortal and self.chance.random() < 0.05:
            raise Killed

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.wall, timezone.utc)

    def new_life(self, deadline: float) -> None:
        """A process begins: it knows of no earlier answer but what it was handed."""
        self.not_before = 0.0
        self.early_only_after = deadline

    # The service

    def pending(self, export_id: str) -> bool:
        return self.mono < self.ends[export_id]

    def send(self, call: Call[Any], timeout: float) -> Reply:
        if self.mono < self.not_before - 1e-6:
            assert self.mono >= self.early_only_after - TOLERANCE, "asked earlier than allowed"
        self.sleep_through(min(timeout, self.chance.random()))
        answer = self.chance.choice(ANSWERS)
        if call.method == "POST":
            return self.post(call, answer)
        self.polls += 1
        return self.get(call, answer)

    def sleep_through(self, seconds: float) -> None:
        self.mono += seconds
        self.wall += seconds

    def post(self, call: Call[Any], answer: str) -> Reply:
        kept = self.store.values.get("user_segment_export")
        if answer in ("ok", "html", "cut after"):
            if (
                kept
                and "export_id" in kept
                and self.now() - datetime.fromisoformat(kept["requested_at"]) <= RETENTION
            ):
                assert not self.pending(kept["export_id"]), "requested again while the first is pending"
            export_id = f"export-{len(self.ends)}"
            self.ends[export_id] = self.mono + self.chance.choice([0, 2, 20, 200, 2000, 20000, 1e9])
            if self.chance.random() < 0.2:
                self.bad.add(export_id)
            if answer == "ok":
                return self.export(export_id)
        return self.trouble(answer, call)

    def get(self, call: Call[Any], answer: str) -> Reply:
        if answer != "ok":
            return self.trouble(answer, call)
        return self.export(call.path.rpartition("/")[2])

    def export(self, export_id: str) -> Reply:
        status = "PENDING" if self.pending(export_id) else "FAILED" if export_id in self.bad else "COMPLETE"
        self.not_before = (
            self.mono + (0.9 if self.fixed is None else self.fixed) if status == "PENDING" else 0.0
        )
        body = {
            "exportId": export_id,
            "segment": {"segmentId": "s", "name": "n"},
            "status": status,
            "startTime": self.now().isoformat(),
            "endTime": None if status == "PENDING" else self.now().isoformat(),
            "filename": f"s3://b/{export_id}" if status == "COMPLETE" else None,
        }
        return Reply(200, {}, json.dumps(body).encode())

    def trouble(self, answer: str, call: Call[Any]) -> Reply:
        self.not_before = self.mono
        if answer in ("cut before", "cut after"):
            raise NoAnswerError(f"{call.what}: cut")
        if answer == "not sent":
            raise NotSentError(f"{call.what}: not sent")
        if answer == "html":
            return Reply(200, {}, b"<html>")
        if answer == "429 after":
            seconds = self.chance.choice([1, 10, 100, 1000])
            self.not_before = self.mono + seconds
            return Reply(429, {"Retry-After": str(seconds)}, b"")
        if answer == "500":
            self.not_before = self.mono + 60
        return Reply(int(answer), {}, b"")

    # The clients of a worker and of the triggerer

    def worker_client(self, conn_id: str) -> Any:
        return SimpleNamespace(
            throttle=Throttle(),
            max_retries=SETTINGS.max_retries,
            secrets=(),
            connect=lambda read_after, now: None,
            send=lambda step: self.send(step.call, step.timeout),
            close=lambda: None,
        )

    @asynccontextmanager
    async def shared_client(self, conn_id: str) -> AsyncIterator[Any]:
        client = self.worker_client(conn_id)

        async def connect(read_after: float, now: float) -> None: ...

        async def send(step: Send) -> Reply:
            return self.send(step.call, min(step.timeout, 30.0))

        client.connect, client.send = connect, send
        yield client


class MortalTaskInstance(FakeTaskInstance):
    """Pushing an XCom is where a process can die right after the export's id was kept."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self.start_date = world.now()
        self.pushed_at: float | None = None

    def xcom_push(self, key: str, value: Any) -> None:
        super().xcom_push(key, value)
        self.pushed_at = self._world.mono
        if self._world.mortal and self._world.chance.random() < 0.1:
            raise Killed


def one_try(world: World, made: UserSegmentExportOperator, timeout: float) -> dict[str, Any] | None:
    """Run a try to its end, over all restarts of the triggerer; None if it failed or died."""
    world.new_life(world.mono + timeout)
    where: Any = {"ti": MortalTaskInstance(world), "task_state_store": world.store}
    try:
        return made.execute(where)
    except TaskDeferred as deferral:
        arguments = json.loads(json.dumps(deferral.trigger.serialize()[1]))
        event = wait_in_triggerer(world, arguments)
        return finished(made, where, event, arguments["export_id"])
    except (AirflowException, Killed):
        return None
    finally:
        if not made.deferrable and where["ti"].pushed_at is not None:
            assert world.mono <= where["ti"].pushed_at + timeout + TOLERANCE, "later than the deadline"


def finished(
    made: UserSegmentExportOperator, where: Any, event: Any, export_id: str
) -> dict[str, Any] | None:
    try:
        return made.execute_complete(where, event, export_id)
    except (AirflowException, Killed):
        return None


def wait_in_triggerer(world: World, arguments: dict[str, Any]) -> Any:
    """Run the trigger, again after each death, and see that each life ends by the deadline."""
    deadline = datetime.fromisoformat(arguments["deadline"]).timestamp()
    while True:
        left = max(deadline - world.wall, 1.0)
        ends_by = world.mono + left
        handed_over = arguments["not_before"]
        world.new_life(ends_by)
        if handed_over:
            world.not_before = world.mono + datetime.fromisoformat(handed_over).timestamp() - world.wall

        async def first_event() -> Any:
            async for event in UserSegmentExportTrigger(**arguments).run():
                return event.payload
            return None

        try:
            return asyncio.run(first_event())
        except Killed:
            world.mono += 10
            world.wall += 10
        finally:
            assert world.mono <= ends_by + TOLERANCE + 10, "later than the deadline"


@settings(max_examples=500)
@given(
    chance=st.randoms(use_true_random=False),
    deferrable=st.booleans(),
    mortal=st.booleans(),
    fixed=st.sampled_from([None, None, 5.0, 100.0]),
    timeout=st.sampled_from([30.0, 600.0, 36000.0]),
    defer_after=st.sampled_from([0.0, 4.0, 100.0]),
)
def test_histories(
    chance: Random, deferrable: bool, mortal: bool, fixed: float | None, timeout: float, defer_after: float
) -> None:
    """Never requested again while the first is pending, never asked too early, always ended by the deadline."""
    world = World(chance, mortal=mortal, fixed=fixed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.root.manager, "disable", logging.CRITICAL)  # tens of thousands of lines
        patch.setattr("airflow_provider_segments.hooks.user_segments.WorkerClient", world.worker_client)
        patch.setattr(
            "airflow_provider_segments.hooks.user_segments_async.shared_client", world.shared_client
        )
        patch.setattr(UserSegmentsHook, "clock", world)
        patch.setattr(UserSegmentsAsyncHook, "clock", world)
        for module in (
            "utils.deadline",
            "operators.waiting",
            "operators.reattach",
            "triggers.user_segments",
        ):
            patch.setattr(f"airflow_provider_segments.{module}.utcnow", world.now)
        for _ in range(6):
            made = UserSegmentExportOperator(
                task_id="export",
                segment_id="s",
                deferrable=deferrable,
                poll_interval=fixed,
                timeout=timeout,
                defer_after=defer_after,
            )
            if (result := one_try(world, made, timeout)) is not None:
                assert not world.pending(result["export_id"])
                assert result["export_id"] not in world.bad
                break
            world.sleep_through(chance.choice([0, 1, 300]))
