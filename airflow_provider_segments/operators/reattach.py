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

__all__ = ["ExportRecord", "TransferUnderWay"]

# Renaming it would lose exports that run during an upgrade of the package.
_KEY = "user_segment_export"
_TRANSFER_KEY = "user_segment_transfer"


class ExportRecord:
    """
    The export that a task's tries share.

    It stays in the store after success, because a try may die before Airflow records that success, and the next try
    must not request another export. A changed `max_tries` shows that a user has cleared the task. The store drops
    records after three days.
    """

    def __init__(self, context: Any, params: Mapping[str, str], *, durable: bool, log: Any) -> None:
        self._params, self._log = dict(params), log
        self._max_tries: int = getattr(context["ti"], "max_tries", 0) or 0
        self._store = _store_of(context) if durable else None
        if durable and self._store is None:
            log.info(
                "This Airflow has no task state store (3.3 and later do): a later try requests another export."
            )

    def reattach(self, hook: UserSegmentsHook) -> SegmentExport | None:
        """Return an earlier try's export, or None to request a new one."""
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
        # A user cleared the task: this export is fresh enough for later tries, too.
        if stored.max_tries != self._max_tries:
            self._keep(replace(stored, max_tries=self._max_tries))
        return export

    def store_intent(self) -> None:
        """
        Store that a request is about to be sent, and check that Airflow still knows this try.

        A busy Airflow may give up on a try and start it all the same. For such a try, reading from the store returns
        nothing, but writing fails.
        """
        try:
            self._write({"asked": self._params, "announced_at": utcnow().isoformat()})
        except Exception as error:
            if _is_not_found(error):
                raise AbandonedTryError(
                    "Airflow gave up on this try while it was starting, so it requests no export; the next try "
                    "reattaches to an export that an earlier one requested."
                ) from error
            self._log.warning("The task state store can't be written: %s", error)

    def store_export(self, export: SegmentExport) -> None:
        """Store the id of the export just requested."""
        from airflow_provider_segments.api.reattach import StoredExport

        self._keep(StoredExport(export.export_id, self._params, utcnow().isoformat(), self._max_tries))

    def _decide(self, stored: StoredExport, hook: UserSegmentsHook) -> tuple[Any, str, SegmentExport | None]:
        from airflow_provider_segments.api import reattach
        from airflow_provider_segments.api.errors import CallError

        now = utcnow()
        decision, why = reattach.before_asking(stored, self._params, now)
        if decision is not reattach.Decision.ASK:
            return decision, why, None
        try:
            export = hook.get_export(stored.export_id)
        except CallError as error:
            if (refused := reattach.after_refusal(error)) is None:
                self._log.warning(
                    "The state of export %s is unknown, so no other is requested.", stored.export_id
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
        except Exception as error:  # noqa: BLE001 - a failing store must not stop the export
            self._log.warning("The task state store can't be read, so this try can't reattach: %s", error)
            return None
        if isinstance(value, dict) and "announced_at" in value:
            self._log.warning(
                "An earlier try was about to request an export at %s and stored no id. If its request arrived, nothing "
                "waits for that export.",
                value["announced_at"],
            )
            return None
        stored = None if value is None else StoredExport.from_json(value)
        if value is not None and stored is None:
            self._log.warning("The task state store holds an unknown value under %r; it is ignored.", _KEY)
        return stored

    def _keep(self, stored: StoredExport) -> None:
        try:
            self._write(stored.to_json())
        except Exception as error:  # noqa: BLE001 - a failing store must not stop the export
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
    The object that an earlier try of a task began to write, so that this one may overwrite it.

    Once a user has cleared the task, which changes its `max_tries`, the object counts as finished.
    """

    def __init__(self, context: Any, uri: str, *, log: Any) -> None:
        self._store, self._log = _store_of(context), log
        self._value = {"uri": uri, "max_tries": getattr(context["ti"], "max_tries", 0) or 0}

    @property
    def is_known(self) -> bool:
        """Whether an earlier try has begun."""
        try:
            return self._store is not None and self._store.get(_TRANSFER_KEY) == self._value
        except Exception as error:  # noqa: BLE001 - a failing store knows nothing
            self._log.warning("The task state store can't be read: %s", error)
            return False

    def keep(self) -> None:
        """Store that this try begins."""
        try:
            if self._store is not None:
                _set(self._store, _TRANSFER_KEY, self._value)
        except Exception as error:  # noqa: BLE001 - a failing store must not stop the transfer
            self._log.warning("The task state store can't be written: %s", error)


def _store_of(context: Any) -> Any:
    # Airflow 2's context warns about a missing key; `in` does not.
    return context["task_state_store"] if "task_state_store" in context else None  # noqa: SIM401


def _set(store: Any, key: str, value: dict[str, Any]) -> None:
    from airflow_provider_segments.api.reattach import RETENTION

    store.set(key, value, retention=RETENTION)


def _is_not_found(error: Exception) -> bool:
    """Return whether Airflow's API answered a write with 404, which it does when the task instance is gone."""
    detail = getattr(getattr(error, "error", None), "detail", None)
    return isinstance(detail, dict) and detail.get("status_code") == 404
