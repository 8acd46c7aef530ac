# SPDX-License-Identifier: Apache-2.0
"""The calls: what to send and how to read the answer. A transport only sends a `Call` and returns a `Reply`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from airflow_provider_segments.api.errors import ConfigurationError, UnreadableError, maybe_started, refusal
from airflow_provider_segments.api.models import RequestedExport, SegmentExport, Segments, UserSegment
from airflow_provider_segments.api.redaction import excerpt

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

#: A longer body is not read: a list of a hundred thousand segments is about this long.
MAX_BODY_BYTES = 32 * 1024 * 1024

_LONGEST_RETRY_AFTER = 366 * 24 * 3600.0  # a number with hundreds of digits is not a time
_SECONDS = re.compile(
    r"\+?((?:\d+(?:\.\d*)?|\.\d+)(?:e\+?\d{1,2})?)\s*(?:s|secs?|seconds?)?\s*(?:[,;].*)?",
    re.ASCII | re.IGNORECASE,
)
# A JSON string, perhaps with invalid escapes, or a comma before a closing bracket.
_STRING_OR_COMMA = re.compile(r'"(?:[^"\\]|\\.)*"|,(?=\s*[\]}])', re.DOTALL)
_WRONG_ESCAPE = re.compile(r'(\\(?:u[0-9a-fA-F]{4}|["\\/bfnrt]))|\\u[0-9a-fA-F]{0,3}|\\')
_EXPORT_ID = re.compile(r'"exportId"\s*:\s*"?([\w.-]{1,200})')


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A call to the service, as a value."""

    what: str  # in words, for messages
    method: str
    path: str  # below the base URL, quoted
    answer: type[T]  # what a 2xx body holds
    body: bytes | None = None
    repeatable: bool = True  # may be sent again when it is not known whether it was carried out


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, as bytes."""

    status: int
    headers: Mapping[str, str]  # ignoring case
    body: bytes


def list_segments() -> Call[list[UserSegment]]:
    """List all segments of the project."""
    return Call("Listing the segments", "GET", "/list", cast("type[list[UserSegment]]", Segments))


def request_export(segment_id: str, output_format: str = "csv") -> Call[SegmentExport]:
    """Request an export. Each request that is accepted starts another export, and none can be cancelled."""
    _check_id("segment_id", segment_id)
    body = json.dumps({"segmentId": segment_id, "outputFormat": output_format}).encode()
    what = f"Requesting an export of segment {segment_id}"
    # The trailing slash belongs to this path, and to no other.
    return Call(what, "POST", "/export/", RequestedExport, body=body, repeatable=False)


def get_export(export_id: str) -> Call[SegmentExport]:
    """Ask how far an export is."""
    _check_id("export_id", export_id)
    return Call(
        f"Asking for export {export_id}", "GET", f"/export/{quote(export_id, safe='')}", SegmentExport
    )


def _check_id(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} is {value!r}, but it has to be text.")
    wrong = next((c for c in value if c in "/?#\\%" or c.isspace() or not c.isprintable()), None)
    if not value or value in (".", "..") or wrong is not None:
        found = f"it contains {wrong!r}" if wrong else "it names nothing"
        raise ConfigurationError(
            f"{name} {value!r} is not an id of the service: {found}. Pass the id alone, as the service gave it "
            "(such as 8f9fdd71-204c-41e1-a2ab-de7f85002f65), not a URL or a path."
        )


def read_reply(call: Call[T], reply: Reply, *, now: float, secrets: tuple[str, ...] = ()) -> T:
    """Return what the answer holds; raise RefusedError if it is not 2xx, UnreadableError if it is something else."""
    if not 200 <= reply.status < 300:
        raise refusal(
            call.what,
            reply.status,
            excerpt(reply.body, secrets),
            retry_after=parse_retry_after(reply.headers.get("Retry-After"), now),
            repeatable=call.repeatable,
        )
    try:
        return _parse(call, reply.body)
    except (ValidationError, RecursionError, OverflowError) as error:
        shown = excerpt(reply.body, secrets) or "(nothing)"
        raise UnreadableError(
            f"{call.what}: HTTP {reply.status}, but the body is not what the service documents "
            f"({_why(error)}).{maybe_started(call.repeatable)} Check that the Connection's Host is the API's and no "
            f"proxy answers in its place. It begins: {shown}",
            status=reply.status,
        ) from None  # the cause would show the body


def _parse(call: Call[T], body: bytes) -> T:
    reader = _reader(cast("Any", call.answer))
    try:
        answer: T = reader.validate_json(body)
    except ValidationError as error:
        text = body.decode(json.detect_encoding(body), "replace").strip("\ufeff\0 \t\r\n")
        try:
            answer = reader.validate_python(_repaired(text))
        except (ValueError, RecursionError):
            found = _EXPORT_ID.search(text) if call.answer is RequestedExport else None
            if found is None:
                raise error from None
            answer = reader.validate_python({"exportId": found[1]})
    return answer


def _repaired(text: str) -> Any:
    """Read JSON with invalid escapes, a trailing comma, extra text or lone surrogates, such as half an emoji."""
    # Python refuses integers of thousands of digits, and the models read text as well.
    decoder = json.JSONDecoder(strict=False, parse_int=str)
    value, _ = decoder.raw_decode(_STRING_OR_COMMA.sub(_without_wrong_escapes, text))
    text = json.dumps(value, ensure_ascii=False)
    return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def _without_wrong_escapes(found: re.Match[str]) -> str:
    if found[0] == ",":
        return ""
    return _WRONG_ESCAPE.sub(lambda escape: escape[1] or ("\ufffd" if "u" in escape[0] else ""), found[0])


@cache
def _reader(answer: Any) -> TypeAdapter[Any]:
    return TypeAdapter(answer)


def _why(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return "nested too deeply"
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Return the seconds that a Retry-After asks for (RFC 9110, sections 5.6.7 and 10.2.3), read leniently, or None."""
    if value is None:
        return None
    value = value.strip(" \t\"'")
    if seconds := _SECONDS.fullmatch(value):
        return min(float(seconds[1]), _LONGEST_RETRY_AFTER)
    try:
        try:
            date = parsedate_to_datetime(value)
        except (ValueError, TypeError):
            date = datetime.fromisoformat(value)
        # An HTTP date is in UTC, also where it has no zone; local time would be hours off.
        wait = (date if date.tzinfo else date.replace(tzinfo=timezone.utc)).timestamp() - now
    except (ValueError, OverflowError, TypeError):
        return None
    return min(max(wait, 0.0), _LONGEST_RETRY_AFTER)
