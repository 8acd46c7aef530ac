# SPDX-License-Identifier: Apache-2.0
"""The rate limit and the pause after a 429."""

from __future__ import annotations

from airflow_provider_segments.api.throttle import Throttle


def test_rate_limit_hands_out_slots_in_order() -> None:
    """Two a second: the third caller at the same instant waits for a second."""
    throttle = Throttle()
    assert [throttle.reserve(10.0) for _ in range(3)] == [0, 0, 0]
    throttle.set_limit(2.0)
    assert [throttle.reserve(10.0) for _ in range(3)] == [0, 0.5, 1.0]
    assert throttle.reserve(20.0) == 0


class TestPause:
    """When the service says 429 to one caller, all callers of the client pause."""

    def test_retry_after(self) -> None:
        """The service's word, and then not all at once."""
        throttle = Throttle()
        throttle.too_many_requests(20, 0)
        assert throttle.pause(0, 0.0) == 20
        assert throttle.pause(15, 1.0) == 5 + 5
        assert throttle.pause(20, 1.0) == 0

    def test_one_storm_counts_once(self) -> None:
        """Thirty answers to requests that were under way together don't make a pause of a minute."""
        throttle = Throttle()
        for _ in range(30):
            throttle.too_many_requests(None, 0)
        assert throttle.pause(0, 0.0) == 1
        throttle.too_many_requests(None, 2)
        assert throttle.pause(2, 0.0) == 2
        throttle.too_many_requests(30, 2.5)
        assert throttle.pause(2.5, 0.0) == 30

    def test_success_makes_the_next_one_short(self) -> None:
        """A pause grows only while the service goes on refusing."""
        throttle = Throttle()
        for now in (0, 10, 20):
            throttle.too_many_requests(None, now)
        assert throttle.pause(20, 0.0) == 4
        throttle.accepted()
        throttle.too_many_requests(None, 30)
        assert throttle.pause(30, 0.0) == 1
