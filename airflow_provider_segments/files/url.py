# SPDX-License-Identifier: Apache-2.0
"""Read a file from a presigned URL."""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timezone
from email.utils import parsedate_to_datetime
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin, urlsplit

import requests
from urllib3.exceptions import HTTPError

from airflow_provider_segments.api import errors
from airflow_provider_segments.api.location import file_location
from airflow_provider_segments.api.redaction import excerpt
from airflow_provider_segments.connection.settings import is_loopback_host
from airflow_provider_segments.files.refusal import ExpiredUrlError, refusal
from airflow_provider_segments.files.source import Source, ascii_text
from airflow_provider_segments.files.span import Body, range_header, span_of
from airflow_provider_segments.transports.common import certificate_advice, proxy_of
from airflow_provider_segments.transports.requests import error_class_of, reason_of, session_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_provider_segments.connection.settings import Settings

_MAX_REDIRECTS = 5
_METADATA = ("Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Type")
_USER_METADATA = "x-amz-meta-"


def _without_queries(record: logging.LogRecord) -> bool:
    """Cut the query, which may sign a request, from each URL that urllib3 logs."""
    if isinstance(record.args, tuple):
        record.args = tuple(arg.partition("?")[0] if isinstance(arg, str) else arg for arg in record.args)
    return True


for _name in ("urllib3.connection", "urllib3.connectionpool", "urllib3.util.retry"):
    logging.getLogger(_name).addFilter(_without_queries)


class _Url:
    """The URL of a file, which threads that read it replace when it has expired."""

    def __init__(self, url: str, renew: Callable[[], str] | None) -> None:
        self.current, self._renew = url, renew
        self._lock = Lock()
        self._failure: errors.FileTransferError | None = None

    def instead_of(self, expired: str) -> str | None:
        """Return a new URL; None if there is no way to get one."""
        if self._renew is None:
            return None
        with self._lock:
            if self.current == expired and self._failure is None:
                try:
                    self.current = self._renew()
                except (
                    errors.CallError
                ) as error:  # else each thread would repeat it, as if the file's host had failed
                    self._failure = errors.FileTransferError(
                        f"{file_location(expired).filename}: the URL has expired, and no new one could be obtained: "
                        f"{error}"
                    )
            if self._failure:
                raise self._failure
            return self.current


@contextmanager
def open_url(url: str, settings: Settings, renew: Callable[[], str] | None = None) -> Iterator[Source]:
    """
    Open a URL with the Connection's CA bundle, proxy, timeout and retries, but without its credentials.

    A URL that expires during the download is replaced with what `renew` returns.
    """
    urls = _Url(url, renew)

    def fetch(start: int, end: int | None, validator: Mapping[str, Any]) -> Body:
        headers = {"Accept-Encoding": "identity", **validator}
        if span := range_header(start, end):
            headers["Range"] = span
        used = urls.current
        try:
            return _body_of(_get(session, used, headers, settings), start)
        except ExpiredUrlError:
            # Without a validator, another URL might lead to another file.
            if not validator or not (other := urls.instead_of(used)):
                raise
        return _body_of(_get(session, other, headers, settings), start)

    with (
        session_for(settings) as session,
        Source(file_location(url).filename, fetch, settings.max_retries) as source,
    ):
        yield source


def _get(
    session: requests.Session, url: str, headers: Mapping[str, str], settings: Settings
) -> requests.Response:
    """Return the answer with the file. No error shows the query, and none has a cause that does."""
    try:
        response = _follow(session, url, headers, settings)
    except errors.UserSegmentsError:
        raise
    except (HTTPError, ValueError):  # InvalidURL and its like
        raise errors.FileTransferError(f"{file_location(url).filename} is not a readable URL.") from None
    except requests.RequestException as error:
        raise _call_error(error, file_location(url).filename) from None
    if response.status_code not in (200, 206):
        with response:
            raise refusal(response, file_location(url).filename, settings.request_timeout)
    if response.status_code == 206 and "Range" not in headers and not _has_all(response):
        response.close()
        raise errors.FileTransferError(
            f"{file_location(url).filename}: HTTP 206, a part of the file, though all of it was requested. Check "
            "whether a proxy or a cache answers in its place."
        )
    return response


