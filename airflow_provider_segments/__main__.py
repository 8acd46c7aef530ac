# SPDX-License-Identifier: Apache-2.0
"""The command line where Airflow has no ``user-segments`` command: ``python -m airflow_provider_segments``."""

from __future__ import annotations

import os
import sys
import warnings

from airflow_provider_segments.cli._exit import flushed
from airflow_provider_segments.cli.definition import build_parser

__all__ = ["main"]


def main() -> None:
    """Run a command and exit."""
    try:
        _run()
    except SystemExit as end:
        sys.exit(flushed(end.code or 0) if isinstance(end.code, int | None) else end.code)


def _run() -> None:
    arguments = build_parser("python -m airflow_provider_segments").parse_args()
    # Before Airflow is imported: hide its own log from users of a command, unless they set a level.
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "CRITICAL")
    if not sys.warnoptions:
        sys.warnoptions.append("ignore")  # else Airflow 2 turns some on again
        warnings.simplefilter("ignore")
    try:
        arguments.func(arguments)
    except KeyboardInterrupt:  # while the command is loaded
        sys.exit(130)


if __name__ == "__main__":
    main()
