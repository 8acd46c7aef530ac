# SPDX-License-Identifier: Apache-2.0
"""A download that is cut is resumed where it was, from S3 and from a URL alike, or fails with the reason."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_segments.api.errors import FileTransferError
from airflow_provider_segments.api.location import file_location
from airflow_provider_segments.files import source as module
from airflow_provider_segments.files.s3 import open_s3
from airflow_provider_segments.files.source import Source
from airflow_provider_segments.files.url import open_url
from tests.files.file_host import DATA, FileHost, file_host
from tests.files.test_url import settings
from tests.support import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

Opener = "Callable[[FileHost], AbstractContextManager[Source]]"
THIRD = len(DATA) // 3
PART = 64 * 1024


@pytest.fixture(autouse=True)
def file_clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """Let waiting take no time."""
    clock = FakeClock()
    monkeypatch.setattr(Source, "clock", clock)
    return clock


@pytest.fixture(params=["s3", "url"])
def opened(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[FileHost], AbstractContextManager[Source]]:
    """Open the file of a server, as an object of S3 and at a URL."""

    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # its own pauses take real time

    def from_s3(server: FileHost) -> AbstractContextManager[Source]:
        extra = {"region_name": "us-east-1", "endpoint_url": server.url}
        connection = {"conn_type": "aws", "login": "testing", "password": "testing", "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_HOST", json.dumps(connection))
        return open_s3(file_location("s3://b/k.csv"), "host")

    def from_url(server: FileHost) -> AbstractContextManager[Source]:
        return open_url(f"{server.url}/k.csv?X-Amz-Signature=secret", settings())

    return {"s3": from_s3, "url": from_url}[request.param]


def read(source: Source) -> bytes:
    return b"".join(iter(lambda: source.read(65536), b""))


def test_cut_download_is_resumed(opened: Any, file_clock: FakeClock) -> None:
    """From the first missing byte on, after a pause that each cut without progress makes longer."""
    with file_host([THIRD, 0, THIRD]) as server, opened(server) as source:
        assert read(source) == DATA
    assert server.range_headers == [None, f"bytes={THIRD}-", f"bytes={THIRD}-", f"bytes={2 * THIRD}-"]
    assert [round(seconds) for seconds in file_clock.sleeps if seconds < 1.5][0] == 1
    assert len(file_clock.sleeps) == 3


def test_server_that_does_not_repeat_the_size(opened: Any) -> None:
    """Its ETag tells that it is the same file."""
    with file_host([THIRD], total="*") as server, opened(server) as source:
        assert read(source) == DATA


def test_server_that_is_busy_or_away_for_a_while(opened: Any, file_clock: FakeClock) -> None:
    """It is asked again by the same rules, on S3 too: boto3 alone gives up within seconds."""
    with file_host([THIRD], failures=["503", "cut", "503"]) as server, opened(server) as source:
        assert read(source) == DATA
    assert len(file_clock.sleeps) == 4


def test_server_that_does_not_tell_the_size(opened: Any) -> None:
    """What it sends in chunks is resumed as well."""
    with file_host([THIRD], chunked=True) as server, opened(server) as source:
        assert source.size is None
        assert read(source) == DATA


def test_server_that_hangs_up(opened: Any) -> None:
    """The reason is told, and that credentials are not the matter."""
    with (
        file_host([], failures=["cut"] * 20) as server,
        pytest.raises(FileTransferError, match="(?i)connection") as caught,
        opened(server),
    ):
        pass
    assert "credentials" not in str(caught.value)


def test_cut_before_the_first_byte(opened: Any) -> None:
    """It is asked for from the beginning."""
    with file_host([0]) as server, opened(server) as source:
        assert read(source) == DATA
    assert server.range_headers == [None, None]


def test_progress_begins_a_new_count_of_retries(opened: Any) -> None:
    """Many cuts are survived, if something came each time."""
    with file_host([1000] * 20) as server, opened(server) as source:
        assert read(source) == DATA
    assert len(server.range_headers) == 21


def test_cuts_without_progress_end_the_try(opened: Any) -> None:
    """After as many retries as a call on a worker has."""
    with (
        file_host([THIRD] + [0] * 100) as server,
        opened(server) as source,
        pytest.raises(FileTransferError, match=f"{THIRD} bytes were received. Try again") as caught,
    ):
        read(source)
    assert "secret" not in str(caught.value)
    assert len(server.range_headers) == 6


@pytest.mark.parametrize("etags", [('"1"', '"2"'), ('"1"', None)])
def test_changed_file_is_an_error(opened: Any, etags: tuple[str | None, ...]) -> None:
    """Two halves of different files are never joined."""
    with (
        file_host([THIRD], etags=etags) as server,
        opened(server) as source,
        pytest.raises(FileTransferError, match=r"(?i)the file has changed during"),
    ):
        read(source)


def test_whole_answer_to_a_range_is_not_appended(opened: Any) -> None:
    """A server that does not resume ends the try."""
    with (
        file_host([THIRD], ranges=False) as server,
        opened(server) as source,
        pytest.raises(FileTransferError, match="does not resume downloads"),
    ):
        read(source)


def test_without_an_etag_nothing_is_resumed(opened: Any) -> None:
    """Nothing would show that the file is still the same."""
    with (
        file_host([THIRD], etags=(None,)) as server,
        opened(server) as source,
        pytest.raises(FileTransferError, match="neither a strong ETag nor a Last-Modified"),
    ):
        read(source)
    assert server.range_headers == [None]


class TestReadAhead:
    """A large file is read over several connections, and arrives as it is."""

    @pytest.fixture(autouse=True)
    def small_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make the file a large one."""
        monkeypatch.setattr(module, "_PART", PART)

    def test_parts_are_read_at_a_time(self, opened: Any) -> None:
        """As many as there are connections, and each once."""
        with file_host([], together=8) as server, opened(server) as source:
            assert read(source) == DATA
        assert server.all_met
        assert source.bytes_read == source.size == len(DATA)
        starts = range(PART, len(DATA), PART)
        ranges = [f"bytes={start}-{min(start + PART, len(DATA)) - 1}" for start in starts]
        assert server.range_headers[0] is None
        assert sorted(server.range_headers[1:]) == sorted(ranges)

    def test_no_more_is_read_than_memory_may_hold(self, opened: Any) -> None:
        """Whoever reads slowly is waited for."""
        with file_host([]) as server, opened(server) as source:
            assert source.read(PART) == DATA[:PART]
            list(map(lambda part: part.result(), source._ahead._parts))
            assert len(server.range_headers) == 1 + 8

    def test_cut_parts_are_resumed(self, opened: Any) -> None:
        """Whichever they are."""
        with file_host([PART // 2] * 20) as server, opened(server) as source:
            assert read(source) == DATA
        assert len(server.range_headers) > 20

    def test_server_that_only_says_it_has_ranges(self, opened: Any) -> None:
        """A proxy may take the Range header off; the first connection has it all."""
        with file_host([], ranges=False, says_ranges=True) as server, opened(server) as source:
            assert read(source) == DATA

    def test_server_that_has_another_file_behind_its_name(self, opened: Any) -> None:
        """Parts of different files are never joined; the first connection has the whole of one."""
        with file_host([], etags=('"1"', '"2"')) as server, opened(server) as source:
            assert read(source) == DATA

    def test_changed_file_is_an_error(self, opened: Any) -> None:
        """Once parts have been read that way, nothing else is left."""
        with (
            file_host([], etags=('"1"',) * 9 + ('"2"',)) as server,
            opened(server) as source,
            pytest.raises(FileTransferError, match=r"(?i)the file has changed during"),
        ):
            read(source)

    def test_server_of_one_connection(self, opened: Any) -> None:
        """It refuses all others as too many, and the first one has it all."""
        with file_host([], refuses_ranges=True) as server, opened(server) as source:
            assert read(source) == DATA

    @pytest.mark.parametrize("options", [{"ranges": False}, {"etags": (None,)}])
    def test_server_that_may_not_be_asked_for_parts(self, opened: Any, options: Any) -> None:
        """It is asked once."""
        with file_host([], **options) as server, opened(server) as source:
            assert read(source) == DATA
        assert server.range_headers == [None]

    def test_nothing_holds_up_the_end_of_the_process(self, opened: Any) -> None:
        """However slow the server is: Ctrl-C ends a download."""
        before = set(threading.enumerate())
        with file_host([], together=8) as server, opened(server) as source:
            source.read(1)
            assert all(thread.daemon for thread in set(threading.enumerate()) - before)

    def test_closed_before_the_end(self, opened: Any) -> None:
        """No further part is requested."""
        with file_host([]) as server, opened(server) as source:
            source.read(1)
        assert len(server.range_headers) <= 1 + 8
