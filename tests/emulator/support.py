# SPDX-License-Identifier: Apache-2.0
"""Call the emulator as a client does."""

from __future__ import annotations

import re
import threading
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

import requests

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_segments.emulator import Emulator


AUTH = ("emulator-key", "emulator-token")
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def call(emulator: Emulator, method: str, path: str, **options: Any) -> requests.Response:
    defaults: dict[str, Any] = {"auth": AUTH, "timeout": 10, "allow_redirects": False}
    return requests.request(method, f"{emulator.url}/service/v1/segments{path}", **(defaults | options))


def submit(emulator: Emulator, **options: Any) -> requests.Response:
    body = {"segmentId": emulator.segments[0].segment_id, "outputFormat": "csv"}
    return call(emulator, "POST", "/export/", **({"json": body} | options))


def status(emulator: Emulator, export_id: str, **options: Any) -> requests.Response:
    return call(emulator, "GET", f"/export/{export_id}", **options)


def finished(emulator: Emulator) -> dict[str, Any]:
    export: dict[str, Any] = status(emulator, submit(emulator).json()["exportId"]).json()
    return export


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        pause.wait(0.01)


def s3(url: str) -> Any:
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    return import_module("boto3").client("s3", endpoint_url=url, region_name="us-east-1", **keys)


def key_of(filename: str) -> str:
    return filename.removeprefix("s3://upload-bucket/")
