# SPDX-License-Identifier: Apache-2.0
"""Where finished exports are put: a bucket on S3, or nowhere."""

from __future__ import annotations

import re
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

_KEPT_SECONDS = 48 * 3600
WRITERS = 16


class StorageError(OSError):
    """The bucket could not be reached or refused the file."""


class NoStorage:
    """Names files without storing any. The methods of its subclass block, so they are called on a thread."""

    def __init__(self, bucket: str = "upload-bucket") -> None:
        self._bucket = bucket

    def prepare(self) -> None:
        """Make the bucket ready for use."""

    def put(self, key: str, content: bytes) -> None:
        """Store a file."""

    def delete(self, key: str) -> None:
        """Remove a file."""

    def location(self, key: str, *, presigned: bool) -> str:
        """Return the address of a file, which here leads nowhere."""
        if presigned:
            return f"https://{self._bucket}.s3.amazonaws.com/{key}?X-Amz-Signature=emulated"
        return f"s3://{self._bucket}/{key}"


class S3Storage(NoStorage):
    """A bucket on AWS, or on a local S3 at ``endpoint_url``."""

    def __init__(
        self, bucket: str, endpoint_url: str | None, access_key_id: str | None, secret_access_key: str | None
    ) -> None:
        super().__init__(bucket)
        self._address = endpoint_url or "AWS"
        fallback = "testing" if endpoint_url else None
        self._client = boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint_url,
            region_name="us-east-1" if endpoint_url else None,
            aws_access_key_id=access_key_id or fallback,
            aws_secret_access_key=secret_access_key or fallback,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path", "use_accelerate_endpoint": False} if endpoint_url else {},
                max_pool_connections=WRITERS,
                connect_timeout=5,
                retries={"total_max_attempts": 3, "mode": "standard"},
                proxies={} if endpoint_url else None,  # a local S3 needs none of the environment's
            ),
        )

    def prepare(self) -> None:
        try:
            self._client.head_bucket(Bucket=self._bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
                raise self._failure("find", self._bucket, error) from error
            self._create()
        except BotoCoreError as error:
            raise self._failure("find", self._bucket, error) from error

    def _create(self) -> None:
        region = self._client.meta.region_name
        # us-east-1 is the one region that must not be named here.
        elsewhere = region not in (None, "us-east-1", "aws-global")
        options = {"CreateBucketConfiguration": {"LocationConstraint": region}} if elsewhere else {}
        self._call("create_bucket", **options)

    def put(self, key: str, content: bytes) -> None:
        self._call("put_object", Key=key, Body=content, ContentType="text/csv")

    def delete(self, key: str) -> None:
        self._call("delete_object", Key=key)

    def location(self, key: str, *, presigned: bool) -> str:
        if not presigned:
            return super().location(key, presigned=False)
        params = {"Bucket": self._bucket, "Key": key}
        url = self._client.generate_presigned_url("get_object", Params=params, ExpiresIn=_KEPT_SECONDS)
        return str(url)

    def _call(self, operation: str, **arguments: Any) -> None:
        try:
            getattr(self._client, operation)(Bucket=self._bucket, **arguments)
        except (BotoCoreError, ClientError) as error:
            verb = operation.partition("_")[0]
            raise self._failure(verb, arguments.get("Key", self._bucket), error) from error

    def _failure(self, verb: str, name: str, error: Exception) -> StorageError:
        shown = re.sub(r"//[^/@\s]*@", "//", f"at {self._address}: {error}")  # without a password
        return StorageError(f"The emulator could not {verb} {name} on its S3 {shown}")
