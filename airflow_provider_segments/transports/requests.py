# SPDX-License-Identifier: Apache-2.0
"""Calls on requests, without redirects, which would get the credentials, and ``.netrc``, which would replace them."""

from __future__ import annotations

import ssl
import time
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    DecodeError,
    HTTPError,
    MaxRetryError,
    NewConnectionError,
    ProxyError,
)

from airflow_provider_segments.api import calls, errors
from airflow_provider_segments.api.calls import Call, Reply
from airflow_provider_segments.transports import common
from airflow_provider_segments.transports.common import raise_call_error

if TYPE_CHECKING:
    from airflow_provider_segments.connection.settings import Settings


class _Connection(HTTPSConnection):
    """A connection that fails with NewConnectionError until the end of the TLS handshake: nothing was sent."""

    def connect(self) -> None:
        try:
            super().connect()
        except OSError as error:
            self.close()  # urllib3 leaves the socket to the garbage collector
            if isinstance(error, ssl.SSLCertVerificationError):
                raise
            raise NewConnectionError(self, f"the handshake failed: {error}") from error


class _Pool(HTTPSConnectionPool):
    ConnectionCls = _Connection


class _Adapter(HTTPAdapter):
    """An adapter with these connections and our own TLS context."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)
        self._use_pool(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        contexts = {"ssl_context": self._context, "proxy_ssl_context": self._context}
        return self._use_pool(super().proxy_manager_for(proxy, **kwargs, **contexts))

    def cert_verify(self, conn: Any, *_: Any) -> None:
        """Don't add requests' own certificates to the context."""
        conn.cert_reqs, conn.ca_certs, conn.ca_cert_dir = "CERT_REQUIRED", None, None

    @staticmethod
    def _use_pool(manager: PoolManager) -> PoolManager:
        manager.pool_classes_by_scheme = {"http": HTTPConnectionPool, "https": _Pool}
        return manager


def session_for(settings: Settings) -> requests.Session:
    """Return a session that trusts the Connection's CAs, keeps no cookies and ignores the environment."""
    session = requests.Session()
    session.trust_env = False  # else .netrc would add credentials
    # Even where redirects are not followed, requests would read their bodies and decode their targets.
    session.get_redirect_target = lambda resp: None  # type: ignore[assignment,method-assign]
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.mount("https://", _Adapter(common.tls_context(settings)))
    return session


class RequestsTransport:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._session = session_for(settings)
        proxy = common.proxy_of(settings)
        self._session.proxies = {"http": proxy, "https": proxy} if proxy else {}

    def send(self, call: Call[Any], timeout: float) -> Reply:
        """Send a call once and return the answer, whatever its status."""
        try:
            with self._session.request(
                call.method,
                self.settings.base_url + call.path,
                data=call.body,
                headers=common.headers_of(self.settings, call),
                timeout=timeout,
                allow_redirects=False,
                stream=True,
            ) as response:
                if response.status_code < 200:  # such as 103; http.client skips only a 100
                    raise requests.exceptions.ConnectionError(
                        f"HTTP {response.status_code} instead of an answer"
                    )
                return Reply(response.status_code, response.headers, self._read(call, response, timeout))
        except requests.exceptions.InvalidHeader as error:  # of the answer
            raise_call_error(errors.NoAnswerError, call, self.settings, error)
        except ValueError as error:  # some of requests' own are ValueErrors too, such as InvalidURL
            raise_call_error(errors.ConfigurationError, call, self.settings, error)
        except requests.RequestException as error:
            raise_call_error(error_class_of(error), call, self.settings, reason_of(error))
        except DecodeError as error:
            raise_call_error(errors.UnreadableError, call, self.settings, error)
        except HTTPError as error:
            raise_call_error(errors.NoAnswerError, call, self.settings, error)

    def _read(self, call: Call[Any], response: requests.Response, timeout: float) -> bytes:
        read, until = bytearray(), time.monotonic() + timeout
        # Read data as it arrives: `iter_content` waits for a whole chunk, and its timeout restarts with each byte.
        while chunk := response.raw.read1(common.CHUNK, decode_content=True):
            read += chunk
            if len(read) > calls.MAX_BODY_BYTES:
                raise common.too_long(call)
            if time.monotonic() > until:
                raise requests.exceptions.ReadTimeout("the answer took too long")
        return bytes(read)

    def close(self) -> None:
        self._session.close()


def reason_of(error: requests.RequestException) -> Any:
    """Return the cause behind requests' and urllib3's own errors."""
    reason: Any = error.args[0] if error.args else error
    if isinstance(reason, MaxRetryError):
        reason = reason.reason
    # What goes wrong behind a proxy is a proxy's error too, even after the request was sent.
    return reason.original_error if isinstance(reason, ProxyError) else reason


def error_class_of(error: requests.RequestException) -> type[errors.CallError]:
    """Tell how far the request got; two kinds of error mean that it was not sent."""
    if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return errors.CertificateError
    unsent = isinstance(reason_of(error), NewConnectionError | ConnectTimeoutError)
    return errors.NotSentError if unsent else errors.NoAnswerError
