# SPDX-License-Identifier: Apache-2.0
"""Watching segments: what makes an event, and what is remembered; against the emulator and Airflow's own runner."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowOptionalProviderFeatureException
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_3_PLUS

from airflow_provider_segments.api.errors import ConfigurationError
from airflow_provider_segments.api.models import UserSegment
from airflow_provider_segments.emulator import EmulatedSegment, Emulator, Fault, FaultKind
from airflow_provider_segments.triggers import watch as watching
from airflow_provider_segments.triggers.segment_refresh import UserSegmentRefreshTrigger
from airflow_provider_segments.triggers.watch import Seen, Watch

if TYPE_CHECKING:
    from collections.abc import Iterator

needs_3_0 = pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow 2 has no asset watchers")
needs_3_3 = pytest.mark.skipif(
    not AIRFLOW_V_3_3_PLUS, reason="shared streams and the asset state store came with Airflow 3.3"
)
if AIRFLOW_V_3_3_PLUS:
    from airflow_provider_segments.triggers import shared_polls
    from tests.triggers.runner import Database, triggerer

DAWN = datetime(2026, 1, 1, tzinfo=timezone.utc)
# Seconds: there is no second poll within a test.
LONG, SHORT = 10_000, 0.05


def segment(
    name: str = "A", hours: float | None = 0, segment_id: str = "a", kind: str = "Dynamic"
) -> UserSegment:
    last_run = None if hours is None else DAWN + timedelta(hours=hours)
    return UserSegment(segment_id=segment_id, name=name, last_run=last_run, segment_type=kind)


class TestArguments:
    """What can be known when the DAG is parsed is refused there."""

    @pytest.mark.skipif(AIRFLOW_V_3_0_PLUS, reason="works from 3.0 on")
    def test_airflow_2(self) -> None:
        """The module can be imported; using it names the version needed."""
        with pytest.raises(AirflowOptionalProviderFeatureException, match=r"needs Airflow 3\.0 or later"):
            UserSegmentRefreshTrigger(segment_id="a")

    @needs_3_0
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({}, "exactly one of segment_id and segment_name"),
            ({"segment_id": "a", "segment_name": "A"}, "exactly one of segment_id and segment_name"),
            ({"segment_id": " "}, "segment_id is ' '"),
            ({"segment_name": 3}, "segment_name is 3"),
            ({"segment_id": "a", "mparticle_conn_id": ""}, "mparticle_conn_id is ''"),
            ({"segment_id": "a", "poll_interval": 0}, "poll_interval is 0"),
            ({"segment_id": "a", "poll_interval": "300"}, "poll_interval is '300'"),
            ({"segment_id": "a", "poll_interval": None}, "poll_interval is None"),
            ({"segment_id": "a", "poll_interval": True}, "poll_interval is True"),
        ],
    )
    def test_refused(self, arguments: dict[str, Any], words: str) -> None:
        """With the argument's name in the message."""
        with pytest.raises(ConfigurationError, match=words):
            UserSegmentRefreshTrigger(**arguments)

    @needs_3_0
    def test_round_trip(self) -> None:
        """The arguments equal the serialized ones, plain JSON; equal watchers serialize to equal bytes."""
        trigger = UserSegmentRefreshTrigger(
            segment_name="A", mparticle_conn_id="c", poll_interval=timedelta(minutes=1)
        )
        path, arguments = trigger.serialize()
        assert path == "airflow_provider_segments.triggers.segment_refresh.UserSegmentRefreshTrigger"
        again = UserSegmentRefreshTrigger(**json.loads(json.dumps(arguments)))
        same = UserSegmentRefreshTrigger(segment_name="A", mparticle_conn_id="c", poll_interval=60)
        assert json.dumps(again.serialize()) == json.dumps(same.serialize()) == json.dumps([path, arguments])


