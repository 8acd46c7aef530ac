# SPDX-License-Identifier: Apache-2.0
"""An operator that exports a user segment and finds out who entered and who left since the last export."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow_provider_segments.api.errors import (
    ConcurrentRunError,
    ConfigurationError,
    PreviousFileMissingError,
)
from airflow_provider_segments.exceptions import InvalidArgumentError, airflow_errors, argument_errors
from airflow_provider_segments.files.changes import KINDS, compare, memory_in_bytes, require_duckdb
from airflow_provider_segments.files.csv_file import open_csv
from airflow_provider_segments.files.scratch import temporary_folder
from airflow_provider_segments.operators.reattach import TransferRecord
from airflow_provider_segments.operators.user_segments import UserSegmentExportOperator
from airflow_provider_segments.transfers.user_segment_to_s3 import UserSegmentToS3Operator
from airflow_provider_segments.utils.clock import utcnow

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Literal

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_segments.api.models import SegmentExport
    from airflow_provider_segments.files.changes import Changes
    from airflow_provider_segments.files.csv_file import CsvFile
    from airflow_provider_segments.files.destination import Destination
    from airflow_provider_segments.files.stored import LatestExport, StoredObject

__all__ = ["UserSegmentChangesToS3Operator"]

_COUNTS = (*KINDS, "unchanged")
_WHEN_MISSING = ("fail", "added", "baseline")
# What the tries of a task have in common, until a user clears it, which changes `max_tries`.
_RUN = ("dag_id", "run_id", "task_id", "map_index", "max_tries")


class UserSegmentChangesToS3Operator(UserSegmentToS3Operator):
    """
    Export a user segment into your own bucket, with the changes since its previous export.

    Below ``{s3_prefix}/{segment_id}/{export_id}/`` it writes ``users.csv``, the whole export, and ``added.csv``,
    ``removed.csv`` and ``changed.csv``, each with the header and whole rows; a row is a changed one if its key stayed
    and another column changed. Then it writes ``{s3_prefix}/{segment_id}/latest.json``, the only state: the next run
    compares with the export that it names. A file with no rows is still written, with its header.

    Takes the arguments of `UserSegmentToS3Operator` except ``s3_key`` and ``replace``. The result has its keys, for
    ``users.csv``, plus ``previous_export_id``, the counts ``added``, ``removed``, ``changed`` and ``unchanged``,
    and ``added_s3_uri``, ``added_s3_key`` and likewise for the other files.

    A try may die anywhere: the next one overwrites what was left half-done. Of two runs that compare with the same
    export, the second one fails, and its retry compares with the export of the first.

    Needs DuckDB: ``pip install 'airflow-provider-segments[changes]'``.

    :param s3_bucket: your bucket (templated).
    :param s3_prefix: the folder in it (templated).
    :param key_columns: the columns that identify a user; None for the first one.
    :param compare_columns: the columns whose change makes a row a changed one. None for all of them; then a header
        other than the previous one is an error. With names given, the header may change, and a column among them that
        was added or dropped makes every row a changed one.
    :param first_run: who is in the first ``added.csv``: ``added`` for everybody, ``baseline`` for nobody.
    :param when_previous_is_missing: what to do if the previous ``users.csv`` is not in the bucket any more: ``fail``,
        or go on as in a first run, ``added`` or ``baseline``.
    :param memory_limit: how much memory the comparison may take, such as ``1GB``; the rest goes to the disk.
    """

    template_fields: Sequence[str] = (
        *UserSegmentExportOperator.template_fields,
        "s3_bucket",
        "s3_prefix",
        "aws_conn_id",
        "source_aws_conn_id",
    )

    def __init__(
        self,
        *,
        s3_bucket: str,
        s3_prefix: str,
        key_columns: Sequence[str] | None = None,
        compare_columns: Sequence[str] | None = None,
        first_run: Literal["added", "baseline"] = "added",
        when_previous_is_missing: Literal["fail", "added", "baseline"] = "fail",
        memory_limit: str = "1GB",
        **kwargs: Any,
    ) -> None:
        if unwanted := sorted({"s3_key", "replace"} & set(kwargs)):
            raise InvalidArgumentError(
                f"{kwargs.get('task_id')}: {' and '.join(unwanted)} can't be set, because each export has its own "
                "folder below s3_prefix."
            )
        super().__init__(s3_bucket=s3_bucket, s3_key="", replace=True, **kwargs)
        with argument_errors(self.task_id):
            memory_in_bytes(memory_limit)
            if (self.extra_args or {}).get("StorageClass") in ("GLACIER", "DEEP_ARCHIVE"):
                raise ConfigurationError("extra_args: objects in this StorageClass can't be read back.")
            _check_choice("first_run", first_run, ("added", "baseline"))
            _check_choice("when_previous_is_missing", when_previous_is_missing, _WHEN_MISSING)
            _check_names("key_columns", key_columns)
            _check_names("compare_columns", compare_columns)
        self.s3_prefix = s3_prefix
        self.key_columns = key_columns
        self.compare_columns = compare_columns
        self.first_run = first_run
        self.when_previous_is_missing = when_previous_is_missing
        self.memory_limit = memory_limit

    def execute(self, context: Context) -> dict[str, Any]:
        """Check the arguments, then export, compare and write."""
        with airflow_errors():
            require_duckdb()
            self._destination(f"{self.s3_prefix}/latest.json").check_arguments()
            return self._export(context)

    def _key_of(self, export: SegmentExport) -> str:
        return f"{self._folder_of(export)}/{export.export_id}/users.csv"

    def _folder_of(self, export: SegmentExport) -> str:
        segment_id = export.segment.segment_id or self.segment_id
        if not segment_id:
            raise ConfigurationError(
                f"{self.task_id}: the service names no segment for export {export.export_id}, so there is no folder "
                "for it. Give the operator the segment_id instead of the segment_name."
            )
        return f"{self.s3_prefix.rstrip('/')}/{segment_id}"

    def _destination(self, key: str) -> StoredObject:
        from airflow_provider_segments.files.stored import StoredObject

        self._require_plain("s3_bucket", "a bucket")
        prefix = self.s3_prefix
        if not isinstance(prefix, str) or not prefix.strip("/ ") or "://" in prefix or prefix.startswith("/"):
            raise ConfigurationError(
                f"{self.task_id}: s3_prefix is {prefix!r} once rendered, but it has to be the plain name of a folder "
                "in the bucket, such as 'segments'."
            )
        return StoredObject(self.s3_bucket, key, *self._destination_args())

    def _write(self, context: Context, export: SegmentExport, destination: Destination) -> dict[str, Any]:
        from airflow_provider_segments.files.stored import LatestExport

        key = f"{self._folder_of(export)}/latest.json"
        latest = LatestExport(self.s3_bucket, key, *self._destination_args()).read()
        if record := latest.record_of(export.export_id):
            self.log.info("An earlier try has written %s already.", destination.uri)
        else:
            with temporary_folder("user-segment-changes-") as folder:
                record = self._compare_and_upload(context, export, latest, folder)
        return self._result_of(record, destination.key.removesuffix("users.csv"))

    def _compare_and_upload(
        self, context: Context, export: SegmentExport, latest: LatestExport, folder: Path
    ) -> dict[str, Any]:
        """Write all files, and last of all latest.json; return its record."""
        metadata = self._download(export, folder)
        current = open_csv(folder / "users.csv", f"The file of {export.label}")
        run = {name: getattr(context["ti"], name, None) for name in _RUN}
        latest_id = latest.previous_for(run)
        previous = self._previous(export, latest, latest_id, current, folder)
        previous_id = None if previous in (None, current) else latest_id  # none in a first run
        found = compare(
            previous,
            current,
            folder,
            key_columns=self.key_columns,
            compare_columns=self.compare_columns,
            memory_limit=self.memory_limit,
        )
        counts = ", ".join(f"{getattr(found, name)} {name}" for name in _COUNTS)
        self.log.info("Compared with %s: %s.", f"export {previous_id}" if previous_id else "nothing", counts)
        if latest.reread():  # another try of this run may have written it
            written = latest.record_of(export.export_id)
        else:
            size = self._upload(context, latest.sibling(self._key_of(export)), folder, metadata)
            ids = {"previous_export_id": previous_id, "latest_before": latest_id}
            written = latest.advance(self._record(export, found) | ids | {"size": size, "run": run})
        if written is None:
            raise self._beaten(export, previous_id, latest)
        return written

    def _record(self, export: SegmentExport, found: Changes) -> dict[str, Any]:
        return {
            "export_id": export.export_id,
            "segment_id": export.segment.segment_id or self.segment_id,
            "segment_name": export.segment.name,
            **asdict(found),
            "start_time": export.to_dict()["start_time"],
            "end_time": export.to_dict()["end_time"],
            "written_at": utcnow().isoformat(),
        }

    def _download(self, export: SegmentExport, folder: Path) -> dict[str, Any]:
        """Keep the service's file, and return its metadata."""
        from airflow_provider_segments.files.local import save

        with self._open(export) as source:
            save(source, folder / "users.csv")
            return dict(source.metadata)

    def _previous(
        self,
        export: SegmentExport,
        latest: LatestExport,
        latest_id: str | None,
        current: CsvFile,
        folder: Path,
    ) -> CsvFile | None:
        """Return the file to compare with: None makes everybody an added user, the current one nobody."""
        from airflow_provider_segments.files.local import save

        choice: str = self.first_run
        if latest_id:
            stored = latest.sibling(f"{self._folder_of(export)}/{latest_id}/users.csv")
            if stored.exists():
                with stored.open() as source:
                    save(source, folder / "previous.csv")
                return open_csv(folder / "previous.csv", stored.uri)
            choice = self.when_previous_is_missing
            message = f"{stored.uri}, the file of the previous export {latest_id}, is not there any more"
            if choice == "fail":
                raise PreviousFileMissingError(
                    f"{self.task_id}: {message}, so there is nothing to compare with. Restore it, or set "
                    "when_previous_is_missing to 'added' or 'baseline', which go on as in a first run. If a lifecycle "
                    "rule has deleted it, let the rule keep files longer than the time between two runs."
                )
            self.log.warning("%s. With when_previous_is_missing=%r, this is a first run.", message, choice)
        return current if choice == "baseline" else None

    def _upload(self, context: Context, users: StoredObject, folder: Path, metadata: dict[str, Any]) -> int:
        """Upload the files, and return the size of the whole export."""
        from airflow_provider_segments.files.local import open_local

        record = TransferRecord(context, users.uri, log=self.log)
        is_known = record.began_earlier()
        sizes: list[int] = []
        record.store()
        for name in ("users", *KINDS):
            destination = users.sibling(users.key.removesuffix("users.csv") + f"{name}.csv")
            is_known = is_known and destination.abort_leftovers()  # one warning is enough
            kept = metadata if name == "users" else {"ContentType": "text/csv"}
            with open_local(folder / f"{name}.csv", kept) as source:
                sizes.append(destination.write(source))
        return sizes[0]

    def _beaten(
        self, export: SegmentExport, previous_id: str | None, latest: LatestExport
    ) -> ConcurrentRunError:
        winner = f"export {latest.export_id} of another run" if latest.export_id else "no export"
        return ConcurrentRunError(
            f"{self.task_id}: this run compared {export.label} with {previous_id or 'nothing'}, but meanwhile "
            f"{latest.uri} names {winner}. This run's changes are discarded; the next try compares with the "
            "export named by then. To have one run at a time, set the DAG's max_active_runs=1."
        )

    def _result_of(self, record: dict[str, Any], folder: str) -> dict[str, Any]:
        result = {name: record[name] for name in ("size", "previous_export_id", *_COUNTS)}
        for kind in KINDS:
            result[f"{kind}_s3_uri"] = f"s3://{self.s3_bucket}/{folder}{kind}.csv"
            result[f"{kind}_s3_key"] = f"{folder}{kind}.csv"
        return result


def _check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        known = ", ".join(map(repr, choices))
        raise ConfigurationError(f"{name} is {value!r}, but it has to be one of {known}.")


def _check_names(name: str, columns: object) -> None:
    if columns is None:
        return
    if not isinstance(columns, list | tuple) or not all(
        isinstance(column, str) and column for column in columns
    ):
        raise ConfigurationError(f"{name} is {columns!r}, but it has to be a list of column names.")
    if not columns or len(set(columns)) < len(columns):
        raise ConfigurationError(
            f"{name} is {columns!r}, but it has to name at least one column, and each once."
        )
