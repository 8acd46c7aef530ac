# SPDX-License-Identifier: Apache-2.0
"""Results as tables for people, as JSON and CSV for scripts."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import pendulum
from rich.box import SIMPLE
from rich.table import Table

from airflow_provider_segments.api.models import UserSegment
from airflow_provider_segments.cli._terminal import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from airflow_provider_segments.api.models import SegmentExport
    from airflow_provider_segments.cli._terminal import Terminal

__all__ = ["show_export", "show_segments"]


def show_segments(terminal: Terminal, segments: Sequence[UserSegment], output: str) -> None:
    """
    Print segments.

    :param terminal: where.
    :param segments: what.
    :param output: ``table``, ``json`` or ``csv``.
    """
    if output == "table":
        terminal.show(_segments_table(segments))
    else:
        rows = [segment.to_dict() for segment in segments]
        _print(terminal, rows, rows, UserSegment.model_fields, output)


def show_export(terminal: Terminal, export: SegmentExport, output: str) -> None:
    """
    Print an export.

    :param terminal: where.
    :param export: what.
    :param output: ``table``, ``json`` or ``csv``.
    """
    if output == "table":
        terminal.show(_export_table(export))
        return
    row = export.result(output_format="")
    del row["output_format"]  # the service doesn't say
    _print(terminal, row, [row], row, output)


def _print(
    terminal: Terminal, value: Any, rows: Sequence[Mapping[str, Any]], columns: Iterable[str], output: str
) -> None:
    if output == "json":
        json.dump(value, terminal.result, indent=2)
        terminal.result.write("\n")
    else:
        writer = csv.DictWriter(terminal.result, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _segments_table(segments: Sequence[UserSegment]) -> Table:
    table = Table(box=SIMPLE, show_edge=False, pad_edge=False)
    for title in ("Id", "Name", "Type", "Last run"):
        # An id that is cut or wrapped could not be copied.
        table.add_column(title, no_wrap=title == "Id", overflow="fold")
    for segment in segments:
        kind = segment.segment_type.value if segment.segment_type else ""
        cells = segment.segment_id, segment.name, kind, _time(segment.last_run, "never")
        table.add_row(*map(printable, cells))
    return table


def _export_table(export: SegmentExport) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    file = export.file
    for title, value in (
        ("Export", export.export_id),
        ("Segment", export.segment.label),
        ("Status", export.status.value),
        ("Started", _time(export.start_time)),
        ("Ended", _time(export.end_time)),
        ("Expires", _time(export.expires_at)),
        ("File", file.filename if file else ""),
    ):
        if value:
            table.add_row(title, printable(value))
    return table


def _time(moment: datetime | None, otherwise: str = "") -> str:
    if moment is None:
        return otherwise
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC ({pendulum.instance(moment).diff_for_humans()})"
