# SPDX-License-Identifier: Apache-2.0
"""`python -m airflow_provider_segments.emulator`."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys

import pytest
import requests

from airflow_provider_segments.emulator.__main__ import main


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("--port", "70000"),
        ("--rows", "-1"),
        ("--segments", "few"),
        ("--export-seconds", "nan"),
        ("--export-seconds", "9-2"),
        ("--requests-per-second", "0"),
        ("--refresh-seconds", "0"),
        ("--fault", "nonsense"),
    ],
)
def test_bad_argument_is_named(name: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A bad argument is named."""
    with pytest.raises(SystemExit, match="2"):
        main([f"{name}={value}"])
    assert f"argument {name}: " in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_serves_until_a_signal(s3_url: str, number: signal.Signals) -> None:
    """The command serves, says where, logs requests, and exits 0 on a signal."""
    arguments = ["--port", "0", "--s3-endpoint-url", s3_url, "--segments", "7", "--export-seconds", "0"]
    arguments += ["--verbose", "--api-key", "it's", "--fault", "unavailable:on=list"]
    with subprocess.Popen(
        [sys.executable, "-m", "airflow_provider_segments.emulator", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        ready = process.stdout.readline()
        variable = shlex.split(ready.partition("export ")[2])[0]
        name, _, value = variable.partition("=")
        connection = json.loads(value)
        url, auth = f"{connection['host']}/service/v1/segments/list", ("it's", connection["password"])
        codes = [requests.get(url, auth=auth, timeout=10).status_code for _ in range(2)]
        process.send_signal(number)
        output, log = process.communicate(timeout=20)
    assert name == "AIRFLOW_CONN_MPARTICLE_ANALYTICS_DEFAULT"
    assert connection["host"] in ready.partition(";")[0]
    assert codes == [503, 200]
    assert (process.returncode, output) == (0, "")
    assert log.count("GET /service/v1/segments/list: ") == 2


def test_unreachable_s3_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """An S3 that can't be reached is named, not shown as a traceback."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert main(["--port", "0", "--s3-endpoint-url", url]) == 1
    assert url in capsys.readouterr().err
