# SPDX-License-Identifier: Apache-2.0
"""How a command ends."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FAILED", "PIPE_CLOSED", "USAGE", "flushed", "printing_to_stderr"]

FAILED, USAGE = 1, 2
PIPE_CLOSED = 141  # what a shell reports of a tool that SIGPIPE has ended


@contextmanager
def printing_to_stderr() -> Iterator[None]:
    """Send what is printed to stdout meanwhile, such as by an airflow_local_settings.py, to stderr."""
    try:
        os.fstat(2)  # else `dup` would take its number
        kept = os.dup(1)
    except OSError:  # one of them is closed
        yield
        return
    try:
        os.dup2(2, 1)
        yield
        if sys.stdout is not None:
            with suppress(OSError):  # stderr is full
                sys.stdout.flush()
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def flushed(code: int) -> int:
    """Flush stdout and stderr, where Python would end with 120 if one is full or closed; return the exit code."""
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            if stream is not None:
                stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
            if number == 1 and not code:
                code = PIPE_CLOSED
                if not isinstance(error, BrokenPipeError):
                    code = FAILED
                    print(f"Failed: stdout can't be written: {error.strerror}.", file=sys.stderr)
    return code
