# SPDX-License-Identifier: Apache-2.0
"""
Fixtures for tests of your own DAGs: the service and an S3 on this machine, with their Connections set.

Load it with ``pytest_plugins = ["airflow_provider_segments.emulator.pytest_plugin"]`` or ``pytest -p``.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest

from airflow_provider_segments.emulator import Emulator
from airflow_provider_segments.emulator._s3_process import local_s3

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "aws_connection",
    "user_segments",
    "user_segments_options",
    "user_segments_s3",
    "user_segments_s3_url",
]


def aws_connection(url: str) -> dict[str, object]:
    """
    Return an AWS Connection to a local S3; its JSON fits an ``AIRFLOW_CONN_`` variable.

    :param url: the S3's address.
    """
    extra = {"endpoint_url": url, "region_name": "us-east-1"}
    return {"conn_type": "aws", "login": "testing", "password": "testing", "extra": extra}


@pytest.fixture(scope="session")
def user_segments_s3_url() -> Iterator[str]:
    """Address of a local S3, moto's server in a process of its own, which lasts as long as the session."""
    with local_s3() as url:
        yield url


@pytest.fixture
def user_segments_s3(user_segments_s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Empty the local S3, point the Connection ``aws_default`` to it for this test, and return a boto3 client."""
    import boto3

    _stay_on_this_machine(monkeypatch)
    urlopen(f"{user_segments_s3_url}/moto-api/reset", data=b"").close()
    connection = aws_connection(user_segments_s3_url)
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    return boto3.client(
        "s3",
        endpoint_url=user_segments_s3_url,
        region_name="us-east-1",
        aws_access_key_id=connection["login"],
        aws_secret_access_key=connection["password"],
    )


def _stay_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the developer's proxy and AWS profile from boto3; a fake Connection needs neither."""
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, ",".join(filter(None, (os.environ.get(name), "127.0.0.1", "localhost"))))


@pytest.fixture
def user_segments_options() -> dict[str, Any]:
    """Arguments of the emulator; override this fixture to choose others."""
    return {"export_seconds": 0}


@pytest.fixture
def user_segments(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, user_segments_options: dict[str, Any]
) -> Iterator[Emulator]:
    """
    Run the emulator, to which the Connection ``mparticle_analytics_default`` points for this test.

    It writes files if the test also asks for ``user_segments_s3``; otherwise it only names them.
    """
    storage: dict[str, Any] = {"bucket": None}
    if "user_segments_s3" in request.fixturenames:
        storage = {"s3_endpoint_url": request.getfixturevalue("user_segments_s3").meta.endpoint_url}
    with Emulator(**storage | user_segments_options) as running:
        connection = json.dumps(running.airflow_connection())
        monkeypatch.setenv("AIRFLOW_CONN_MPARTICLE_ANALYTICS_DEFAULT", connection)
        yield running
