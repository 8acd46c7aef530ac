# SPDX-License-Identifier: Apache-2.0
"""One client for all waits of a process on one Connection."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_segments.api import flow
from airflow_provider_segments.api.errors import ConfigurationError, RefusedError
from airflow_provider_segments.connection import lookup
from airflow_provider_segments.emulator import Emulator, Fault, FaultKind
from airflow_provider_segments.hooks.user_segments import UserSegmentsAsyncHook, UserSegmentsHook
from airflow_provider_segments.transports import pool
from airflow_provider_segments.transports.aiohttp import AiohttpTransport
from airflow_provider_segments.transports.pool import shared_client
from airflow_provider_segments.utils.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable

CONN_ID = "mparticle_analytics_default"


class OrderedClock(Clock):
    """An hour takes a few seconds; writes down who was to sleep how long."""

    def __init__(self) -> None:
        self.sleeps: list[float] = []
        self.now = 1000.0

    def jitter(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return self.now

    async def asleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        end = self.now + seconds
        await asyncio.sleep(seconds / 1000)
        self.now = max(self.now, end)


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The Connections that are looked up."""
    found: list[str] = []
    real = lookup.get_async_connection

    async def counted(conn_id: str) -> Any:
        found.append(conn_id)
        return await real(conn_id)

    monkeypatch.setattr(lookup, "get_async_connection", counted)
    return found


async def test_one_look_up_and_one_client(connected: Emulator, looked_up: list[str]) -> None:
    """However many begin at once, the Connection is read once."""
    async with UserSegmentsAsyncHook():
        await asyncio.gather(*(UserSegmentsAsyncHook().list_segments() for _ in range(200)))
    assert looked_up == [CONN_ID]
    assert connected.connections <= 32


