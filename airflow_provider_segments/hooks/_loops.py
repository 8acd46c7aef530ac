# SPDX-License-Identifier: Apache-2.0
"""
What both hooks' loops ask: whether to repeat a call, and when to look at an export again.

The answers are `api.pacing`'s. Here they meet a clock, a deadline and a log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_segments.api import pacing
from airflow_provider_segments.api.errors import CallError, ExportTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenacity import RetryCallState

    from airflow_provider_segments.api.calls import Call
    from airflow_provider_segments.api.models import SegmentExport
    from airflow_provider_segments.hooks._clock import Clock

__all__ = ["Deadline", "Retries", "Wait"]


# Seconds.
_LAST_LOOK = 5.0


class Deadline:
    """
    The instant at which a wait ends, on this process's monotonic clock.

    :param clock: the clock.
    :param timeout: seconds from now.
    """

    def __init__(self, clock: Clock, timeout: float) -> None:
        self._clock = clock
        self._instant = clock.monotonic() + timeout

    @property
    def remaining(self) -> float:
        """Seconds left, not below 0."""
        return max(0.0, self._instant - self._clock.monotonic())

    @property
    def for_a_call(self) -> float:
        """Seconds a call may take: what is left, but enough for a last look right at the end."""
        return max(self.remaining, _LAST_LOOK)

    @property
    def with_last_look(self) -> float:
        """Seconds until even a last look that began right at the end is over."""
        return self.remaining + _LAST_LOOK


class Retries:
    """
    Tenacity's questions about one call, answered by the pacing rules.

    :param call: what is sent.
    :param patience: returns the caller's, once it is known.
    :param deadline: the end of the wait that the call is part of, if any.
    :param clock: for the deadline and for chance.
    :param log: where each repetition is told.
    """

    def __init__(
        self,
        call: Call[Any],
        patience: Callable[[], pacing.Patience],
        deadline: Deadline | None,
        clock: Clock,
        log: Any,
    ) -> None:
        self._call, self._patience, self._deadline = call, patience, deadline
        self._clock, self._log = clock, log
        self._failures = pacing.Failures()
        self._delay: float | None = None

    def for_tenacity(self) -> dict[str, Any]:
        """Return the keyword arguments of ``Retrying`` and ``AsyncRetrying`` alike."""
        return {
            "retry": self._again,
            "wait": lambda _: self._delay,
            "before_sleep": self._tell,
            "reraise": True,
        }

    def _again(self, state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        if not isinstance(error, CallError):
            return False
        self._failures = self._failures.plus(error)
        self._delay = pacing.delay_before_retry(
            self._call, error, self._failures, self._patience(), self._clock.spread()
        )
        if self._delay is not None and self._deadline and self._delay >= self._deadline.remaining:
            raise ExportTimeoutError(
                f"{self._call.what}: the deadline passes before the service may be asked again (in "
                f"{self._delay:.0f} s). Last: {error}",
                retry_in=self._delay,
                refused=True,
            ) from error
        return self._delay is not None

    def _tell(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, CallError) and pacing.reads_connection_again(error):
            self._log.info("%s Reading the Connection once more.", error)
            return
        self._log.warning("%s Asking again in %.1f s (failure %d).", error, self._delay, self._failures.total)


class Wait:
    """
    One wait for one export.

    :param deadline: when it ends.
    :param poll_interval: fixed seconds between two looks; None for the adaptive schedule.
    :param clock: for the export's age and for chance.
    :param log: where the wait is told.
    :param last_look: whether to look right at the deadline when the next look would be due after it.
    """

    def __init__(
        self,
        deadline: Deadline,
        poll_interval: float | None,
        clock: Clock,
        log: Any,
        *,
        last_look: bool = True,
    ) -> None:
        self._deadline, self._poll_interval, self._clock, self._log = deadline, poll_interval, clock, log
        self._last_look = last_look
        self._began = clock.time()
        self._said: object = None

    def pause_after(self, export: SegmentExport) -> float | None:
        """
        Return the seconds until the next look, or None if the export is finished.

        :param export: the latest answer.
        :raises ExportTimeoutError: the deadline has passed.
        """
        if export.status != self._said:
            self._said = export.status
            self._tell(export)
        if export.status.is_finished:
            return None
        started = export.start_time.timestamp() if export.start_time else self._began
        age, spread = self._clock.time() - started, self._clock.spread()
        pause = pacing.delay_before_poll(age, self._poll_interval, spread)
        remaining = self._deadline.remaining
        if remaining <= 0 or (pause > remaining and not self._last_look):
            raise ExportTimeoutError(
                f"{export.label} was still {export.status.value} at the deadline. It goes on at the service, which "
                "can't cancel it; allow a longer timeout if such exports take that long.",
                retry_in=pause,
            )
        return min(pause, remaining)

    def _tell(self, export: SegmentExport) -> None:
        if not export.status.is_known:
            self._log.warning(
                "The service reports %s as %r, a status it does not document. Waiting on until the deadline.",
                export.label,
                export.status.value[:50],
            )
        elif not export.status.is_finished:
            self._log.info(
                "Waiting for %s, which is %s since %s.",
                export.label,
                export.status.value,
                f"{export.start_time:%Y-%m-%d %H:%M:%S} UTC" if export.start_time else "its request",
            )
