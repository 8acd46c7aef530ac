# SPDX-License-Identifier: Apache-2.0
"""A range of a file, read in order and in constant memory, and resumed where its connection was cut."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_segments.api.calls import Call
from airflow_provider_segments.api.errors import CallError, FileTransferError, NoAnswerError
from airflow_provider_segments.api.retries import ON_A_WORKER, Failures, retry_delay

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_segments.utils.clock import Clock

log = logging.getLogger(__name__)

_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
#: The error when the rest belongs to a changed file.
CHANGED = "the file has changed during the download"
_READ: Call[Any] = Call("Reading the file", "GET", "", bytes)


@dataclass(frozen=True, slots=True)
class Body:
    """One answer's body."""

    read: Callable[[int], bytes]  # up to this many bytes, none at the end; raises CallError if cut off
    close: Callable[[], None]
    start: int = 0  # where in the file it begins
    size: int | None = None  # of the whole file in bytes, if known
    # Lets a later request fail if the file has changed.
    validator: Mapping[str, Any] = field(default_factory=dict)
    # What the copy of the file keeps, by boto3's names.
    metadata: Mapping[str, Any] = field(default_factory=dict)
    has_ranges: bool = False  # whether the server says that it answers requests for a range


class Fetch(Protocol):
    """Request a file, or a range of it; raise CallError for what may be repeated."""

    def __call__(self, start: int, end: int | None, validator: Mapping[str, Any], /) -> Body:
        """Take the first byte, the one after the last (None: the end of the file), and the validator of the file."""


@dataclass(slots=True)
class Span:
    """The bytes from `position` to `end`; None is the end of the file."""

    filename: str  # fit for a log
    fetch: Fetch
    max_retries: int  # without any progress
    clock: Clock
    position: int = 0
    end: int | None = None
    first: Body | None = None  # the answer that began the file
    _failures: Failures = field(default_factory=Failures)
    _body: Body | None = None

    def read(self, limit: int) -> bytes:
        """Return the next bytes, at most so many; none at the end."""
        while True:
            left = limit if self.end is None else min(limit, self.end - self.position)
            if left == 0:
                return b""
            body = self._body or self.open()
            try:
                data = body.read(left)
                if not data and self._is_cut:
                    raise NoAnswerError("the connection was cut")
            except CallError as error:
                self.close()
                if self.first and self.position == self.first.size:  # only the end of the answer is missing
                    return b""
                self._wait_to_retry(error)
                continue
            self.position += len(data)
            self._failures = Failures()
            return data

    def open(self) -> Body:
        """Request what is left."""
        while self._body is None:
            try:
                self._body = self.fetch(self.position, self.end, self.first.validator if self.first else {})
            except CallError as error:
                self._wait_to_retry(error)
        if self.first and self.first.validator:
            self._check_same(self._body, self.first)
        else:
            self.first = self._body
        return self._body

    def close(self) -> None:
        """Close the connection; `read` opens another."""
        if self._body is not None:
            self._body.close()
            self._body = None

    @property
    def _is_cut(self) -> bool:
        end = self.end if self.end is not None else self.first and self.first.size
        return end is not None and self.position != end

    def _check_same(self, body: Body, first: Body) -> None:
        """Raise FileTransferError unless this answer is the rest of the file that was begun."""
        same = None in (body.size, first.size) or body.size == first.size
        same = same and body.validator in ({}, first.validator)
        if same and body.start == self.position:
            self.first = first if first.size is not None else replace(first, size=body.size)
            return
        self.close()
        what = "its server does not resume downloads" if same else CHANGED
        raise FileTransferError(f"{self.filename} was cut after {self.position} bytes: {what}. Try again.")

    def _wait_to_retry(self, error: CallError) -> None:
        """Sleep as long as the retry rules say; progress resets their count."""
        if self.position and not (self.first and self.first.validator):
            raise FileTransferError(
                f"{self.filename} was cut after {self.position} bytes, and can't be resumed safely: its server sent "
                "neither a strong ETag nor a Last-Modified. Try again."
            ) from error
        self._failures = self._failures.after(error)
        delay = retry_delay(_READ, error, self._failures, self.clock.jitter())
        message = f"{self.filename} can't be read: {error}"
        budget = ON_A_WORKER.resolved(self.max_retries)
        if delay is None or not budget.permits(error, self._failures, delay, self.clock.monotonic()):
            read = f" {self.position} bytes were received." if self.position else ""
            raise FileTransferError(f"{message}.{read} Try again.") from error
        log.warning("%s. Resuming at byte %d in %.1f s.", message, self.position, delay)
        self.clock.sleep(delay)


def range_header(start: int, end: int | None) -> str | None:
    """Return the Range header of a request; None asks for the whole file."""
    if not start and end is None:
        return None
    return f"bytes={start}-{'' if end is None else end - 1}"


def span_of(
    offset: int, status: int, content_range: str | None, length: int | None
) -> tuple[int, int | None]:
    """Return where in the file an answer's body begins, and the file's size if it is known."""
    if found := _CONTENT_RANGE.fullmatch(content_range or ""):
        return int(found[1]), None if found[2] == "*" else int(found[2])
    start = offset if status == 206 else 0
    return start, None if length is None else start + length
