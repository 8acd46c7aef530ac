# SPDX-License-Identifier: Apache-2.0
"""Read objects of S3, with boto3 and an AWS Connection."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_segments.api.errors import (
    FileTransferError,
    NoAnswerError,
    RefusedError,
    UserSegmentsError,
)
from airflow_provider_segments.api.redaction import excerpt
from airflow_provider_segments.files.refusal import is_repeatable
from airflow_provider_segments.files.source import GONE, Source, ascii_text
from airflow_provider_segments.files.span import CHANGED, Body, range_header, span_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_provider_segments.api.location import ExportFile

#: Error codes where there is no object. A HEAD has no body, so its code is the status.
NOT_FOUND = ("404", "NoSuchKey", "NotFound")
#: A copy's arguments about its source, as a read's arguments.
READ_ARGS = {
    "CopySourceIfMatch": "IfMatch",
    "CopySourceIfModifiedSince": "IfModifiedSince",
    "CopySourceIfNoneMatch": "IfNoneMatch",
    "CopySourceIfUnmodifiedSince": "IfUnmodifiedSince",
    "CopySourceSSECustomerAlgorithm": "SSECustomerAlgorithm",
    "CopySourceSSECustomerKey": "SSECustomerKey",
    "CopySourceSSECustomerKeyMD5": "SSECustomerKeyMD5",
    "RequestPayer": "RequestPayer",
}
_METADATA = (
    "CacheControl",
    "ContentDisposition",
    "ContentEncoding",
    "ContentLanguage",
    "ContentType",
    "Expires",
    "Metadata",
)
_ADVICE = {
    "NoSuchBucket": "There is no such bucket.",
    "ExpiredToken": "Renew the credentials.",
    # A HEAD's answer, which says no more.
    "400": "The credentials may have expired, or the object is encrypted with a key that extra_args has to give.",
    "RequestTimeTooSkewed": "Set this machine's clock: it differs from S3's by more than 15 minutes.",
    "SignatureDoesNotMatch": "Check the secret access key, and that no proxy changes requests.",
    "InvalidAccessKeyId": "Check the access key.",
    "PermanentRedirect": "Set the region of the bucket.",
    "AuthorizationHeaderMalformed": "Set the region of the bucket.",
    "AccessControlListNotSupported": "The bucket has ACLs disabled: leave acl_policy out.",
    "503": "S3 is busy. Try again.",
    "ServiceUnavailable": "S3 is busy. Try again.",
    "SlowDown": "S3 is busy. Try again.",
    "InternalError": "S3 has failed. Try again.",
} | dict.fromkeys(("412", "PreconditionFailed", "304", "416", "InvalidRange"), f"{CHANGED.capitalize()}.")


def open_s3(file: ExportFile, aws_conn_id: str | None, arguments: Mapping[str, Any] | None = None) -> Source:
    """Open an object of S3, with arguments of GetObject, or raise FileTransferError."""
    if not file.s3_bucket:
        raise FileTransferError(f"{file.filename} is not the address of a file on S3.")
    with s3_failures(file.filename, "read", aws_conn_id):
        client = s3_client(aws_conn_id)
    place = {"Bucket": file.s3_bucket, "Key": file.s3_key, **(arguments or {})}

    def fetch(start: int, end: int | None, validator: Mapping[str, Any]) -> Body:
        span = {"Range": header} if (header := range_header(start, end)) else {}
        with s3_failures(file.filename, "read", aws_conn_id), _passing_failures():
            answer = client.get_object(**{**place, **span, **validator})
        return _body_of(answer, start)

    return Source(file.filename, fetch)


@contextmanager
def _passing_failures() -> Iterator[None]:
    """Raise CallError for what may be repeated: botocore itself gives up within seconds."""
    from botocore.exceptions import ClientError, ConnectionError, HTTPClientError, SSLError

    try:
        yield
    except SSLError:  # the certificate is not trusted
        raise
    except (ConnectionError, HTTPClientError) as error:
        raise NoAnswerError(excerpt(str(error)).rstrip(".")) from error
    except ClientError as error:
        status, code = error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
        if not is_repeatable(status, code):
            raise
        raise RefusedError(f"HTTP {status} {code}", status=503) from error  # the rule of a 503


def _body_of(answer: Mapping[str, Any], offset: int) -> Body:
    from botocore.exceptions import BotoCoreError, FlexibleChecksumError
    from urllib3.exceptions import HTTPError

    stream = answer["Body"]

    def read(size: int) -> bytes:
        try:
            data: bytes = stream.read(size)
        except FlexibleChecksumError as error:
            raise FileTransferError(
                f"The checksum of the file does not match: {error}. Try again."
            ) from error
        except (BotoCoreError, HTTPError, OSError) as error:
            raise NoAnswerError(excerpt(str(error)).rstrip(".")) from error
        return data

    start, size = span_of(
        offset,
        answer["ResponseMetadata"]["HTTPStatusCode"],
        answer.get("ContentRange"),
        answer.get("ContentLength"),
    )
    validator = {"IfMatch": answer["ETag"]} if answer.get("ETag") else {}
    has_ranges = answer.get("AcceptRanges") == "bytes"
    return Body(read, stream.close, start, size, validator, metadata_of(answer), has_ranges)


def metadata_of(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an object keeps when it is copied, as arguments, from the answer to a HEAD or GET."""
    found = {name: answer[name] for name in _METADATA if answer.get(name)}
    if "Metadata" in found:
        found["Metadata"] = {name: ascii_text(value) for name, value in found["Metadata"].items()}
    return {name: ascii_text(value) if isinstance(value, str) else value for name, value in found.items()}


