# SPDX-License-Identifier: Apache-2.0
"""What a run that has written a file tells Airflow's assets and OpenLineage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Asset, AssetAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["lineage", "tell_outlets"]


def tell_outlets(task: Any, context: Any, result: Mapping[str, Any]) -> None:
    """
    Give an alias among the outlets the real asset, and each asset the result as its event's extra.

    :param task: the running task.
    :param context: its context.
    :param result: what it hands on.
    """
    for outlet in task.outlets:
        if isinstance(outlet, AssetAlias) and result["s3_uri"]:
            context["outlet_events"][outlet].add(Asset(result["s3_uri"]), extra=dict(result))
        elif isinstance(outlet, Asset):
            context["outlet_events"][outlet].extra = dict(result)


def lineage(service: str, result: Mapping[str, Any]) -> Any:
    """
    Return OpenLineage's view of a run: from the segment to the object.

    :param service: the service's address, which is the segments' namespace.
    :param result: what the task hands on.
    """
    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.providers.openlineage.extractors import OperatorLineage

    outputs = []
    if result["s3_uri"]:
        outputs = [Dataset(namespace=f"s3://{result['s3_bucket']}", name=result["s3_key"])]
    return OperatorLineage(
        inputs=[Dataset(namespace=service, name=f"segments/{result['segment_id']}")], outputs=outputs
    )
