# SPDX-License-Identifier: Apache-2.0
"""An object in the user's own bucket, to be written whole or not at all."""

from __future__ import annotations

import io
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_segments.api.errors import ConfigurationError, FileTransferError
from airflow_provider_segments.hooks._source import s3_client, s3_failures
from airflow_provider_segments.links.user_segments import s3_console_url

if TYPE_CHECKING:
    from airflow_provider_segments.api.files import ExportFile
    from airflow_provider_segments.hooks._source import Source

__all__ = ["Destination"]

_MEBIBYTE = 1024 * 1024
_PART = 8 * _MEBIBYTE
_MOST_PARTS = (
    10_000  # of a multipart upload: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
)


class Destination:
    """
    Where a file is to go.

    :param bucket: the bucket.
    :param key: the key, to the letter.
    :param aws_conn_id: the AWS Connection that may write it.
    :param extra_args: boto3's ``ExtraArgs``.
    :param transfer_config_args: arguments of boto3's ``TransferConfig``.
    """

    def __init__(
        self,
        bucket: str,
        key: str,
        aws_conn_id: str | None,
        extra_args: dict[str, Any],
        transfer_config_args: dict[str, Any],
    ) -> None:
        self.bucket, self.key, self.uri = bucket, key, f"s3://{bucket}/{key}"
        self._aws_conn_id, self._extra_args = aws_conn_id, extra_args
        self._transfer_config_args = transfer_config_args

    def check_arguments(self) -> None:
        """
        Find out what is wrong with the arguments before anything is requested.

        :raises ConfigurationError: one is not known.
        """
        from s3transfer.manager import TransferManager

        known = {*TransferManager.ALLOWED_UPLOAD_ARGS, *TransferManager.ALLOWED_COPY_ARGS}
        if strange := sorted(set(self._extra_args) - known):
            raise ConfigurationError(
                f"extra_args has {', '.join(map(repr, strange))}, which boto3 does not take as ExtraArgs. It takes: "
                f"{', '.join(sorted(known))}."
            )
        try:
            self._config(None)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"transfer_config_args: {error}.") from error

    @property
    def console_url(self) -> str | None:
        """Where AWS's console shows the object; None for an S3 that is not AWS's."""
        from airflow.providers.amazon.aws.links.base_aws import BaseAwsLink

        meta = self._client.meta
        host = urlsplit(meta.endpoint_url).hostname or ""
        domain = BaseAwsLink.get_aws_domain(meta.partition)
        if not domain or not host.endswith((".amazonaws.com", ".amazonaws.com.cn")):
            return None
        return s3_console_url(self.bucket, self.key, domain)

    def exists(self) -> bool:
        """Return whether there is an object already."""
        return self._head() is not None

    def abort_leftovers(self) -> int:
        """Abort what earlier uploads to this key have left in parts, and return how many there were."""
        with s3_failures(self.uri, "written", self._aws_conn_id):
            answer = self._client.list_multipart_uploads(Bucket=self.bucket, Prefix=self.key)
            leftovers = [upload for upload in answer.get("Uploads", []) if upload["Key"] == self.key]
            for upload in leftovers:
                self._client.abort_multipart_upload(
                    Bucket=self.bucket, Key=self.key, UploadId=upload["UploadId"]
                )
        return len(leftovers)

    def copy(self, file: ExportFile) -> int:
        """
        Copy an object inside S3, in parts if it is large, and return its size in bytes.

        :param file: where it is; these credentials have to reach it.
        """
        place = {"Bucket": file.s3_bucket, "Key": file.s3_key}
        with s3_failures(file.filename, "read", self._aws_conn_id):
            found = self._client.head_object(**place)
        # All parts from one and the same object, with what large copies would else lose.
        arguments = {
            "CopySourceIfMatch": found["ETag"],
            "ContentType": found.get("ContentType", "binary/octet-stream"),
            "MetadataDirective": "REPLACE",
        }
        size = int(found["ContentLength"])
        with s3_failures(self.uri, "written", self._aws_conn_id):
            self._client.copy(
                place,
                self.bucket,
                self.key,
                ExtraArgs=arguments | self._extra_args,
                Config=self._config(size),
            )
        return self._verified(size)

    def write(self, source: Source) -> int:
        """
        Write what is read, in constant memory, and return its size in bytes.

        :param source: the file.
        """
        arguments = {"ContentType": source.content_type} if source.content_type else {}
        with s3_failures(self.uri, "written", self._aws_conn_id), io.BufferedReader(source) as stream:  # type: ignore[type-var]
            # An error while reading is ours already, and ends the upload.
            self._client.upload_fileobj(
                stream,
                self.bucket,
                self.key,
                ExtraArgs=arguments | self._extra_args,
                Config=self._config(source.size),
            )
            return self._verified(source.came)

    @cached_property
    def _client(self) -> Any:
        return s3_client(self._aws_conn_id)

    def _config(self, size: int | None) -> Any:
        from boto3.s3.transfer import TransferConfig

        part = max(_PART, -(-(size or 0) // _MOST_PARTS))
        return TransferConfig(**{"multipart_chunksize": part, **self._transfer_config_args})

    def _head(self) -> dict[str, Any] | None:
        from botocore.exceptions import ClientError

        with s3_failures(self.uri, "written", self._aws_conn_id):
            try:
                found: dict[str, Any] = self._client.head_object(Bucket=self.bucket, Key=self.key)
            except ClientError as error:
                if error.response["Error"]["Code"] == "404":
                    return None
                raise
        return found

    def _verified(self, size: int) -> int:
        found = self._head()
        written = int(found["ContentLength"]) if found else None
        if written != size:
            self._client.delete_object(Bucket=self.bucket, Key=self.key)
            raise FileTransferError(
                f"{self.uri} came out at {written} bytes instead of {size}, so it was deleted. Try again."
            )
        return size
