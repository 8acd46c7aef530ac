# SPDX-License-Identifier: Apache-2.0
"""Objects in the user's own bucket that are read again later."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow_provider_segments.api.errors import FileTransferError
from airflow_provider_segments.api.location import ExportFile
from airflow_provider_segments.files.destination import Destination
from airflow_provider_segments.files.s3 import NOT_FOUND, open_s3, s3_failures

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from airflow_provider_segments.files.source import Source

__all__ = ["LatestExport", "StoredObject"]

# S3's answers to a conditional write whose condition does not hold: the last one where the object has gone.
_NOT_MET = ("PreconditionFailed", "412", "ConditionalRequestConflict", "409", *NOT_FOUND)
# How many records of earlier exports are kept.
_EARLIER = 20


class StoredObject(Destination):
    """An object that this package has written, or will write."""

    def open(self) -> AbstractContextManager[Source]:
        """Read the object."""
        file = ExportFile(self.uri, self.bucket, self.key)
        return open_s3(file, self._aws_conn_id, self._args_of("GetObject"))

    def sibling(self, key: str) -> StoredObject:
        """Return another object of the bucket, with the same arguments and client."""
        made = StoredObject(self.bucket, key, self._aws_conn_id, self._extra_args, self._transfer_config_args)
        made._client = self._client
        return made


class LatestExport(StoredObject):
    """
    ``latest.json``: the record of the export that the next run compares with, and those of earlier ones.

    The earlier ones are for a late retry of a task that died between this write and its success.
    """

    record: Mapping[str, Any] = MappingProxyType({})
    _etag: str | None = None

    def read(self) -> LatestExport:
        """Read the object and return self; a missing one has no record."""
        from botocore.exceptions import ClientError

        with s3_failures(self.uri, "read", self._aws_conn_id):
            try:
                answer = self._client.get_object(**self._place, **self._args_of("GetObject"))
            except ClientError as error:
                if error.response["Error"]["Code"] in NOT_FOUND:
                    self.record, self._etag = {}, None
                    return self
                raise
            body = answer["Body"].read()
        self.record, self._etag = self._parsed(body), answer["ETag"]
        return self

    @property
    def export_id(self) -> str | None:
        """The export that the next run compares with."""
        return self.record.get("export_id")

    def previous_for(self, run: Mapping[str, Any]) -> str | None:
        """Return the export to compare with: the latest, or the one before if an earlier try of the run wrote that."""
        return self.record.get("latest_before" if self.record.get("run") == run else "export_id")

    def record_of(self, export_id: str) -> dict[str, Any] | None:
        """Return what is known of an export, if it is done."""
        records = [self.record, *self.record.get("earlier", ())]
        return next((dict(record) for record in records if record.get("export_id") == export_id), None)

    def reread(self) -> bool:
        """Read it again, and return whether another run has written it meanwhile."""
        before = self._etag
        return self.read()._etag != before

    def advance(self, record: Mapping[str, Any]) -> dict[str, Any] | None:
        """Make a record the latest one and return it; None if another run wrote first; then its record is read."""
        last = {name: value for name, value in self.record.items() if name != "earlier"}
        replaced = not last or last.get("run") == record["run"]
        earlier = [*([] if replaced else [last]), *self.record.get("earlier", ())][:_EARLIER]
        if self._put({**record, "earlier": earlier}):
            return dict(record)
        # boto3 repeats a request whose answer was lost, so it may have been this very write.
        return self.read().record_of(record["export_id"])

    def _put(self, value: Mapping[str, Any]) -> bool:
        """Write if the object is unchanged since `read`, and return whether it was."""
        from botocore.exceptions import ClientError

        condition = {"IfMatch": self._etag} if self._etag else {"IfNoneMatch": "*"}
        arguments = self._object_args({}) | {"ContentType": "application/json"}
        body = (json.dumps(value, indent=2) + "\n").encode()
        with s3_failures(self.uri, "written", self._aws_conn_id):
            try:
                self._client.put_object(**self._place, **arguments, **condition, Body=body)
            except ClientError as error:
                if error.response["Error"]["Code"] in _NOT_MET:
                    return False
                raise
        return True

    def _parsed(self, body: bytes) -> dict[str, Any]:
        try:
            found = json.loads(body)
            if isinstance(found["export_id"], str) and all(isinstance(old, dict) for old in found["earlier"]):
                return dict(found)
        except (ValueError, TypeError, KeyError):
            pass
        raise FileTransferError(
            f"{self.uri} is not what this operator writes. Move it away, or choose another s3_prefix."
        )
