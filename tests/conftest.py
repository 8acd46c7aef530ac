# SPDX-License-Identifier: Apache-2.0
"""Real parts for all tests: the emulator over HTTP, a local S3, a clock that doesn't wait."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from typing import TYPE_CHECKING, Any

# Before Airflow is imported: it reads its home and configuration once, and must not find any of the user's.
for name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
    del os.environ[name]
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-home-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"
# `dag.test()` of Airflow 3.0 and 3.1 makes none.
os.environ["AIRFLOW__API_AUTH__JWT_SECRET"] = "a-secret-of-the-tests-that-is-longer-than-64-bytes" * 2
os.environ["AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS"] = "False"
os.environ["AWS_ACCESS_KEY_ID"] = os.environ["AWS_SECRET_ACCESS_KEY"] = "testing"
os.environ["AWS_DEFAULT_REGION"] = "us-east-1"
# The last one would hide what a command leaves in its buffers.
for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "AWS_PROFILE", "PYTHONUNBUFFERED"):
    os.environ.pop(name, None)
for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
    os.environ.pop(name, None)

import botocore.session
import pytest
from hypothesis import settings

from tests.support import FakeClock, OnAiohttp, OnRequests

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_segments.emulator import Emulator
    from tests.support import Client

pytest_plugins = ["airflow_provider_segments.emulator.pytest_plugin"]

# Else each client of boto3 parses the model of S3 again, which takes longer than most tests.
botocore.session.create_loader = cache(botocore.session.create_loader)


# No test may depend on how fast the machine is.
settings.register_profile("here", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("here")

CONN_ENV = "AIRFLOW_CONN_MPARTICLE_ANALYTICS_DEFAULT"


# Files whose tests share what takes long to start, in the order in which they run: one Airflow; another one; a
# PostgreSQL, and a process that others are forked from; such processes for commands. Then single files that take long.
# Each group goes to one process of pytest-xdist.
GROUPS = (
    ("tests/system/test_endings.py", "tests/system/test_examples.py", "tests/system/test_faults.py"),
    ("tests/system/test_refresh.py",),
    (
        *("tests/handoff/", "tests/test_example_dags.py", "tests/test_recipes.py", "tests/test_docs.py"),
        "tests/transfers/test_dag_runs.py",
    ),
    ("tests/cli/",),
    ("tests/files/test_changes.py",),
    ("tests/transfers/test_user_segment_changes_to_s3.py",),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no process ends up alone with it."""
    order = [name for group in GROUPS for name in group]
    items.sort(
        key=lambda item: next((i for i, name in enumerate(order) if item.nodeid.startswith(name)), len(order))
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give a file to one process, and a group of files to the same one."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            group = next((group for group in GROUPS if nodeid.startswith(group)), None)
            return group[0] if group else super()._split_scope(nodeid)

    return Scheduling(config, log)


@pytest.fixture(scope="session")
def s3_url(user_segments_s3_url: str) -> str:
    """A local S3."""
    return user_segments_s3_url


@pytest.fixture(scope="session")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty metadata database to copy, made once for all processes of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "new-database"
    home.mkdir(exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "ready").exists():
            command = [sys.executable, "-W", "ignore", "-m", "airflow", "db", "migrate"]
            environment = os.environ | {"AIRFLOW_HOME": str(home)}
            subprocess.run(command, check=True, capture_output=True, env=environment)
            (home / "ready").touch()
    return home / "airflow.db"


@pytest.fixture(scope="session")
def database(new_database: Path) -> None:
    """Airflow's metadata database, in the tests' own home."""
    shutil.copy(new_database, os.environ["AIRFLOW_HOME"])


@pytest.fixture
def connected(user_segments: Emulator) -> Emulator:
    """The service with the default Connection pointing to it; no files, exports end before the first look."""
    return user_segments


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set the default Connection to a service, with fields replaced."""

    def set_connection(emulator: Emulator, **fields: object) -> None:
        monkeypatch.setenv(CONN_ENV, json.dumps(emulator.airflow_connection() | fields))

    return set_connection


@pytest.fixture
def clock() -> FakeClock:
    """A clock on which sleeping takes no time."""
    return FakeClock()


@pytest.fixture(params=[OnRequests, OnAiohttp])
def client(request: pytest.FixtureRequest, connected: Emulator, clock: FakeClock) -> Client:
    """Each test runs on both transports."""
    made: Client = request.param(clock)
    return made


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Return what has been logged since the last call, wherever this Airflow's task log goes."""
    caplog.set_level(logging.INFO)

    def since_last_call() -> str:
        printed, recorded = capsys.readouterr().out, "\n".join(caplog.messages)
        caplog.clear()
        return printed or recorded

    return since_last_call
