# SPDX-License-Identifier: Apache-2.0
"""An object's asset: one for each key, whatever the key holds, on each Airflow."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest
from airflow.providers.common.compat.sdk import Asset, AssetAlias
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_segments.emulator import Emulator
from airflow_provider_segments.operators.user_segments import UserSegmentExportOperator
from airflow_provider_segments.sensors.user_segments import UserSegmentExportSensor
from airflow_provider_segments.utils.assets import add_asset_events, asset_uri
from tests.support import alias_events, context, outlet_events

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50)
KEYS = [
    "für/日本.csv",
    "VIP #1.csv",
    "a?b=1&a=2",
    "a b+c",
    "100%",
    "a%20b",
    "*",
    "a/",
    "/lead//x/",
    "..",
    ";p",
    "a\tb",
]


@given(TEXT | st.sampled_from(KEYS))
def test_uri_passes_airflow_unchanged(key: str) -> None:
    """Nothing is cut off, sorted or refused, and the key can be had back."""
    uri = asset_uri("my-bucket", key)
    assert Asset(uri).uri == uri
    assert uri.isascii()
    assert unquote(uri.removeprefix("s3://my-bucket/")) == key


@given(TEXT, TEXT)
def test_two_keys_are_two_assets(one: str, other: str) -> None:
    """An event of one starts no DAG of the other."""
    assert (Asset(asset_uri("b", one)) == Asset(asset_uri("b", other))) == (one == other)


@pytest.mark.parametrize("key", ["path/to/a.csv", "dt=2026-01-01/a_b~c.csv", "a:b@c,(d)!"])
def test_ordinary_keys_stay_as_they_are(key: str) -> None:
    """So that a DAG can be scheduled on the URI as everybody writes it."""
    assert asset_uri("my.bucket", key) == f"s3://my.bucket/{key}"


def tasks(export_id: str, segment_id: str, outlets: list[Any]) -> list[Any]:
    """Return an operator and a sensor with these outlets."""
    return [
        UserSegmentExportOperator(task_id="e", segment_id=segment_id, outlets=outlets),
        UserSegmentExportSensor(task_id="w", export_id=export_id, outlets=outlets),
    ]


@pytest.mark.parametrize("prefix", ["für", "VIP #1", "path/to"])
def test_outlets_get_their_events(connect: Callable[..., None], prefix: str) -> None:
    """Of the operator and of the sensor: an alias the asset, each the result as its extra, to the letter."""
    alias, asset = AssetAlias("a"), Asset("s3://b/k")
    with Emulator(bucket=None, export_seconds=0, prefix=prefix) as service:
        connect(service)
        segment_id = service.segments[0].segment_id
        earlier = UserSegmentExportOperator(task_id="r", segment_id=segment_id).execute(context())
        for task in tasks(earlier["export_id"], segment_id, [alias, asset]):
            where = context() | {"outlet_events": outlet_events()}
            result = task.execute(where)
            assert result["s3_key"].startswith(f"{prefix}/")
            assert where["outlet_events"][asset].extra == result
            (event,) = alias_events(where["outlet_events"][alias])
            assert asset_uri(result["s3_bucket"], result["s3_key"]) in str(event)
            assert event.extra == result


@pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="there are no references to assets")
def test_reference_to_an_asset_gets_its_event(caplog: pytest.LogCaptureFixture) -> None:
    """As the asset itself; one that can't be resolved costs a warning."""
    known, unknown = Asset.ref(uri="s3://b/k"), Asset.ref(name="nobody")
    event, result = SimpleNamespace(extra=None), {"s3_key": "k"}
    events = {known: event}
    add_asset_events([known, unknown], {"outlet_events": events}, result, logging.getLogger("tests"))
    assert event.extra == result
    assert "nobody" in caplog.text


@pytest.mark.parametrize(
    ("key", "words"),
    [("n" * 4000, "Airflow refuses 's3://b/nnn"), ("\ud800", "Airflow refuses"), (None, "is not on S3")],
)
def test_no_asset_can_be_made(key: str | None, words: str, caplog: pytest.LogCaptureFixture) -> None:
    """A warning, and success all the same: the file is there."""
    alias, events = AssetAlias("a"), outlet_events()
    result = {"s3_bucket": "b", "s3_key": key, "s3_uri": key and f"s3://b/{key}", "filename": "https://h/f"}
    add_asset_events([alias], {"outlet_events": events}, result, logging.getLogger("tests"))
    assert not alias_events(events[alias])
    assert "The alias 'a' gets no asset" in caplog.text
    assert words in caplog.text
