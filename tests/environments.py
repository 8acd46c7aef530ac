# SPDX-License-Identifier: Apache-2.0
"""
Make the environment of the tools that make all others, nox and uv: ``python tests/environments.py``.

Whatever fails is explained in one line. Only the standard library is needed.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / ".venv-tools"
PINS = ROOT / "tests" / "constraints" / "tools.txt"
# For a whole test run; Airflow logs a lot.
NEEDED_MB = 200
# What pip and uv say, and what it means.
NO_SPACE = ("No space left on device", "Disk quota exceeded")
NO_INDEX = (
    "Failed to establish a new connection",
    "Could not fetch URL",
    "Max retries exceeded",
    "error sending request",
    "Failed to fetch",
    "Network connectivity is disabled",
)
# uv does not read pip's settings: pip's name, uv's variable, what stands between several values.
UV_VARIABLES = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "no-index": ("UV_NO_INDEX", " "),
    "cert": ("SSL_CERT_FILE", " "),
}


class InstallError(Exception):
    """An installer failed; the message is one line."""


def run(command: Sequence[str | Path], task: str, environment: Mapping[str, str] | None = None) -> None:
    """
    Run an installer without a word, unless it fails.

    :param command: the installer with its arguments.
    :param task: what it is for, for the message.
    :param environment: its environment, by default this process's.
    :raises InstallError: with what is wrong and what to do about it.
    """
    try:
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
    except OSError as error:
        raise InstallError(f"{task} failed: {error}.") from error
    if done.returncode:
        raise InstallError(f"{task} failed: {explain(done.stdout.decode(errors='replace'))}")


def explain(output: str) -> str:
    """
    Return in one line why an installer failed.

    :param output: what it printed.
    """
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if any(words in output for words in NO_SPACE):
        return f"there is no space left, on the disk of {ROOT} or in {tempfile.gettempdir()}."
    if any(words in output for words in NO_INDEX):
        return "the package index can't be reached; check the network and `pip config list`."
    if "ensurepip" in output:
        return "this Python can't make environments; on Debian: apt-get install python3-venv."
    errors = [line for line in lines if line.lower().startswith(("error", "×", "cause"))]
    return (errors or lines or ["it did not say why"])[-1]


def check_space() -> None:
    """
    See that there is room for an Airflow's database and logs.

    :raises OSError: if there is not.
    """
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free // 2**20
    if free < NEEDED_MB:
        raise OSError(
            f"{folder} has {free} MB free, and {NEEDED_MB} are needed; make room, or set TMPDIR to another folder"
        )


def uv_settings() -> dict[str, str]:
    """Return pip's settings as the variables that uv reads, those apart that are set already."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found: dict[str, str] = {}
    # The environment wins over `install`, and that over `global`.
    for prefix in ("global.", "install.", ":env:."):
        for line in listed.splitlines():
            name, _, value = line.partition("=")
            if name.startswith(prefix) and (known := UV_VARIABLES.get(name.removeprefix(prefix))):
                variable, between = known
                found[variable] = between.join(" ".join(shlex.split(value)).split())
    if "UV_INDEX" in found:  # as pip does it
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return {name: value for name, value in found.items() if name not in os.environ}


def make_tools() -> None:
    """Make the tools' environment."""
    pip = [TOOLS / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
    run([sys.executable, "-m", "venv", "--clear", TOOLS], "Making an environment for nox and uv")
    environment = {"PIP_RETRIES": "2"} | os.environ
    run([*pip, "install", "--requirement", PINS], "Installing nox and uv", environment)


if __name__ == "__main__":
    try:
        make_tools()
    except InstallError as error:
        sys.exit(str(error))
