# SPDX-License-Identifier: Apache-2.0
"""What a task or its trigger logs of a complete export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_segments.api.text import printable

if TYPE_CHECKING:
    from airflow_provider_segments.api.models import SegmentExport


def log_complete(log: Any, export: SegmentExport, result: dict[str, Any]) -> None:
    """Log that an export is complete, where its file is and until when."""
    log.info("Complete: %s.", export.label)
    until = f" until {export.expires_at:%Y-%m-%d %H:%M:%S} UTC" if export.expires_at else ""
    log.info("The file is at %s%s.", printable(result["filename"]), until)


def log_details(log: Any, result: dict[str, Any]) -> None:
    """Log all of a task's result, in a block that Airflow folds."""
    log.info("::group::Details of the export")
    for name, value in result.items():
        log.info("%s: %s", name, printable(str(value)))
    log.info("::endgroup::")
