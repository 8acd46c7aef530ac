# SPDX-License-Identifier: Apache-2.0
"""
What can go wrong, each with what to do about it.

::

    UserSegmentsError
      ConfigurationError        a Connection or an argument is wrong
      SegmentLookupError        no segment, or more than one, has the name or id
      CallError                 one call to the service went wrong
        ConnectionLookupError   Airflow has no such Connection, or could not be asked for it
        NotSentError            could not connect: nothing was sent
          CertificateError      the service's TLS certificate is not trusted
        NoAnswerError           sent, but no complete answer came
        RefusedError            answered with a status other than 2xx
        UnreadableError         answered with a body that can't be understood
          OversizedError        answered with more bytes than are accepted
      ExportFailedError         the service reports that the export failed
      ExportTimeoutError        the deadline of a wait passed
      AbandonedTryError         Airflow has given up the running try
      EventError                a resumed task got an invalid event
      FileTransferError         the export's file is missing, may not be read, or did not arrive whole
        ObjectExistsError       the destination exists
        PreviousFileMissingError  the file of the previous export is not in the bucket any more
      ComparisonError           two exports can't be compared
        CsvError                a file is not CSV
        ColumnsError            a column is missing, or the header is another than last time
      ConcurrentRunError        another run of the same segment finished first

Every message is fit for a log: it holds no credential and no query of a presigned URL. Whether a later try can
succeed is the attribute ``permanent``; never read it from the text.
"""

from __future__ import annotations

__all__ = [
    "AbandonedTryError",
    "CallError",
    "CertificateError",
    "ColumnsError",
    "ComparisonError",
    "ConcurrentRunError",
    "ConfigurationError",
    "ConnectionLookupError",
    "CsvError",
    "EventError",
    "ExportFailedError",
    "ExportTimeoutError",
    "FileTransferError",
    "NoAnswerError",
    "NotSentError",
    "ObjectExistsError",
    "OversizedError",
    "PreviousFileMissingError",
    "RefusedError",
    "SegmentLookupError",
    "UnreadableError",
    "UserSegmentsError",
    "diagnosis",
    "maybe_started",
    "refusal",
]


class UserSegmentsError(Exception):
    """Base of all errors of this package."""

    #: No later try can succeed before a person has changed something.
    permanent = False


class ConfigurationError(UserSegmentsError, ValueError):
    """A Connection or an argument is wrong."""

    permanent = True


class SegmentLookupError(UserSegmentsError, LookupError):
    """No segment, or more than one, has the name or id asked for."""


class FileTransferError(UserSegmentsError):
    """The export's file is missing, may not be read, or did not arrive whole."""


class ObjectExistsError(FileTransferError):
    """The destination exists."""

    permanent = True


class PreviousFileMissingError(FileTransferError):
    """The file of the previous export is not in the bucket any more."""

    permanent = True


class ComparisonError(UserSegmentsError):
    """Two exports can't be compared."""


class CsvError(ComparisonError):
    """A file is not CSV."""


class ColumnsError(ComparisonError):
    """A column is missing, or the header is another than last time."""

    permanent = True


class ConcurrentRunError(UserSegmentsError):
    """Another run has compared with the same previous export, and finished first."""


class CallError(UserSegmentsError):
    """
    One call to the service went wrong.

    :param message: what happened and what to do.
    :param status: the HTTP status, if there was an answer.
    :param retry_after: seconds the service asked to wait.
    """

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class ConnectionLookupError(CallError):
    """Airflow has no such Connection, or could not be asked for it: it doesn't say which."""


class NotSentError(CallError):
    """Could not connect: nothing was sent."""


class CertificateError(NotSentError):
    """The service's TLS certificate is not trusted."""


class NoAnswerError(CallError):
    """The request was sent, but no complete answer came."""


class RefusedError(CallError):
    """The service answered with a status other than 2xx, which is the attribute ``status``."""

    @property
    def permanent(self) -> bool:  # type: ignore[override]
        """Whether the credentials (401) or the plan (403) are wrong."""
        return self.status in (401, 403)


class UnreadableError(CallError):
    """The service answered with a body that can't be understood."""


class OversizedError(UnreadableError):
    """The service answered with more bytes than are accepted."""


class ExportFailedError(UserSegmentsError):
    """The service reports that the export failed, or that it is complete without a file."""


class ExportTimeoutError(UserSegmentsError, TimeoutError):
    """The deadline of a wait passed, or will pass before the service may be asked again."""


class AbandonedTryError(UserSegmentsError):
    """Airflow has given up the running try, so it must request nothing."""


class EventError(UserSegmentsError):
    """A resumed task got no event, one of another export, or one that is not understood."""


# The meaning of each status comes from mParticle's table of status codes, the advice beyond it is ours.
_ADVICE = {
    401: (
        "the API key or the access token is wrong. Compare the Connection's API Key and Access Token with the Project "
        "Page of mParticle Analytics"
    ),
    403: (
        "this project has no access to the Export API (Pro and Enterprise plans only). Upgrade the plan or ask "
        "mParticle's support for access"
    ),
    404: (
        "not known to the service. Check the Connection's Host and the API key's project, and the id if one was given"
    ),
    429: "too many requests. Ask less often, or set the Connection's rate limit",
    500: "internal error; the service opens a support ticket by itself. Try again later",
    502: "the service can't be reached behind its front end. Try again later",
}
_SAME_ADVICE = {410: 404, 503: 502, 504: 502}
_REDIRECTED = (
    "redirects are not followed, because the credentials would be sent along. Set the Connection's Host to the address "
    "of the API itself"
)
_OTHER = "the service does not document this status. Check the Connection's Host and that no proxy answers in its place"
_DOCUMENTED = (401, 403, 429)


def refusal(
    what: str, status: int, body: str, retry_after: float | None = None, *, repeatable: bool = True
) -> RefusedError:
    """Return the error for an answer that is not 2xx; `what` is the call in words, `body` an excerpt."""
    started = maybe_started(repeatable or status < 500)
    said = f" The service said: {body}" if body else ""
    message = f"{what}: HTTP {status}: {_advice(status)}.{started}{said}"
    return RefusedError(message, status=status, retry_after=retry_after)


def _advice(status: int) -> str:
    if 300 <= status < 400:
        return _REDIRECTED
    known = _SAME_ADVICE.get(status, status)
    # Other 5xx are undocumented: treat them like 500, which opens a ticket.
    return _ADVICE.get(500 if known > 500 and known not in _ADVICE else known, _OTHER)


def maybe_started(repeatable: bool) -> str:
    """Return what a message adds when the service may have carried out a call that must not be repeated."""
    said = " The export may have started: it is not requested again here, as each request starts another one."
    return "" if repeatable else said


def diagnosis(error: UserSegmentsError) -> str:
    """Return what the Test button says first: whether the service was reached at all."""
    status = error.status if isinstance(error, RefusedError) and error.status else 0
    if isinstance(error, NotSentError | NoAnswerError) or status in (502, 503, 504):
        return "Unreachable. "
    stranger = isinstance(error, UnreadableError) or (0 < status < 500 and status not in _DOCUMENTED)
    return "Not the API. " if stranger else ""