class TestWatch:
    """What one poll after the other leads to."""

    @pytest.fixture
    def log(self, caplog: pytest.LogCaptureFixture) -> logging.Logger:
        caplog.set_level(logging.INFO)
        return logging.getLogger("tests")

    @pytest.fixture
    def watch(self, log: logging.Logger) -> Watch:
        return Watch(None, "A", None, log)

    def test_one_event_for_each_advance(self, watch: Watch) -> None:
        """The first poll is the baseline; polling the same again changes nothing."""
        found = [
            watch.update([segment("B", segment_id="b"), segment(hours=hours)]) for hours in (0, 0, 1, 1, 3)
        ]
        assert [bool(event) for event in found] == [False, False, True, False, True]
        assert found[2] == {
            "segment_id": "a",
            "segment_name": "A",
            "previous_last_run": "2026-01-01T00:00:00+00:00",
            "last_run": "2026-01-01T01:00:00+00:00",
        }
        assert found[4]["previous_last_run"] == found[2]["last_run"]

    def test_never_refreshed_before(self, watch: Watch) -> None:
        """The first refresh of a segment that had none is one."""
        assert watch.update([segment(hours=None)]) is None
        event = watch.update([segment(hours=1)])
        assert event is not None
        assert event["previous_last_run"] is None

    def test_backwards(self, watch: Watch) -> None:
        """No event, and none for the way back up to what was seen."""
        hours = (5, 2, None, 4, 5, 6)
        assert [bool(watch.update([segment(hours=hour)])) for hour in hours] == [False] * 5 + [True]

    def test_vanished(self, watch: Watch, caplog: pytest.LogCaptureFixture) -> None:
        """Said once each time it goes, with the closest names; waited for, and what happened meanwhile counts."""
        watch.update([segment()])
        caplog.clear()
        for _ in range(3):
            assert watch.update([segment("AB", segment_id="b")]) is None
        assert len(caplog.messages) == 1
        assert "'AB'" in caplog.text
        assert watch.update([segment(hours=1)])
        assert watch.update([]) is None
        assert [record.levelname for record in caplog.records].count("ERROR") == 2

    def test_several_of_that_name(self, watch: Watch, caplog: pytest.LogCaptureFixture) -> None:
        """Refused with their ids."""
        assert watch.update([segment(), segment(segment_id="b")]) is None
        assert "a, b. Name one by its segment_id" in caplog.text

    def test_static(self, watch: Watch, caplog: pytest.LogCaptureFixture) -> None:
        """Refused, as it is never refreshed."""
        for hours in (0, 1, 2):
            assert watch.update([segment(hours=hours, kind="Static")]) is None
        assert caplog.text.count("'A' (a) is Static") == 1

    def test_the_name_passes_to_another(self, watch: Watch) -> None:
        """Another segment's time is no refresh of the first: it has a baseline of its own."""
        watch.update([segment()])
        assert watch.update([segment(hours=5, segment_id="b")]) is None
        assert watch.update([segment(hours=6, segment_id="b")])

    def test_goes_on_from_what_was_seen(self, log: logging.Logger) -> None:
        """What was kept is the baseline."""
        seen = Seen.read(json.loads(json.dumps(asdict(Seen("a", DAWN.isoformat())))))
        assert Watch("a", None, seen, log).update([segment()]) is None
        assert Watch("a", None, seen, log).update([segment(hours=1)])

    @pytest.mark.parametrize(
        "kept", ["x", {}, {"segment_id": "a", "last_run": "soon"}, {"a": 1}, 3, ["a", None]]
    )
    def test_what_is_not_ours_is_not_believed(self, kept: Any) -> None:
        """Whatever is in the store."""
        with pytest.raises(ValueError, match="a"):
            Seen.read(kept)


@pytest.fixture
def service() -> Iterator[Emulator]:
    """Thirty Dynamic segments."""
    segments = [EmulatedSegment(name=f"S{n}") for n in range(30)]
    with Emulator(bucket=None, segments=segments) as running:
        yield running


