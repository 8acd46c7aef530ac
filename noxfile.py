# SPDX-License-Identifier: Apache-2.0
"""The environments that make's targets work in: one for each pair of an Airflow and a Python, below `.nox`."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import nox

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT))

from tests.environments import InstallError, check_space, run, uv_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

UV = Path(sys.executable).with_name("uv")
CONSTRAINTS = ROOT / "tests" / "constraints"
PYTHONS = {
    "2.11": ("3.11", "3.12"),
    "3.0": ("3.11", "3.12"),
    "3.1": ("3.11", "3.12", "3.13"),
    "3.2": ("3.11", "3.12", "3.13"),
    "3.3": ("3.11", "3.12", "3.13"),
}
# What else the constraints of an Airflow pin.
GROUPS = {"3.3": ("docs", "layers", "scale", "bench")}
# All tests run on these: make test, make test-airflow2.
ALL_TESTS = {("3.11", "3.3"), ("3.11", "2.11")}
ROWS = [(python, airflow) for airflow in PYTHONS for python in PYTHONS[airflow]]
ROWS = [row for row in ROWS if row not in ALL_TESTS]
# These start a real Airflow beside: one example, from the trigger to the file.
HAPPY_PATH = {("3.11", "3.0"), ("3.12", "3.1"), ("3.13", "3.2")}
UNIT_TESTS = ("-m", "not system", "-n", "3", "--dist", "loadfile", "--no-loadscope-reorder", "--quiet")
# What rows leave out: each Airflow has the tests that depend on it on its first Python, and the newest Python of each
# major version has those that need no Airflow, too. The pages are tried where all tests run.
PAGES = ["handoff", "test_docs.py", "test_recipes.py"]
PROGRAMS = ["cli", "test_example_dags.py", "transfers/test_dag_runs.py"]
NO_AIRFLOW = [
    "api",
    "emulator",
    "files",
    "scale",
    "test_access.py",
    "test_environments.py",
    "test_properties.py",
]
NEWEST_PYTHON = {("3.12", "2.11"), ("3.13", "3.3")}
ONE_EXAMPLE = "tests/system/test_examples.py::test_export_segment"

nox.needs_version = ">=2025.10"
nox.options.default_venv_backend = "uv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["matrix"]

os.environ.update(uv_settings())
os.environ.setdefault("UV_PYTHON_DOWNLOADS", "never")
# uv does not compile what it installs; the first start does, if it may.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# pyenv's shims start only the versions that are chosen.
if pyenv := sorted((Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions").glob("3.*")):
    os.environ["PYENV_VERSION"] = ":".join(version.name for version in pyenv)


def install(session: nox.Session, airflow: str, *arguments: str) -> None:
    """Install the package, an Airflow and the tests, unless it is done already."""
    constraints, no_deps = CONSTRAINTS / f"airflow-{airflow}.txt", CONSTRAINTS / "no-deps.txt"
    sources = [ROOT / "pyproject.toml", constraints, no_deps]
    digest = hashlib.sha256(b"".join([*(file.read_bytes() for file in sources), repr(arguments).encode()]))
    ready = Path(session.virtualenv.location) / "ready"
    if ready.exists() and ready.read_text() == digest.hexdigest():
        return
    ready.unlink(missing_ok=True)
    session.log(f"Installing Airflow {airflow} …")
    pip = [UV, "pip", "install"]
    wanted = ["--group", "dev", "--editable", ".", "apache-airflow"]
    commands = [
        [*pip, "--constraint", str(constraints), *wanted, *arguments],
        [*pip, "--no-deps", "--requirement", str(no_deps)],
    ]
    environment = {name: value for name, value in session.env.items() if value is not None}
    for command in commands:
        try:
            run(command, f"Installing Airflow {airflow}", os.environ | environment)
        except InstallError as error:
            session.error(str(error).rstrip("."))
    ready.write_text(digest.hexdigest())


def become(session: nox.Session, command: Sequence[str]) -> None:
    """Run a command in nox's place, so that signals and its exit code are its own."""
    environment = {name: value for name, value in session.env.items() if value is not None}
    environment["PATH"] = os.pathsep.join([session.bin, os.environ["PATH"]])
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvpe(command[0], command, os.environ | environment)


