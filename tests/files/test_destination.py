# SPDX-License-Identifier: Apache-2.0
"""The object in the user's bucket: the same whichever way it comes, with what S3 asks for on each request."""

from __future__ import annotations

import gzip
import json
import logging
import urllib.request
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.stub import Stubber

from airflow_provider_segments.api.errors import ConfigurationError, FileTransferError, NoAnswerError
from airflow_provider_segments.api.location import file_location
from airflow_provider_segments.files import destination as module
from airflow_provider_segments.files.destination import Destination
from airflow_provider_segments.files.s3 import open_s3, read_args
from airflow_provider_segments.files.source import Source
from airflow_provider_segments.files.span import Body
from airflow_provider_segments.files.url import open_url
from tests.files.test_url import settings
from tests.support import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MEBIBYTE = 1024 * 1024
IN_PARTS = {"multipart_threshold": 5 * MEBIBYTE, "multipart_chunksize": 5 * MEBIBYTE}
WAYS = ["copy", "copy in parts", "stream", "stream in parts", "url"]
KEPT = {
    "ContentType": "text/csv; charset=utf-8",
    "ContentEncoding": "gzip",
    "CacheControl": "private",
    "ContentDisposition": 'attachment; filename="users.csv"',
    "ContentLanguage": "de",
    "Expires": datetime(2037, 10, 21, 7, 28, tzinfo=timezone.utc),
    "Metadata": {"rows": "1"},
}
SSE_C = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}
SOURCE_SSE_C = {"CopySourceSSECustomerAlgorithm": "AES256", "CopySourceSSECustomerKey": "s" * 32}
URI = "s3://mine/k.csv"


@pytest.fixture
def s3(user_segments_s3: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A local S3 with the service's bucket and the user's."""
    monkeypatch.setattr(Source, "clock", FakeClock())
    for bucket in ("theirs", "mine"):
        user_segments_s3.create_bucket(Bucket=bucket)
    return user_segments_s3


def put(s3: Any, way: str, **arguments: Any) -> bytes:
    """Put the file into the service's bucket."""
    data = gzip.compress(b"user_id") if "parts" not in way else b"x" * (6 * MEBIBYTE)
    s3.put_object(Bucket="theirs", Key="e.csv", Body=data, **arguments)
    return data


def destination(
    extra_args: dict[str, Any] | None = None, way: str = "", conn_id: str = "aws_default"
) -> Destination:
    return Destination("mine", "k.csv", conn_id, extra_args or {}, IN_PARTS if "parts" in way else {})


def transfer(s3: Any, way: str, extra_args: dict[str, Any] | None = None) -> int:
    """Bring the file to the user's bucket, and return its size."""
    made, file = destination(extra_args, way), file_location("s3://theirs/e.csv")
    made.check_arguments()
    if way.startswith("copy"):
        return made.copy(file)
    if way.startswith("stream"):
        with open_s3(file, "aws_default", read_args(extra_args or {})) as source:
            return made.write(source)
    url = s3.generate_presigned_url("get_object", {"Bucket": "theirs", "Key": "e.csv"})
    with open_url(url, settings()) as source:
        return made.write(source)


def tags(s3: Any) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in s3.get_object_tagging(Bucket="mine", Key="k.csv")["TagSet"]}


@pytest.mark.parametrize("way", WAYS)
def test_object_arrives_as_it_was(s3: Any, way: str) -> None:
    """To the byte, with all that its source says of it."""
    data = put(s3, way, **KEPT)
    assert transfer(s3, way) == len(data)
    found = s3.get_object(Bucket="mine", Key="k.csv")
    assert found["Body"].read() == data
    assert {name: found.get(name) for name in KEPT} == KEPT


@pytest.mark.parametrize("way", WAYS)
def test_extra_args_win(s3: Any, way: str) -> None:
    """One by one; what they do not name is kept."""
    put(s3, way, **KEPT)
    transfer(s3, way, {"ContentType": "text/plain", "Metadata": {"team": "x"}})
    found = s3.head_object(Bucket="mine", Key="k.csv")
    assert (found["ContentType"], found["Metadata"], found["CacheControl"]) == (
        "text/plain",
        {"team": "x"},
        "private",
    )


@pytest.mark.parametrize("way", WAYS)
def test_metadata_directive_means_the_same_on_each_way(s3: Any, way: str) -> None:
    """REPLACE leaves the source's metadata behind."""
    put(s3, way, **KEPT)
    transfer(s3, way, {"MetadataDirective": "REPLACE", "ContentType": "text/plain"})
    found = s3.head_object(Bucket="mine", Key="k.csv")
    assert (found["ContentType"], found["Metadata"]) == ("text/plain", {})
    assert "CacheControl" not in found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("directive", [{}, {"TaggingDirective": "REPLACE"}])
