# SPDX-License-Identifier: Apache-2.0
"""Asset events and lineage of a task's file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.providers.common.compat.sdk import Asset, AssetAlias

from airflow_provider_segments.api.text import quoted

try:
    from airflow.sdk.definitions.asset import AssetRef
except ImportError:  # before Airflow 3
    AssetRef = None  # type: ignore[assignment,misc]

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# RFC 3986 allows these in a path, and ordinary keys stay readable. Not "*", which some take for a pattern.
_SAFE = "!$&'()+,;=:@/"


def asset_uri(bucket: str, key: str) -> str:
    """Return the URI of an object's asset, percent-encoded: Airflow takes ASCII only and cuts a URI at ``#``."""
    path = quote(key, safe=_SAFE)
    stem = path.rstrip("/")
    # Airflow strips trailing slashes, so two keys would become one asset.
    return f"s3://{quote(bucket, safe=':')}/{stem}{'%2F' * (len(path) - len(stem))}"


def add_asset_events(outlets: Iterable[Any], context: Any, result: Mapping[str, Any], log: Any) -> None:
    """Give each alias among the outlets the object's asset, and each event the result as its extra."""
    events = (context or {}).get("outlet_events")
    if events is None:  # a user's test may call `poke` with an empty context, or with None
        return
    for outlet in outlets:
        if isinstance(outlet, AssetAlias):
            if (asset := _asset_of(result, outlet.name, log)) is not None:
                events[outlet].add(asset, extra=dict(result))
        elif isinstance(outlet, Asset):
            events[outlet].extra = dict(result)
        elif AssetRef is not None and isinstance(outlet, AssetRef):
            try:
                events[outlet].extra = dict(result)
            except Exception as error:  # noqa: BLE001 - whatever the look-up raises, the file is there
                log.warning("The event of %s has no extra: %s", outlet, error)


def _asset_of(result: Mapping[str, Any], alias: str, log: Any) -> Asset | None:
    if not result["s3_uri"]:
        log.warning("The alias %r gets no asset: %s is not on S3.", alias, result["filename"])
        return None
    try:
        return Asset(asset_uri(result["s3_bucket"], result["s3_key"]))
    except Exception as error:  # noqa: BLE001 - whatever a provider's check of URIs raises, the file is there
        log.warning(
            "The alias %r gets no asset: Airflow refuses %s: %s", alias, quoted(result["s3_uri"]), error
        )
        return None


def lineage(service: str, result: Mapping[str, Any]) -> Any:
    """Return OpenLineage's view of an export: from the segment to the object."""
    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.providers.openlineage.extractors import OperatorLineage

    outputs = []
    if result["s3_uri"]:
        outputs = [Dataset(namespace=f"s3://{result['s3_bucket']}", name=result["s3_key"])]
    segment = Dataset(namespace=service, name=f"segments/{result['segment_id']}")
    return OperatorLineage(inputs=[segment], outputs=outputs)
