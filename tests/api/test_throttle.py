# SPDX-License-Identifier: Apache-2.0
"""The queue of the calls of one client, its rate limit, the one that it learns, and the pause after a 429."""

from __future__ import annotations

import pytest

from airflow_provider_segments.api.throttle import Throttle
from tests.benchmarks.simulated_service import Service, Simulation


def sent_by(throttle: Throttle, calls: int, now: float) -> list[float]:
    """Return when so many calls that come at once are sent; each sleeps as long as it is told."""
    asks = {throttle.place(now): now for _ in range(calls)}
    sent = []
    while asks:
        place, now = min(asks.items(), key=lambda item: (item[1], item[0]))
        if wait := throttle.turn(place, now):
            asks[place] = now + wait
        else:
            sent.append(now)
            del asks[place]
    return sent


def refuse(throttle: Throttle, now: float, retry_after: float | None = None) -> None:
    """Answer a request that has just got its turn with a 429."""
    throttle.too_many_requests(retry_after, throttle.cuts, now, 0.0)


def learned(throttle: Throttle) -> float:
    """Return the learned limit; there is one."""
    assert throttle.learned is not None
    return throttle.learned


def refused_at(rate: int) -> Throttle:
    """Return a throttle that has had a second of so many accepted requests, and then a 429."""
    throttle = Throttle()
    for number in range(rate):
        throttle.accepted(number / rate)
    refuse(throttle, 1.0)
    return throttle


def settled_at(rate: int) -> Throttle:
    """Return a throttle that had learned a rate, and found it a little too high."""
    throttle = refused_at(rate)
    for _ in range(10):
        throttle.accepted(1.5)
    throttle._learned.value = float(rate)
    refuse(throttle, 2.0)
    return throttle


def in_use(throttle: Throttle, now: float, until: float) -> dict[int, float]:
    """Return the learned limit by second while calls queue and none is refused."""
    found: dict[int, float] = {}
    waiting = throttle.place(now)
    while now < until and max(found.values(), default=0.0) < 200:
        now += throttle.turn(waiting, now)
        if throttle.turn(waiting, now) == 0.0:
            throttle.accepted(now)
            waiting = throttle.place(now)
        found |= dict.fromkeys(range(max(found, default=int(now)), int(now) + 1), learned(throttle))
    return found


class TestLimit:
    """The Connection's rate limit."""

    def test_without_one_nothing_waits(self) -> None:
        """However many come at once."""
        assert sent_by(Throttle(), 1000, 10.0) == [10.0] * 1000

    def test_it_hands_out_turns_in_order(self) -> None:
        """Two a second from the first call on; nobody saves turns up."""
        throttle = Throttle()
        throttle.set_limit(2.0)
        assert sent_by(throttle, 3, 10.0) == [10.0, 10.5, 11.0]
        assert sent_by(throttle, 3, 20.0) == [20.0, 20.5, 21.0]

    def test_it_is_a_ceiling(self) -> None:
        """What is learned can only be lower."""
        throttle = refused_at(40)
        throttle.set_limit(10.0)
        first, second = sent_by(throttle, 2, 100.0)
        assert second - first == pytest.approx(0.1)

    def test_one_that_is_removed_lets_all_go(self) -> None:
        """The Connection is read again when a call is refused as unauthorized."""
        throttle = Throttle()
        throttle.set_limit(0.01)
        places = [throttle.place(0.0) for _ in range(3)]
        assert [throttle.turn(place, 0.0) for place in places] == [0.0, 100.0, 200.0]
        throttle.set_limit(None)
        assert [throttle.turn(place, 100.0) for place in places[1:]] == [0.0, 0.0]
        assert throttle.waiting == 0

    def test_late_sleeper_loses_no_turn(self) -> None:
        """An event loop that is busy for a moment costs nothing."""
        throttle = Throttle()
        throttle.set_limit(10.0)
        places = [throttle.place(0.0) for _ in range(3)]
        assert [throttle.turn(place, 0.0) for place in places] == pytest.approx([0.0, 0.1, 0.2])
        assert [throttle.turn(place, 0.25) for place in places[1:]] == [0.0, 0.0]


