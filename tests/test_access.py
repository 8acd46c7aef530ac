# SPDX-License-Identifier: Apache-2.0
"""The policies of docs/access.md are enough, and a missing right shows in the log as that page says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import moto.settings
import pytest
from airflow.providers.amazon.aws.operators.s3 import S3CopyObjectOperator
from moto import mock_aws
from moto.core.responses import ActionAuthenticatorMixin

from airflow_provider_segments.api.errors import FileTransferError
from airflow_provider_segments.api.location import file_location
from airflow_provider_segments.files.destination import Destination
from airflow_provider_segments.files.s3 import open_s3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = (Path(__file__).parents[1] / "docs" / "access.md").read_text()
FILE = file_location("s3://upload-bucket/path/e.csv")
PART = 5 * 1024 * 1024
IN_PARTS = {"multipart_threshold": PART, "multipart_chunksize": PART}
NOTHING = {"Effect": "Allow", "Action": ["s3:ListAllMyBuckets"], "Resource": "*"}
READ, WRITE = "reads", "writes"


def policies(heading: str) -> list[dict[str, Any]]:
    """Return the policies below a heading of the page."""
    (_, after) = PAGE.split(f"### {heading}\n")
    section = re.split(r"^#", after, maxsplit=1, flags=re.MULTILINE)[0]
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", section, re.DOTALL)]


def without(policy: dict[str, Any], bucket: str, *actions: str) -> dict[str, Any]:
    """Return a policy without some actions on a bucket."""
    kept = [NOTHING]
    for statement in policy["Statement"]:
        given = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        on_it = bucket in statement["Resource"]
        if left := [action for action in given if not (on_it and action in actions)]:
            kept.append(statement | {"Action": left})
    return policy | {"Statement": kept}


@pytest.fixture
def allow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Give AWS Connections users with policies, on an AWS that enforces them."""
    with mock_aws():
        s3, iam = boto3.client("s3"), boto3.client("iam")
        for bucket in ("upload-bucket", "my-bucket"):
            s3.create_bucket(Bucket=bucket)
        s3.put_object(Bucket=FILE.s3_bucket, Key=FILE.s3_key, Body=b"x" * (PART + 1))

        def connections(**given: dict[str, Any]) -> None:
            for name, policy in given.items():
                iam.create_user(UserName=name)
                iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=json.dumps(policy))
                key = iam.create_access_key(UserName=name)["AccessKey"]
                fields = {"login": key["AccessKeyId"], "password": key["SecretAccessKey"]}
                monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps({"conn_type": "aws"} | fields))
            monkeypatch.setattr(moto.settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0)
            monkeypatch.setattr(ActionAuthenticatorMixin, "request_count", 0)

        yield connections


def destination(**options: Any) -> Destination:
    return Destination("my-bucket", "segments/users.csv", WRITE, {}, options)


def copy_with_airflow() -> None:
    S3CopyObjectOperator(
        task_id="copy",
        source_bucket_name=FILE.s3_bucket,
        source_bucket_key=FILE.s3_key,
        dest_bucket_name="my-bucket",
        dest_bucket_key="segments/users.csv",
        aws_conn_id=WRITE,
        acl_policy="no-acl",
    ).execute({})


def stream(**options: Any) -> int:
    with open_s3(FILE, READ) as source:
        return destination(**options).write(source)


def test_s3_copy_object_operator(allow: Callable[..., None]) -> None:
    """Its policy suffices."""
    allow(writes=policies("S3CopyObjectOperator")[0])
    copy_with_airflow()


@pytest.mark.parametrize("options", [{}, IN_PARTS], ids=["whole", "in parts"])
def test_copy(allow: Callable[..., None], options: dict[str, int]) -> None:
    """The policy suffices for the look at what is there, the copy and the cleaning up."""
    allow(writes=policies("Copy inside S3")[0])
    assert not destination().exists()
    destination().abort_leftovers()
    assert destination(**options).copy(FILE) == PART + 1


@pytest.mark.parametrize("options", [{}, IN_PARTS], ids=["whole", "in parts"])
def test_stream(allow: Callable[..., None], options: dict[str, int]) -> None:
    """One policy suffices to read, the other one to write."""
    read, write = policies("Stream with other credentials")
    allow(reads=read, writes=write)
    assert stream(**options) == PART + 1
    assert destination().exists()


def test_replace_needs_the_right_to_put_only(allow: Callable[..., None]) -> None:
    """What the page says is for `replace=False` or for cleaning up can be left out."""
    (policy,) = policies("Copy inside S3")
    allow(writes=without(policy, "my-bucket", "s3:GetObject", "s3:ListBucket", "s3:AbortMultipartUpload"))
    assert destination().copy(FILE) == PART + 1


COPY, STREAM = "Copy inside S3", "Stream with other credentials"


def test_bucket_in_another_account_allows_what_the_role_may() -> None:
    """moto knows no other accounts; but the bucket's policy has the statements of the policy that writes."""
    (_, write), (_, bucket) = policies(STREAM), policies("Cross-account")
    role = {"AWS": "arn:aws:iam::111122223333:role/airflow-worker"}
    assert bucket["Statement"] == [statement | {"Principal": role} for statement in write["Statement"]]


@pytest.mark.parametrize(
    ("way", "bucket", "right", "work"),
    [
        (COPY, "upload-bucket", "s3:GetObject", lambda: destination().copy(FILE)),
        (COPY, "my-bucket", "s3:PutObject", lambda: destination().copy(FILE)),
        (COPY, "my-bucket", "s3:PutObject", lambda: destination(**IN_PARTS).copy(FILE)),
        (COPY, "my-bucket", "s3:GetObject", lambda: destination().exists()),
        (STREAM, "upload-bucket", "s3:GetObject", stream),
        (STREAM, "my-bucket", "s3:PutObject", stream),
    ],
)
def test_missing_right(
    allow: Callable[..., None], way: str, bucket: str, right: str, work: Callable[[], Any]
) -> None:
    """A row of the page's table has the message, and the right."""
    allowed = [without(policy, bucket, right) for policy in policies(way)]
    allow(reads=allowed[0], writes=allowed[-1])
    with pytest.raises(FileTransferError) as caught:
        work()
    rows = [line.split("|")[1:3] for line in PAGE.splitlines() if line.startswith("| `s3://")]
    patterns = [(re.escape(shown.strip(" `")).replace("…", ".*"), missing) for shown, missing in rows]
    assert any(re.match(pattern, str(caught.value)) and right in missing for pattern, missing in patterns)
    assert right in str(caught.value)


def test_leftovers_are_a_warning(allow: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    """A try goes on without the right to look for them."""
    (policy,) = policies(COPY)
    allow(writes=without(policy, "my-bucket", "s3:ListBucketMultipartUploads"))
    destination().abort_leftovers()
    (shown,) = re.findall(r"a warning: `(.*) s3://my-bucket/… may be left`", PAGE)
    assert shown in caplog.text
    assert "s3:ListBucketMultipartUploads" in caplog.text