def test_tags_are_those_of_extra_args(s3: Any, way: str, directive: dict[str, str]) -> None:
    """With a directive or without; the service's tags stay with the service's object."""
    put(s3, way, Tagging="vendor=x")
    transfer(s3, way, directive)
    assert tags(s3) == {}
    transfer(s3, way, {"Tagging": "pii=yes", **directive})
    assert tags(s3) == {"pii": "yes"}


def test_metadata_that_is_not_ascii(s3: Any) -> None:
    """S3 itself gives it encoded; an S3 that does not is no reason to fail."""
    answer = {"Metadata": {"city": "K\u00c3\u00b6ln"}}  # UTF-8, as HTTP libraries decode it
    fetch = lambda *_: Body(lambda _: b"", lambda: None, 0, 0, {}, module.metadata_of(answer))  # noqa: E731
    destination().write(Source("f", fetch))
    assert s3.head_object(Bucket="mine", Key="k.csv")["Metadata"] == {"city": "=?UTF-8?B?S8O2bG4=?="}


@pytest.mark.parametrize(
    ("extra_args", "words"),
    [
        ({"ChecksumType": "FULL_OBJECT"}, "'ChecksumType'"),
        ({"ChecksumSHA256": "abc", "MpuObjectSize": 1}, "'ChecksumSHA256', 'MpuObjectSize'"),
        ({"AnnotationDirective": "COPY"}, "'AnnotationDirective'"),
        ({"TaggingDirective": "COPY"}, "TaggingDirective has to be 'REPLACE'"),
        ({"MetadataDirective": "MERGE"}, "MetadataDirective has to be"),
        ({"Metadata": "rows=1"}, "Invalid type for parameter Metadata"),
        ({"Metadata": {"city": "K\u00f6ln"}}, "Non ascii"),
        ({"SSECustomerKey": 12345678}, "extra_args: "),
        ({"Metadata": {"rows": 1}}, "extra_args: "),
        ({"Metadata": {"rows": "1\n2"}}, "rows has a line break"),
        ({"CacheControl": "private\r"}, "CacheControl has a line break"),
        (
            {"ContentDisposition": "attachment; filename=K\u00e4ufer.csv"},
            "ContentDisposition .* is not ASCII",
        ),
        ({"Tagging": "city=\u6771\u4eac"}, "Tagging .* is not ASCII"),
        ({"Metadata": {"a b": "1"}}, "the name 'a b'"),
        ({"Metadata": {"a\nb": "1"}}, "the name "),
        ({"Metadata": {"": "1"}}, "the name ''"),
        ({"ChecksumAlgorithm": "MD6"}, "Unsupported checksum algorithm: md6"),
    ],
)
@pytest.mark.usefixtures("s3")
def test_arguments_that_can_not_hold_on_each_way(extra_args: dict[str, Any], words: str) -> None:
    """They are named, before anything is requested."""
    with pytest.raises(ConfigurationError, match=words):
        destination(extra_args).check_arguments()


