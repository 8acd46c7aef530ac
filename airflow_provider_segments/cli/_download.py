# SPDX-License-Identifier: Apache-2.0
"""
From where an export's file is to a file on disk, which appears whole or not at all.

The service's credentials go to neither S3 nor the host of a URL, and the query of a URL is shown nowhere.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote
from uuid import uuid4

from airflow_provider_segments.connection.settings import read_settings
from airflow_provider_segments.files.s3 import open_s3
from airflow_provider_segments.files.source import ensure_kept
from airflow_provider_segments.files.url import open_url
from airflow_provider_segments.hooks.user_segments import UserSegmentsHook
from airflow_provider_segments.transports.common import CHUNK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from airflow_provider_segments.api.location import ExportFile
    from airflow_provider_segments.api.models import SegmentExport
    from airflow_provider_segments.cli._terminal import Terminal
    from airflow_provider_segments.files.source import Source

__all__ = ["download_file"]


def download_file(
    export: SegmentExport, to: str | None, terminal: Terminal, *, force: bool, conn_id: str, aws_conn_id: str
) -> Path:
    """
    Write an export's file to disk and return its path.

    :param export: a complete one, asked for just now: the query of its URL may hold for minutes only.
    :param to: file or folder to write to; None for the working directory.
    :param terminal: where progress is shown.
    :param force: whether to overwrite a file that is there.
    :param conn_id: the Connection to the service, whose CA bundle and proxy hold for a URL.
    :param aws_conn_id: the AWS Connection for a file on S3.
    :raises FileTransferError: the file is not there, may not be read, or did not come whole.
    """
    file = ensure_kept(export)
    path = _target(file, to, export.export_id)
    _refuse_to_overwrite(path, force)
    with (
        terminal.transferring(path.name) as progress,
        _opened(export, file, conn_id, aws_conn_id) as source,
        _appearing(path, force) as sink,
    ):
        while chunk := source.read(CHUNK):
            sink.write(chunk)
            progress(len(chunk), source.size)
    return path


def _opened(
    export: SegmentExport, file: ExportFile, conn_id: str, aws_conn_id: str
) -> AbstractContextManager[Source]:
    if export.filename and not export.filename.startswith("s3://"):
        return open_url(export.filename, read_settings(UserSegmentsHook.get_connection(conn_id)))
    return open_s3(file, aws_conn_id)


def _target(file: ExportFile, to: str | None, export_id: str) -> Path:
    path = Path(to or ".")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent} is not a folder. Make it, or give another --to.")
    if not path.is_dir():
        return path
    # The name is the service's: only its last part counts, and only if it is one.
    name = (file.s3_key or unquote(file.filename)).rpartition("/")[2]
    return path / (name if name.isprintable() and name not in ("", ".", "..") else export_id)


def _refuse_to_overwrite(path: Path, force: bool) -> None:
    if path.exists() and not (force and path.is_file()):
        raise FileExistsError(f"{path} exists. Give --force to overwrite it, or another --to.")


@contextmanager
def _appearing(path: Path, force: bool) -> Iterator[BinaryIO]:
    """Yield a file that takes the path's name once all is written, and is gone if anything fails."""
    part = path.with_name(f".{uuid4().hex}.part")
    try:
        with part.open("xb") as sink:
            yield sink
            sink.flush()
            os.fsync(sink.fileno())
        _refuse_to_overwrite(path, force)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