class TestQueue:
    """Who is sent first."""

    def test_the_wait_that_is_latest_relative_to_its_age(self) -> None:
        """Both are due now; a few seconds are nothing for an export of an hour."""
        throttle = Throttle()
        throttle.set_limit(1.0)
        throttle.turn(throttle.place(0.0), 0.0)
        of_an_hour, of_ten_seconds = throttle.place(0.0, 180.0), throttle.place(0.0, 3.0)
        assert throttle.turn(of_an_hour, 0.0) == 1.0
        assert throttle.turn(of_ten_seconds, 0.0) == 1.0
        assert throttle.turn(of_an_hour, 1.0) == 1.0
        assert throttle.turn(of_ten_seconds, 1.0) == 0.0
        assert throttle.turn(of_an_hour, 2.0) == 0.0

    def test_nobody_waits_for_ever(self) -> None:
        """Whoever comes after its slack is behind."""
        throttle = Throttle()
        assert throttle.place(0.0, 180.0) < throttle.place(181.0, 0.0)

    def test_a_question_costs_little_however_many_wait(self) -> None:
        """A call asks a few times, not many times a second."""
        throttle = refused_at(50)
        asked = 0
        turn = throttle.turn

        def counted(place: tuple[float, int], now: float) -> float:
            nonlocal asked
            asked += 1
            return turn(place, now)

        throttle.turn = counted  # type: ignore[method-assign]
        sent = sent_by(throttle, 1000, 1.0)
        assert asked / len(sent) < 10


class TestLearning:
    """What a 429 does."""

    def test_rate_falls_to_under_what_was_sent(self) -> None:
        """40 a second were too many. The first time it falls by half, as nothing else is known; later by less."""
        assert learned(refused_at(40)) == pytest.approx(0.5 * 40, rel=0.1)
        assert learned(settled_at(40)) == pytest.approx(0.85 * 40, rel=0.01)

    def test_first_answers_to_a_burst_are_not_the_rate(self) -> None:
        """500 were sent at once, and the first answer is a 429: that is no sign of a limit of one a second."""
        throttle = Throttle()
        sent_by(throttle, 500, 0.0)
        refuse(throttle, 0.1)
        assert learned(throttle) == 32

    def test_single_call_that_is_refused_says_little(self) -> None:
        """It is tried again after a second or two."""
        throttle = Throttle()
        refuse(throttle, 5.0)
        assert 6 < sent_by(throttle, 1, 5.0)[0] < 7.5

    def test_a_storm_counts_once(self) -> None:
        """Thirty answers to requests that were under way together are one refusal."""
        throttle, storm = refused_at(40), refused_at(40)
        for number in range(30):
            storm.too_many_requests(None, 0, 1.0 + number / 10, 0.0)
        assert learned(storm) == learned(throttle)

    def test_it_falls_steeply_while_hardly_anything_is_accepted(self) -> None:
        """Down to one a minute, and back after the first that is accepted."""
        throttle, now, rates = refused_at(40), 1.0, []
        for _ in range(14):
            now = sent_by(throttle, 1, now + 1)[0]
            refuse(throttle, now)
            rates.append(learned(throttle))
        assert rates[:2] == pytest.approx([10, 5], rel=0.1)
        assert rates[-1] == pytest.approx(1 / 60)
        assert max(in_use(throttle, now, now + 130).values()) > 0.9 * 40

    def test_it_keeps_asking_where_every_second_request_is_refused(self) -> None:
        """However few it sends: others may send too much. It asks every five seconds, and returns in minutes."""
        throttle, now = refused_at(40), 1.0
        for _ in range(60):
            now = sent_by(throttle, 1, now)[0]
            throttle.accepted(now)
            now = sent_by(throttle, 1, now)[0]
            refuse(throttle, now)
        assert learned(throttle) == 0.2
        assert max(in_use(throttle, now, now + 300).values()) > 2

    def test_it_returns_to_the_rate_that_was_refused_and_rises(self) -> None:
        """There within half a minute of full use, at three times that after two minutes."""
        used = in_use(settled_at(40), 2.0, 140.0)
        assert used[7] < 0.95 * 40 < used[22]
        assert used[32] == pytest.approx(40, rel=0.05)
        assert min(second for second, rate in used.items() if rate > 3 * 40) < 125

    def test_unused_rate_does_not_rise(self) -> None:
        """What nobody asked for was not allowed by anybody."""
        throttle = refused_at(40)
        before = learned(throttle)
        for now in range(10, 1000):
            assert sent_by(throttle, 1, now) == [now]
            throttle.accepted(now)
        assert learned(throttle) == before

    def test_limit_is_logged_when_it_is_known_and_when_it_has_changed_much(self) -> None:
        """Not at each 429."""
        throttle, now, news = refused_at(40), 1.0, []
        for limit in (40, 41, 39, 42, 400):
            throttle.news() if not news else None
            for _ in range(30):
                now = max(sent_by(throttle, 2, now))
                throttle.accepted(now)
            throttle._learned.value = limit
            refuse(throttle, now := now + 1)
            news.append(throttle.news())
        assert news[1:4] == [None] * 3
        assert "about 40 requests a second" in (news[0] or "")
        assert "about 400 requests a second" in (news[4] or "")


