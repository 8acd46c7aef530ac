# SPDX-License-Identifier: Apache-2.0
"""Where finished exports are put: a bucket on S3, or nowhere."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any, Protocol

_KEPT_SECONDS = 48 * 3600
WRITERS = 16


class StorageError(OSError):
    """The bucket could not be reached or refused the file."""


class Storage(Protocol):
    """A place for files. Its methods block; the server calls them on a thread."""

    def prepare(self) -> None:
        """Make the place ready for use."""

    def put(self, key: str, content: bytes) -> None:
        """Store a file."""

    def delete(self, key: str) -> None:
        """Remove a file."""

    def location(self, key: str, *, presigned: bool) -> str:
        """Return the address of a file."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoStorage:
    """Names files without storing any."""

    bucket: str = "upload-bucket"

    def prepare(self) -> None:
        """Do nothing."""

    def put(self, key: str, content: bytes) -> None:
        """Do nothing."""

    def delete(self, key: str) -> None:
        """Do nothing."""

    def location(self, key: str, *, presigned: bool) -> str:
        """Return an address that leads nowhere."""
        if presigned:
            return f"https://{self.bucket}.s3.amazonaws.com/{key}?X-Amz-Signature=emulated"
        return f"s3://{self.bucket}/{key}"


class S3Storage:
    """
    A bucket on S3 or on anything that speaks its protocol.

    :param bucket: Created if it is missing.
    :param endpoint_url: Address of a local S3; None for AWS.
    :param aws_access_key_id: None takes what boto3 finds, or ``testing`` at a local S3.
    :param aws_secret_access_key: As above.
    """

    def __init__(
        self,
        *,
        bucket: str,
        endpoint_url: str | None,
        aws_access_key_id: str | None,
        aws_secret_access_key: str | None,
    ) -> None:
        self._bucket = bucket
        self._address = endpoint_url or "AWS"
        fallback = "testing" if endpoint_url else None
        self._errors, self._client = _connect(
            endpoint_url=endpoint_url,
            region_name="us-east-1" if endpoint_url else None,
            aws_access_key_id=aws_access_key_id or fallback,
            aws_secret_access_key=aws_secret_access_key or fallback,
        )

    def prepare(self) -> None:
        """Create the bucket unless it is there."""
        try:
            self._client.head_bucket(Bucket=self._bucket)
        except self._client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
                raise self._failure("find", self._bucket, error) from error
            self._create()
        except self._errors as error:
            raise self._failure("find", self._bucket, error) from error

    def _create(self) -> None:
        region = self._client.meta.region_name
        # us-east-1 is the one region that must not be named here.
        elsewhere = region not in (None, "us-east-1", "aws-global")
        options = {"CreateBucketConfiguration": {"LocationConstraint": region}} if elsewhere else {}
        self._call("create_bucket", Bucket=self._bucket, **options)

    def put(self, key: str, content: bytes) -> None:
        """Store a file."""
        self._call("put_object", Bucket=self._bucket, Key=key, Body=content, ContentType="text/csv")

    def delete(self, key: str) -> None:
        """Remove a file."""
        self._call("delete_object", Bucket=self._bucket, Key=key)

    def location(self, key: str, *, presigned: bool) -> str:
        """Return the ``s3://`` address, or a URL that carries its own permission."""
        if not presigned:
            return f"s3://{self._bucket}/{key}"
        params = {"Bucket": self._bucket, "Key": key}
        return str(
            self._client.generate_presigned_url("get_object", Params=params, ExpiresIn=_KEPT_SECONDS),
        )

    def _call(self, operation: str, **arguments: Any) -> None:
        try:
            getattr(self._client, operation)(**arguments)
        except self._errors as error:
            verb = operation.partition("_")[0]
            raise self._failure(verb, arguments.get("Key", self._bucket), error) from error

    def _failure(self, verb: str, name: str, error: Exception) -> StorageError:
        return StorageError(f"The emulator could not {verb} {name} on its S3 at {self._address}: {error}")


def _connect(**options: Any) -> tuple[tuple[type[Exception], ...], Any]:
    try:
        boto3 = importlib.import_module("boto3")
    except ImportError as error:
        message = (
            "the emulator writes its files with boto3: pip install 'airflow-provider-segments[emulator]'"
        )
        raise ImportError(message) from error
    exceptions = importlib.import_module("botocore.exceptions")
    config = importlib.import_module("botocore.config").Config(
        signature_version="s3v4",
        s3={"addressing_style": "path" if options["endpoint_url"] else "auto"},
        max_pool_connections=WRITERS,
        connect_timeout=5,
        retries={"total_max_attempts": 3, "mode": "standard"},
        proxies={} if options["endpoint_url"] else None,  # a local S3 needs none of the environment's
    )
    client = boto3.session.Session().client("s3", config=config, **options)
    return (exceptions.BotoCoreError, exceptions.ClientError), client
