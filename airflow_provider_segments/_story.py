# SPDX-License-Identifier: Apache-2.0
"""How a task's log ends, the same wherever the task is finished."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_segments.api.models import SegmentExport

__all__ = ["tell_complete"]


def tell_complete(log: Any, export: SegmentExport, result: dict[str, Any]) -> None:
    """
    Tell that an export is complete, where its file is and until when, and the rest in a block that Airflow folds.

    :param log: the task's.
    :param export: the export.
    :param result: what the task returns.
    """
    log.info("Complete: %s.", export.label)
    log.info("The file is at %s until %s.", result["filename"], result["expires_at"])
    log.info("::group::Details of the export")
    for name, value in result.items():
        log.info("%s: %s", name, value)
    log.info("::endgroup::")