class TestPause:
    """`Retry-After` holds for all callers of the client."""

    def test_nobody_is_sent_before_it_ends(self) -> None:
        """Nor all at once after it."""
        throttle = Throttle()
        refuse(throttle, 0.0, 20)
        assert throttle.pause(5.0) == 15
        sent = sent_by(throttle, 3, 0.0)
        assert sent[0] >= 20
        assert sent[1] - sent[0] > 1

    def test_it_is_bounded_for_the_others(self) -> None:
        """One odd Retry-After must not stop everything for days."""
        throttle = Throttle()
        refuse(throttle, 0.0, 1e6)
        assert throttle.pause(0.0) == 3600

    def test_a_later_429_can_only_make_it_longer(self) -> None:
        """As the answers to requests that were under way."""
        throttle = Throttle()
        for retry_after in (20, None, 10, 30):
            refuse(throttle, 1.0, retry_after)
        assert throttle.pause(1.0) == 30

    def test_long_one_is_logged(self) -> None:
        """Once."""
        throttle = Throttle()
        refuse(throttle, 0.0, 900)
        assert "pause of 900 s" in (throttle.news() or "")
        refuse(throttle, 1.0, 900)
        assert throttle.news() is None


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("windows", [False, True])
def test_simulation(processes: int, windows: bool) -> None:
    """300 waits against a hidden limit of 20 a second: few refusals, nearly all of it used, about even shares."""
    found = Simulation(Service(lambda now: 20.0, windows, retry_after=False), processes, 300).run(300)
    late = range(60, 300)
    accepted = [sum(found.accepted[number, second] for second in late) for number in range(processes)]
    refused = sum(found.refused[second] for second in late)
    assert refused <= 0.05 * (refused + sum(accepted))
    assert sum(accepted) >= 0.9 * 20 * len(late)
    assert sum(accepted) ** 2 / (processes * sum(share**2 for share in accepted)) >= 0.85


def test_without_429_nothing_is_a_moment_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call gets its turn at once."""
    turns: list[float] = []
    real = Throttle.turn

    def noted(throttle: Throttle, place: tuple[float, int], now: float) -> float:
        turns.append(real(throttle, place, now))
        return turns[-1]

    monkeypatch.setattr(Throttle, "turn", noted)
    found = Simulation(Service(lambda now: 1e6, False, retry_after=False), 2, 300).run(60)
    assert 3000 < len(turns) <= sum(found.accepted.values()) + 64  # some are under way
    assert set(turns) == {0.0}
