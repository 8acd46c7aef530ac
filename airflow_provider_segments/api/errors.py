# SPDX-License-Identifier: Apache-2.0
"""
What can go wrong, each with what to do about it.

::

    UserSegmentsError
      ConfigurationError          a Connection or an argument is wrong
      SegmentLookupError          no segment, or more than one, has the name or id
      CallError                   one call to the service went wrong
        ConnectionLookupError     Airflow has no such Connection, or could not be asked for it
        NotSentError              could not connect: nothing was sent
          CertificateError        the service's TLS certificate is not trusted
        NoAnswerError             sent, but no complete answer came
        RefusedError              answered with another status than 2xx
          UnauthorizedError       401
          ForbiddenError          403
          TooManyRequestsError    429
          InternalServerError     500 and other 5xx
          UnavailableError        502, 503, 504
        UnreadableError           answered with a body that can't be understood
          OversizedError          answered with more bytes than are accepted
      ExportFailedError           the service reports that the export failed
      ExportTimeoutError          the deadline of a wait passed
      AbandonedTryError           Airflow has given the running try up
      EventError                  a resumed task got an event it can't believe
      FileTransferError           the export's file is not there, may not be had, or did not come whole
        ObjectExistsError         where the file is to go there is one already

Every message is fit for a log: it holds no credential and no query of a presigned URL. Whether a later
try may hope is an attribute, never to be read from the text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "AbandonedTryError",
    "CallError",
    "CertificateError",
    "ConfigurationError",
    "ConnectionLookupError",
    "EventError",
    "ExportFailedError",
    "ExportTimeoutError",
    "FileTransferError",
    "ForbiddenError",
    "InternalServerError",
    "NoAnswerError",
    "NotSentError",
    "ObjectExistsError",
    "OversizedError",
    "RefusedError",
    "SegmentLookupError",
    "TooManyRequestsError",
    "UnauthorizedError",
    "UnavailableError",
    "UnreadableError",
    "UserSegmentsError",
    "diagnosis",
    "excerpt",
    "maybe_started",
    "refusal",
]

_EXCERPT_LENGTH = 200
_EXCERPT_SOURCE = 20_000  # read before what must not be shown is taken out
_URL_QUERY = re.compile(r"(?i)(https?://[^\s?\"'<>]*)\?[^\s\"'<>]*")
_URL_USER = re.compile(r"(?i)(\w+://)[^/\s@\"'<>]*@")
_SIGNATURE = re.compile(r"(?i)\b((?:[a-z-]*signature|x-amz-[a-z-]+|awsaccesskeyid)=)[^&\s\"'<>]+")
# JSON may write these characters so, and what must not be shown would not be recognized.
_ESCAPES = {"\\/": "/", "\\u003f": "?", "\\u003F": "?", "\\u0026": "&", "\\u003d": "=", "\\u003D": "="}
_CREDENTIAL = re.compile(r"(?i)\b(basic|bearer)\s+[A-Za-z0-9+/_=.~-]{6,}")


class UserSegmentsError(Exception):
    """Base of all errors of this package."""

    #: No later try can succeed before a person has changed something.
    permanent: ClassVar[bool] = False


class ConfigurationError(UserSegmentsError, ValueError):
    """A Connection or an argument is wrong."""

    permanent = True


class SegmentLookupError(UserSegmentsError, LookupError):
    """No segment, or more than one, has the name or id asked for."""


class FileTransferError(UserSegmentsError):
    """The export's file is not there, may not be had, or did not come whole."""


class ObjectExistsError(FileTransferError):
    """Where the file is to go there is one already."""

    permanent = True


class CallError(UserSegmentsError):
    """
    One call to the service went wrong.

    :param message: what happened and what to do.
    :param status: the HTTP status, if there was an answer.
    :param retry_after: seconds the service asked to wait.
    """

    #: The service may have carried out what was asked.
    maybe_carried_out: ClassVar[bool] = False

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class ConnectionLookupError(CallError):
    """Airflow has no such Connection, or could not be asked for it: it doesn't tell which."""


class NotSentError(CallError):
    """Could not connect: nothing was sent."""


class CertificateError(NotSentError):
    """The service's TLS certificate is not trusted."""


class NoAnswerError(CallError):
    """The request was sent, but no complete answer came."""

    maybe_carried_out = True


class RefusedError(CallError):
    """The service answered with another status than 2xx."""


class UnauthorizedError(RefusedError):
    """401: the API key or the access token is wrong."""

    permanent = True


class ForbiddenError(RefusedError):
    """403: the project has no access to the Export API."""

    permanent = True


class TooManyRequestsError(RefusedError):
    """429: too many requests; the request was not carried out."""


class InternalServerError(RefusedError):
    """500: each one opens a ticket with the vendor's support."""

    maybe_carried_out = True


class UnavailableError(RefusedError):
    """502, 503 or 504: something in front of the service could not reach it."""

    maybe_carried_out = True


class UnreadableError(CallError):
    """The service answered with a body that can't be understood."""

    maybe_carried_out = True


