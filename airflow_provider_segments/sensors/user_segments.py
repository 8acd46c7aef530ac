# SPDX-License-Identifier: Apache-2.0
"""A sensor that waits for an export."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
)

from airflow_provider_segments.api.errors import ExportFailedError, ExportTimeoutError
from airflow_provider_segments.api.retries import SHORTEST_POLL_DELAY
from airflow_provider_segments.connection.settings import DEFAULT_CONN_ID
from airflow_provider_segments.exceptions import (
    InvalidArgumentError,
    UserSegmentsException,
    airflow_errors,
    argument_errors,
)
from airflow_provider_segments.operators.waiting import WaitingOperator
from airflow_provider_segments.utils.deadline import deadline_of, in_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_segments.api.flow import Poll

__all__ = ["UserSegmentExportSensor"]

# A failed export stays failed: retrying the sensor can't help.
_INSTEAD = {ExportTimeoutError: AirflowSensorTimeout, ExportFailedError: AirflowFailException}
# Seconds; each poke of a rescheduled sensor costs a task start.
_RESCHEDULE_INTERVAL = 60.0
# Of an exponential backoff; longer than any timeout.
_MOST_DOUBLINGS = 64
# Of Airflow's sensors; a trigger has none of them.
_ON_A_WORKER_ONLY = ("exponential_backoff", "max_wait", "silent_fail")


class UserSegmentExportSensor(WaitingOperator, BaseSensorOperator):
    """
    Wait for an export that something else has requested, and return the same XComs as the export operator.

    It waits in the triggerer by default; ``mode="reschedule"`` frees the worker between two pokes, and
    ``deferrable=False`` holds it. Outages and 429s don't end the wait in any mode.

    :param export_id: the export (templated).
    :param output_format: the format it was requested in, for the result: the service doesn't repeat it (templated).
    :param mparticle_conn_id: the Connection (templated).
    :param deferrable: wait in the triggerer. None is True, unless the mode is ``reschedule``.
    :param poke_interval: fixed seconds between two polls; None for the adaptive schedule (60 s in the mode
        ``reschedule`` and with ``exponential_backoff``).
    :param end_from_trigger: finish the task in the triggerer when the export is complete, without waking a worker.
        Failures still resume on a worker. Not with outlets or an on_success_callback, nor where a plugin
        listens to task instances, as OpenLineage's does; ``post_execute`` is not called.
    """

    template_fields: Sequence[str] = ("export_id", "output_format", "mparticle_conn_id")
    ui_color = "#e3edd5"

    def __init__(
        self,
        *,
        export_id: str,
        output_format: str = "csv",
        mparticle_conn_id: str = DEFAULT_CONN_ID,
        deferrable: bool | None = None,
        poke_interval: timedelta | float | None = None,
        end_from_trigger: bool = False,
        multiple_outputs: bool = True,
        **kwargs: Any,
    ) -> None:
        fixed = poke_interval is not None
        with argument_errors(kwargs.get("task_id")):
            super().__init__(
                output_format=output_format,
                mparticle_conn_id=mparticle_conn_id,
                deferrable=False if deferrable is None else deferrable,
                poke_interval=poke_interval if fixed else _RESCHEDULE_INTERVAL,
                poll_interval=in_seconds("poke_interval", poke_interval) if fixed else None,
                end_from_trigger=end_from_trigger,
                multiple_outputs=multiple_outputs,
                **kwargs,
            )
            in_seconds("timeout", self.timeout)
            if self.max_wait is not None:
                in_seconds("max_wait", self.max_wait)
        self.export_id = export_id
        # Not before: `mode` may come from default_args.
        self.deferrable = not self.reschedule if deferrable is None else deferrable
        self._check_end_from_trigger()
        self._check_mode()
        self._context: Context | None = None
        self._poll: Poll | None = None

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll the export once."""
        self._set_map_index_label(context, self.export_id)
        with self._airflow_errors():
            self.require_text("export_id", "output_format", "mparticle_conn_id")
            self._poll = None  # a poll that raises has no delay
            # The trigger repeats what fails, without holding a worker.
            poll = self.hook.poll_export(self.export_id, self.poll_interval, retry=not self.deferrable)
            self._context, self._poll = context, poll
            if poll.is_finished:
                return PokeReturnValue(True, self._finish(context, poll.finished_export()))
        if poll.export is not None:
            self.log.info("%s is %s.", poll.export.label, poll.export.status.value[:50])
        else:
            self.log.warning("%s Still waiting.", poll.error)
        return PokeReturnValue(False)  # then Airflow calls _get_next_poke_interval, which may defer

    def _get_next_poke_interval(
        self, started_at: Any, run_duration: Callable[[], float], poke_count: int
    ) -> float:
        """Return the seconds until the next poke; Airflow asks after each one, so this is where to defer."""
        if self.deferrable:
            self._defer_after_poke()
        if self.poll_interval is None and not (self.reschedule or self.exponential_backoff):
            pause = self._adaptive_interval(run_duration())
        else:
            # Airflow's power of two leaves the range of a float after a thousand pokes.
            pause = super()._get_next_poke_interval(
                started_at, run_duration, min(poke_count, _MOST_DOUBLINGS)
            )
        if self.max_wait is not None:
            pause = min(pause, self.max_wait.total_seconds())
        if self._poll is not None and self._poll.error is not None:
            pause = max(pause, self._poll.delay)
        pause = max(pause, SHORTEST_POLL_DELAY)
        # Not past the timeout, which Airflow checks only after a poke.
        return min(pause, max(self.timeout - run_duration(), 0.0) + 1.0)

    def _defer_after_poke(self) -> None:
        from airflow_provider_segments.api.flow import Poll

        context: Any = self._context
        with self._airflow_errors():
            deadline = deadline_of(context, self.timeout, self.execution_timeout)
            self._return_or_defer(context, self._poll or Poll(None), self.export_id, deadline)

    def _adaptive_interval(self, waited: float) -> float:
        """Return the delay of the adaptive schedule; an export is at least as old as the wait."""
        from airflow_provider_segments.api.retries import poll_delay

        delay = poll_delay(waited, None, self.hook.clock.jitter())
        return max(delay, self._poll.delay) if self._poll and self._poll.export else delay

    @contextmanager
    def _airflow_errors(self) -> Iterator[None]:
        """Raise this package's errors as Airflow's; with soft_fail or never_fail, log them and skip, in each mode."""
        try:
            with airflow_errors(_INSTEAD):
                yield
        except AirflowSkipException:
            raise
        except AirflowException as error:
            retried = self.silent_fail and isinstance(error, UserSegmentsException)
            if retried or not (self.soft_fail or self.never_fail):
                raise
            self.log.error("%s", error)  # noqa: TRY400 - a message, whose traceback says nothing
            option = "soft_fail" if self.soft_fail else "never_fail"
            raise AirflowSkipException(f"Skipping because {option} is True: {error}") from error

    def _awaited_export_id(self, context: Context) -> str:
        return self.export_id

    def _check_mode(self) -> None:
        if not self.deferrable:
            return
        if self.reschedule:
            raise InvalidArgumentError(
                f"{self.task_id}: deferrable=True and mode='reschedule' exclude each other; choose one."
            )
        if given := [name for name in _ON_A_WORKER_ONLY if getattr(self, name)]:
            raise InvalidArgumentError(
                f"{self.task_id}: {' and '.join(given)}: not supported in the triggerer, where the sensor waits by "
                "default. Remove it (the default schedule adapts to the export's age), or set deferrable=False or "
                "mode='reschedule'."
            )
