# SPDX-License-Identifier: Apache-2.0
"""OpenLineage's view of an export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def lineage(service: str, result: Mapping[str, Any]) -> Any:
    """Return a run's lineage: from the segment to the object."""
    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.providers.openlineage.extractors import OperatorLineage

    outputs = []
    if result["s3_uri"]:
        outputs = [Dataset(namespace=f"s3://{result['s3_bucket']}", name=result["s3_key"])]
    return OperatorLineage(
        inputs=[Dataset(namespace=service, name=f"segments/{result['segment_id']}")], outputs=outputs
    )
