# SPDX-License-Identifier: Apache-2.0
"""The id of a running export across the tries of a task, in the task state store of Airflow 3.3 and later."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_segments.api.errors import AbandonedTryError
from airflow_provider_segments.utils.clock import utcnow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_segments.api.models import SegmentExport
    from airflow_provider_segments.api.reattach import StoredExport
    from airflow_provider_segments.hooks.user_segments import UserSegmentsHook

__all__ = ["RunningExport", "TransferUnderWay"]

# To rename it would lose the exports that run while the package is upgraded.
_KEY = "user_segment_export"
_TRANSFER_KEY = "user_segment_transfer"


class RunningExport:
    """
    The export that a task's tries share.

    It stays in the store after a success: a try may die after that, before Airflow knows of it, and the next one would
    request another. A cleared task is known by its `max_tries`, and the store drops what is older than three days.
    """

    def __init__(self, context: Any, asked: Mapping[str, str], *, durable: bool, log: Any) -> None:
        self._asked, self._log = dict(asked), log
        self._max_tries: int = getattr(context["ti"], "max_tries", 0) or 0
        self._store = _store_of(context) if durable else None
        if durable and self._store is None:
            log.info(
                "This Airflow has no task state store (3.3 and later do): a later try requests another export."
            )

    def reattach(self, hook: UserSegmentsHook) -> SegmentExport | None:
        """Return an earlier try's export, or None if another is to be requested."""
        stored = self._stored()
        if stored is None:
            return None
        from airflow_provider_segments.api.reattach import Decision

        decision, why, export = self._decide(stored, hook)
        self._log.info(
            "An earlier try requested export %s: %s, for %s.", stored.export_id, decision.value, why
        )
        if decision is Decision.REQUEST:
            return None
        # Fresh enough for whoever cleared the task.
        if stored.max_tries != self._max_tries:
            self._keep(replace(stored, max_tries=self._max_tries))
        return export

    def announce(self) -> None:
        """
        Store that a request is about to be sent, which also shows whether Airflow still knows this try.

        A busy Airflow may give a try up and start it all the same. Reading the store of such a try finds nothing; only
        writing is refused.
        """
        try:
            self._write({"asked": self._asked, "announced_at": utcnow().isoformat()})
        except Exception as error:
            if _is_not_found(error):
                raise AbandonedTryError(
                    "Airflow has given this try up while it was starting, so no export is requested here; the next "
                    "try reattaches to what the earlier ones have requested."
                ) from error
            self._log.warning("The task state store can't be written: %s", error)

    def keep(self, export: SegmentExport) -> None:
        """Store the id of the export just requested."""
        from airflow_provider_segments.api.reattach import StoredExport

        self._keep(StoredExport(export.export_id, self._asked, utcnow().isoformat(), self._max_tries))

    def _decide(self, stored: StoredExport, hook: UserSegmentsHook) -> tuple[Any, str, SegmentExport | None]:
        from airflow_provider_segments.api import reattach
        from airflow_provider_segments.api.errors import CallError

        now = utcnow()
        decision, why = reattach.before_asking(stored, self._asked, now)
        if decision is not reattach.Decision.ASK:
            return decision, why, None
        try:
            export = hook.get_export(stored.export_id)
        except CallError as error:
            if (refused := reattach.after_refusal(error)) is None:
                self._log.warning(
                    "The state of export %s is unknown, so nothing is requested.", stored.export_id
                )
                raise
            return *refused, None
        return *reattach.after_answer(export, stored.max_tries != self._max_tries, now), export

    def _stored(self) -> StoredExport | None:
        if self._store is None:
            return None
        from airflow_provider_segments.api.reattach import StoredExport

        try:
            value = self._store.get(_KEY)
        except Exception as error:  # noqa: BLE001 - whatever a store's backend raises must not stop the export
            self._log.warning("The task state store can't be read, so this try can't reattach: %s", error)
            return None
        if isinstance(value, dict) and "announced_at" in value:
            self._log.warning(
                "An earlier try was about to request an export at %s and has stored no id. If its request arrived, "
                "that export runs unattended.",
                value["announced_at"],
            )
            return None
        stored = None if value is None else StoredExport.from_json(value)
        if value is not None and stored is None:
            self._log.warning("The task state store holds something else under %r; it is ignored.", _KEY)
        return stored

    def _keep(self, stored: StoredExport) -> None:
        try:
            self._write(stored.to_json())
        except Exception as error:  # noqa: BLE001 - whatever a store's backend raises must not stop the export
            self._log.warning(
                "The task state store can't be written, so a later try can't reattach to export %s: %s",
                stored.export_id,
                error,
            )

    def _write(self, value: dict[str, Any]) -> None:
        if self._store is not None:
            _set(self._store, _KEY, value)


class TransferUnderWay:
    """
    What an earlier try of a task has begun to write, so that this one may overwrite it.

    After a user has cleared the task, which its `max_tries` shows, the object is a finished one.
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
        """Store that this try begins."""
        try:
            if self._store is not None:
                _set(self._store, _TRANSFER_KEY, self._value)
        except Exception as error:  # noqa: BLE001 - whatever a store's backend raises must not stop the transfer
            self._log.warning("The task state store can't be written: %s", error)


def _store_of(context: Any) -> Any:
    # Airflow 2's context warns when it is asked for a key it does not have; membership is safe on each.
    return context["task_state_store"] if "task_state_store" in context else None  # noqa: SIM401


def _set(store: Any, key: str, value: dict[str, Any]) -> None:
    from airflow_provider_segments.api.reattach import RETENTION

    store.set(key, value, retention=RETENTION)


def _is_not_found(error: Exception) -> bool:
    """Return whether Airflow's API answered a write with 404, which it does when the task instance is gone."""
    detail = getattr(getattr(error, "error", None), "detail", None)
    return isinstance(detail, dict) and detail.get("status_code") == 404
