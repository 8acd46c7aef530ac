# SPDX-License-Identifier: Apache-2.0
"""Where a file is, read from what the service calls it."""

from __future__ import annotations

import pytest

from airflow_provider_segments.api.location import file_location


@pytest.mark.parametrize(
    ("filename", "shown", "bucket", "key"),
    [
        ("s3://b/a/b.csv", "s3://b/a/b.csv", "b", "a/b.csv"),
        ("s3://b/a?b#c.csv", "s3://b/a?b#c.csv", "b", "a?b#c.csv"),
        ("s3://b//lead", "s3://b//lead", "b", "/lead"),
        ("s3://b/run:1/x%20y", "s3://b/run:1/x%20y", "b", "run:1/x%20y"),
        ("S3://b/K ", "s3://b/K ", "b", "K "),
        ("\n s3://b/k", "s3://b/k", "b", "k"),
        ("s3?b", "s3", None, None),
        ("s3://b", "s3://b", None, None),
        ("s3:///k", "s3:///k", None, None),
        ("https://b.s3.amazonaws.com/a%20b.csv", "https://b.s3.amazonaws.com/a%20b.csv", "b", "a b.csv"),
        (
            "https://b.s3.eu-west-1.amazonaws.com/k?X-Amz-Signature=1",
            "https://b.s3.eu-west-1.amazonaws.com/k",
            "b",
            "k",
        ),
        (
            "https://my.b.s3-us-west-2.amazonaws.com/k",
            "https://my.b.s3-us-west-2.amazonaws.com/k",
            "my.b",
            "k",
        ),
        ("https://s3.eu-west-1.amazonaws.com/b/k/l", "https://s3.eu-west-1.amazonaws.com/b/k/l", "b", "k/l"),
        ("https://s3.amazonaws.com/b/k", "https://s3.amazonaws.com/b/k", "b", "k"),
        ("https://s3.amazonaws.com/b", "https://s3.amazonaws.com/b", None, None),
        (
            "https://b.s3.dualstack.us-east-1.amazonaws.com/k",
            "https://b.s3.dualstack.us-east-1.amazonaws.com/k",
            "b",
            "k",
        ),
        (
            "https://b.s3.cn-north-1.amazonaws.com.cn/k",
            "https://b.s3.cn-north-1.amazonaws.com.cn/k",
            "b",
            "k",
        ),
        ("https://u:p@files.example.com/k?sig=1#f", "https://files.example.com/k", None, None),
        ("https://s3.evil.com/b/k", "https://s3.evil.com/b/k", None, None),
        ("https://[?sig=1", "https://[", None, None),
        ("https://u:p@/k?sig=1", "https:///k", None, None),
        ("/exports/me@home.csv", "/exports/me@home.csv", None, None),
        ("gs://b/k", "gs://b/k", None, None),
    ],
)
def test_where_the_file_is(filename: str, shown: str, bucket: str | None, key: str | None) -> None:
    """Split once, to the letter, and never with a query that signs."""
    file = file_location(filename)
    assert (file.filename, file.s3_bucket, file.s3_key) == (shown, bucket, key)
    assert file.s3_uri == (f"s3://{bucket}/{key}" if bucket else None)


REGION = "us-east-1.amazonaws.com"
VPC = "vpce-0a1b2c-3d4e.s3.us-east-1.vpce.amazonaws.com"


@pytest.mark.parametrize(
    "host",
    [
        "my.b.s3.amazonaws.com",
        "my.b.s3-external-1.amazonaws.com",
        f"my.b.s3.{REGION}",
        f"my.b.s3.{REGION}.",
        "my.b.s3-eu-west-1.amazonaws.com",
        f"my.b.s3-fips.{REGION}",
        "my.b.s3-fips-us-gov-west-1.amazonaws.com",
        "my.b.s3.us-gov-east-1.amazonaws.com",
        f"my.b.s3.dualstack.{REGION}",
        f"my.b.s3-fips.dualstack.{REGION}",
        "my.b.s3-accelerate.amazonaws.com",
        "my.b.s3-accelerate.dualstack.amazonaws.com",
        "my.b.s3.cn-north-1.amazonaws.com.cn",
        "my.b.s3.eusc-de-east-1.amazonaws.eu",
        f"my.b.s3express-use1-az4.{REGION}",
        f"my.b.bucket.{VPC}",
    ],
)
def test_host_that_names_a_bucket(host: str) -> None:
    """Each kind of S3's endpoints."""
    file = file_location(f"https://{host}/a%20b/k.csv")
    assert (file.s3_bucket, file.s3_key) == ("my.b", "a b/k.csv")


@pytest.mark.parametrize(
    "host",
    [
        "s3.amazonaws.com",
        f"s3.{REGION}",
        "s3-us-gov-west-1.amazonaws.com",
        f"s3-fips.dualstack.{REGION}",
        "s3.cn-north-1.amazonaws.com.cn",
        f"bucket.{VPC}",
        "bucket.vpce-0a1b2c-3d4e-us-east-1a.s3.us-east-1.vpce.amazonaws.com",
    ],
)
def test_path_that_names_a_bucket(host: str) -> None:
    """Path style, on each kind of endpoint that has it."""
    file = file_location(f"https://{host}/my.b/k.csv")
    assert (file.s3_bucket, file.s3_key) == ("my.b", "k.csv")


@pytest.mark.parametrize(
    "host",
    [
        f"finance-123456789012.s3-accesspoint.{REGION}",
        f"finance-123456789012.s3-accesspoint-fips.dualstack.{REGION}",
        "finance-123456789012.s3-accesspoint.cn-north-1.amazonaws.com.cn",
        "abc.mrap.accesspoint.s3-global.amazonaws.com",
        f"finance-123456789012.op-01ac5d28a6a232904.s3-outposts.{REGION}",
        f"finance-123456789012.s3-object-lambda.{REGION}",
        f"123456789012.s3-control.{REGION}",
        f"s3express-control.{REGION}",
        f"finance-abc123-s3alias.s3.{REGION}",
        f"finance-abc123--ol-s3.s3.{REGION}",
        f"b.s3-website.{REGION}",
        "b.s3-website-us-east-1.amazonaws.com",
        "s3-accelerate.amazonaws.com",
        f"s3tables.{REGION}",
        f"accesspoint.{VPC}",
        f"finance-123456789012.accesspoint.{VPC}",
        f"control.{VPC}",
        VPC,
        "evils3.amazonaws.com",
        "b.s3.amazonaws.com.example.com",
    ],
)
def test_host_that_names_no_bucket(host: str) -> None:
    """Access points and their like are no buckets, and neither are other services."""
    file = file_location(f"https://{host}/b/k.csv?X-Amz-Signature=1")
    assert (file.s3_bucket, file.s3_key, file.filename) == (None, None, f"https://{host}/b/k.csv")


@pytest.mark.parametrize(
    "filename",
    [
        "s3://arn:aws:s3:us-east-1:123456789012:accesspoint/finance/k.csv",
        f"https://s3.{REGION}/arn%3Aaws%3As3%3Aus-east-1%3A123456789012%3Aaccesspoint%2Ffinance/k.csv",
    ],
)
def test_arn_of_an_access_point_is_no_bucket(filename: str) -> None:
    """Wherever it stands."""
    assert file_location(filename).s3_bucket is None
