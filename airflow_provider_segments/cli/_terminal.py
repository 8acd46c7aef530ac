# SPDX-License-Identifier: Apache-2.0
"""Where a command prints: its result to stdout and nothing else there, all else to stderr."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

    from rich.console import RenderableType

__all__ = ["Terminal", "printable", "result_stream"]

_WIDE = 10_000  # where no terminal limits the width, nothing is wrapped


@contextmanager
def result_stream() -> Iterator[TextIO]:
    """Yield what was stdout; whatever else prints there meanwhile, such as Airflow's log, goes to stderr."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with open(
            kept, "w", encoding=sys.stdout.encoding, errors="backslashreplace", closefd=False
        ) as stream:
            yield stream
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


class Terminal:
    """
    Both streams.

    :param result: where the result goes.
    """

    def __init__(self, result: TextIO) -> None:
        self.result = result
        self._messages = _console(sys.stderr)
        self.log = logging.getLogger(f"{__name__}.log")
        self.log.handlers = [_Handler(self.say)]
        self.log.setLevel(logging.WARNING)
        self.log.propagate = False

    def say(self, message: str) -> None:
        """
        Tell something beside the result.

        :param message: a line.
        """
        self._messages.print(Text(printable(message)), soft_wrap=True)

    def show(self, what: RenderableType) -> None:
        """
        Print a result for people.

        :param what: anything rich prints.
        """
        _console(self.result).print(what)

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """
        Show that something goes on, and for how long; nothing unless stderr is a terminal.

        :param text: what.
        """
        with self._progress(text, SpinnerColumn(), _TEXT, TimeElapsedColumn()):
            yield

    @contextmanager
    def transferring(self, text: str) -> Iterator[Callable[[int, int | None], None]]:
        """
        Show how far a transfer is, likewise; yield what takes the bytes that came and those there are.

        :param text: what is transferred.
        """
        columns = _TEXT, BarColumn(), DownloadColumn(), TransferSpeedColumn()
        with self._progress(text, *columns) as advance:
            yield advance

    @contextmanager
    def _progress(self, text: str, *columns: ProgressColumn) -> Iterator[Callable[[int, int | None], None]]:
        if not self._messages.is_terminal:
            yield lambda came, size: None
            return
        with Progress(*columns, console=self._messages, transient=True) as progress:
            task = progress.add_task(printable(text), total=None)
            yield lambda came, size: progress.update(task, advance=came, total=size)


_TEXT = TextColumn("{task.description}", markup=False)


class _Handler(logging.Handler):
    """The hook's warnings as lines on stderr, above a progress display if there is one."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(record.getMessage())


def _console(stream: TextIO) -> Console:
    terminal = stream.isatty()
    return Console(
        file=stream,
        force_terminal=terminal,
        width=None if terminal else _WIDE,
        highlight=False,
        markup=False,
        emoji=False,
    )


def printable(text: str) -> str:
    """
    Return text that can't steer a terminal.

    :param text: from anywhere.
    """
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
