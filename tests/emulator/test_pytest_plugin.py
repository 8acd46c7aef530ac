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

WITH_MOCKS = """
import boto3
import pytest
from moto import mock_aws

from airflow_provider_segments.hooks.user_segments import UserSegmentsHook

pytest_plugins = ["airflow_provider_segments.emulator.pytest_plugin"]


@pytest.fixture(scope="session")
def session_bucket():
    with mock_aws(), pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_PROFILE")
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


def test_connection(user_segments_s3, user_segments):
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    user_segments_s3.create_bucket(Bucket="other")
    assert S3Hook("aws_default").check_for_bucket("other")


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


def test_fixtures_in_a_project_with_mock_aws_a_proxy_and_a_profile(tmp_path: Path) -> None:
    """A `mock_aws` of any scope and the local S3 leave each other alone, on a developer's machine too."""
    (tmp_path / "test_mine.py").write_text(WITH_MOCKS)
    nowhere = "http://127.0.0.1:1"
    others = {"AWS_PROFILE": "work", "HTTP_PROXY": nowhere, "http_proxy": nowhere}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"],
        env=os.environ | {"AIRFLOW_HOME": str(tmp_path / "home")} | others,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 passed" in done.stdout


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
