# SPDX-License-Identifier: Apache-2.0
"""Drive a flow through scripted answers, on a clock that only its sleeps move."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_segments.api.calls import Reply
from airflow_provider_segments.api.errors import CallError
from airflow_provider_segments.api.flow import Connect, Outcome, Send, Sleep
from airflow_provider_segments.api.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_segments.api.flow import Flow

T = TypeVar("T")
EPOCH = 1_790_000_000.0


def answer(status: str = "PENDING", **fields: Any) -> Reply:
    """Return a status call's reply."""
    export = {"exportId": "e", "segment": {"segmentId": "s", "name": "n"}, "status": status} | fields
    return Reply(200, {}, json.dumps(export).encode())


def refused(status: int, retry_after: str | None = None) -> Reply:
    """Return a refusal."""
    return Reply(status, {"Retry-After": retry_after} if retry_after else {}, b"")


class FlowDriver:
    """
    The client and the clock of a flow.

    :param script: what each `Send` is answered with; the last one repeats.
    """

    def __init__(
        self, script: Iterable[Reply | CallError], *, max_retries: int = 5, per_second: float | None = None
    ) -> None:
        self.script = list(script)
        self.max_retries = max_retries
        self.secrets: tuple[str, ...] = ()
        self.throttle = Throttle()
        self.throttle.set_limit(per_second)
        self.now = 1000.0
        self.jitter = 0.5
        self.sent: list[Send] = []
        self.sent_at: list[float] = []
        self.connects: list[Connect] = []
        self.sleeps: list[float] = []
        self.messages: list[str] = []

    def run(self, flow: Flow[T]) -> T:
        """Drive a flow to its end."""
        outcome: Any = None
        while True:
            try:
                step = flow.send(outcome)
            except StopIteration as end:
                result: T = end.value
                return result
            outcome = self.take(step)

    def take(self, step: Connect | Send | Sleep) -> Outcome:
        """Take one step."""
        reply: Any = None
        if isinstance(step, Send):
            self.sent.append(step)
            self.sent_at.append(self.now)
            reply = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        elif isinstance(step, Connect):
            self.connects.append(step)
        else:
            self.now += step.seconds
            self.sleeps += [step.seconds] if step.seconds else []
            self.messages += [step.message] if step.message else []
        error = reply if isinstance(reply, CallError) else None
        return Outcome(self.now, EPOCH + self.now, self.jitter, None if error else reply, error)
