# SPDX-License-Identifier: Apache-2.0
"""Types of the models' fields: lenient, because an odd detail is not worth losing an export's id."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    PlainSerializer,
    StringConstraints,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from airflow_provider_segments.api.location import file_location


def _utc(value: datetime) -> datetime:
    if not 1970 <= value.year < 9999:  # room for time zones and for the file's lifetime
        raise ValueError("not a plausible time")
    return value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value.astimezone(timezone.utc)


def or_default(default: Any) -> WrapValidator:
    """Use a default for a value that can't be read."""

    def validate(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
        try:
            return read(value)
        except ValueError:
            return default

    return WrapValidator(validate)


def _location(value: str | None) -> str | None:
    """Return a location, or None if nothing but slashes and blanks is left of it once it is parsed."""
    if not value or not re.search(r"[^/\s\x00-\x1f]", file_location(value).filename):
        return None
    return without_nul(value)


def without_nul(text: str) -> str:
    """Replace null characters: PostgreSQL would refuse the XCom."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _as_text(value: Any) -> Any:
    if isinstance(value, str):
        return without_nul(value)
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _without_zone_name(value: Any) -> Any:
    """Make ISO 8601 of a time with a zone's name at its end, such as Java's ``Z[UTC]``."""
    if not isinstance(value, str):
        return value
    return re.sub(r"\s*(?:UTC|GMT)$", "Z", re.sub(r"\[[^\]]*\]$", "", value.strip()))


_Time = Annotated[
    datetime,
    AfterValidator(_utc),
    BeforeValidator(_without_zone_name),
    PlainSerializer(datetime.isoformat, when_used="json"),
]
OptionalTime = Annotated[_Time | None, or_default(None)]
OptionalText = Annotated[str | None, or_default(None), BeforeValidator(_as_text)]
Id = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), BeforeValidator(_as_text)]
Location = Annotated[
    str | None,
    AfterValidator(_location),
    or_default(None),
    PlainSerializer(lambda found: found and file_location(found).filename),  # without the query, a secret
]
Name = Annotated[str, or_default(""), BeforeValidator(_as_text)]
