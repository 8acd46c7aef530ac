# SPDX-License-Identifier: Apache-2.0
"""Files in a folder of this machine."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_segments.api.errors import FileTransferError
from airflow_provider_segments.files.source import Source
from airflow_provider_segments.files.span import Body

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_CHUNK = 1024 * 1024


@contextmanager
def open_local(path: Path, metadata: Mapping[str, Any]) -> Iterator[Source]:
    """Read a local file; the metadata, by boto3's names, is what its object is to have."""
    with path.open("rb") as file:
        body = Body(file.read, file.close, size=path.stat().st_size, metadata=metadata)
        with Source(path.name, lambda *_: body) as source:
            yield source


def save(source: Source, path: Path) -> None:
    """Write what is read to a local file; raise FileTransferError if there is no space or no permission."""
    try:
        with path.open("wb") as file:
            shutil.copyfileobj(source, file, _CHUNK)
    except OSError as error:
        raise FileTransferError(
            f"{source.filename} can't be kept in {path.parent}: {error.strerror or error}. Make room there, or set "
            "TMPDIR to another folder."
        ) from error
