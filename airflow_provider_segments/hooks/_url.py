# SPDX-License-Identifier: Apache-2.0
"""Read a file from a URL that carries its own permission."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

import requests
from urllib3.exceptions import HTTPError

from airflow_provider_segments.api.errors import FileTransferError
from airflow_provider_segments.api.files import file_location
from airflow_provider_segments.api.redaction import excerpt
from airflow_provider_segments.connection.settings import is_loopback_host
from airflow_provider_segments.hooks._source import Source
from airflow_provider_segments.transports.common import proxy_of
from airflow_provider_segments.transports.requests import session_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_segments.connection.settings import Settings

__all__ = ["open_url"]

_MOST_REDIRECTS = 5
_GONE = (403, 404, 410)  # S3 answers 403 for an expired signature, and where there is no file


@contextmanager
def open_url(url: str, settings: Settings) -> Iterator[Source]:
    """
    Read what a URL leads to.

    :param url: its query is a secret and is not shown.
    :param settings: of the Connection, for CA bundle, proxy and timeout; its credentials are not sent.
    :raises FileTransferError: it can't be read.
    """
    shown = file_location(url).filename
    # The library's message and traceback would show the query, so there is no cause.
    with _session(settings) as session:
        try:
            response = _follow(session, url, settings)
        except (requests.RequestException, HTTPError) as error:
            raise _unreadable(shown, error) from None
        with response:
            if response.status_code != 200:
                hint = (
                    " It may have expired: request another export." if response.status_code in _GONE else ""
                )
                raise FileTransferError(f"{shown}: HTTP {response.status_code}.{hint}")
            announced = response.headers.get("Content-Length", "")

            def read(size: int) -> bytes:
                try:  # as stored: what is kept compressed has to have the length that was announced
                    return bytes(response.raw.read(size, decode_content=False))
                except (HTTPError, OSError) as error:
                    raise _unreadable(shown, error) from None

            yield Source(
                shown,
                read,
                int(announced) if announced.isdecimal() else None,
                response.headers.get("Content-Type"),
            )


def _unreadable(shown: str, error: Exception) -> FileTransferError:
    return FileTransferError(f"{shown} can't be read: {_reason(error)}. Try again.")


def _session(settings: Settings) -> requests.Session:
    session = session_for(settings)
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return session


def _follow(session: requests.Session, url: str, settings: Settings) -> requests.Response:
    for _ in range(_MOST_REDIRECTS + 1):
        host = _checked_host(url)
        proxy = proxy_of(replace(settings, base_url=url, is_loopback=is_loopback_host(host)))
        response = session.get(
            url,
            headers={"Accept-Encoding": "identity"},
            proxies={"http": proxy, "https": proxy} if proxy else {},
            timeout=settings.request_timeout,
            stream=True,
            allow_redirects=False,
        )
        if not response.is_redirect:
            return response
        response.close()
        url = urljoin(url, response.headers["Location"])
    raise FileTransferError(f"{file_location(url).filename}: redirected more than {_MOST_REDIRECTS} times.")


def _checked_host(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        host = ""
    if not host or "@" in parts.netloc or not (parts.scheme == "https" or is_loopback_host(host)):
        raise FileTransferError(
            f"{file_location(url).filename} is not read: the file of an export is on S3 or at an https:// URL."
        )
    return host


def _reason(error: Exception) -> str:
    """Say what lies behind the libraries' own errors, whose words repeat the URL."""
    reason = error.args[0] if error.args else error
    reason = getattr(reason, "reason", reason)
    return excerpt(str(reason)) if isinstance(reason, OSError | HTTPError) else type(error).__name__
