# SPDX-License-Identifier: Apache-2.0
"""Folders for what a task keeps on its machine for a while."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from airflow_provider_segments.api.errors import FileTransferError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def disk_errors(what: str, folder: Path | None) -> Iterator[None]:
    """Raise FileTransferError where there is no space or no permission."""
    try:
        yield
    except OSError as error:
        where = folder or "a temporary folder"
        raise FileTransferError(
            f"{what} can't be kept in {where}: {error.strerror or error}. Make room there, or set TMPDIR to another "
            "folder."
        ) from error


@contextmanager
def temporary_folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """Yield a new folder, which is deleted afterwards."""
    with disk_errors("Temporary files", parent):
        folder = TemporaryDirectory(prefix=prefix, dir=parent)
    with folder as name:
        yield Path(name)
