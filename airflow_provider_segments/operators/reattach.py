# SPDX-License-Identifier: Apache-2.0
"""What the tries of a task share through the task state store of Airflow 3.3 and later."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_segments.api.errors import AbandonedTryError, CallError
from airflow_provider_segments.api.reattach import RETENTION, StoredExport, is_unknown, unusable_after_lookup
from airflow_provider_segments.utils.clock import utcnow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_segments.api.models import SegmentExport
    from airflow_provider_segments.hooks.user_segments import UserSegmentsHook


class _Record:
    """One key of the store; a store that fails must not stop the task."""

    key: str

    def __init__(self, context: Any, log: Any) -> None:
        # Airflow 2's context warns about a missing key; `in` does not.
        self._store = context["task_state_store"] if "task_state_store" in context else None  # noqa: SIM401
        self._max_tries: int = getattr(context["ti"], "max_tries", 0) or 0
        self._log = log

    def _get(self, consequence: str) -> Any:
        try:
            return None if self._store is None else self._store.get(self.key)
        except Exception as error:  # noqa: BLE001 - whatever the store's backend raises
            self._log.warning("The task state store can't be read, so %s: %s", consequence, error)
            return None

    def _set(self, value: dict[str, Any], consequence: str) -> Exception | None:
        try:
            if self._store is not None:
                self._store.set(self.key, value, retention=RETENTION)
        except Exception as error:  # noqa: BLE001 - whatever the store's backend raises
            self._log.warning("The task state store can't be written, so %s: %s", consequence, error)
            return error
        return None


class ExportRecord(_Record):
    """
    The export that a task's tries share.

    It stays in the store after success, because a try may die before Airflow records that success, and the next try
    must not request another export. A changed `max_tries` shows that a user has cleared the task. The store drops
    records after three days.
    """

    key = "user_segment_export"  # renaming it would lose exports that run during an upgrade of the package

    def __init__(self, context: Any, params: Mapping[str, str], *, durable: bool, log: Any) -> None:
        super().__init__(context, log)
        self._params = dict(params)
        if durable and self._store is None:
            log.info(
                "This Airflow has no task state store (added in 3.3), so a later try requests another export."
            )
        self._store = self._store if durable else None

    def reattach(self, hook: UserSegmentsHook) -> SegmentExport | None:
        """Return an earlier try's export, or None to request a new one."""
        if (stored := self._stored()) is None:
            return None
        export, cleared = None, stored.max_tries != self._max_tries
        reason = stored.unusable_before_lookup(self._params, utcnow())
        if reason is None:
            export, reason = self._look_up(stored.export_id, hook, cleared)
        decision = f"Requesting another, because {reason}." if reason else "Reattaching to it."
        self._log.info("An earlier try requested export %s. %s", stored.export_id, decision)
        if reason:
            return None
        if cleared:  # so that later tries don't see another clear
            self._store_record(replace(stored, max_tries=self._max_tries))
        return export

    def store_intent(self) -> None:
        """
        Store that a request is about to be sent, and check that Airflow still knows this try.

        A busy Airflow may give up on a try and start it all the same. For such a try, reading from the store returns
        nothing, but writing fails.
        """
        intent = {"asked": self._params, "announced_at": utcnow().isoformat()}
        error = self._set(intent, "a later try won't know of this request")
        if error and _is_not_found(error):
            raise AbandonedTryError(
                "Airflow gave up on this try while it was starting, so it requests no export; the next try reattaches "
                "to an export that an earlier one requested."
            ) from error

    def store_export(self, export: SegmentExport) -> None:
        """Store the id of the export just requested."""
        now = utcnow().isoformat()
        self._store_record(StoredExport(export.export_id, self._params, now, self._max_tries))

    def _look_up(
        self, export_id: str, hook: UserSegmentsHook, cleared: bool
    ) -> tuple[SegmentExport | None, str | None]:
        try:
            export = hook.get_export(export_id)
        except CallError as error:
            if is_unknown(error):
                return None, f"the service does not know it (HTTP {error.status})"
            self._log.warning("The state of export %s is unknown, so no other is requested.", export_id)
            raise
        return export, unusable_after_lookup(export, cleared, utcnow())

    def _stored(self) -> StoredExport | None:
        value = self._get("this try can't reattach")
        if isinstance(value, dict) and "announced_at" in value:
            self._log.warning(
                "An earlier try was about to request an export at %s and stored no id. If its request arrived, nothing "
                "waits for that export.",
                value["announced_at"],
            )
            return None
        stored = None if value is None else StoredExport.from_json(value)
        if value is not None and stored is None:
            self._log.warning(
                "The task state store holds an unknown value under %r; it is ignored.", self.key
            )
        return stored

    def _store_record(self, stored: StoredExport) -> None:
        self._set(asdict(stored), f"a later try can't reattach to export {stored.export_id}")


class TransferRecord(_Record):
    """
    The object that an earlier try of a task began to write, so that this one may overwrite it.

    Once a user has cleared the task, which changes its `max_tries`, the object counts as finished.
    """

    key = "user_segment_transfer"

    def __init__(self, context: Any, uri: str, *, log: Any) -> None:
        super().__init__(context, log)
        self._value = {"uri": uri, "max_tries": self._max_tries}

    def began_earlier(self) -> bool:
        """Return whether an earlier try began to write the object."""
        return bool(self._get("this try overwrites nothing") == self._value)

    def store(self) -> None:
        """Store that this try begins."""
        self._set(self._value, "a later try can't overwrite what this one writes")


def _is_not_found(error: Exception) -> bool:
    """Return whether Airflow's API answered a write with 404, which it does when the task instance is gone."""
    detail = getattr(getattr(error, "error", None), "detail", None)
    return isinstance(detail, dict) and detail.get("status_code") == 404