def read_args(extra_args: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a read that a copy's arguments ask for."""
    return {READ_ARGS[name]: value for name, value in extra_args.items() if name in READ_ARGS}


def s3_client(aws_conn_id: str | None) -> Any:
    """Return boto3's client with a Connection's credentials; without one, with those boto3 finds by itself."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    return S3Hook(aws_conn_id=aws_conn_id).get_conn()


@contextmanager
def s3_failures(uri: str, what: str, aws_conn_id: str | None) -> Iterator[None]:
    """Turn boto3's errors into ours; `what` is done to the object: ``read``, ``written`` or ``checked``."""
    from airflow.providers.common.compat.sdk import AirflowException
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError
    from s3transfer.exceptions import S3CopyFailedError

    try:
        yield
    except UserSegmentsError:
        raise
    except (
        AirflowException, Boto3Error, BotoCoreError, ClientError, S3CopyFailedError, ValueError,
    ) as error:  # fmt: skip
        # Of a failed connection, it is None.
        code = str((getattr(error, "response", None) or {}).get("Error", {}).get("Code", ""))
        raise FileTransferError(
            f"{uri} can't be {what} with the AWS Connection {aws_conn_id!r}: {excerpt(str(error)).rstrip('.')}. "
            f"{_advice(code, what, str(error), has_answer=not isinstance(error, ConnectionError | HTTPClientError))}"
        ) from error


def _advice(code: str, what: str, message: str, *, has_answer: bool) -> str:
    if not has_answer:
        return "Check the network, and the endpoint and proxy of the AWS Connection."
    if "kms:" in message:  # S3 denies access where a right to the key is missing
        rights = "kms:Decrypt" if what == "read" else "kms:GenerateDataKey and kms:Decrypt"
        return f"Allow it {rights} on the KMS key."
    if code in NOT_FOUND and what == "read":
        return GONE
    if code in ("403", "AccessDenied", "Forbidden") and what == "checked":
        return "Allow it s3:GetObject and s3:ListBucket; UserSegmentToS3Operator with replace=True needs neither."
    if code in ("403", "AccessDenied", "Forbidden"):
        allowed = "s3:GetObject" if what == "read" else "s3:GetObject on the source and s3:PutObject here"
        return f"Allow it {allowed}; without s3:ListBucket, S3 gives this answer for a missing object, too."
    return _ADVICE.get(code, "Check that it exists and that these credentials allow this.")