async def test_wait_for_a_connection_ends_with_the_deadline(
    connected: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When others hold all connections, the last poll says so instead of waiting for ever."""
    monkeypatch.setattr(pool, "POOL_SIZE", 1)
    monkeypatch.setattr(flow, "MIN_SEND_TIMEOUT", 0.1)
    export_id = UserSegmentsHook().request_export(connected.segments[0].segment_id).export_id
    async with UserSegmentsAsyncHook(), shared_client(CONN_ID)._connections:
        poll = await UserSegmentsAsyncHook().poll_until(export_id, 0.1)
    assert "all 1 connections of this process were busy" in poll.reason
    assert [request.route for request in connected.requests] == ["export"]


async def test_client_is_closed_with_its_last_user(connected: Emulator) -> None:
    """The first to leave closes nothing, the last everything; whoever comes then gets a new one."""
    async with UserSegmentsAsyncHook():
        async with UserSegmentsAsyncHook():
            await UserSegmentsAsyncHook().list_segments()
        first = shared_client(CONN_ID)
        await UserSegmentsAsyncHook().list_segments()
        assert shared_client(CONN_ID) is first
        assert connected.connections == 1
    assert pool._clients[asyncio.get_running_loop()] == {}
    assert len(await UserSegmentsAsyncHook().list_segments()) == 3
    assert connected.connections == 2


async def test_cancelled_waits_leave_nothing(connected: Emulator) -> None:
    """A triggerer cancels waits at any point; the others go on, and the last still closes."""
    connected.inject(Fault(FaultKind.NEVER, on="export"))
    export_id = UserSegmentsHook().request_export(connected.segments[0].segment_id).export_id
    waits = [asyncio.create_task(UserSegmentsAsyncHook().wait_for_export(export_id)) for _ in range(50)]
    for number, wait in enumerate(waits[:-1]):
        if number % 3 == 0:
            await asyncio.sleep(0)
        wait.cancel()
    done = await asyncio.gather(*waits[:-1], return_exceptions=True)
    assert {type(outcome) for outcome in done} == {asyncio.CancelledError}
    assert (await UserSegmentsAsyncHook().get_export(export_id)).status == "PENDING"
    waits[-1].cancel()
    await asyncio.gather(waits[-1], return_exceptions=True)
    assert pool._clients[asyncio.get_running_loop()] == {}


def test_each_event_loop_has_its_own(connected: Emulator) -> None:
    """A session belongs to the loop it was made on."""
    found: list[int] = []

    def work() -> None:
        found.append(len(asyncio.run(UserSegmentsAsyncHook().list_segments())))

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [3] * 5
    assert asyncio.run(UserSegmentsAsyncHook().list_segments())


@pytest.fixture
def ordered_clock(monkeypatch: pytest.MonkeyPatch) -> OrderedClock:
    """The clock of all asynchronous hooks."""
    clock = OrderedClock()
    monkeypatch.setattr(UserSegmentsAsyncHook, "clock", clock)
    return clock


async def test_429_pauses_all_calls_of_the_client(connected: Emulator, ordered_clock: OrderedClock) -> None:
    """One is refused; the others, who were not, wait as well."""
    connected.inject(Fault(FaultKind.TOO_MANY_REQUESTS, on="list", retry_after="301"))
    async with UserSegmentsAsyncHook() as hook:
        with pytest.raises(RefusedError):
            await hook.list_segments()
        assert ordered_clock.sleeps == []
        waiting = asyncio.create_task(hook.poll_until("e", 1000))
        while not ordered_clock.sleeps:  # noqa: ASYNC110 - a list has no event
            await asyncio.sleep(0)
        waiting.cancel()
    assert ordered_clock.sleeps[0] == pytest.approx(301, abs=0.1)
    assert len(connected.requests) == 1


async def test_rate_limit_is_first_come_first_served(
    connected: Emulator, connect: Callable[..., None], ordered_clock: OrderedClock
) -> None:
    """One slot after the other."""
    connect(connected, extra={"max_requests_per_second": 100})
    async with UserSegmentsAsyncHook() as hook:
        await asyncio.gather(*(hook.list_segments() for _ in range(30)))
    assert ordered_clock.now == pytest.approx(1000.29)
    assert len(connected.requests) == 30


async def test_a_connection_that_is_wrong(connected: Emulator, connect: Callable[..., None]) -> None:
    """Each of many waits gets the error; nothing is left open."""
    connect(connected, password="")
    outcomes = await asyncio.gather(
        *(UserSegmentsAsyncHook().list_segments() for _ in range(20)), return_exceptions=True
    )
    assert {type(outcome) for outcome in outcomes} == {ConfigurationError}
    assert pool._clients[asyncio.get_running_loop()] == {}


async def test_rotation_reads_the_connection_once_for_all(
    connected: Emulator, connect: Callable[..., None], looked_up: list[str]
) -> None:
    """A hundred waits that are refused together look the Connection up once more, not a hundred times."""
    connect(connected, password="old")
    async with UserSegmentsAsyncHook() as hook:
        await shared_client(CONN_ID).connect(0.0, 1.0)
        connect(connected)
        found = await asyncio.gather(*(hook.list_segments() for _ in range(100)))
    assert {len(segments) for segments in found} == {3}
    assert looked_up == [CONN_ID] * 2


async def test_credentials_that_stay_wrong_are_read_once_more_for_all(
    connected: Emulator, connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing has changed, so nothing is opened anew."""
    opened: list[object] = []
    real = AiohttpTransport.open

    async def counted(settings: Any) -> AiohttpTransport:
        opened.append(settings)
        return await real(settings)

    monkeypatch.setattr(AiohttpTransport, "open", counted)
    connect(connected, password="wrong")
    async with UserSegmentsAsyncHook():
        outcomes = await asyncio.gather(
            *(UserSegmentsAsyncHook().list_segments() for _ in range(50)), return_exceptions=True
        )
    assert {type(outcome) for outcome in outcomes} == {RefusedError}
    assert len(opened) == 1


async def test_credentials_saved_after_a_refusal(
    connected: Emulator, connect: Callable[..., None], looked_up: list[str]
) -> None:
    """A wait that is refused later finds them, although another has looked in vain before."""
    connect(connected, password="revoked")
    async with UserSegmentsAsyncHook():
        client = shared_client(CONN_ID)
        await client.connect(0.0, 1.0)
        await client.connect(1.0, 2.0)
        connect(connected)
        await client.connect(9.0, 10.0)
        assert looked_up == [CONN_ID] * 3
        assert "emulator-token" in client.secrets


async def test_a_long_pause_is_not_kept_by_a_short_call(connected: Emulator) -> None:
    """A call without a deadline ends with the 429 it was paused by."""
    connected.inject(Fault(FaultKind.TOO_MANY_REQUESTS, on="list", retry_after="1000"))
    async with UserSegmentsAsyncHook():
        for _ in range(2):
            with pytest.raises(RefusedError):
                await UserSegmentsAsyncHook().list_segments()
    assert len(connected.requests) == 1
