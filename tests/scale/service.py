# SPDX-License-Identifier: Apache-2.0
"""An emulator that is a process of its own, and its journal: who asked for what, and when."""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

LOGIN, PASSWORD = "emulator-key", "emulator-token"


@dataclass(frozen=True)
class Export:
    """What the service knows of an export; times are those of the epoch."""

    export_id: str
    segment_id: str
    status: str
    started: float
    ended: float | None


@dataclass(frozen=True)
class Request:
    """A call that reached the service; the time is that of the epoch."""

    time: float
    route: str
    status: int | None
    export_id: str | None


@dataclass(frozen=True)
class Journal:
    """What the service has seen."""

    exports: list[Export] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)


class Service:
    """
    An emulator.

    :param name: of its Connection, too.
    :param port: on loopback.
    :param s3_url: where it writes.
    """

    def __init__(self, name: str, port: int, s3_url: str) -> None:
        self.name, self._port, self._s3_url = name, port, s3_url
        self._options: dict[str, Any] = {}

    @property
    def component(self) -> str:
        """What its process is called."""
        return f"service-{self.name}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def connection(self) -> dict[str, Any]:
        """The Airflow Connection to it."""
        return {"conn_type": "mparticle_analytics", "host": self.url, "login": LOGIN, "password": PASSWORD}

    def configure(self, **options: Any) -> None:
        """Set the options of its command line, those apart that are None."""
        self._options = {name: value for name, value in options.items() if value is not None}

    @property
    def command(self) -> list[str]:
        """What starts it."""
        given = {"port": self._port, "s3-endpoint-url": self._s3_url} | self._options
        options = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
        return [sys.executable, "-m", "airflow_provider_segments.emulator", *options]

    def answers(self) -> bool:
        try:
            self._call("GET", "state")
        except OSError:
            return False
        return True

    def segments(self) -> list[dict[str, Any]]:
        """Return all segments, in the service's words; this costs a request."""
        import requests

        url = f"{self.url}/service/v1/segments/list"
        found: list[dict[str, Any]] = requests.get(url, auth=(LOGIN, PASSWORD), timeout=30).json()
        return found

    def submitted(self) -> int:
        """Return how many exports were requested."""
        return len(self._call("GET", "state")["submissions"])

    def refresh(self, segment_id: str) -> None:
        self._call("POST", f"refresh?segment_id={segment_id}")

    def journal(self) -> Journal:
        exports = [
            Export(one["exportId"], one["segment"]["segmentId"], one["status"], *_times(one))
            for one in self._call("GET", "exports")
        ]
        # Its requests are timed by the clock that all processes of a machine share.
        offset = time.time() - time.monotonic()
        requests = [
            Request(one["time"] + offset, one["route"], one["status"], one["export_id"])
            for one in self._call("GET", "requests")
        ]
        return Journal(exports, requests)

    def _call(self, method: str, path: str) -> Any:
        request = urllib.request.Request(f"{self.url}/_emulator/{path}", method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


def _times(export: dict[str, Any]) -> tuple[float, float | None]:
    started, ended = (
        time and datetime.fromisoformat(time).timestamp() for time in (export["startTime"], export["endTime"])
    )
    return started, ended
