# SPDX-License-Identifier: Apache-2.0
"""The faults to inject, and when they apply."""

from __future__ import annotations

import dataclasses
import re
import threading
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Target = Literal["list", "export", "status", "any"]


class FaultKind(StrEnum):
    """The faults the emulator can inject."""

    LATENCY = "latency"  #: The answer comes after ``seconds``.
    UNAUTHORIZED = "unauthorized"  #: 401.
    FORBIDDEN = "forbidden"  #: 403.
    TOO_MANY_REQUESTS = "too_many_requests"  #: 429.
    INTERNAL_ERROR = "internal_error"  #: 500.
    BAD_GATEWAY = "bad_gateway"  #: 502.
    UNAVAILABLE = "unavailable"  #: 503.
    GATEWAY_TIMEOUT = "gateway_timeout"  #: 504.
    CUT_BEFORE = "cut_before"  #: Nothing is carried out, and the connection is cut.
    CUT_AFTER = "cut_after"  #: The request is carried out, and the connection cut before the answer.
    HALF_BODY = "half_body"  #: Half of the answer comes, then the connection is cut.
    HTML = "html"  #: A page of HTML with status 200, as from a proxy; nothing is carried out.
    REDIRECT = "redirect"  #: 302 to another address; nothing is carried out.
    SILENCE = "silence"  #: No answer, and nothing is carried out.
    EXTRA_FIELDS = "extra_fields"  #: The answer has fields that the service does not document.
    FAILED = "failed"  #: The export ends as FAILED.
    NEVER = "never"  #: The export stays PENDING.
    UNKNOWN_STATUS = "unknown_status"  #: Until it ends, the export is QUEUED, an undocumented word.
    NO_FILENAME = "no_filename"  #: The export is complete, but names no file.
    PRESIGNED = "presigned"  #: The file is named by a presigned URL.


SUBMISSION_KINDS = frozenset(
    {
        FaultKind.FAILED,
        FaultKind.NEVER,
        FaultKind.UNKNOWN_STATUS,
        FaultKind.NO_FILENAME,
        FaultKind.PRESIGNED,
    }
)
# These combine with others; only one of the other kinds applies to a request or submission.
_COMBINABLE = frozenset(
    {FaultKind.LATENCY, FaultKind.EXTRA_FIELDS, FaultKind.UNKNOWN_STATUS, FaultKind.PRESIGNED}
)


@dataclasses.dataclass(frozen=True)
class Fault:
    """
    Something that goes wrong on demand.

    Kinds that concern an export (FAILED, NEVER, UNKNOWN_STATUS, NO_FILENAME, PRESIGNED) apply to the next
    accepted submission and stay with that export. EXTRA_FIELDS applies to an answer; if that is a submission's,
    each later answer about the export has the extra fields too. All other kinds apply to a single request.

    :param kind: What goes wrong.
    :param on: The call it applies to.
    :param times: How often it applies; None means until the faults are cleared.
    :param every: Apply to every n-th matching request only.
    :param seconds: Delay before the fault takes effect; for SILENCE, the time until the connection is cut,
        or 0 to wait until the client disconnects.
    :param retry_after: Value of the ``Retry-After`` header of a refusal, passed on unchanged.
    """

    kind: FaultKind
    on: Target = "any"
    times: int | None = 1
    every: int = 1
    seconds: float = 0
    retry_after: str | None = None

    def __post_init__(self) -> None:
        """Refuse what could never apply."""
        object.__setattr__(self, "kind", FaultKind(self.kind))
        _require(self.on in get_args(Target), f"on must be one of {', '.join(get_args(Target))}: {self.on!r}")
        _require(self.times is None or self.times >= 1, f"times must be at least 1, or none: {self.times}")
        _require(self.every >= 1, f"every must be at least 1: {self.every}")
        _require(0 <= self.seconds < float("inf"), f"seconds must be finite and not negative: {self.seconds}")
        _require(
            self.kind not in SUBMISSION_KINDS or self.on in ("export", "any"),
            f"{self.kind} applies to submissions, so on must be export or any: {self.on!r}",
        )


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _times(value: object) -> int | None:
    return None if value is None or str(value).lower() == "none" else int(str(value))


_READERS: dict[str, Callable[[object], object]] = {
    "kind": lambda value: FaultKind(str(value)),
    "on": str,
    "times": _times,
    "every": lambda value: int(str(value)),
    "seconds": lambda value: float(str(value)),
    "retry_after": lambda value: None if value is None else str(value),
}


def fault_from(fields: Mapping[str, object]) -> Fault:
    """Build a fault from JSON or from the command line, where numbers may be given as text."""
    unknown = sorted(set(fields) - set(_READERS))
    _require(not unknown, f"unknown fault options: {', '.join(unknown)}; known are {', '.join(_READERS)}")
    _require("kind" in fields, "a fault needs a kind")
    return Fault(**{name: _READERS[name](value) for name, value in fields.items()})  # type: ignore[arg-type]


def parse_fault(text: str) -> Fault:
    """Read ``kind:option=value,option=value``."""
    kind, _, rest = text.partition(":")
    # retry_after may be an HTTP date, which has a comma: split only at a comma before an option.
    options = [option.partition("=") for option in re.split(r",(?=\w+=)", rest) if option]
    return fault_from({name: value for name, _, value in options} | {"kind": kind})


@dataclasses.dataclass
class _Armed:
    fault: Fault
    left: int | None
    seen: int = 0

    def is_due(self) -> bool:
        self.seen += 1
        return self.seen % self.fault.every == 0


class ArmedFaults:
    """The faults that are set. Safe to use from several threads."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._lock = threading.Lock()
        self._armed: list[_Armed] = []
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._armed.append(_Armed(fault, fault.times))

    def clear(self) -> None:
        with self._lock:
            self._armed.clear()

    def for_request(self, route: str) -> list[Fault]:
        return self._take(lambda f: f.kind not in SUBMISSION_KINDS and f.on in ("any", route))

    def for_submission(self) -> frozenset[FaultKind]:
        return frozenset(fault.kind for fault in self._take(lambda f: f.kind in SUBMISSION_KINDS))

    def _take(self, matches: Callable[[Fault], bool]) -> list[Fault]:
        with self._lock:
            due = [armed for armed in self._armed if matches(armed.fault) and armed.is_due()]
            first = next((armed for armed in due if armed.fault.kind not in _COMBINABLE), None)
            applied = [armed for armed in due if armed is first or armed.fault.kind in _COMBINABLE]
            for armed in applied:
                armed.left = None if armed.left is None else armed.left - 1
            self._armed = [armed for armed in self._armed if armed.left != 0]
        return [armed.fault for armed in applied]