class OversizedError(UnreadableError):
    """The service answered with more bytes than are accepted."""


class ExportFailedError(UserSegmentsError):
    """The service reports that the export failed, or that it is complete without a file."""


class ExportTimeoutError(UserSegmentsError, TimeoutError):
    """
    The deadline of a wait passed, or will pass before the service may be asked again.

    :param message: what happened and what to do.
    :param retry_in: seconds until the service is to be asked again, if that is not at once.
    :param refused: whether that is a rule after a failure, and not only the polling schedule.
    """

    def __init__(self, message: str, *, retry_in: float = 0.0, refused: bool = False) -> None:
        super().__init__(message)
        self.retry_in = retry_in
        self.refused = refused


class AbandonedTryError(UserSegmentsError):
    """Airflow has given the running try up, so it is to request nothing."""


class EventError(UserSegmentsError):
    """A resumed task got no event, one of another export, or one that is not understood."""


# What each status means stands in the page's table of status codes; what to do beyond it is ours.
_REFUSALS: dict[int, tuple[type[RefusedError], str]] = {
    401: (
        UnauthorizedError,
        "the API key or the access token is wrong. Compare the Connection's API Key and Access Token with the "
        "Project Page of mParticle Analytics",
    ),
    403: (
        ForbiddenError,
        "this project has no access to the Export API (Pro and Enterprise plans only). Upgrade the plan or ask "
        "mParticle's support for access",
    ),
    429: (TooManyRequestsError, "too many requests. Ask less often, or set the Connection's rate limit"),
    500: (
        InternalServerError,
        "internal error; the service opens a ticket with its support by itself. Try again later",
    ),
}
_UNAVAILABLE = (UnavailableError, "the service can't be reached behind its front end. Try again later")
_REDIRECTED = (
    RefusedError,
    "redirects are not followed, for the credentials would go along. Set the Connection's Host to the address "
    "of the API itself",
)
_NOT_FOUND = (
    RefusedError,
    "not known to the service. Check the Connection's Host and the API key's project, and the id if one was given",
)
_OTHER = (
    RefusedError,
    "the service does not document this status. Check the Connection's Host and that no proxy answers in its place",
)


def refusal(
    what: str, status: int, body: str, retry_after: float | None = None, *, repeatable: bool = True
) -> RefusedError:
    """
    Build the error of an answer that is not 2xx.

    :param what: the call in words, for the message.
    :param status: the HTTP status.
    :param body: the body's excerpt.
    :param retry_after: seconds the service asked to wait.
    :param repeatable: whether the call may be sent again.
    """
    kind, advice = _kind_of(status)
    started = maybe_started(repeatable or not kind.maybe_carried_out)
    said = f" The service said: {body}" if body else ""
    return kind(f"{what}: HTTP {status}: {advice}.{started}{said}", status=status, retry_after=retry_after)


def maybe_started(repeatable: bool) -> str:
    """
    Return what a message adds when the service may have carried out a call that is not repeated.

    :param repeatable: whether the call may be sent again.
    """
    said = " The export may have started: it is not requested again here, as each request starts another one."
    return "" if repeatable else said


def _kind_of(status: int) -> tuple[type[RefusedError], str]:
    if status in (502, 503, 504):
        return _UNAVAILABLE
    if 300 <= status < 400:
        return _REDIRECTED
    if status in (404, 410):
        return _NOT_FOUND
    # Other 5xx are undocumented: as careful with them as with the one that opens tickets.
    return _REFUSALS.get(500 if status > 500 else status, _OTHER)


def diagnosis(error: UserSegmentsError) -> str:
    """
    Say in a word what a first call has found, where the error's own words don't begin with it.

    :param error: what it failed with.
    """
    if isinstance(error, NotSentError | NoAnswerError | UnavailableError):
        return "Unreachable. "
    # Another status than the service documents, or another body: somebody else answers.
    return "Not the API. " if isinstance(error, UnreadableError) or type(error) is RefusedError else ""


def excerpt(body: bytes | str, secrets: Iterable[str] = ()) -> str:
    """
    Return the first 200 characters of a body, on one line, without credentials and presigned queries.

    :param body: what the service sent.
    :param secrets: strings that must not be shown, in case the service echoes them.
    """
    text = (
        body[:_EXCERPT_SOURCE].decode("utf-8", "replace")
        if isinstance(body, bytes)
        else body[:_EXCERPT_SOURCE]
    )
    for escape, character in _ESCAPES.items():
        text = text.replace(escape, character)
    for secret in secrets:
        text = text.replace(secret, "***") if secret else text
    text = _CREDENTIAL.sub(r"\1 ***", _URL_QUERY.sub(r"\1?***", _URL_USER.sub(r"\1***@", text)))
    text = _SIGNATURE.sub(r"\1***", text)
    text = " ".join(text.split())
    return text if len(text) <= _EXCERPT_LENGTH else text[:_EXCERPT_LENGTH] + "…"
