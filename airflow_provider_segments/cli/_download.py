# SPDX-License-Identifier: Apache-2.0
"""Download an export's file."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import TYPE_CHECKING
from urllib.parse import unquote

from rich.progress import BarColumn, DownloadColumn, TransferSpeedColumn

from airflow_provider_segments.api.text import printable
from airflow_provider_segments.cli._target import check_target, find_target, is_stdout, writing
from airflow_provider_segments.files.s3 import open_s3
from airflow_provider_segments.files.source import ensure_kept
from airflow_provider_segments.files.url import open_url
from airflow_provider_segments.hooks.user_segments import UserSegmentsHook
from airflow_provider_segments.transports.common import CHUNK

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_segments.api.location import ExportFile
    from airflow_provider_segments.api.models import SegmentExport
    from airflow_provider_segments.cli._terminal import Terminal

_LONGEST_NAME = 255  # bytes, on common file systems


def download_file(
    export: SegmentExport, to: str | None, terminal: Terminal, *, force: bool, conn_id: str, aws_conn_id: str
) -> Path | None:
    """Write an export's file and return its path; None if it went to stdout."""
    file, hook = ensure_kept(export), UserSegmentsHook(conn_id)
    path = None if is_stdout(to) else find_target(to, _name(file, export.export_id))
    if path:
        check_target(path, force)
    with (
        terminal.progress(
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            visible=path is not None or not terminal.result.isatty(),  # it would erase lines of the file
        ) as progress,
        (
            open_s3(file, aws_conn_id)
            if file.is_s3_uri
            else open_url(
                export.filename or "",
                hook.settings,
                lambda: hook.get_export(export.export_id).ensure_complete().filename or "",
            )
        ) as source,
        writing(path, force) if path else nullcontext(terminal.result.buffer) as sink,  # type: ignore[attr-defined]
    ):
        task = progress.add_task(printable(path.name if path else "stdout"), total=source.size)
        while chunk := source.read(CHUNK):
            sink.write(chunk)
            progress.advance(task, len(chunk))
    return path


def _name(file: ExportFile, export_id: str) -> str:
    """Return the last part of the name that the service gave, or else its id, if that can be a file's name."""
    name = (file.s3_key or unquote(file.filename)).rpartition("/")[2]
    return next(filter(_is_name, (name, export_id)), "export")


def _is_name(text: str) -> bool:
    if text != printable(text) or "/" in text or text in ("", ".", ".."):
        return False
    try:
        return len(os.fsencode(text)) <= _LONGEST_NAME
    except UnicodeEncodeError:  # this machine's file names can't hold it
        return False
