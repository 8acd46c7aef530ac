# SPDX-License-Identifier: Apache-2.0
"""An export's file as a stream. No API credential goes to S3 or a URL's host, and no URL's query is shown."""

from __future__ import annotations

import io
import logging
import re
from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_segments.api.calls import Call
from airflow_provider_segments.api.errors import CallError, FileTransferError, NoAnswerError
from airflow_provider_segments.api.retries import Failures, RetryBudget, retry_delay
from airflow_provider_segments.connection.form import DEFAULT_RETRIES
from airflow_provider_segments.utils.clock import Clock, utcnow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_segments.api.location import ExportFile
    from airflow_provider_segments.api.models import SegmentExport

log = logging.getLogger(__name__)

_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
#: What is wrong when the rest is no longer of the file that was begun.
CHANGED = "the file has changed during the download"
GONE = "The file is gone: the service keeps files for 48 hours. Request another export."
_READ: Call[Any] = Call("Reading the file", "GET", "", bytes)


@dataclass(frozen=True, slots=True)
class Body:
    """One answer's body."""

    read: Callable[[int], bytes]  # at most so many bytes, none at the end; raises CallError when it is cut
    close: Callable[[], None]
    start: int  # where in the file it begins
    size: int | None  # of the whole file in bytes, if known
    validator: Mapping[str, Any]  # lets a later request fail if the file has changed; may be empty
    metadata: Mapping[str, Any]  # what the copy of the file keeps, by boto3's names


class Source(io.RawIOBase):
    """A file that is read in order and in constant memory, and resumed where its connection was cut."""

    clock = Clock()

    def __init__(
        self,
        filename: str,  # fit for a log
        # Given an offset and an earlier answer's validator; raises CallError for what may be repeated.
        fetch: Callable[[int, Mapping[str, Any]], Body],
        max_retries: int = DEFAULT_RETRIES,  # without any progress
    ) -> None:
        self.filename, self.bytes_read = filename, 0
        self._fetch, self._budget = fetch, RetryBudget.default(max_retries)
        self._failures = Failures()
        self._body: Body | None = None
        self._validator: Mapping[str, Any] = {}
        self.size: int | None = None
        self.metadata: Mapping[str, Any] = {}
        self._open()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read the next bytes into the buffer and return how many there are; 0 at the end."""
        while True:
            body = self._body or self._open()
            try:
                data = body.read(len(buffer))
                if not data and self._is_cut:
                    raise NoAnswerError("the connection was cut")
            except CallError as error:
                self._close_body()
                if self.bytes_read == self.size:  # only the end of the answer is missing
                    return 0
                self._wait_to_retry(error)
                continue
            buffer[: len(data)] = data
            self.bytes_read += len(data)
            self._failures = Failures()
            return len(data)

    def close(self) -> None:
        self._close_body()
        super().close()

    @property
    def _is_cut(self) -> bool:
        return self.size is not None and self.bytes_read != self.size

    def _open(self) -> Body:
        while self._body is None:
            try:
                self._body = self._fetch(self.bytes_read, self._validator)
            except CallError as error:
                self._wait_to_retry(error)
        body = self._body
        if self._validator:
            self._check_resumed(body)
        else:
            self.size, self.metadata, self._validator = body.size, body.metadata, body.validator
        return body

    def _check_resumed(self, body: Body) -> None:
        """Raise FileTransferError unless this is the rest of the same file."""
        same = body.size == self.size and body.validator in ({}, self._validator)
        if same and body.start == self.bytes_read:
            return
        self._close_body()
        what = "its server does not resume downloads" if same else CHANGED
        raise FileTransferError(f"{self.filename} was cut after {self.bytes_read} bytes: {what}. Try again.")

    def _wait_to_retry(self, error: CallError) -> None:
        """Sleep as long as the retry rules say; progress resets their count."""
        if self.bytes_read and not self._validator:
            raise FileTransferError(
                f"{self.filename} was cut after {self.bytes_read} bytes, and can't be resumed safely: its server sent "
                "no ETag. Try again."
            ) from error
        self._failures = self._failures.after(error)
        delay = retry_delay(_READ, error, self._failures, self.clock.jitter())
        message = f"{self.filename} can't be read: {error}"
        if delay is None or not self._budget.permits(error, self._failures, delay, self.clock.monotonic()):
            read = f" {self.bytes_read} bytes were received." if self.bytes_read else ""
            raise FileTransferError(f"{message}.{read} Try again.") from error
        log.warning("%s. Requesting it from byte %d on in %.1f s.", message, self.bytes_read, delay)
        self.clock.sleep(delay)

    def _close_body(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None


def span_of(
    offset: int, status: int, content_range: str | None, length: int | None
) -> tuple[int, int | None]:
    """Return where in the file an answer's body begins, and the file's size if it is known."""
    if found := _CONTENT_RANGE.fullmatch(content_range or ""):
        return int(found[1]), None if found[2] == "*" else int(found[2])
    start = offset if status == 206 else 0
    return start, None if length is None else start + length


def ascii_text(value: str) -> str:
    """Encode a header's value as S3 does where it is not ASCII (RFC 2047): botocore sends only ASCII."""
    if value.isascii():
        return value
    try:
        raw = value.encode("latin-1")  # as HTTP libraries decode headers
    except UnicodeEncodeError:
        raw = value.encode()
    return f"=?UTF-8?B?{b64encode(raw.decode(errors='replace').encode()).decode()}?="


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
