# SPDX-License-Identifier: Apache-2.0
"""A service with a rate limit that it does not publish, processes that poll it, and their clock: all simulated."""

from __future__ import annotations

import heapq
import json
import math
import random
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

from airflow_provider_segments.api.calls import Reply, get_export
from airflow_provider_segments.api.flow import Connect, Outcome, Send, poll_until
from airflow_provider_segments.api.throttle import Throttle
from airflow_provider_segments.transports.common import POOL_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_segments.api.flow import Flow, Poll

_EPOCH = 1_790_000_000.0
_ANSWER = (0.05, 0.15)  # seconds until an answer


@dataclass
class Service:
    """Allows so many requests a second, in fixed windows of a second or by a token bucket of a second's requests."""

    limit: Callable[[float], float]
    windows: bool
    retry_after: bool
    _left: float = 0.0
    _at: float = -math.inf

    def refuse(self, now: float) -> dict[str, str] | None:
        """Return None for a request that is accepted, or the headers of a 429."""
        limit = self.limit(now)
        if self.windows:
            if math.floor(now) > self._at:
                self._left, self._at = limit, math.floor(now)
            again = math.floor(now) + 1 - now
        else:
            self._left, self._at = min(max(1.0, limit), self._left + (now - max(self._at, -1.0)) * limit), now
            again = (1 - self._left) / limit
        if self._left >= 1 - 1e-9:
            self._left -= 1
            return None
        return {"Retry-After": str(math.ceil(again))} if self.retry_after else {}


class Process:
    """One process: a client as the flows see it, and its connections."""

    def __init__(self, per_second: float | None) -> None:
        self.max_retries = 5
        self.secrets: tuple[str, ...] = ()
        self.throttle = Throttle()
        self.throttle.set_limit(per_second)
        self.sending = 0
        self.waiting: deque[tuple[Wait, Send]] = deque()


@dataclass(eq=False)
class Wait:
    """One wait for an export."""

    process: Process
    ends: float
    body: bytes
    flow: Flow[Poll]


@dataclass
class Found:
    """What has happened, by second."""

    accepted: Counter[tuple[int, int]] = field(default_factory=Counter)  # by process and second
    refused: Counter[int] = field(default_factory=Counter)
    busy: set[int] = field(default_factory=set)  # seconds in which calls waited for their turns
    lateness: list[float] = field(default_factory=list)
    rate: dict[int, float] = field(default_factory=dict)  # learned, of all processes together
    wakes: int = 0
    messages: list[tuple[float, str]] = field(default_factory=list)


class Simulation:
    """
    Waits for exports in several processes, driven through the real flows.

    :param again: whether each wait that ends is followed by another.
    """

    def __init__(
        self,
        service: Service,
        processes: int,
        waits: int,
        *,
        seconds: tuple[float, float] = (30.0, 90.0),
        per_second: float | None = None,
        again: bool = True,
        seed: int = 1,
    ) -> None:
        self.found = Found()
        self._service, self._seconds, self._again = service, seconds, again
        self._chance = random.Random(seed)
        self._now, self._order = 0.0, count()
        self._events: list[tuple[float, int, Any, tuple[Any, ...]]] = []
        self.processes = [Process(per_second) for _ in range(processes)]
        self._numbers = {process: number for number, process in enumerate(self.processes)}
        for number in range(waits):
            self._begin(self.processes[number % processes])

    def run(self, until: float) -> Found:
        """Let so many seconds pass, or fewer if everything has ended."""
        self._at(0.0, self._look)
        while len(self._events) > 1 and self._now < until:
            self._now, _, act, arguments = heapq.heappop(self._events)
            act(*arguments)
        return self.found

    def _at(self, delay: float, act: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._events, (self._now + delay, next(self._order), act, arguments))

    def _look(self) -> None:
        second = int(self._now)
        if any(process.throttle.waiting for process in self.processes):
            self.found.busy.add(second)
        rates = [process.throttle.learned for process in self.processes]
        self.found.rate[second] = sum(rate for rate in rates if rate)
        self._at(1.0, self._look)

    def _begin(self, process: Process) -> None:
        export = {"exportId": "e", "status": "PENDING", "startTime": _EPOCH + self._now, "filename": "f"}
        flow = poll_until(get_export("e"), process, self._now + 86400)
        ends = self._now + self._chance.uniform(*self._seconds)
        self._step(Wait(process, ends, json.dumps(export).encode(), flow), None)

    def _step(self, wait: Wait, outcome: Outcome | None) -> None:
        """Take a flow's steps until one takes time."""
        while True:
            try:
                step = wait.flow.send(outcome)  # type: ignore[arg-type]
            except StopIteration:
                self.found.lateness.append(self._now - wait.ends)
                if self._again:
                    self._begin(wait.process)
                return
            if isinstance(step, Send):
                wait.process.waiting.append((wait, step))
                self._send_next(wait.process)
                return
            if not isinstance(step, Connect):
                if step.message:
                    self.found.messages.append((self._now, step.message))
                if step.seconds > 0:
                    self.found.wakes += 1
                    self._at(step.seconds, self._wake, wait)
                    return
            outcome = self._outcome()

    def _wake(self, wait: Wait) -> None:
        self._step(wait, self._outcome())

    def _outcome(self, reply: Reply | None = None) -> Outcome:
        return Outcome(self._now, _EPOCH + self._now, self._chance.random(), reply)

    def _send_next(self, process: Process) -> None:
        """Send what waits for a connection, unless it needs another turn."""
        while process.waiting and process.sending < POOL_SIZE:
            wait, step = process.waiting.popleft()
            if step.cuts != process.throttle.cuts:
                self._at(0.0, self._wake, wait)
                continue
            process.sending += 1
            self._at(self._chance.uniform(*_ANSWER) / 2, self._arrive, wait)

    def _arrive(self, wait: Wait) -> None:
        headers = self._service.refuse(self._now)
        if headers is None:
            self.found.accepted[self._numbers[wait.process], int(self._now)] += 1
            body = wait.body.replace(b"PENDING", b"COMPLETE") if self._now >= wait.ends else wait.body
            reply = Reply(200, {}, body)
        else:
            self.found.refused[int(self._now)] += 1
            reply = Reply(429, headers, b"")
        self._at(self._chance.uniform(*_ANSWER) / 2, self._answer, wait, reply)

    def _answer(self, wait: Wait, reply: Reply) -> None:
        wait.process.sending -= 1
        self._step(wait, self._outcome(reply))
        self._send_next(wait.process)
