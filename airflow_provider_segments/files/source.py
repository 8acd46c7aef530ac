# SPDX-License-Identifier: Apache-2.0
"""An export's file as a stream. No API credential goes to S3 or a URL's host, and no URL's query is shown."""

from __future__ import annotations

import io
from base64 import b64encode
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Any

from airflow_provider_segments.api.errors import FileTransferError
from airflow_provider_segments.connection.form import DEFAULT_RETRIES
from airflow_provider_segments.files.span import Span
from airflow_provider_segments.utils.clock import Clock, utcnow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_segments.api.location import ExportFile
    from airflow_provider_segments.api.models import SegmentExport
    from airflow_provider_segments.files.span import Body, Fetch

GONE = (
    "The file is gone: the service keeps files for 48 hours. Request another export; a cleared task does so."
)
# A server may limit each connection, so a large file is read over several; they hold this many parts in memory.
_CONNECTIONS = 8
_PART = 4 * 1024 * 1024
_CHUNK = 256 * 1024


class Source(io.RawIOBase):
    """
    A file that is read in order and in bounded memory, and resumed where a connection was cut.

    A large one is read ahead over several connections, if its server answers requests for a range and would notice
    that the file has changed.
    """

    clock = Clock()

    def __init__(self, filename: str, fetch: Fetch, max_retries: int = DEFAULT_RETRIES) -> None:
        self.filename, self.bytes_read = filename, 0
        self._span = Span(filename, fetch, max_retries, self.clock)
        # Set first: Python calls `close` even if the first request raises.
        self._part = memoryview(b"")
        self._ahead: _ReadAhead | None = None
        first = self._span.open()
        self.size: int | None = first.size
        self.metadata: Mapping[str, Any] = first.metadata
        if first.has_ranges and first.validator and first.size and first.size > 2 * _PART:
            self._span.end = _PART  # of an answer that has the whole file
            self._ahead = _ReadAhead(self._span, first)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read the next bytes into the buffer and return how many there are; 0 at the end."""
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        self.bytes_read += len(data)
        return len(data)

    def close(self) -> None:
        self._span.close()
        if self._ahead:
            self._ahead.close()
        super().close()

    def _read(self, limit: int) -> bytes | memoryview:
        if not self._ahead or self.bytes_read < _PART:
            return self._span.read(limit)
        if not self._part:
            try:
                self._part = self._ahead.next_part()
            except FileTransferError:
                if self.bytes_read > _PART:
                    raise
                # The server or a proxy allows no other connection: keep reading over the first one.
                self._ahead.close()
                self._ahead, self._span.end = None, None
                return self._span.read(limit)
            self._span.close()
        data, self._part = self._part[:limit], self._part[limit:]
        return data


class _ReadAhead:
    """The parts of a file after the first, in order, each read over a connection of its own."""

    def __init__(self, begun: Span, first: Body) -> None:
        self._begun, self._first = begun, first
        self._offsets = iter(range(_PART, first.size or 0, _PART))
        self._parts: deque[Future[memoryview]] = deque()
        self._closed = False
        for _ in range(_CONNECTIONS):
            self._submit()

    def next_part(self) -> memoryview:
        """Return the next part; empty at the end of the file."""
        if not self._parts:
            return memoryview(b"")
        part = self._parts.popleft().result()
        self._submit()
        return part

    def close(self) -> None:
        """Open no more connections; the open ones finish their parts."""
        self._closed = True

    def _submit(self) -> None:
        if (start := next(self._offsets, None)) is not None:
            part: Future[memoryview] = Future()
            self._parts.append(part)
            # An executor's threads would hold up the end of the process until a slow server has sent its bytes.
            Thread(target=self._fulfil, args=(part, start), daemon=True).start()

    def _fulfil(self, part: Future[memoryview], start: int) -> None:
        try:
            part.set_result(self._read(start))
        except Exception as error:  # noqa: BLE001 - for whoever takes the part
            part.set_exception(error)

    def _read(self, start: int) -> memoryview:
        begun, size = self._begun, self._first.size or 0
        part = memoryview(bytearray(min(_PART, size - start)))
        span = Span(
            begun.filename, self._fetch, begun.max_retries, begun.clock, start, start + len(part), self._first
        )
        try:
            while data := span.read(_CHUNK):
                part[span.position - start - len(data) : span.position - start] = data
        finally:
            span.close()
        return part

    def _fetch(self, start: int, end: int | None, validator: Mapping[str, Any]) -> Body:
        if self._closed:
            raise FileTransferError(f"{self._begun.filename} is not needed any more.")
        return self._begun.fetch(start, end, validator)


def ascii_text(value: str) -> str:
    """Encode a header's value as S3 does where it is not ASCII (RFC 2047): botocore sends only ASCII."""
    if value.isascii():
        return value
    with suppress(UnicodeError):  # else it is real Latin-1
        value = value.encode("latin-1").decode()  # HTTP libraries decode UTF-8 as Latin-1
    return f"=?UTF-8?B?{b64encode(value.encode()).decode()}?="


def ensure_kept(export: SegmentExport) -> ExportFile:
    """Return where a complete export's file is, or raise FileTransferError if it has expired."""
    file = export.ensure_complete().file
    assert file
    if export.expires_at and export.expires_at <= utcnow():
        raise FileTransferError(
            f"The file of {export.label} expired at {export.expires_at:%Y-%m-%d %H:%M} UTC: the service keeps files "
            "for 48 hours. Request another export."
        )
    return file
