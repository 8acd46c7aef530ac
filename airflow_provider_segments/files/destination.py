# SPDX-License-Identifier: Apache-2.0
"""An object in the user's own bucket, to be written whole or not at all."""

from __future__ import annotations

import io
import logging
import re
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_segments.api.errors import ConfigurationError
from airflow_provider_segments.api.redaction import excerpt
from airflow_provider_segments.files.s3 import (
    NOT_FOUND,
    READ_ARGS,
    metadata_of,
    read_args,
    s3_client,
    s3_failures,
)
from airflow_provider_segments.links.user_segments import s3_console_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_provider_segments.api.location import ExportFile
    from airflow_provider_segments.files.source import Source

log = logging.getLogger(__name__)

# Arguments that only a copy takes; a stream follows them too.
_COPY_ONLY = ("MetadataDirective", "TaggingDirective")
# Characters allowed in a header's name, and those forbidden in its value; keys are sent in base64.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NO_HEADER_VALUE = re.compile(r"[^\t\x20-\x7e]")
_MEBIBYTE = 1024 * 1024
_PART = 8 * _MEBIBYTE
# Of a multipart upload: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
_MOST_PARTS = 10_000
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
_LONGEST_KEY = 1024


class Destination:
    """Where a file is to go. Each argument means what it means for `UserSegmentToS3Operator`."""

    def __init__(
        self,
        bucket: str,
        key: str,
        aws_conn_id: str | None,
        extra_args: dict[str, Any],
        transfer_config_args: dict[str, Any],
    ) -> None:
        self.bucket, self.key, self.uri = bucket, key, f"s3://{bucket}/{key}"
        self._place = {"Bucket": bucket, "Key": key}
        self._aws_conn_id, self._extra_args = aws_conn_id, extra_args
        self._transfer_config_args = transfer_config_args

    def check_arguments(self) -> None:
        """Raise ConfigurationError for an argument that is unknown or does not suit both a copy and a stream."""
        if unknown := sorted(set(self._extra_args) - _known_args()):
            raise ConfigurationError(
                f"extra_args has {', '.join(map(repr, unknown))}, which does not work for both a copy inside S3 "
                f"and a stream. Supported: {', '.join(sorted(_known_args()))}."
            )
        self._check_key()
        self._check_directives()
        with s3_failures(self.uri, "written", self._aws_conn_id):
            self._check_config()
            self._check_values()

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
        from botocore.exceptions import ClientError

        with s3_failures(self.uri, "checked", self._aws_conn_id):
            try:
                self._client.head_object(**self._place, **self._args_of("HeadObject"))
            except ClientError as error:
                if error.response["Error"]["Code"] in NOT_FOUND:
                    return False
                raise
        return True

    def abort_leftovers(self) -> bool:
        """Abort the unfinished multipart uploads to this key, and return whether the credentials allow that."""
        try:
            aborted = sum(map(self._abort, self._leftovers()))
        except Exception as error:  # noqa: BLE001 - an S3 without this call answers with whatever it likes
            log.warning(
                "Unfinished uploads of an earlier try to %s may be left, and cost storage: %s. To have them aborted, "
                "allow s3:ListBucketMultipartUploads and s3:AbortMultipartUpload, or give the bucket a lifecycle rule.",
                self.uri,
                excerpt(str(error)).rstrip("."),
            )
            return False
        if aborted:
            log.info("Aborted %d unfinished uploads of an earlier try to %s.", aborted, self.uri)
        return True

    def copy(self, file: ExportFile) -> int:
        """Copy an object inside S3, in parts if it is large, and return its size in bytes."""
        from boto3.s3.transfer import create_transfer_manager

        source = {"Bucket": file.s3_bucket, "Key": file.s3_key}
        with s3_failures(file.filename, "read", self._aws_conn_id):
            found = self._client.head_object(**source, **read_args(self._extra_args))
        size, etag = int(found["ContentLength"]), found.get("ETag")
        config = self._config(size, preferred_transfer_client="classic")  # the other one can't copy
        with (
            s3_failures(self.uri, "written", self._aws_conn_id),
            create_transfer_manager(self._client, config) as manager,
        ):
            # Else the manager asks for the size itself, with the destination's ExpectedBucketOwner.
            known = [_known_source(size, etag)]
            manager.copy(source, self.bucket, self.key, self._copy_args(found), known).result()
        return size

    def write(self, source: Source) -> int:
        """Write a file from its source, in bounded memory, and return its size in bytes."""
        with s3_failures(self.uri, "written", self._aws_conn_id), io.BufferedReader(source) as stream:  # type: ignore[type-var]
            # An error while reading is ours already, and ends the upload.
            self._client.upload_fileobj(
                stream,
                self.bucket,
                self.key,
                ExtraArgs=self._object_args(source.metadata),
                Config=self._config(source.size),
            )
        return source.bytes_read

    @cached_property
    def _client(self) -> Any:
        return s3_client(self._aws_conn_id)

    def _config(self, size: int | None, **options: Any) -> Any:
        from boto3.s3.transfer import TransferConfig

        part = max(_PART, -(-(size or 0) // _MOST_PARTS))
        return TransferConfig(**{"multipart_chunksize": part, **self._transfer_config_args, **options})

    def _object_args(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of the new object: the source's metadata, unless extra_args say otherwise."""
        kept = {} if self._extra_args.get("MetadataDirective") == "REPLACE" else metadata
        own = {name: value for name, value in self._extra_args.items() if name in _shared_args()}
        return {**kept, **own}

    def _copy_args(self, source: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a copy, given the answer to a HEAD of the source."""
        keys = {name: value for name, value in self._extra_args.items() if name.startswith("CopySourceSSE")}
        same = {"CopySourceIfMatch": source["ETag"]} if source.get("ETag") else {}
        # A copy in parts keeps neither the source's metadata nor its tags, so none does; the arguments give them.
        directives = dict.fromkeys(_COPY_ONLY, "REPLACE")
        return {**self._object_args(metadata_of(source)), **keys, **same, **directives}

    def _args_of(self, operation: str) -> dict[str, Any]:
        """Return the extra_args that an operation takes, such as ExpectedBucketOwner or a customer's key."""
        taken = self._client.meta.service_model.operation_model(operation).input_shape.members
        return {name: value for name, value in self._extra_args.items() if name in taken}

    def _leftovers(self) -> Iterator[str]:
        pages = self._client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self.bucket, Prefix=self.key, **self._args_of("ListMultipartUploads")
        )
        for page in pages:
            yield from (upload["UploadId"] for upload in page.get("Uploads", ()) if upload["Key"] == self.key)

    def _abort(self, upload_id: str) -> bool:
        from botocore.exceptions import ClientError

        try:
            self._client.abort_multipart_upload(
                **self._place, UploadId=upload_id, **self._args_of("AbortMultipartUpload")
            )
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchUpload", *NOT_FOUND):
                return False
            raise
        return True

    def _check_key(self) -> None:
        try:
            length = len(self.key.encode())
        except UnicodeEncodeError:
            raise ConfigurationError(f"The key {ascii(self.key)} contains a lone surrogate.") from None
        if length > _LONGEST_KEY:
            raise ConfigurationError(f"The key {self.key!r} has {length} bytes; S3 allows {_LONGEST_KEY}.")

    def _check_directives(self) -> None:
        if self._extra_args.get("MetadataDirective", "COPY") not in ("COPY", "REPLACE"):
            raise ConfigurationError("extra_args: MetadataDirective has to be 'COPY' or 'REPLACE'.")
        if self._extra_args.get("TaggingDirective", "REPLACE") != "REPLACE":
            raise ConfigurationError(
                "extra_args: TaggingDirective has to be 'REPLACE': a stream can't read the tags of the service's "
                "object. Set your own with Tagging."
            )

    def _check_config(self) -> None:
        from boto3.s3.transfer import create_transfer_manager
        from botocore.exceptions import MissingDependencyException

        client = self._client
        for name, value in self._transfer_config_args.items():
            other = "preferred_transfer_client" if isinstance(value, str) else "max_bandwidth"
            if isinstance(value, str | float) and name != other:
                raise ConfigurationError(f"transfer_config_args: {name} is {value!r}, not a whole number.")
        try:
            with create_transfer_manager(client, self._config(None)):
                pass
        except (TypeError, ValueError, MissingDependencyException) as error:
            raise ConfigurationError(f"transfer_config_args: {str(error).rstrip('.')}.") from error

    def _check_values(self) -> None:
        """Let boto3 check names, types, characters and checksums: prepare a copy and an upload, and send neither."""
        from botocore.exceptions import (
            FlexibleChecksumError,
            MissingDependencyException,
            ParamValidationError,
        )
        from botocore.stub import Stubber

        parameters = {**self._place, "CopySource": f"{self.bucket}/{self.key}", **self._extra_args}
        secrets = [str(value) for name, value in self._extra_args.items() if value and "CustomerKey" in name]
        metadata = self._extra_args.get("Metadata")
        if isinstance(metadata, dict) and not all(
            isinstance(text, str) for pair in metadata.items() for text in pair
        ):
            raise ConfigurationError("extra_args: the names and values of Metadata have to be text.")
        try:
            self._client.generate_presigned_url("copy_object", Params=parameters)
            with Stubber(self._client) as stub:
                stub.add_response("put_object", {})
                self._client.put_object(**self._place, **self._object_args({}))
        # The last two: a key, or a value in Metadata, that is not text.
        except (
            ParamValidationError, FlexibleChecksumError, MissingDependencyException, TypeError, AttributeError,
        ) as error:  # fmt: skip
            what = "s3_bucket" if "bucket name" in str(error) else "extra_args"
            raise ConfigurationError(f"{what}: {excerpt(str(error), secrets)}") from None
        self._check_headers(self._extra_args.get("Metadata", {}))

    def _check_headers(self, metadata: Mapping[str, str]) -> None:
        """Reject what boto3 rejects only when it sends, or signs differently than it sends."""
        for name in metadata:
            if not _HEADER_NAME.fullmatch(name):
                raise ConfigurationError(
                    f"extra_args: Metadata has the name {name!r}; use letters, digits and signs such as -."
                )
        for name, value in {**self._extra_args, **metadata}.items():
            if isinstance(value, str) and "CustomerKey" not in name and _NO_HEADER_VALUE.search(value):
                raise ConfigurationError(
                    f"extra_args: {name} has a line break or another control character, or is not ASCII."
                )


def _shared_args() -> set[str]:
    """Return the arguments of an object that boto3 takes for an upload and for a copy."""
    from s3transfer.manager import TransferManager

    return {*TransferManager.ALLOWED_UPLOAD_ARGS} & {*TransferManager.ALLOWED_COPY_ARGS}


def _known_args() -> set[str]:
    return _shared_args() | {*_COPY_ONLY, *READ_ARGS}


def _known_source(size: int, etag: str | None) -> Any:
    """Return a subscriber that spares the transfer manager a HEAD of the source."""
    from s3transfer.subscribers import BaseSubscriber

    class KnownSource(BaseSubscriber):
        def on_queued(self, future: Any, **_: Any) -> None:
            future.meta.provide_transfer_size(size)
            if hasattr(future.meta, "provide_object_etag"):
                future.meta.provide_object_etag(etag)

    return KnownSource()