@pytest.mark.usefixtures("s3")
def test_key_of_any_characters() -> None:
    """It is no header."""
    destination({"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "\n\u00e4" * 16}).check_arguments()


@pytest.mark.usefixtures("s3")
def test_size_of_parts_that_is_no_whole_number() -> None:
    """boto3 would find it in the middle of the transfer."""
    made = Destination("mine", "k.csv", "aws_default", {}, {"multipart_chunksize": 64 * MEBIBYTE / 2})
    with pytest.raises(ConfigurationError, match="multipart_chunksize is 33554432.0, not a whole number"):
        made.check_arguments()


@pytest.fixture
def requests(s3: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Record the operations on S3 with their parameters."""
    seen: list[tuple[str, dict[str, Any]]] = []

    def client(_: Any) -> Any:
        made = boto3.client("s3", endpoint_url=s3.meta.endpoint_url)
        made.meta.events.register(
            "provide-client-params.s3",
            lambda params, model, **_: seen.append((model.name, dict(params))),
        )
        return made

    monkeypatch.setattr(module, "s3_client", client)
    monkeypatch.setattr("airflow_provider_segments.files.s3.s3_client", client)
    return seen


@pytest.mark.parametrize("way", WAYS[:4])
def test_what_s3_wants_on_each_request(s3: Any, requests: list[tuple[str, dict[str, Any]]], way: str) -> None:
    """Keys of encryption, who pays and who owns the bucket, each where the operation takes it."""
    put(s3, way)
    extra_args = {**SSE_C, **SOURCE_SSE_C, "RequestPayer": "requester", "ExpectedBucketOwner": "123456789012"}
    destination(extra_args).exists()
    transfer(s3, way, extra_args)
    destination(extra_args).abort_leftovers()
    model = s3.meta.service_model
    for operation, parameters in requests:
        takes = model.operation_model(operation).input_shape.members
        reads_source = parameters["Bucket"] == "theirs"
        expected = {"RequestPayer": "requester"} | (
            {name.removeprefix("CopySource"): value for name, value in SOURCE_SSE_C.items()}
            if reads_source
            else {**SSE_C, "ExpectedBucketOwner": "123456789012"}
        )
        if operation in ("CopyObject", "UploadPartCopy"):
            expected |= SOURCE_SSE_C
        for name, value in expected.items():
            assert name not in takes or parameters.get(name) == value, (operation, name)
        if reads_source:
            assert "ExpectedBucketOwner" not in parameters
    assert {"HeadObject", "ListMultipartUploads"} < {operation for operation, _ in requests}


@pytest.mark.parametrize("way", WAYS)
def test_what_was_written_is_neither_read_nor_deleted(
    s3: Any, requests: list[tuple[str, dict[str, Any]]], way: str
) -> None:
    """It may be another's by then, and reading it may be forbidden."""
    put(s3, way)
    transfer(s3, way)
    touched = {operation for operation, parameters in requests if parameters["Bucket"] == "mine"}
    assert touched <= {
        "CompleteMultipartUpload",
        "CopyObject",
        "CreateMultipartUpload",
        "PutObject",
        "PutObjectTagging",
        "UploadPart",
        "UploadPartCopy",
    }


@pytest.fixture
def user(s3: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Make the AWS Connection of a user with these permissions only; from then on they are checked."""
    url = s3.meta.endpoint_url

    def check_permissions(after: str) -> None:
        headers = {"Content-Type": "text/plain"}
        request = urllib.request.Request(f"{url}/moto-api/reset-auth", after.encode(), headers, method="POST")
        urllib.request.urlopen(request).close()

    def make(*statements: tuple[str, list[str]]) -> str:
        iam = boto3.client("iam", endpoint_url=url)
        iam.create_user(UserName="u")
        allowed = [
            {"Effect": "Allow", "Action": actions, "Resource": f"arn:aws:s3:::{resource}"}
            for resource, actions in statements
            if actions
        ]
        policy = json.dumps({"Version": "2012-10-17", "Statement": allowed})
        iam.put_user_policy(UserName="u", PolicyName="p", PolicyDocument=policy)
        key = iam.create_access_key(UserName="u")["AccessKey"]
        extra = {"region_name": "us-east-1", "endpoint_url": url}
        connection = {"conn_type": "aws", "login": key["AccessKeyId"], "password": key["SecretAccessKey"]}
        monkeypatch.setenv("AIRFLOW_CONN_USER", json.dumps(connection | {"extra": extra}))
        check_permissions("0")
        return "user"

    yield make
    check_permissions("inf")


READS = ("theirs/*", ["s3:GetObject", "s3:HeadObject"])


def test_write_only_destination(s3: Any, user: Callable[..., str]) -> None:
    """Nothing more than s3:PutObject is needed to write."""
    data = put(s3, "copy")
    conn_id = user(READS, ("mine/*", ["s3:PutObject"]))
    file = file_location("s3://theirs/e.csv")
    made = destination(conn_id=conn_id)
    made.check_arguments()
    assert made.copy(file) == len(data)
    with open_s3(file, conn_id) as source:
        assert made.write(source) == len(data)
    with pytest.raises(FileTransferError, match="UserSegmentToS3Operator with replace=True needs neither"):
        made.exists()


@pytest.mark.parametrize(
    ("code", "message", "advice"),
    [
        ("400", "Bad Request", "The credentials may have expired"),
        ("403", "Forbidden", "Allow it s3:GetObject;"),
        (
            "AccessDenied",
            f"{'x' * 200} is not authorized to perform: kms:Decrypt on",
            "Allow it kms:Decrypt on the KMS key",
        ),
    ],
)
def test_advice_where_s3_refuses(
    s3: Any, monkeypatch: pytest.MonkeyPatch, code: str, message: str, advice: str
) -> None:
    """A HEAD has no body, so its status says what it may be."""
    client = boto3.client("s3", endpoint_url=s3.meta.endpoint_url)
    monkeypatch.setattr(module, "s3_client", lambda _: client)
    with Stubber(client) as stub:
        stub.add_client_error("head_object", code, message)
        with pytest.raises(FileTransferError, match=advice):
            destination().copy(file_location("s3://theirs/e.csv"))


@pytest.mark.parametrize("actions", [[], ["s3:ListBucketMultipartUploads"]])
def test_cleaning_up_is_best_effort(
    s3: Any, user: Callable[..., str], caplog: pytest.LogCaptureFixture, actions: list[str]
) -> None:
    """Without the permissions for it there is one warning, which names them."""
    for _ in range(3):
        s3.create_multipart_upload(Bucket="mine", Key="k.csv")
    made = destination(conn_id=user(("mine", actions), ("mine/*", ["s3:PutObject"])))
    made.abort_leftovers()
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "s3:ListBucketMultipartUploads and s3:AbortMultipartUpload" in warning.getMessage()
    assert URI in warning.getMessage()


def test_cleaning_up_page_by_page(
    s3: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """All pages of a long list, other keys left alone; an upload that is gone meanwhile is no fault."""
    client = boto3.client("s3", endpoint_url=s3.meta.endpoint_url)
    monkeypatch.setattr(module, "s3_client", lambda _: client)
    caplog.set_level(logging.INFO)
    place = {"Bucket": "mine", "Key": "k.csv"}
    with Stubber(client) as stub:  # the local S3 has no pages
        first = {"IsTruncated": True, "NextKeyMarker": "k.csv", "NextUploadIdMarker": "1"}
        uploads = [{"Key": "k.csv", "UploadId": "1"}, {"Key": "k.csv.other", "UploadId": "2"}]
        stub.add_response("list_multipart_uploads", {**first, "Uploads": uploads})
        stub.add_response("abort_multipart_upload", {}, {**place, "UploadId": "1"})
        last = {"IsTruncated": False, "Uploads": [{"Key": "k.csv", "UploadId": name} for name in "34"]}
        markers = {"KeyMarker": "k.csv", "UploadIdMarker": "1", "Bucket": "mine", "Prefix": "k.csv"}
        stub.add_response("list_multipart_uploads", last, markers)
        stub.add_client_error(
            "abort_multipart_upload", "NoSuchUpload", expected_params={**place, "UploadId": "3"}
        )
        stub.add_response("abort_multipart_upload", {}, {**place, "UploadId": "4"})
        destination().abort_leftovers()
        stub.assert_no_pending_responses()
    assert "Aborted 2 unfinished uploads" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("length", [0, 100, 12 * MEBIBYTE])
def test_cut_stream_leaves_nothing(s3: Any, length: int) -> None:
    """Neither an object nor an unfinished upload, whenever it is cut."""
    with pytest.raises(FileTransferError, match="Try again"):
        destination(way="in parts").write(Source("f", lambda *_: zeros(length, 13 * MEBIBYTE)))
    assert "Contents" not in s3.list_objects_v2(Bucket="mine")
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="mine")


def zeros(length: int, size: int) -> Body:
    """Return a body that ends after so many bytes, though it should be longer."""
    left = length

    def read(count: int) -> bytes:
        nonlocal left
        if not left:
            raise NoAnswerError("cut")
        count = min(count, left)
        left -= count
        return bytes(count)

    return Body(read, lambda: None, 0, size, {}, {})


@pytest.mark.parametrize(
    ("fields", "console"),
    [
        ({"region_name": "eu-west-1"}, "console.aws.amazon.com"),
        ({"region_name": "cn-north-1"}, "console.amazonaws.cn"),
        ({"region_name": "us-gov-west-1"}, "console.amazonaws-us-gov.com"),
        ({"region_name": "us-iso-east-1"}, None),
        ({"region_name": "us-east-1", "endpoint_url": "http://minio.example.com:9000"}, None),
    ],
)
def test_console_of_the_right_part_of_aws(
    fields: dict[str, str], console: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link leads where the object is shown; elsewhere there is none."""
    connection = {"conn_type": "aws", "login": "a", "password": "b", "extra": fields}
    monkeypatch.setenv("AIRFLOW_CONN_OWN", json.dumps(connection))
    found = Destination("b", "a b", "own", {}, {}).console_url
    assert found == (console and f"https://{console}/s3/object/b?prefix=a%20b")
