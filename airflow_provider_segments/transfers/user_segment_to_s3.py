# SPDX-License-Identifier: Apache-2.0
"""An operator that exports a user segment into the user's own bucket."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_segments.api.errors import ConfigurationError, ObjectExistsError
from airflow_provider_segments.exceptions import (
    InvalidArgumentError,
    airflow_errors,
    argument_errors,
    check_booleans,
)
from airflow_provider_segments.links.user_segments import S3FileLink
from airflow_provider_segments.operators.reattach import TransferRecord
from airflow_provider_segments.operators.user_segments import UserSegmentExportOperator

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_segments.api.models import SegmentExport
    from airflow_provider_segments.files.destination import Destination
    from airflow_provider_segments.files.source import Source

__all__ = ["UserSegmentToS3Operator"]


class UserSegmentToS3Operator(UserSegmentExportOperator):
    """
    Export a user segment to a file in your own bucket, before the service's 48 hours end.

    All arguments of `UserSegmentExportOperator` hold, except that the task always waits and ends on a worker. The
    result has its keys, with ``s3_uri``, ``s3_bucket``, ``s3_key`` and ``filename`` of your object, and also ``size``
    (bytes) and ``source_uri`` (where the service keeps the file). ``expires_at`` remains the service's.

    A file on S3 is copied inside S3, whatever its size, unless it takes other credentials to read it; then, and where
    the service gives an ``https`` URL, it is streamed in bounded memory. The object appears whole or not at all. A
    later try finds the export and repeats only the transfer (Airflow 3.3 and later).

    :param s3_bucket: your bucket (templated).
    :param s3_key: the key of your object (templated).
    :param aws_conn_id: the AWS Connection that may write it; None for what boto3 finds by itself (templated).
    :param source_aws_conn_id: the AWS Connection that may read the service's bucket, if it is another (templated).
    :param replace: overwrite an object that is there. If False, the task fails before an export is requested.
    :param encrypt: encrypt the object on the server with S3's own keys.
    :param acl_policy: canned ACL of the object.
    :param extra_args: boto3's ``ExtraArgs`` for the object, such as ``{"SSEKMSKeyId": ...}``.
    :param transfer_config_args: arguments of boto3's ``TransferConfig``.
    """

    template_fields: Sequence[str] = (
        *UserSegmentExportOperator.template_fields,
        "s3_bucket",
        "s3_key",
        "aws_conn_id",
        "source_aws_conn_id",
    )
    operator_extra_links: Sequence[Any] = (S3FileLink(),)

    def __init__(
        self,
        *,
        s3_bucket: str,
        s3_key: str,
        aws_conn_id: str | None = "aws_default",
        source_aws_conn_id: str | None = None,
        replace: bool = False,
        encrypt: bool = False,
        acl_policy: str | None = None,
        extra_args: dict[str, Any] | None = None,
        transfer_config_args: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if self.end_from_trigger or not self.wait_for_completion:
            raise InvalidArgumentError(
                f"{self.task_id}: the file is transferred on a worker once the export is complete, so "
                "end_from_trigger=True and wait_for_completion=False are not supported."
            )
        with argument_errors(self.task_id):
            check_booleans(replace=replace, encrypt=encrypt)
        for name, given in (("extra_args", extra_args), ("transfer_config_args", transfer_config_args)):
            if not isinstance(given, dict | None):
                raise InvalidArgumentError(f"{self.task_id}: {name} is {given!r}, but it has to be a dict.")
        self.s3_bucket = s3_bucket
        self.s3_key = s3_key
        self.aws_conn_id = aws_conn_id
        self.source_aws_conn_id = source_aws_conn_id
        self.replace = replace
        self.encrypt = encrypt
        self.acl_policy = acl_policy
        self.extra_args = extra_args
        self.transfer_config_args = transfer_config_args

    def execute(self, context: Context) -> dict[str, Any]:
        """Check the arguments and that the object may be written, then export and transfer."""
        with airflow_errors():
            destination = self._destination(self.s3_key)
            destination.check_arguments()
            self._refuse_to_overwrite(destination, TransferRecord(context, destination.uri, log=self.log))
            return self._export(context)

    def _deliver(self, context: Context, export: SegmentExport) -> dict[str, Any]:
        destination = self._destination(self._key_of(export))
        result = super()._deliver(context, export)
        written = self._write(context, export, destination)
        if self.do_xcom_push and (url := destination.console_url):
            self.link_values[S3FileLink.key] = url
            if not AIRFLOW_V_3_0_PLUS:
                context["ti"].xcom_push(key=S3FileLink.key, value=url)
        return result | {
            "source_uri": result["filename"],
            "filename": destination.uri,
            "s3_uri": destination.uri,
            "s3_bucket": destination.bucket,
            "s3_key": destination.key,
            **written,
        }

    def _key_of(self, export: SegmentExport) -> str:
        """Return the key of the export's object."""
        return self.s3_key

    def _write(self, context: Context, export: SegmentExport, destination: Destination) -> dict[str, Any]:
        """Transfer the file and return the other keys of the result."""
        record = TransferRecord(context, destination.uri, log=self.log)
        self._refuse_to_overwrite(destination, record)
        if record.began_earlier():
            destination.abort_leftovers()
        record.store()
        begun = time.monotonic()
        size = self._transfer(export, destination)
        self.log.info(
            "Transferred %d bytes to %s in %.1f s.", size, destination.uri, time.monotonic() - begun
        )
        return {"size": size}

    def _transfer(self, export: SegmentExport, destination: Destination) -> int:
        from airflow_provider_segments.files.source import ensure_kept

        file = ensure_kept(export)
        if file.is_s3_uri and self.source_aws_conn_id in (None, self.aws_conn_id):
            return destination.copy(file)
        with self._open(export) as source:
            return destination.write(source)

    def _open(self, export: SegmentExport) -> AbstractContextManager[Source]:
        """Read the service's file."""
        from airflow_provider_segments.files.s3 import open_s3, read_args
        from airflow_provider_segments.files.source import ensure_kept
        from airflow_provider_segments.files.url import open_url

        file = ensure_kept(export)
        if file.is_s3_uri:
            conn_id = self.source_aws_conn_id or self.aws_conn_id
            return open_s3(file, conn_id, read_args(self.extra_args or {}))

        # A presigned URL's query is not passed between processes, and expires within minutes.
        def fresh_url() -> str:
            return self.hook.get_export(export.export_id).ensure_complete().filename or ""

        return open_url(fresh_url(), self.hook.settings, fresh_url)

    def _destination(self, key: str) -> Destination:
        from airflow_provider_segments.files.destination import Destination

        self._require_plain("s3_bucket", "a bucket")
        self._require_plain("s3_key", "one object")
        return Destination(self.s3_bucket, key, *self._destination_args())

    def _require_plain(self, name: str, what: str) -> None:
        value = getattr(self, name)
        if not isinstance(value, str) or not value.strip() or "://" in value or value.endswith("/"):
            raise ConfigurationError(
                f"{self.task_id}: {name} is {value!r} once rendered, but it has to be the plain name of {what}, not a "
                "URI and not a folder."
            )
        if name == "s3_bucket" and any(character.isspace() for character in value):
            raise ConfigurationError(
                f"{self.task_id}: {name} is {value!r} once rendered, which contains white space."
            )

    def _destination_args(self) -> tuple[str | None, dict[str, Any], dict[str, Any]]:
        """Return what each object of the task is written with."""
        options = {"ServerSideEncryption": "AES256"} if self.encrypt else {}
        # As `S3Hook` has it.
        options |= {"ACL": self.acl_policy} if self.acl_policy not in (None, "", "no-acl") else {}
        return self.aws_conn_id, options | (self.extra_args or {}), self.transfer_config_args or {}

    def _refuse_to_overwrite(self, destination: Destination, record: TransferRecord) -> None:
        if not self.replace and not record.began_earlier() and destination.exists():
            raise ObjectExistsError(
                f"{self.task_id}: {destination.uri} exists already, and replace=False. Nothing was overwritten; set "
                "replace=True, or use a different s3_key for each run, such as segments/{{ run_id }}.csv."
            )
