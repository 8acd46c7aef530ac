# SPDX-License-Identifier: Apache-2.0
"""
An export's file as bytes to be read in order, whichever way it has to be reached.

The service's credentials go to neither S3 nor the host of a URL, and the query of a URL is shown nowhere.
"""

from __future__ import annotations

import io
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_segments.api.errors import FileTransferError
from airflow_provider_segments.api.redaction import excerpt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_segments.api.files import ExportFile
    from airflow_provider_segments.api.models import SegmentExport

__all__ = ["Source", "ensure_kept", "open_s3", "s3_client", "s3_failures"]


class Source(io.RawIOBase):
    """
    A file that is read in order and in constant memory.

    :param filename: where it is, fit to be shown.
    :param read: returns at most so many of the next bytes, none at the end.
    :param size: the bytes that were announced, if they were.
    :param content_type: its media type, if it has one.
    """

    def __init__(
        self, filename: str, read: Callable[[int], bytes], size: int | None, content_type: str | None = None
    ) -> None:
        self.filename, self.size, self.content_type = filename, size, content_type
        self._read = read
        self.came = 0  # bytes read so far

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """
        Fill the buffer as far as bytes come.

        :param buffer: what to fill.
        :raises FileTransferError: the file ended early, or can't be read.
        """
        read = self._read(len(buffer))
        buffer[: len(read)] = read
        self.came += len(read)
        if not read and self.size is not None and self.came != self.size:
            raise FileTransferError(
                f"{self.filename} has {self.size} bytes, but {self.came} came. Try again."
            )
        return len(read)


def ensure_kept(export: SegmentExport) -> ExportFile:
    """
    Return where a complete export's file is, if the service still keeps it.

    :param export: the export.
    :raises FileTransferError: it names no file, or the file has expired.
    """
    file = export.ensure_complete().file
    if file is None:
        raise FileTransferError(f"{export.label} names no file.")
    if export.expires_at and export.expires_at <= datetime.now(timezone.utc):
        raise FileTransferError(
            f"The file of {export.label} expired at {export.expires_at:%Y-%m-%d %H:%M} UTC: the service keeps files "
            "for 48 hours. Request another export."
        )
    return file


@contextmanager
def open_s3(file: ExportFile, aws_conn_id: str | None) -> Iterator[Source]:
    """
    Read an object of S3.

    :param file: where it is.
    :param aws_conn_id: the AWS Connection that may read it.
    :raises FileTransferError: it can't be read.
    """
    from botocore.exceptions import BotoCoreError
    from urllib3.exceptions import HTTPError

    if not file.s3_bucket:
        raise FileTransferError(f"{file.filename} is not the address of a file on S3.")
    with s3_failures(file.filename, "read", aws_conn_id):
        answer = s3_client(aws_conn_id).get_object(Bucket=file.s3_bucket, Key=file.s3_key)
    body = answer["Body"]

    def read(size: int) -> bytes:
        try:
            data: bytes = body.read(size)
        except (BotoCoreError, HTTPError, OSError) as error:
            raise FileTransferError(
                f"{file.filename} can't be read on: {excerpt(str(error))}. Try again."
            ) from error
        return data

    try:
        yield Source(file.filename, read, int(answer["ContentLength"]), answer.get("ContentType"))
    finally:
        body.close()


def s3_client(aws_conn_id: str | None) -> Any:
    """
    Return boto3's client with the credentials of a Connection.

    :param aws_conn_id: the AWS Connection; None for what boto3 finds by itself.
    """
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    return S3Hook(aws_conn_id=aws_conn_id).get_conn()


@contextmanager
def s3_failures(uri: str, what: str, aws_conn_id: str | None) -> Iterator[None]:
    """
    Turn boto3's errors into ours, which say whether an object is gone or forbidden.

    :param uri: the object.
    :param what: what is done to it: ``read`` or ``written``.
    :param aws_conn_id: with which AWS Connection.
    """
    from airflow.providers.common.compat.sdk import AirflowException
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (AirflowException, Boto3Error, BotoCoreError, ClientError, ValueError) as error:
        code = str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))
        raise FileTransferError(
            f"{uri} can't be {what} with the AWS Connection {aws_conn_id!r}: {excerpt(str(error))}. "
            f"{_advice(code, what)}"
        ) from error


def _advice(code: str, what: str) -> str:
    if code in ("404", "NoSuchKey", "NotFound") and what == "read":
        return "The file is gone: the service keeps files for 48 hours. Request another export."
    if code == "NoSuchBucket":
        return "There is no such bucket."
    if code in ("403", "AccessDenied", "Forbidden"):
        allowed = "s3:GetObject" if what == "read" else "s3:GetObject on the source and s3:PutObject here"
        return f"Allow it {allowed}; without s3:ListBucket, S3 also answers so where there is no object."
    return f"Check that it exists and that these credentials may have it {what}."
