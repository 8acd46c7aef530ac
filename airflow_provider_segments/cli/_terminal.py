# SPDX-License-Identifier: Apache-2.0
"""Where a command prints: its result to stdout and nothing else there, all else to stderr."""

from __future__ import annotations

import io
import logging
import os
import select
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress, ProgressColumn, TextColumn
from rich.text import Text

from airflow_provider_segments.api.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import TextIO


class RawFile(io.FileIO):
    """An unbuffered file whose writes are complete even if its descriptor is non-blocking."""

    def __init__(self, file: Path | int, mode: str, shown: object, permissions: int = 0o666) -> None:
        self._shown = shown
        with naming(shown):
            super().__init__(
                file,  # type: ignore[arg-type]
                mode,
                closefd=not isinstance(file, int),
                opener=lambda path, flags: os.open(path, flags, permissions),
            )

    def write(self, data: Any, /) -> int:
        """Write all of the data."""
        left = memoryview(data)
        while left:
            with naming(self._shown):
                written = super().write(left)
            if written is None:
                select.select([], [self], [])
            left = left[written or 0 :]
        return len(data)


@contextmanager
def naming(shown: object) -> Iterator[None]:
    """Say what could not be written, and why."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(f"{shown} can't be written: {error.strerror or error}.") from error


@contextmanager
def result_stream() -> Iterator[TextIO]:
    """Yield what was stdout; whatever else prints there meanwhile, such as Airflow's log, goes to stderr."""
    kept = os.dup(1)  # not inheritable, unlike what the shell has opened
    os.dup2(sys.stderr.fileno(), 1)
    try:
        yield io.TextIOWrapper(
            RawFile(kept, "w", "stdout"),  # type: ignore[type-var]
            encoding=sys.stdout.encoding,
            errors="backslashreplace",
            write_through=True,
        )
    finally:
        with suppress(OSError):
            sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


class Terminal:
    """Stdout for the result, stderr for messages."""

    def __init__(self, result: TextIO) -> None:
        self.result = result
        self._messages = Console(stderr=True, highlight=False, markup=False, emoji=False)
        self.log = logging.getLogger(f"{__name__}.log")
        self.log.handlers = [_Handler(self)]
        self.log.setLevel(logging.WARNING)
        self.log.propagate = False

    def say(self, message: str) -> None:
        """Print a message beside the result."""
        with suppress(OSError):  # nobody reads it
            self._messages.print(Text(printable(message)), soft_wrap=True)

    def write_path(self, path: Path) -> None:
        """Print a path as the result; as raw bytes unless to a terminal."""
        if self.result.isatty():
            self.result.write(f"{printable(str(path))}\n")
        else:
            self.result.buffer.write(os.fsencode(path) + b"\n")  # type: ignore[attr-defined]

    def progress(self, *columns: ProgressColumn, visible: bool = True) -> Progress:
        """Return rich's display, which shows only where stderr is a terminal."""
        # FORCE_COLOR would make rich take a file for one.
        visible = visible and self._messages.is_interactive and sys.stderr.isatty()
        # Not by `disable`: before rich 14 it still prints an empty line.
        console = self._messages if visible else Console(quiet=True)
        text = TextColumn("{task.description}", markup=False)
        return Progress(text, *columns, console=console, transient=True)


class _Handler(logging.Handler):
    """Print the hook's warnings on stderr, above the progress display if there is one."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        self._terminal.say(record.getMessage())
