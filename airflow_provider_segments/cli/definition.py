# SPDX-License-Identifier: Apache-2.0
"""The commands, for Airflow's command line and our own. Light to import: every ``airflow`` command loads it."""

from __future__ import annotations

import argparse
from contextlib import suppress
from importlib import import_module
from typing import Any, NamedTuple

from airflow_provider_segments import __version__
from airflow_provider_segments.cli._exit import printing_to_stderr
from airflow_provider_segments.connection.settings import DEFAULT_CONN_ID

DESCRIPTION = "List and export mParticle Analytics User Segments"
_EPILOG = "Exit codes: 0 done, 1 it failed, 2 wrong usage, 128 + n ended by signal n."


class Command(NamedTuple):
    """A command."""

    name: str
    function: str  # in airflow_provider_segments.cli.commands
    help: str
    arguments: tuple[tuple[tuple[str, ...], dict[str, Any]], ...]  # flags and options, as argparse takes them

    def run(self, arguments: argparse.Namespace) -> None:
        """Run the command and exit."""
        with printing_to_stderr():  # Airflow is loaded
            commands = import_module("airflow_provider_segments.cli.commands")
        getattr(commands, self.function)(arguments)


def _argument(*flags: str, **options: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    return flags, options


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 < seconds <= 1e8:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0 and at most 1e8")
    return seconds


def _memory(text: str) -> str:
    from airflow_provider_segments.files.changes import memory_in_bytes

    try:
        memory_in_bytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("memory_limit is ").rstrip(".")) from error
    return text


_CONN_ID = _argument(
    "--conn-id",
    default=DEFAULT_CONN_ID,
    help="Connection to the service, looked up as Airflow does (default: %(default)s)",
)
_OUTPUT = _argument(
    "-o",
    "--output",
    choices=("table", "json", "yaml", "plain", "csv"),
    default="table",
    help="how to print the result (default: %(default)s)",
)
_EXPORT_ID = _argument("export_id", metavar="EXPORT_ID", help="the export's id")
_TYPE = _argument("--type", choices=("static", "dynamic"), help="only segments of this type")
_SEGMENT_ID = _argument("--segment-id", help="the segment's id")
_SEGMENT_NAME = _argument("--segment-name", help="the segment's exact name, instead of the id")
_FORMAT = _argument("--output-format", default="csv", help="format of the file (default: %(default)s)")
_WAIT = _argument("--wait", action="store_true", help="wait until it is complete")
_TIMEOUT = _argument("--timeout", type=_seconds, metavar="SECONDS", help="how long to wait (default: a day)")
_TO = _argument(
    "--to",
    metavar="FILE",
    help="file or folder to write to, - for stdout (default: here, under its own name)",
)
_FORCE = _argument("--force", action="store_true", help="overwrite a file that is there")
_AWS_CONN_ID = _argument(
    "--aws-conn-id",
    default="aws_default",
    help="AWS Connection that may read a file on S3 (default: %(default)s)",
)
_OLD = _argument("old", metavar="OLD.csv", help="the earlier file")
_NEW = _argument("new", metavar="NEW.csv", help="the later file")
_KEY = _argument(
    "--key",
    action="extend",
    nargs="+",
    metavar="COLUMN",
    help="columns that identify a user (default: the first one)",
)
_COMPARE = _argument(
    "--compare",
    action="extend",
    nargs="+",
    metavar="COLUMN",
    help="columns whose change makes a changed row (default: all, and then the headers have to be equal)",
)
_FOLDER = _argument(
    "--output",
    metavar="DIR",
    help="folder to write added.csv, removed.csv and changed.csv to (default: none)",
)
_MEMORY_LIMIT = _argument(
    "--memory-limit",
    type=_memory,
    default="1GB",
    metavar="SIZE",
    help="memory the comparison may take; the rest goes to the disk (default: %(default)s)",
)

COMMANDS = (
    Command("list", "list_segments", "List the segments of the project", (_TYPE, _OUTPUT, _CONN_ID)),
    Command(
        "export",
        "export",
        "Request an export of a segment",
        (_SEGMENT_ID, _SEGMENT_NAME, _FORMAT, _WAIT, _TIMEOUT, _OUTPUT, _CONN_ID),
    ),
    Command("status", "status", "Show the status of an export", (_EXPORT_ID, _OUTPUT, _CONN_ID)),
    Command(
        "download",
        "download",
        "Download the file of a complete export",
        (_EXPORT_ID, _TO, _FORCE, _AWS_CONN_ID, _CONN_ID),
    ),
    Command(
        "diff",
        "diff",
        "Compare two exported files by key",
        (_OLD, _NEW, _KEY, _COMPARE, _FOLDER, _MEMORY_LIMIT),
    ),
)


def airflow_commands() -> list[Any]:
    """Return the commands as Airflow 3.2 and later take them from the provider metadata."""
    from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand

    subcommands = [
        ActionCommand(
            name=command.name,
            help=command.help,
            func=command.run,
            args=[Arg(flags, **options) for flags, options in command.arguments],
            epilog=_EPILOG,
        )
        for command in COMMANDS
    ]
    return [GroupCommand(name="user-segments", help=DESCRIPTION, subcommands=subcommands)]


class _Parser(argparse.ArgumentParser):
    """Keeps its exit code where stderr is full, as later Pythons than 3.11.2 do by themselves."""

    def _print_message(self, message: str, file: Any = None) -> None:
        with suppress(OSError):
            super()._print_message(message, file)


def build_parser(program: str) -> argparse.ArgumentParser:
    """Build the parser of our own command line."""
    parser = _Parser(prog=program, description=DESCRIPTION, epilog=_EPILOG)
    parser.set_defaults(program=program)
    parser.add_argument("--version", action="version", version=f"airflow-provider-segments {__version__}")
    parsers = parser.add_subparsers(dest="subcommand", metavar="COMMAND", required=True)
    for command in COMMANDS:
        sub = parsers.add_parser(command.name, help=command.help, description=command.help, epilog=_EPILOG)
        for flags, options in command.arguments:
            sub.add_argument(*flags, **options)
        sub.set_defaults(func=command.run)
    return parser
