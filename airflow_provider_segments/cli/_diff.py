# SPDX-License-Identifier: Apache-2.0
"""Compare two local files."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from airflow_provider_segments.api.text import printable
from airflow_provider_segments.cli._terminal import naming
from airflow_provider_segments.files import changes
from airflow_provider_segments.files.comparison import KINDS
from airflow_provider_segments.files.csv_file import open_csv

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_provider_segments.cli._terminal import Terminal

__all__ = ["compare_files"]


def compare_files(
    old: str,
    new: str,
    terminal: Terminal,
    *,
    keys: Sequence[str] | None,
    compared: Sequence[str] | None,
    output: str | None,
    memory_limit: str,
) -> None:
    """Print how many users were added, removed and changed, and write them to a folder if one is given."""
    previous, current = (open_csv(_checked(name), printable(name)) for name in (old, new))
    changes.log.handlers, changes.log.propagate = terminal.log.handlers, False
    changes.log.setLevel(logging.WARNING)
    with _target(output) as target, TemporaryDirectory(dir=target, prefix=".user-segments-diff-") as name:
        found = changes.compare(
            previous,
            current,
            Path(name),
            key_columns=keys,
            compare_columns=compared,
            memory_limit=memory_limit,
        )
        if target:
            for kind in KINDS:
                with naming(target / f"{kind}.csv"):
                    (Path(name) / f"{kind}.csv").replace(target / f"{kind}.csv")
    for word in (*KINDS, "unchanged"):
        terminal.result.write(f"{word}\t{getattr(found, word)}\n")


def _checked(name: str) -> Path:
    path = Path(name)
    if not path.is_file():
        what = "is not a regular file" if path.exists() else "does not exist"
        raise FileNotFoundError(
            f"{printable(name)} {what}. Give two CSV files, not pipes: each is read twice."
        )
    with path.open("rb"):
        return path


@contextmanager
def _target(output: str | None) -> Iterator[Path | None]:
    """Yield the folder, if there is one to be; one that is made for the files goes if they can't be written."""
    if output is None or os.path.isdir(output):
        yield None if output is None else _checked_folder(Path(output))
        return
    with naming(output or "An empty --output"):
        os.mkdir(output)
    try:
        yield Path(output)
    except BaseException:
        with suppress(OSError):
            os.rmdir(output)
        raise


def _checked_folder(folder: Path) -> Path:
    if there := [path for kind in KINDS if (path := folder / f"{kind}.csv").exists()]:
        raise FileExistsError(f"{there[0]} exists. Remove it, or give another --output.")
    return folder