@pytest.fixture
def polled(service: Emulator, connect: Any, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """The service with the Connection to it, and no long pauses."""
    connect(service)
    monkeypatch.setattr(watching, "_AFTER_A_FAILURE", SHORT)
    if AIRFLOW_V_3_3_PLUS:
        monkeypatch.setattr(shared_polls, "_GATHERING", SHORT)
    return service


def list_calls(service: Emulator) -> int:
    """Return how often the list has been asked for."""
    return sum(request.route == "list" for request in service.requests)


async def polled_times(service: Emulator, times: int) -> None:
    """Wait until the list has been asked for so often."""
    async with asyncio.timeout(60):
        while list_calls(service) < times:  # noqa: ASYNC110 - nothing tells this event loop
            await asyncio.sleep(SHORT)


@needs_3_0
class TestAlone:
    """Below Airflow 3.3 each watcher polls for itself, through one client."""

    async def test_one_event_for_each_refresh(self, polled: Emulator) -> None:
        """The first poll is the baseline."""
        ids = [one.segment_id for one in polled.segments]
        stream = UserSegmentRefreshTrigger(segment_id=ids[0], poll_interval=SHORT).run()
        first = asyncio.ensure_future(anext(stream))
        await polled_times(polled, 3)
        assert not first.done()
        for _ in range(3):
            polled.refresh(ids[1])
            polled.refresh(ids[0])
            event = (await first).payload
            assert event["segment_id"] == ids[0]
            assert event["previous_last_run"] < event["last_run"]
            first = asyncio.ensure_future(anext(stream))
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)

    async def test_what_ends_a_poll_does_not_end_the_watch(self, polled: Emulator, told: Any) -> None:
        """Refused credentials are logged, and polling goes on at the usual pace."""
        stream = UserSegmentRefreshTrigger(segment_name="S0", poll_interval=SHORT).run()
        first = asyncio.ensure_future(anext(stream))
        await polled_times(polled, 2)
        polled.inject(Fault(FaultKind.UNAUTHORIZED, on="list", times=6))
        polled.inject(Fault(FaultKind.FORBIDDEN, on="list", times=2))
        polled.inject(Fault(FaultKind.HTML, on="list", times=3))
        polled.refresh()
        assert (await first).payload["segment_name"] == "S0"
        text = told()
        assert "HTTP 401: the API key or the access token is wrong" in text
        assert "HTTP 403" in text
        await stream.aclose()


async def test_no_error_ends_a_poll() -> None:
    """Not even one that nobody has thought of."""

    class Broken:
        async def list_segments(self, *, patient: bool) -> list[UserSegment]:
            raise RuntimeError("a bug")

    hook: Any = Broken()
    assert await watching.poll_segments(hook, 1.0, logging.getLogger("airflow.task")) == (None, 60.0)
    assert await watching.poll_segments(hook, 300.0, logging.getLogger("airflow.task")) == (None, 300.0)


