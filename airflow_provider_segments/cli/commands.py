# SPDX-License-Identifier: Apache-2.0
"""What the commands do."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import contextmanager
from datetime import timedelta
from functools import wraps
from typing import TYPE_CHECKING

from rich.progress import SpinnerColumn, TimeElapsedColumn

from airflow_provider_segments.api import calls
from airflow_provider_segments.api.errors import ConfigurationError, UserSegmentsError
from airflow_provider_segments.cli._diff import compare_files
from airflow_provider_segments.cli._download import download_file
from airflow_provider_segments.cli._exit import FAILED, PIPE_CLOSED, USAGE, flushed
from airflow_provider_segments.cli._results import show_export, show_segments
from airflow_provider_segments.cli._signals import Interrupted, Signals
from airflow_provider_segments.cli._terminal import Terminal, result_stream
from airflow_provider_segments.connection.settings import DEFAULT_CONN_ID
from airflow_provider_segments.hooks.user_segments import UserSegmentsHook

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator

    from airflow_provider_segments.api.models import SegmentExport

__all__ = ["diff", "download", "export", "list_segments", "status"]

_signals = Signals()


class _UsageError(Exception):
    """The arguments make no sense together."""


def _command(work: Callable[[Namespace, Terminal], None]) -> Callable[[Namespace], None]:
    @wraps(work)
    def run(arguments: Namespace) -> None:
        # Airflow's own commands set it too; without it, Airflow 3 does not look into its database.
        os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
        if sys.stderr is None:
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - closed by the shell
        if sys.stdout is None:
            print("Failed: stdout is closed.", file=sys.stderr)
            sys.exit(FAILED)
        _signals.install()
        with result_stream() as stream:
            code = _exit_code(work, arguments, Terminal(stream))
        sys.exit(flushed(code))

    return run


def _exit_code(work: Callable[[Namespace, Terminal], None], arguments: Namespace, terminal: Terminal) -> int:
    try:
        work(arguments, terminal)
        _signals.check()
    except BrokenPipeError:
        return PIPE_CLOSED
    except _UsageError as error:
        terminal.say(f"Wrong usage: {error} See {_program(arguments)} {arguments.subcommand} --help.")
        return USAGE
    except (UserSegmentsError, OSError) as error:
        terminal.say(f"Failed: {error}")
        return FAILED
    except Interrupted as error:
        _signals.caught()
        terminal.say(error.message)
        return 128 + error.number
    finally:
        _signals.caught()
    return 0


@_command
def list_segments(arguments: Namespace, terminal: Terminal) -> None:
    """Print the segments."""
    found = _hook(arguments, terminal).list_segments()
    segments = [s for s in found if arguments.type in (None, (s.segment_type or "").lower())]
    if not segments:
        terminal.say(
            f"None of the project's segments is {arguments.type}."
            if found
            else "The project has no segments."
        )
    show_segments(terminal, segments, arguments.output)


@_command
def export(arguments: Namespace, terminal: Terminal) -> None:
    """Request an export, and wait for it if asked to."""
    if (arguments.segment_id is None) == (arguments.segment_name is None):
        raise _UsageError("Give exactly one of --segment-id and --segment-name.")
    if arguments.timeout and not arguments.wait:
        raise _UsageError("--timeout requires --wait.")
    hook, segment_id = _hook(arguments, terminal), arguments.segment_id
    if segment_id is None:
        segment_id = hook.get_segment(name=arguments.segment_name).segment_id
    with _as_usage():
        calls.request_export(segment_id)  # only checks the id; nothing is sent
    requested = None
    _signals.check()  # start none after a signal
    try:
        requested = hook.request_export(segment_id, arguments.output_format)
        terminal.say(f"Requested {requested.label}.")
        if arguments.wait:
            with terminal.progress(SpinnerColumn(), TimeElapsedColumn()) as progress:
                progress.add_task(f"Waiting for {requested.label}", total=None)
                timeout = arguments.timeout or timedelta(days=1)
                poll = hook.poll_until(requested.export_id, timeout, latest=requested)
                requested = poll.finished_export().ensure_complete()
    except Interrupted as error:
        raise Interrupted(error.number, _left_behind(requested, arguments)) from None
    show_export(terminal, requested, arguments.output)


@_command
def status(arguments: Namespace, terminal: Terminal) -> None:
    """Print the status of an export."""
    show_export(terminal, _ask(arguments, terminal), arguments.output)


@_command
def download(arguments: Namespace, terminal: Terminal) -> None:
    """Write an export's file and print its path."""
    asked = _ask(arguments, terminal)
    if not asked.status.is_finished:
        raise UserSegmentsError(
            f"{asked.label} is {asked.status.value}: there is no file yet. Check its status with: "
            f"{_status_command(asked, arguments)}"
        )
    path = download_file(
        asked,
        arguments.to,
        terminal,
        force=arguments.force,
        conn_id=arguments.conn_id,
        aws_conn_id=arguments.aws_conn_id,
    )
    if path:
        terminal.write_path(path)


@_command
def diff(arguments: Namespace, terminal: Terminal) -> None:
    """Compare two exported files."""
    compare_files(
        arguments.old,
        arguments.new,
        terminal,
        keys=arguments.key,
        compared=arguments.compare,
        output=arguments.output,
        memory_limit=arguments.memory_limit,
    )


def _hook(arguments: Namespace, terminal: Terminal) -> UserSegmentsHook:
    hook = UserSegmentsHook(arguments.conn_id)
    hook.settings  # noqa: B018 - reports a missing Connection at once: a person is waiting
    hook._log = terminal.log  # type: ignore[assignment]
    return hook


def _ask(arguments: Namespace, terminal: Terminal) -> SegmentExport:
    with _as_usage():
        calls.get_export(arguments.export_id)  # only checks the id; nothing is sent
    return _hook(arguments, terminal).get_export(arguments.export_id)


@contextmanager
def _as_usage() -> Iterator[None]:
    try:
        yield
    except ConfigurationError as error:
        raise _UsageError(str(error)) from error


def _left_behind(requested: SegmentExport | None, arguments: Namespace) -> str:
    if requested is None:
        return "Interrupted while the export was requested: it may have started, and its id is not known."
    return (
        f"Interrupted, but {requested.label} keeps running at the service. Check its status with: "
        f"{_status_command(requested, arguments)}"
    )


def _status_command(export: SegmentExport, arguments: Namespace) -> str:
    connection = [] if arguments.conn_id == DEFAULT_CONN_ID else ["--conn-id", arguments.conn_id]
    return f"{_program(arguments)} {shlex.join(['status', export.export_id, *connection])}"


def _program(arguments: Namespace) -> str:
    return getattr(arguments, "program", "airflow user-segments")
