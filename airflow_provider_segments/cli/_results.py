# SPDX-License-Identifier: Apache-2.0
"""Results as people and scripts want them, in the styles of Airflow's own commands, and as CSV."""

from __future__ import annotations

import csv
import json
import os
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.cli.simple_table import SimpleTable
from airflow.utils import yaml
from rich.console import Console
from tabulate import tabulate

from airflow_provider_segments.api.models import UserSegment
from airflow_provider_segments.api.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from typing import TextIO

    from airflow_provider_segments.api.models import SegmentExport
    from airflow_provider_segments.cli._terminal import Terminal

_BESIDE_THE_ID = 24  # characters for the other columns; a narrower terminal wraps lines
_WIDE = 10_000  # where no terminal limits the width, nothing is wrapped


def show_segments(terminal: Terminal, segments: Sequence[UserSegment], output: str) -> None:
    """Print segments."""
    titles = ("Id", "Name", "Type", "Last run")
    cells = [
        (
            segment.segment_id,
            segment.name,
            segment.segment_type.value if segment.segment_type else "",
            _time(segment.last_run, "never"),
        )
        for segment in segments
    ]
    rows = [segment.to_dict() for segment in segments]
    _print(terminal, output, titles, cells, rows, UserSegment.model_fields)


def show_export(terminal: Terminal, export: SegmentExport, output: str) -> None:
    """Print an export."""
    segment, file = export.segment, export.file
    cells = (
        ("Export", export.export_id),
        ("Segment", f"{segment.name} ({segment.segment_id})" if segment.name else segment.segment_id),
        ("Status", export.status.value),
        ("Started", _time(export.start_time)),
        ("Ended", _time(export.end_time)),
        ("Expires", _time(export.expires_at)),
        ("File", file.filename if file else ""),
    )
    row = export.result(output_format="")
    del row["output_format"]  # the service doesn't say
    _print(terminal, output, ("Property", "Value"), [pair for pair in cells if pair[1]], row, row)


def _print(
    terminal: Terminal,
    output: str,
    titles: Sequence[str],
    cells: Sequence[Sequence[str | None]],
    data: list[dict[str, Any]] | dict[str, Any],
    columns: Iterable[str],
) -> None:
    stream = terminal.result
    shown = [[printable(cell or "") for cell in row] for row in cells]
    match output:
        case "json":
            stream.write(json.dumps(data, indent=2) + "\n")
        case "yaml":
            stream.write(yaml.dump(data, sort_keys=False))
        case "csv":
            # No control characters for a terminal; a file or a pipe gets the text unchanged.
            written = printable if stream.isatty() else str
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(names := list(columns))
            for row in data if isinstance(data, list) else [data]:
                writer.writerow([written(row[name] or "") for name in names])
        case "plain":
            stream.write(tabulate(shown, titles, "plain", disable_numparse=True) + "\n")
        case _:
            stream.write(_table(stream, titles, shown))


def _table(stream: TextIO, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    table = SimpleTable(show_header=True, caption=None)
    for title in titles:
        # An id that is cut or wrapped could not be copied.
        table.add_column(title, no_wrap=title == "Id", overflow="fold")
    for row in rows:
        table.add_row(*row)
    is_terminal = stream.isatty()
    width = os.get_terminal_size(stream.fileno()).columns or None if is_terminal else _WIDE
    least = max((len(row[0]) for row in rows), default=0) + _BESIDE_THE_ID
    width = max(width, least) if width else None
    console = Console(
        file=stream, force_terminal=is_terminal, width=width, highlight=False, markup=False, emoji=False
    )
    with console.capture() as captured:  # rich would exit by itself where a pipe is closed
        console.print(table)
    return captured.get()


def _time(moment: datetime | None, otherwise: str = "") -> str:
    if moment is None:
        return otherwise
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC ({pendulum.instance(moment).diff_for_humans()})"