@needs_3_3
class TestShared:
    """From Airflow 3.3 on one poll serves all, and a restart neither misses nor repeats."""

    async def test_one_poll_for_all(self, polled: Emulator) -> None:
        """Also for those who join between two polls: they need not wait for the next one."""
        database = Database()
        async with triggerer(database) as running:
            for n in range(20):
                running.watch(
                    UserSegmentRefreshTrigger(segment_name=f"S{n}", poll_interval=LONG), f"asset{n}"
                )
            await running.until(lambda: len(database.store) == 20)
            for n in range(20, 30):
                running.watch(
                    UserSegmentRefreshTrigger(segment_name=f"S{n}", poll_interval=LONG), f"asset{n}"
                )
            await running.until(lambda: len(database.store) == 30)
            assert list_calls(polled) == 1
        assert database.count == 0

    async def test_each_is_told_of_its_own(self, polled: Emulator) -> None:
        """One event an advance, for the asset whose segment it was."""
        database = Database()
        async with triggerer(database) as running:
            for n in range(30):
                running.watch(
                    UserSegmentRefreshTrigger(segment_name=f"S{n}", poll_interval=SHORT), f"asset{n}"
                )
            await running.until(lambda: len(database.store) == 30)
            for total in range(1, 31):
                polled.refresh(polled.segments[total * 7 % 30].segment_id)
                await running.until(lambda total=total: database.count >= total)
            before = list_calls(polled)
            await running.until(lambda: list_calls(polled) > before + 3)
        assert {name: len(events) for name, events in database.events.items()} == {
            f"asset{n}": 1 for n in range(30)
        }
        assert all(events[0]["segment_name"] == f"S{name[5:]}" for name, events in database.events.items())

    async def test_restart(self, polled: Emulator) -> None:
        """What happened in the gap makes one event, what happened before it none."""
        database = Database()
        trigger = UserSegmentRefreshTrigger(segment_name="S0", poll_interval=SHORT)

        async def live(*, until: int) -> None:
            async with triggerer(database) as running:
                running.watch(trigger, "asset")
                await running.until(lambda: database.count >= until)
                kept, before = list(database.store.values()), list_calls(polled)
                await running.until(
                    lambda: list_calls(polled) > before + 3 and (not until or database.store.values() != kept)
                )

        await live(until=0)
        await live(until=0)
        assert database.count == 0
        polled.refresh()
        await live(until=1)
        await live(until=0)
        assert database.count == 1

    @pytest.mark.parametrize("ack_timeout", ["300", "0.1"])
    async def test_dies_before_the_event_is_stored(
        self, polled: Emulator, monkeypatch: pytest.MonkeyPatch, ack_timeout: str
    ) -> None:
        """The event is made again: nothing is kept before Airflow has it, nor when it says that it never will."""
        monkeypatch.setenv("AIRFLOW__TRIGGERER__SHARED_STREAM_ACK_TIMEOUT", ack_timeout)
        database = Database()
        trigger = UserSegmentRefreshTrigger(segment_name="S0", poll_interval=SHORT)
        async with triggerer(database) as running:
            running.watch(trigger, "asset")
            running.watch(UserSegmentRefreshTrigger(segment_name="S1", poll_interval=SHORT), "other")
            await running.until(lambda: len(database.store) == 2)
            running.stores_events = False
            kept, before = dict(database.store), list_calls(polled)
            polled.refresh(polled.segments[0].segment_id)
            await running.until(lambda: list_calls(polled) > before + 10)
            assert (len(running.runner.triggers) == 1) is (ack_timeout == "0.1")
            assert database.store == kept
        assert database.count == 0
        async with triggerer(database) as running:
            running.watch(trigger, "asset")
            await running.until(lambda: database.store != kept)
        assert database.count == 1

    async def test_two_watchers_of_one_asset(self, polled: Emulator) -> None:
        """Each has a memory of its own."""
        database = Database()
        async with triggerer(database) as running:
            for n in range(2):
                running.watch(UserSegmentRefreshTrigger(segment_name=f"S{n}", poll_interval=SHORT), "asset")
            await running.until(lambda: len(database.store) == 2)
        names = {kept["segment_id"] for kept in database.store.values()}
        assert names == {one.segment_id for one in polled.segments[:2]}

    @pytest.mark.parametrize("behind", ["one", "two"])
    async def test_two_assets_of_one_trigger(self, polled: Emulator, behind: str) -> None:
        """Airflow makes one trigger of equal arguments: both are told, and the better memory is right."""
        database = Database()
        trigger = UserSegmentRefreshTrigger(segment_name="S0", poll_interval=SHORT)
        async with triggerer(database) as running:
            running.watch(trigger, "one", "two")
            await running.until(lambda: len(database.store) == 2)
            earlier = dict(database.store)
            polled.refresh()
            await running.until(lambda: all(database.store[place] != earlier[place] for place in earlier))
        database.store |= {place: kept for place, kept in earlier.items() if place[0] == behind}
        async with triggerer(database) as running:
            running.watch(trigger, "one", "two")
            before = list_calls(polled)
            await running.until(lambda: list_calls(polled) > before + 3)
        assert {name: len(events) for name, events in database.events.items()} == {"one": 1, "two": 1}

    async def test_store_that_is_away(self, polled: Emulator, told: Any) -> None:
        """Unread, it makes no baseline; unwritten, the events come all the same."""
        database = Database()
        trigger = UserSegmentRefreshTrigger(segment_name="S0", poll_interval=SHORT)
        async with triggerer(database) as running:
            running.watch(trigger, "asset")
            await running.until(lambda: database.store)
        polled.refresh()
        database.reads_fail = True
        async with triggerer(database) as running:
            running.watch(trigger, "asset")
            await running.until(lambda: "can't be read" in told())
            database.reads_fail, database.writes_fail = False, True
            await running.until(lambda: database.count == 1)
            await running.until(lambda: "restart would repeat it" in told())
            kept = dict(database.store)
            database.writes_fail = False
            await running.until(lambda: database.store != kept)

    async def test_nonsense_in_the_store(self, polled: Emulator) -> None:
        """Is taken as nothing, and replaced."""
        database = Database()
        trigger = UserSegmentRefreshTrigger(segment_name="S0", poll_interval=SHORT)
        async with triggerer(database) as running:
            running.watch(trigger, "asset")
            await running.until(lambda: database.store)
        ((place, kept),) = database.store.items()
        database.store[place] = {"from": "another version"}
        async with triggerer(database) as running:
            running.watch(trigger, "asset")
            await running.until(lambda: database.store[place] == kept)

    async def test_trouble_ends_no_watcher(self, polled: Emulator) -> None:
        """Outages, 429s and refusals: the triggers run on, none is started anew."""
        database = Database()
        async with triggerer(database) as running:
            running.watch(UserSegmentRefreshTrigger(segment_name="S0", poll_interval=SHORT), "asset")
            running.watch(UserSegmentRefreshTrigger(segment_name="nobody", poll_interval=SHORT), "other")
            await running.until(lambda: database.store)
            polled.inject(Fault(FaultKind.UNAUTHORIZED, on="list", times=4))
            polled.inject(Fault(FaultKind.TOO_MANY_REQUESTS, on="list", retry_after="0"))
            polled.pause("refuse")
            polled.refresh()
            before = list_calls(polled)
            await asyncio.sleep(2 * SHORT)
            polled.resume()
            await running.until(lambda: database.count == 1)
            assert list_calls(polled) >= before + 5
            assert len(running.runner.triggers) == 2
            assert not running.runner.failed_triggers

    async def test_two_hundred_on_two_connections(
        self, polled: Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two polls an interval, and no event missed."""
        database, rounds = Database(), 3
        segments = [EmulatedSegment(name=f"S{n}") for n in range(100)]
        with Emulator(bucket=None, segments=segments) as one, Emulator(bucket=None, segments=segments) as two:
            services = {"one": one, "two": two}
            for name, service in services.items():
                monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(service.airflow_connection()))
            async with triggerer(database) as running:
                for name, service in services.items():
                    for found in service.segments:
                        trigger = UserSegmentRefreshTrigger(
                            segment_id=found.segment_id, mparticle_conn_id=name, poll_interval=1
                        )
                        running.watch(trigger, f"{name} {found.name}")
                await running.until(lambda: len(database.store) == 200)
                began, before = time.monotonic(), [list_calls(service) for service in services.values()]
                for total in range(1, rounds + 1):
                    for service in services.values():
                        service.refresh()
                    await running.until(lambda total=total: database.count >= 200 * total)
                await running.until(lambda: time.monotonic() > began + 5)
                took = time.monotonic() - began
        assert {len(events) for events in database.events.values()} == {rounds}
        for service, earlier in zip(services.values(), before, strict=True):
            assert rounds <= list_calls(service) - earlier <= took + 1
