# SPDX-License-Identifier: Apache-2.0
"""How a command ends."""

from __future__ import annotations

import os
import sys

__all__ = ["FAILED", "PIPE_CLOSED", "USAGE", "flushed"]

FAILED, USAGE = 1, 2
PIPE_CLOSED = 141  # what a shell reports of a tool that SIGPIPE has ended


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
