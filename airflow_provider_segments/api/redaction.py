# SPDX-License-Identifier: Apache-2.0
"""Excerpts of what the service sent, fit for a log."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_provider_segments.api.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

_EXCERPT_LENGTH = 200
_EXCERPT_SOURCE = 20_000  # read, before secrets are taken out of it
_URL_QUERY = re.compile(r"(?i)(https?://[^\s?\"'<>]*)\?[^\s\"'<>]*")
_URL_USER = re.compile(r"(?i)(\w+://)[^/\s@\"'<>]*@")
_SIGNATURE = re.compile(
    r"(?i)\b((?:[a-z-]*signature|sig|policy|key-pair-id|x-(?:amz|goog)-[a-z-]+|awsaccesskeyid)=)[^&\s\"'<>]+"
)
# JSON may escape these characters, which would hide secrets from the patterns.
_ESCAPES = {"\\/": "/", "\\u003f": "?", "\\u003F": "?", "\\u0026": "&", "\\u003d": "=", "\\u003D": "="}
_CREDENTIAL = re.compile(r"(?i)\b(basic|bearer)\s+[A-Za-z0-9+/_=.~-]{6,}")


def excerpt(body: bytes | str, secrets: Iterable[str] = ()) -> str:
    """Return the first 200 characters of a body, on one line, without credentials and presigned queries."""
    start = body[:_EXCERPT_SOURCE]
    text = start.decode("utf-8", "replace") if isinstance(start, bytes) else start
    for escape, character in _ESCAPES.items():
        text = text.replace(escape, character)
    for secret in secrets:
        text = text.replace(secret, "***") if secret else text
    text = _CREDENTIAL.sub(r"\1 ***", _URL_QUERY.sub(r"\1?***", _URL_USER.sub(r"\1***@", text)))
    text = _SIGNATURE.sub(r"\1***", text)
    text = printable(" ".join(text.split()))
    return text if len(text) <= _EXCERPT_LENGTH else text[:_EXCERPT_LENGTH] + "…"
