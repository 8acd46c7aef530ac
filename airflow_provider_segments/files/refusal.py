# SPDX-License-Identifier: Apache-2.0
"""What an answer without the file means: S3's error code, and what to do about it."""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from html import unescape
from typing import TYPE_CHECKING

from urllib3.exceptions import HTTPError

from airflow_provider_segments.api import errors
from airflow_provider_segments.api.calls import parse_retry_after
from airflow_provider_segments.api.redaction import excerpt
from airflow_provider_segments.files.source import GONE, Source
from airflow_provider_segments.files.span import CHANGED

if TYPE_CHECKING:
    import requests

__all__ = ["ExpiredUrlError", "is_repeatable", "refusal"]

_MAX_ERROR_BYTES = 16 * 1024
_ERROR_FIELD = r"<(?:\w+:)?{0}(?:\s[^>]*)?>\s*(?:<!\[CDATA\[\s*)?([^<]{{1,2000}}?)\s*(?:\]\]>\s*)?</"
# All repeated alike: unlike the API, a file's host opens no ticket at a 500.
_REPEATED = {408, 425, 429, *range(500, 600)} - {501, 505}
# Of S3, whatever their status: its RequestTimeout is a 400.
_REPEATED_CODES = {"InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown"} | {
    "Throttling",
    "ThrottlingException",
}

_EXPIRED = "The URL has expired. Try again: each try asks for a new one while the service keeps the file."
_WRONG_REGION = "The URL is for a different region than the bucket's: contact mParticle's support."
_CHANGED_URL = (
    "The URL is not the one that was signed: check that no proxy changes requests. If it is not a proxy, contact "
    "mParticle's support."
)
_TOO_EARLY = (
    "The URL is not valid yet: the clock of whoever signed it is ahead of S3's. Try again in some minutes."
)
_NOT_ALLOWED = (
    "A policy forbids it, such as that of a VPC endpoint, or mParticle's key may not read the file."
)
_NOT_S3 = "S3 would name an error code: check whether a proxy or a firewall answers in its place."
# S3 gives the same code for several causes; only its message distinguishes them.
_BY_MESSAGE = {
    "AccessDenied": {
        "expired": _EXPIRED,
        "not yet valid": _TOO_EARLY,
        "not signed": _CHANGED_URL,
        "not authorized": _NOT_ALLOWED,
        "explicit deny": _NOT_ALLOWED,
    },
    "AuthorizationQueryParametersError": {"region": _WRONG_REGION},
}
_ADVICE = {
    "ExpiredToken": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "InvalidToken": _EXPIRED,
    "SignatureDoesNotMatch": _CHANGED_URL,
    "RequestTimeTooSkewed": "Set this machine's clock: it differs from S3's by more than 15 minutes.",
    "RequestExpired": _EXPIRED,
    "NoSuchKey": GONE,
    "NoSuchVersion": GONE,
    "NoSuchBucket": "The service's bucket is gone. Request another export.",
    # S3 gives it also where there is no file, and for an expired policy.
    "AccessDenied": "It may have expired: request another export.",
    "InvalidAccessKeyId": "The key that signed the URL is not valid any more. Try again: each try asks for a new URL.",
    "InvalidObjectState": "The file has been archived. Request another export.",
    "PermanentRedirect": _WRONG_REGION,
    "TemporaryRedirect": "The bucket is being moved. Try again later.",
    "AuthorizationHeaderMalformed": _WRONG_REGION,
    "AuthorizationQueryParametersError": _CHANGED_URL,
    "IllegalLocationConstraintException": _WRONG_REGION,
    "PreconditionFailed": f"{CHANGED.capitalize()}. Try again.",
    "InvalidRange": f"{CHANGED.capitalize()}. Try again.",
}
_STATUS_ADVICE = {
    403: _NOT_S3,
    404: GONE,
    410: GONE,
    412: _ADVICE["PreconditionFailed"],
    416: _ADVICE["InvalidRange"],
}


class ExpiredUrlError(errors.FileTransferError):
    """The URL can't be read any more."""


def refusal(response: requests.Response, filename: str, timeout: float) -> Exception:
    """Return the error for an answer without the file: a retryable one, or one with advice."""
    body = _error_body(response, timeout)
    code, message = (_field(name, body) for name in ("Code", "Message"))
    details = f"HTTP {response.status_code}" + (f" {code}" if code else "")
    said = message if code else excerpt(body)
    details += f" ({said})" if said else ""
    if is_repeatable(response.status_code, code):
        retry_after = parse_retry_after(response.headers.get("Retry-After"), Source.clock.time())
        details += f", Retry-After {retry_after:.0f} s" if retry_after else ""
        return errors.RefusedError(details, status=503, retry_after=retry_after)  # the rule of a 503
    advice = _advice(response.status_code, code, message)
    kind = ExpiredUrlError if advice == _EXPIRED else errors.FileTransferError
    return kind(f"{filename}: {details}. {advice}".rstrip())


def is_repeatable(status: int, code: str) -> bool:
    """Return whether the same request may succeed a little later."""
    return status in _REPEATED or code in _REPEATED_CODES


def _advice(status: int, code: str, message: str) -> str:
    by_message = (advice for words, advice in _BY_MESSAGE.get(code, {}).items() if words in message.lower())
    # A 403 with another code has another cause.
    by_status = "" if code and status == 403 else _STATUS_ADVICE.get(status, "")
    return next(by_message, _ADVICE.get(code, by_status))


def _error_body(response: requests.Response, timeout: float) -> str:
    """Return the beginning of an answer, as far as it comes in time."""
    body, until = b"", time.monotonic() + timeout
    with suppress(HTTPError, OSError):
        while len(body) < _MAX_ERROR_BYTES and time.monotonic() < until:
            if not (data := response.raw.read1(_MAX_ERROR_BYTES, decode_content=True)):
                break
            body += data
    return body.decode(json.detect_encoding(body), "replace")


def _field(name: str, body: str) -> str:
    found = re.search(_ERROR_FIELD.format(name), body)
    return excerpt(unescape(found[1])).rstrip(".") if found else ""
