# SPDX-License-Identifier: Apache-2.0
"""Keep the id of a running export across the tries of a task, on Airflow 3.3 and later."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_segments.api.errors import AbandonedTryError
from airflow_provider_segments.utils.clock import utcnow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_segments.api.models import SegmentExport
    from airflow_provider_segments.api.reattach import Remembered
    from airflow_provider_segments.hooks.user_segments import UserSegmentsHook

__all__ = ["RunningExport", "TransferUnderWay"]

# Renaming it would lose the exports that run while the package is upgraded.
_KEY = "user_segment_export"
_TRANSFER_KEY = "user_segment_transfer"


class RunningExport:
    """
    The export that a task's tries share.

    It is never forgotten on success: a try that dies after that, before Airflow knows of it, would else request
    another. A cleared task is known by its `max_tries`, and the store drops what is older than three days.

    :param context: the running task's.
    :param asked: what the task is asked for, rendered.
    :param durable: whether to keep anything.
    :param log: where the decision is told.
    """

    def __init__(self, context: Any, asked: Mapping[str, str], *, durable: bool, log: Any) -> None:
        self._asked, self._log = dict(asked), log
        self._max_tries: int = getattr(context["ti"], "max_tries", 0) or 0
        self._store = _store_of(context) if durable else None
        if durable and self._store is None:
            log.info(
                "This Airflow has no task state store (3.3 and later have): a later try requests another export."
            )

    def reattach(self, hook: UserSegmentsHook) -> SegmentExport | None:
        """
        Return an earlier try's export if this one is to go on with it.

        :param hook: to ask the service how far it is.
        """
        remembered = self._remembered()
        if remembered is None:
            return None
        from airflow_provider_segments.api.reattach import Decision

        decision, why, export = self._decide(remembered, hook)
        self._log.info(
            "An earlier try requested export %s: %s, for %s.", remembered.export_id, decision.value, why
        )
        if decision is Decision.START_ANEW:
            return None
        # What is taken up now is fresh enough for whoever cleared the task.
        if remembered.max_tries != self._max_tries:
            self._remember(replace(remembered, max_tries=self._max_tries))
        return export

    def announce(self) -> None:
        """
        Write that a request is about to be sent, which also shows whether Airflow still knows this try.

        A busy Airflow can give a try up and start it all the same. To read the store of such a try is answered as if
        it were empty; only writing tells.

        :raises AbandonedTryError: Airflow has given this try up; nothing is to be requested.
        """
        try:
            self._write({"asked": self._asked, "announced_at": utcnow().isoformat()})
        except Exception as error:
            if _is_not_found(error):
                raise AbandonedTryError(
                    "Airflow has given this try up while it was starting, so no export is requested here; the next "
                    "try takes up what the earlier ones have requested."
                ) from error
            self._log.warning("The task state store can't be written: %s", error)

    def keep(self, export: SegmentExport) -> None:
        """
        Keep an export's id for later tries.

        :param export: the one just requested.
        """
        from airflow_provider_segments.api.reattach import Remembered

        self._remember(Remembered(export.export_id, self._asked, utcnow().isoformat(), self._max_tries))

    def _decide(
        self, remembered: Remembered, hook: UserSegmentsHook
    ) -> tuple[Any, str, SegmentExport | None]:
        from airflow_provider_segments.api.errors import CallError
        from airflow_provider_segments.api.reattach import (
            Decision,
            after_answer,
            after_refusal,
            before_asking,
        )

        now = utcnow()
        decision, why = before_asking(remembered, self._asked, now)
        if decision is not Decision.ASK:
            return decision, why, None
        try:
            export = hook.get_export(remembered.export_id)
        except CallError as error:
            if (refused := after_refusal(error)) is None:
                self._log.warning(
                    "Can't tell how far export %s is, so nothing is requested.", remembered.export_id
                )
                raise
            return *refused, None
        return *after_answer(export, remembered.max_tries != self._max_tries, now), export

    def _remembered(self) -> Remembered | None:
        if self._store is None:
            return None
        from airflow_provider_segments.api.reattach import Remembered

        try:
            value = self._store.get(_KEY)
        except Exception as error:  # noqa: BLE001 - whatever a store's backend raises must not stop the export
            self._log.warning(
                "The task state store can't be read, so a running export is not taken up: %s", error
            )
            return None
        if isinstance(value, dict) and "announced_at" in value:
            self._log.warning(
                "An earlier try was about to request an export at %s and has kept no id. If its request arrived, that "
                "export runs unattended.",
                value["announced_at"],
            )
            return None
        remembered = None if value is None else Remembered.from_json(value)
        if value is not None and remembered is None:
            self._log.warning("The task state store holds something else under %r; it is ignored.", _KEY)
        return remembered

    def _remember(self, remembered: Remembered) -> None:
        try:
            self._write(remembered.to_json())
        except Exception as error:  # noqa: BLE001 - whatever a store's backend raises must not stop the export
            self._log.warning(
                "The task state store can't be written, so a later try can't take up export %s: %s",
                remembered.export_id,
                error,
            )

    def _write(self, value: dict[str, Any]) -> None:
        from airflow_provider_segments.api.reattach import LONGEST_MEMORY

        if self._store is not None:
            self._store.set(_KEY, value, retention=LONGEST_MEMORY)


class TransferUnderWay:
    """
    What an earlier try of a task has begun to write, so that this one may overwrite it.

    A user who clears the task is known by its `max_tries`: then what is there is a finished object.

    :param context: the running task's.
    :param uri: the object.
    :param log: where a store that fails is told.
    """

    def __init__(self, context: Any, uri: str, *, log: Any) -> None:
        self._store, self._log = _store_of(context), log
        self._value = {"uri": uri, "max_tries": getattr(context["ti"], "max_tries", 0) or 0}

    @property
    def is_known(self) -> bool:
        """Whether an earlier try has begun."""
        try:
            return self._store is not None and self._store.get(_TRANSFER_KEY) == self._value
        except Exception as error:  # noqa: BLE001 - whatever a store's backend raises: then nothing is known
            self._log.warning("The task state store can't be read: %s", error)
            return False

    def keep(self) -> None:
        """Keep that this try begins."""
        from airflow_provider_segments.api.reattach import LONGEST_MEMORY

        try:
            if self._store is not None:
                self._store.set(_TRANSFER_KEY, self._value, retention=LONGEST_MEMORY)
        except Exception as error:  # noqa: BLE001 - whatever a store's backend raises must not stop the transfer
            self._log.warning("The task state store can't be written: %s", error)


def _store_of(context: Any) -> Any:
    # Airflow 2's context warns when it is asked for a key it does not have; membership is safe on each.
    return context["task_state_store"] if "task_state_store" in context else None  # noqa: SIM401


def _is_not_found(error: Exception) -> bool:
    """Return whether Airflow's API answered a write with 404, which it does when the task instance is gone."""
    detail = getattr(getattr(error, "error", None), "detail", None)
    return isinstance(detail, dict) and detail.get("status_code") == 404
