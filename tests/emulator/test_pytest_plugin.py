# SPDX-License-Identifier: Apache-2.0
"""The fixtures in a project of somebody else's, on a machine that is set up for other work."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

TEST = """
pytest_plugins = ["airflow_provider_segments.emulator.pytest_plugin"]


def test_file(user_segments, user_segments_s3):
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from airflow_provider_segments.hooks.user_segments import UserSegmentsHook

    hook = UserSegmentsHook()
    export = hook.request_export(hook.list_segments()[0].segment_id)
    file = hook.wait_for_export(export.export_id).file
    assert S3Hook("aws_default").check_for_key(file.s3_key, file.s3_bucket)
"""


def run_pytest(folder: Path, test: str, *options: str, **environment: str) -> str:
    """Run a test file of somebody else's; return what pytest printed."""
    (folder / "test_mine.py").write_text(test)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, "test_mine.py"],
        env=os.environ | {"AIRFLOW_HOME": str(folder / "home")} | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_proxy_and_profile_of_the_developer(tmp_path: Path) -> None:
    """Neither a proxy nor an AWS profile gets between the fixtures and their servers."""
    nowhere = "http://127.0.0.1:1"
    output = run_pytest(tmp_path, TEST, AWS_PROFILE="work", HTTP_PROXY=nowhere, http_proxy=nowhere)
    assert "1 passed" in output


WITH_MOCKS = """
import boto3
import pytest
from moto import mock_aws

from airflow_provider_segments.hooks.user_segments import UserSegmentsHook

pytest_plugins = ["airflow_provider_segments.emulator.pytest_plugin"]


@pytest.fixture(scope="session")
def session_bucket():
    with mock_aws():
        mine = boto3.client("s3", region_name="us-east-1")
        mine.create_bucket(Bucket="mine")
        mine.put_object(Bucket="mine", Key="seed", Body=b"1")
        yield mine


@pytest.fixture(scope="module")
def module_mock():
    with mock_aws():
        yield


def export_and_check(s3):
    hook = UserSegmentsHook()
    export = hook.request_export(hook.list_segments()[0].segment_id)
    file = hook.wait_for_export(export.export_id).file
    s3.head_object(Bucket=file.s3_bucket, Key=file.s3_key)


def test_mock_inside(user_segments_s3, user_segments):
    with mock_aws():
        boto3.client("secretsmanager", region_name="us-east-1").create_secret(Name="x", SecretString="y")
        export_and_check(user_segments_s3)


@mock_aws
def test_mock_around(user_segments_s3, user_segments):
    export_and_check(user_segments_s3)


@pytest.mark.parametrize("again", [1, 2])
def test_mock_of_the_session(session_bucket, user_segments_s3, user_segments, again):
    assert session_bucket.get_object(Bucket="mine", Key="seed")["Body"].read() == b"1"
    export_and_check(user_segments_s3)
    assert [bucket["Name"] for bucket in session_bucket.list_buckets()["Buckets"]] == ["mine"]


def test_mock_of_the_module(module_mock, user_segments_s3, user_segments):
    export_and_check(user_segments_s3)


def test_after_a_mock(user_segments_s3, user_segments):
    with mock_aws():
        pass
    export_and_check(user_segments_s3)
"""


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one process", "two"])
def test_mock_aws_of_the_user(tmp_path: Path, options: tuple[str, ...]) -> None:
    """A `mock_aws` of any scope and the local S3 leave each other alone."""
    assert "6 passed" in run_pytest(tmp_path, WITH_MOCKS, *options)


HOLD = """
import time
from airflow_provider_segments.emulator._s3_process import local_s3

with local_s3() as url:
    print(url, flush=True)
    time.sleep(600)
"""


def test_local_s3_ends_with_a_killed_process() -> None:
    """Even SIGKILL of the tests leaves no server behind, and their Ctrl-C does not end it before them."""
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        host, port = process.stdout.readline().strip().removeprefix("http://").split(":")
        process.kill()
    for _ in range(600):
        with socket.socket() as client:
            if client.connect_ex((host, int(port))):
                return
        time.sleep(0.1)
    pytest.fail("the server still listens")