def _has_all(response: requests.Response) -> bool:
    found = re.fullmatch(r"bytes 0-(\d+)/(\d+)", response.headers.get("Content-Range", ""))
    return found is not None and int(found[1]) + 1 == int(found[2])


def _follow(
    session: requests.Session, url: str, headers: Mapping[str, str], settings: Settings
) -> requests.Response:
    for _ in range(_MAX_REDIRECTS + 1):
        host = _checked_host(url)
        proxy = proxy_of(replace(settings, base_url=url, is_loopback=is_loopback_host(host)))
        response = session.get(
            url,
            headers=dict(headers),
            proxies={"http": proxy, "https": proxy} if proxy else {},
            timeout=settings.request_timeout,
            stream=True,
            allow_redirects=False,
        )
        if not response.is_redirect:
            return response
        response.close()
        url = urljoin(url, _target_of(response.headers["Location"]))
    raise errors.FileTransferError(f"{file_location(url).filename}: more than {_MAX_REDIRECTS} redirects.")


def _target_of(location: str) -> str:
    """Return where a redirect leads: requests decodes a header as Latin-1, whatever its bytes are."""
    data = location.strip(" \t").encode("latin-1")
    try:
        return data.decode()  # requests quotes the path, and encodes a host as IDNA
    except UnicodeDecodeError:
        return quote(data, safe="!#$%&'()*+,/:;=?@[]~")


def _checked_host(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        host = ""
    if not host or "@" in parts.netloc or not (parts.scheme == "https" or is_loopback_host(host)):
        raise errors.FileTransferError(
            f"{file_location(url).filename} is refused: the file of an export is on S3 or at an https:// URL."
        )
    return host


def _body_of(response: requests.Response, offset: int) -> Body:
    def read(size: int) -> bytes:
        try:  # not decoded: the announced length is that of the compressed file
            return bytes(response.raw.read(size, decode_content=False))
        except (HTTPError, OSError) as error:
            raise errors.NoAnswerError(_shown(error)) from None

    headers = response.headers
    announced = headers.get("Content-Length", "").strip()  # http.client keeps blanks at the end
    length = int(announced) if announced.isdecimal() else None
    start, size = span_of(offset, response.status_code, headers.get("Content-Range"), length)
    validator, metadata = _validator_of(headers), _metadata_of(headers)
    return Body(
        read, response.close, start, size, validator, metadata, headers.get("Accept-Ranges") == "bytes"
    )


def _validator_of(headers: Mapping[str, str]) -> dict[str, str]:
    etag = headers.get("ETag", "")
    if etag and not etag.startswith("W/"):  # a weak one does not promise the same bytes
        return {"If-Match": etag}
    return {"If-Unmodified-Since": headers["Last-Modified"]} if headers.get("Last-Modified") else {}


def _metadata_of(headers: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {
        name.replace("-", ""): ascii_text(headers[name]) for name in _METADATA if headers.get(name)
    }
    with suppress(KeyError, ValueError, OverflowError):  # such as 0, which means at once
        expires = parsedate_to_datetime(headers["Expires"])
        found["Expires"] = expires if expires.tzinfo else expires.replace(tzinfo=timezone.utc)
    users = {
        name.lower().removeprefix(_USER_METADATA): ascii_text(value)
        for name, value in headers.items()
        if name.lower().startswith(_USER_METADATA)
    }
    return found | ({"Metadata": users} if users else {})


def _call_error(error: requests.RequestException, filename: str) -> Exception:
    kind, reason = error_class_of(error), _shown(reason_of(error))
    if issubclass(kind, errors.CertificateError):
        return errors.FileTransferError(
            f"{filename} can't be read: the certificate of its host is not trusted ({reason}). "
            f"{certificate_advice(error)}"
        )
    return kind(reason)


def _shown(error: Any) -> str:
    """Return the cause behind the libraries' own errors, which would show the URL."""
    cause = getattr(error, "reason", error)
    return excerpt(str(cause)).rstrip(".") if isinstance(cause, OSError | HTTPError) else type(error).__name__
