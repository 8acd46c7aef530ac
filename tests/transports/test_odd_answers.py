# SPDX-License-Identifier: Apache-2.0
"""Answers that no well-behaved server gives, the same on both transports."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from airflow_provider_segments.api.errors import NoAnswerError
from airflow_provider_segments.hooks.user_segments import UserSegmentsHook
from tests.support import answering

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_segments.emulator import Emulator
    from tests.support import Client, FakeClock


@pytest.mark.parametrize("header", ["Content-Security-Policy", "Set-Cookie"])
def test_long_header(client: Client, connected: Emulator, connect: Callable[..., None], header: str) -> None:
    """It costs no answer: a proxy's may be longer than a client's usual 8 KiB."""
    head = f"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{header}: {'x' * 30_000}\r\n\r\n".encode()
    with answering(head + b"[]") as url:
        connect(connected, host=url)
        assert client.list_segments() == []


def test_answer_that_trickles(client: Client, connected: Emulator, connect: Callable[..., None]) -> None:
    """The Request timeout bounds the whole of it, not each byte; else one poll could take hours."""
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n[", *[b" "] * 899, pause=0.1) as url:
        connect(connected, host=url, extra={"request_timeout": 0.5, "max_retries": 0})
        began = time.monotonic()
        with pytest.raises(NoAnswerError):
            client.list_segments()
        assert time.monotonic() - began < 60  # of 90


def test_interim_response_is_no_answer(
    connected: Emulator, connect: Callable[..., None], clock: FakeClock
) -> None:
    """After one, the connection holds the answer itself, which must not be taken for that to the next call."""
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    with answering(early + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]") as url:
        connect(connected, host=url, extra={"max_retries": 1})
        hook = UserSegmentsHook()
        hook.clock = clock
        with pytest.raises(NoAnswerError, match="HTTP 103"):
            hook.list_segments()
        with pytest.raises(NoAnswerError, match="HTTP 103.*may have started|may have started.*HTTP 103"):
            hook.request_export("s-1")
