# SPDX-License-Identifier: Apache-2.0
"""Files in a folder of this machine."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from airflow_provider_segments.files.scratch import disk_errors
from airflow_provider_segments.files.source import Source
from airflow_provider_segments.files.span import Body

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_CHUNK = 1024 * 1024


def open_local(path: Path, metadata: Mapping[str, Any]) -> Source:
    """Open a local file; `metadata`, by boto3's names, is for its object."""
    file = path.open("rb")
    body = Body(file.read, file.close, size=path.stat().st_size, metadata=metadata)
    return Source(path.name, lambda *_: body)


def save(source: Source, path: Path) -> None:
    """Write what is read to a local file; raise FileTransferError if there is no space or no permission."""
    with disk_errors(source.filename, path.parent), path.open("wb") as file:
        shutil.copyfileobj(source, file, _CHUNK)
