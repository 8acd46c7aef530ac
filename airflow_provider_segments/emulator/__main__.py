# SPDX-License-Identifier: Apache-2.0
"""The emulator as a process of its own: ``python -m airflow_provider_segments.emulator``."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import math
import shlex
import signal
import socket
import sys
from typing import TYPE_CHECKING

from airflow_provider_segments.emulator._emulator import Emulator
from airflow_provider_segments.emulator._faults import Fault, parse_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the emulator until SIGINT or SIGTERM.

    :param arguments: Command line; None for the process's own.
    """
    options = vars(_parser().parse_args(arguments))
    if options["log"]:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        # Keep Python's signal handlers for the start, which an unresponsive S3 may block.
        with Emulator(**options) as emulator, _signals() as wait:
            print(_ready_line(emulator), flush=True)
            wait()
    except (OSError, ValueError) as error:
        print(f"The emulator could not start: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _ready_line(emulator: Emulator) -> str:
    connection = emulator.airflow_connection()
    export = f"export AIRFLOW_CONN_MPARTICLE_ANALYTICS_DEFAULT={shlex.quote(json.dumps(connection))}"
    return f"Ready on {emulator.url} with API key {connection['login']}; in the shell of Airflow: {export}"


@contextlib.contextmanager
def _signals() -> Iterator[Callable[[], object]]:
    # A socket pair loses no signal, whenever it arrives and whichever thread receives it.
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    with reader, writer:
        before = signal.set_wakeup_fd(writer.fileno())
        handlers = {number: signal.signal(number, _ignore) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield lambda: reader.recv(1)
        finally:
            signal.set_wakeup_fd(before)
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _ignore(*_: object) -> None:
    """Do nothing: the wake-up through the socket pair is enough."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_segments.emulator",
        description="A local stand-in for the mParticle Analytics User Segments Export API.",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    add("--port", type=_port, default=8400, help="port to listen on, 0 for a free one (%(default)s)")
    add("--s3-endpoint-url", help="address of a local S3; without it, AWS")
    add("--bucket", default="upload-bucket", help="bucket of the files, created if missing (%(default)s)")
    add("--prefix", default="path/to", help="folder of the files in the bucket (%(default)s)")
    add("--segments", type=_count, default=3, help="number of segments (%(default)s)")
    add("--rows", type=_count, default=1000, help="users in a segment (%(default)s)")
    add(
        "--export-seconds",
        type=_span,
        default=5.0,
        help="time an export takes, or 2-90 for different times (%(default)s)",
    )
    add("--refresh-seconds", type=_interval, help="time between two refreshes of the Dynamic segments")
    add("--requests-per-second", type=_interval, help="limit on all calls; others get 429")
    add("--api-key", default="emulator-key", help="user name to accept (%(default)s)")
    add("--access-token", default="emulator-token", help="password to accept (%(default)s)")
    add("--presigned", action="store_true", help="name files by presigned URLs")
    add("--fault", dest="faults", type=_fault, action="append", default=[], help=_FAULT_HELP)
    add("--verbose", dest="log", action="store_true", help="log one line for each request")
    return parser


_FAULT_HELP = (
    "something that goes wrong, as kind:option=value,…; may be repeated. "
    "Example: too_many_requests:on=status,every=2,times=none,retry_after=3"
)


def _checked(text: str, accept: Callable[[float], bool], meaning: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not accept(value):
        message = f"{text!r} is not {meaning}"
        raise argparse.ArgumentTypeError(message)
    return value


def _port(text: str) -> int:
    return int(_checked(text, lambda value: value in range(65536), "a port"))


def _count(text: str) -> int:
    return int(_checked(text, lambda value: value >= 0 and value.is_integer(), "a number from 0 up"))


def _seconds(text: str) -> float:
    return _checked(text, lambda value: 0 <= value < math.inf, "a number of seconds")


def _span(text: str) -> float | tuple[float, float]:
    least, dash, most = text.partition("-")
    if not (least and dash):
        return _seconds(text)
    span = _seconds(least), _seconds(most)
    _checked(most, lambda value: value >= span[0], f"{least} seconds or more")
    return span


def _interval(text: str) -> float:
    return _checked(text, lambda value: 0 < value < math.inf, "a number above 0")


def _fault(text: str) -> Fault:
    try:
        return parse_fault(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
