# SPDX-License-Identifier: Apache-2.0
"""One description of the commands, light enough for every start of Airflow's command line."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

from airflow.cli.cli_config import GroupCommand

from airflow_provider_segments.cli.definition import COMMANDS, airflow_commands, build_parser


def test_imports_nothing_heavy() -> None:
    """Neither what commands need to run, nor Airflow before it asks for its own classes."""
    code = (
        "import json, sys\n"
        "from airflow_provider_segments.cli.definition import build_parser\n"
        "build_parser('x')\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert "airflow_provider_segments" in loaded
    assert not loaded & {
        "airflow",
        "aiohttp",
        "boto3",
        "duckdb",
        "pendulum",
        "pydantic",
        "requests",
        "rich",
        "tenacity",
    }


def flags_of(parser: argparse.ArgumentParser) -> set[tuple[str, ...]]:
    """Return the names of a parser's arguments."""
    return {tuple(action.option_strings) or (action.dest,) for action in parser._actions}


def test_airflow_gets_the_same_commands() -> None:
    """The same names, arguments and functions as our own command line."""
    (group,) = airflow_commands()
    assert isinstance(group, GroupCommand)
    assert group.name == "user-segments"
    (ours,) = [
        action.choices
        for action in build_parser("x")._actions
        if isinstance(action, argparse._SubParsersAction)
    ]
    assert (
        list(ours)
        == [command.name for command in group.subcommands]
        == ["list", "export", "status", "download", "diff"]
    )
    for theirs in group.subcommands:
        parser = argparse.ArgumentParser()
        for argument in theirs.args:
            argument.add_to_parser(parser)
        assert flags_of(parser) == flags_of(ours[theirs.name])
        assert theirs.func == ours[theirs.name].get_default("func")


def test_every_function_exists() -> None:
    """What is loaded when a command runs is there."""
    from airflow_provider_segments.cli import commands

    assert sorted(command.function for command in COMMANDS) == commands.__all__ == sorted(commands.__all__)
