# SPDX-License-Identifier: Apache-2.0
"""Whatever the service sends, it becomes a model or one of our errors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_segments.api.calls import Call, Reply, get_export, list_segments, read_reply
from airflow_provider_segments.api.errors import UserSegmentsError
from airflow_provider_segments.api.location import file_location
from airflow_provider_segments.api.models import SegmentExport
from tests.api.test_models import EXPORT, SEGMENT

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.datetimes().map(str),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
FILENAMES = st.text() | st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["s3://", "https://", "http://", "S3://", "https://[", "//"]),
    st.text(max_size=10) | st.sampled_from(["b.s3.amazonaws.com", "s3.eu-west-1.amazonaws.com"]),
    st.sampled_from(["", "/", "//", "/b/k", "/?", "#"]),
    st.text(max_size=20),
)


def _altered(document: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    changes = st.dictionaries(st.sampled_from(sorted(document)), ANYTHING | FILENAMES, max_size=4)
    drops = st.sets(st.sampled_from(sorted(document)), max_size=2)
    return st.builds(
        lambda change, drop: {k: v for k, v in (document | change).items() if k not in drop}, changes, drops
    )


SEGMENTS = _altered(SEGMENT)
EXPORTS = st.builds(lambda export, segment: export | {"segment": segment}, _altered(EXPORT), SEGMENTS)
BODIES = st.binary() | (ANYTHING | EXPORTS | SEGMENTS | st.lists(SEGMENTS, max_size=3)).map(
    lambda value: json.dumps(value).encode("utf-8", "surrogatepass")
)


@settings(max_examples=1000)
@given(
    call=st.sampled_from([list_segments(), get_export("e")]),
    status=st.integers(100, 999) | st.just(200),
    body=BODIES,
    retry_after=st.none() | st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=255)),
)
def test_every_body(call: Call[Any], status: int, body: bytes, retry_after: str | None) -> None:
    """A model whose public forms can be written as JSON, or an error that can be shown."""
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    try:
        answer = read_reply(call, Reply(status, headers, body), now=1.8e9)
    except UserSegmentsError as error:
        str(error).encode()
        return
    assert 200 <= status < 300
    for found in answer if isinstance(answer, list) else [answer]:
        json.dumps(found.to_dict())
        if isinstance(found, SegmentExport):
            json.dumps(found.result("csv"))
            assert SegmentExport.model_validate(found.to_dict()).to_dict() == found.to_dict()


@pytest.mark.parametrize("scheme", ["https", "http"])
@given(rest=st.text(max_size=40), query=st.text(alphabet=st.characters(exclude_characters="#"), min_size=1))
def test_no_query_survives(scheme: str, rest: str, query: str) -> None:
    """Of a URL only what is before the question mark is shown."""
    shown = file_location(f"{scheme}://{rest}?{query}").filename
    assert "?" not in shown


@given(FILENAMES | st.text(alphabet="/@?#:[]\t sS3https.\0"))
@example("////@")
@example("//@//@")
def test_what_is_shown_is_read_as_the_same(filename: str) -> None:
    """A resumed task has only what its trigger has shown."""
    file = file_location(filename)
    assert file_location(file.filename) == file


@given(
    bucket=st.text(min_size=1).filter(lambda text: "/" not in text and "arn:" not in text),
    key=st.text(min_size=1),
)
def test_s3_locations_are_kept_to_the_letter(bucket: str, key: str) -> None:
    """Split at the first slash after the bucket, nothing lost."""
    file = file_location(f"s3://{bucket}/{key}")
    assert (file.s3_bucket, file.s3_key, file.s3_uri) == (bucket, key, f"s3://{bucket}/{key}")