@nox.session(download_python="never")
@nox.parametrize("airflow", ["3.3", "2.11"], ids=["3.3", "2.11"])
def work(session: nox.Session, airflow: str) -> None:
    """Run the command after `--` with an Airflow, in the Python that runs nox."""
    install(session, airflow, *(["--group", "docs", "--group", "layers"] if airflow == "3.3" else []))
    try:
        check_space()
    except OSError as error:
        session.error(str(error).rstrip("."))
    become(session, session.posargs)


def run_unit_tests(session: nox.Session, left_out: list[str]) -> None:
    """Run the unit tests apart from some below `tests`."""
    ignored = [f"--ignore=tests/{name}" for name in left_out]
    session.run("python", "-m", "pytest", *UNIT_TESTS, *ignored, *session.posargs)


@nox.session(download_python="never")
@nox.parametrize("python,airflow", ROWS, ids=[f"{airflow}-{python}" for python, airflow in ROWS])
def matrix(session: nox.Session, airflow: str) -> None:
    """Run the unit tests on an Airflow and a Python, and where it is listed, one example in a real Airflow."""
    install(session, airflow)
    if (session.python, airflow) in NEWEST_PYTHON:
        left_out = PROGRAMS
    elif session.python == PYTHONS[airflow][0]:
        left_out = NO_AIRFLOW
    else:
        left_out = [*PROGRAMS, *NO_AIRFLOW, "transfers"]
    run_unit_tests(session, PAGES + left_out)
    if (session.python, airflow) in HAPPY_PATH and not session.posargs:
        session.run("python", "-m", "pytest", "--quiet", ONE_EXAMPLE)


@nox.session(download_python="never", python="3.11")
def lowest(session: nox.Session) -> None:
    """Run the unit tests on the lowest versions that pyproject.toml declares."""
    install(session, "lowest")
    run_unit_tests(session, PAGES + PROGRAMS)


@nox.session(venv_backend="none")
def constraints(session: nox.Session) -> None:
    """Pin the newest versions that go with each Airflow, for all Pythons at once, and the lowest ones."""
    for airflow in PYTHONS:
        compile_pins(session, airflow, f"apache-airflow=={airflow}.*", "--upgrade")
    compile_pins(session, "lowest", "apache-airflow==2.11.0", "--resolution", "lowest-direct")


def compile_pins(session: nox.Session, name: str, wanted: str, *options: str) -> None:
    """Write a constraints file."""
    source = Path(session.create_tmp()) / "wanted.txt"
    caps = CONSTRAINTS / f"airflow-{name}.in"
    source.write_text(f"{wanted}\n--editable {ROOT}\n" + (caps.read_text() if caps.exists() else ""))
    layout = [
        "--universal",
        "--python-version",
        "3.11",
        "--no-header",
        "--no-annotate",
        "--no-emit-index-url",
    ]
    output = [
        "--no-emit-package",
        "airflow-provider-segments",
        "--output-file",
        CONSTRAINTS / f"airflow-{name}.txt",
    ]
    groups = ["--group", "dev", *(group for more in GROUPS.get(name, ()) for group in ("--group", more))]
    session.run(UV, "pip", "compile", "--quiet", source, *groups, *layout, *output, *options, external=True)


@nox.session(download_python="never")
def bench(session: nox.Session) -> None:
    """Measure against a peer."""
    install(session, "3.3", "--group", "bench")
    session.run("python", "-m", "tests.benchmarks", *session.posargs)


@nox.session(download_python="never")
def scale(session: nox.Session) -> None:
    """Run a distributed Airflow."""
    install(session, "3.3", "--group", "scale")
    become(session, ["python", "-W", "ignore", "-m", "tests.scale", *session.posargs])
