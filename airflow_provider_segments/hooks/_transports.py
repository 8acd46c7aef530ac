# SPDX-License-Identifier: Apache-2.0
"""
The two transports: each moves the bytes of a call and turns its library's errors into ours.

Neither follows redirects (credentials would go along), reads ``.netrc`` (it would replace them), or reads more
than `MAX_BODY_BYTES`.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from typing import TYPE_CHECKING, Any, NoReturn

import aiohttp
import requests
from aiohttp.http_exceptions import ContentEncodingError
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies, select_proxy
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError, ProxyError
from yarl import URL

from airflow_provider_segments.api.calls import MAX_BODY_BYTES, Call, Reply
from airflow_provider_segments.api.errors import (
    CallError,
    CertificateError,
    ConfigurationError,
    NoAnswerError,
    NotSentError,
    OversizedError,
    UnreadableError,
    excerpt,
)

if TYPE_CHECKING:
    from airflow_provider_segments.connection import Settings

__all__ = ["POOL_SIZE", "AiohttpTransport", "RequestsTransport"]

#: Connections that all waits of a process on one Connection share.
POOL_SIZE = 32
# Longer than the longest pause between two polls, so that the connection is still there for the next.
_KEEPALIVE = 75.0
_CHUNK = 64 * 1024


def _headers(settings: Settings, call: Call[Any]) -> dict[str, str]:
    headers = {"Accept": "application/json", "User-Agent": "airflow-provider-segments"}
    if call.body is not None:
        headers["Content-Type"] = "application/json"
    return headers | {"Authorization": settings.authorization}


def _ca_bundle(settings: Settings) -> str:
    """Return the PEM file both transports trust, once it is known to be one."""
    path = settings.ca_bundle or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
    path = path or DEFAULT_CA_BUNDLE_PATH
    try:
        ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"The CA bundle {path!r} can't be read: {error}. The Connection's CA bundle has to be the path of a PEM "
            "file on every worker and triggerer."
        ) from error
    return path


def _proxy(settings: Settings) -> str | None:
    if settings.is_loopback:  # else a proxy of the environment would get credentials in the clear
        return None
    proxy = settings.proxy or select_proxy(settings.base_url, get_environ_proxies(settings.base_url))
    if proxy is None:
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"  # the environment's is often without a scheme
    scheme = proxy.partition("://")[0].lower()
    if scheme not in ("http", "https"):
        raise ConfigurationError(
            f"The proxy is of the kind {scheme!r}, which is not supported. Use an HTTP proxy, or set the Connection's "
            "Proxy, which comes before HTTPS_PROXY."
        )
    return proxy


def _give_up(kind: type[CallError], call: Call[Any], settings: Settings, error: BaseException) -> NoReturn:
    """Raise ours for the library's: in words that say whether the service may have acted."""
    reason = excerpt(str(error) or type(error).__name__, settings.secrets)
    what = call.what
    if issubclass(kind, CertificateError):
        said = (
            f"{what}: the service's TLS certificate is not trusted. If your company's network puts in its own, set "
            "the Connection's CA bundle to a PEM file with it."
        )
    elif issubclass(kind, NotSentError):
        said = f"{what}: could not connect to {settings.base_url}, so nothing was sent. Check the network and the Host."
    elif issubclass(kind, NoAnswerError) and not call.repeatable:
        said = (
            f"{what}: sent, but no complete answer came. The export may have started: it is not requested again here, "
            "for every request starts another one."
        )
    elif issubclass(kind, NoAnswerError):
        said = f"{what}: sent, but no complete answer came."
    else:
        said = f"{what}: the answer can't be read."
    raise kind(f"{said} ({reason})") from None  # the cause would show the URL of a proxy, with its password


def _no_address(call: Call[Any], error: Exception, settings: Settings) -> ConfigurationError:
    reason = excerpt(str(error) or type(error).__name__, settings.secrets)
    return ConfigurationError(
        f"{call.what}: {settings.base_url} or the proxy is not an address that can be used ({reason}). Check the "
        "Connection's Host and Proxy."
    )


def _too_long(call: Call[Any]) -> OversizedError:
    return OversizedError(f"{call.what}: the answer is longer than {MAX_BODY_BYTES} bytes and was not read.")


class _Connection(HTTPSConnection):
    """A connection whose failures up to the end of the TLS handshake say that nothing was sent."""

    def connect(self) -> None:
        try:
            super().connect()
        except ssl.SSLCertVerificationError:
            raise
        except OSError as error:
            raise NewConnectionError(self, f"the handshake failed: {error}") from error


class _Pool(HTTPSConnectionPool):
    ConnectionCls = _Connection


class _Adapter(HTTPAdapter):
    """Requests' own adapter, on such connections."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self._use_pool(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        return self._use_pool(super().proxy_manager_for(*args, **kwargs))

    @staticmethod
    def _use_pool(manager: PoolManager) -> PoolManager:
        manager.pool_classes_by_scheme = {"http": HTTPConnectionPool, "https": _Pool}
        return manager


class RequestsTransport:
    """
    Calls on requests.

    :param settings: the Connection's.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._session = requests.Session()
        self._session.mount("https://", _Adapter())
        self._session.trust_env = False
        # Even where redirects are not followed, requests would read their bodies and take their targets apart.
        self._session.get_redirect_target = lambda resp: None  # type: ignore[assignment,method-assign]
        self._session.verify = _ca_bundle(settings)
        proxy = _proxy(settings)
        self._session.proxies = {"http": proxy, "https": proxy} if proxy else {}

    def send(self, call: Call[Any], timeout: float) -> Reply:
        """
        Send a call once and return the answer, whatever its status.

        :param call: what to send.
        :param timeout: seconds.
        """
        until = time.monotonic() + timeout
        try:
            with self._session.request(
                call.method,
                self.settings.base_url + call.path,
                data=call.body,
                headers=_headers(self.settings, call),
                timeout=timeout,
                allow_redirects=False,
                stream=True,
            ) as response:
                return Reply(response.status_code, response.headers, self._read(call, response, until))
        except requests.exceptions.ContentDecodingError as error:
            _give_up(UnreadableError, call, self.settings, error)
        except requests.RequestException as error:
            if isinstance(error, ValueError):  # InvalidURL and its like
                raise _no_address(call, error, self.settings) from None
            _give_up(_kind_of(error), call, self.settings, _reason(error))
        except ValueError as error:
            raise _no_address(call, error, self.settings) from None

    def _read(self, call: Call[Any], response: requests.Response, until: float) -> bytes:
        read = bytearray()
        for chunk in response.iter_content(_CHUNK):
            read += chunk
            if len(read) > MAX_BODY_BYTES:
                raise _too_long(call)
            if time.monotonic() > until:  # requests' own timeout begins anew with each byte
                raise requests.exceptions.ReadTimeout("the answer trickles in")
        return bytes(read)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


def _reason(error: requests.RequestException) -> Any:
    """Return what lies behind requests' and urllib3's own errors."""
    reason: Any = error.args[0] if error.args else error
    if isinstance(reason, MaxRetryError):
        reason = reason.reason
    # What goes wrong behind a proxy is a proxy's error too, even after the request was sent.
    return reason.original_error if isinstance(reason, ProxyError) else reason


def _kind_of(error: requests.RequestException) -> type[CallError]:
    """Say how far it came: everything up to the end of the TLS handshake is one of two kinds of error."""
    if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return CertificateError
    unsent = isinstance(_reason(error), NewConnectionError | ConnectTimeoutError)
    return NotSentError if unsent else NoAnswerError


class AiohttpTransport:
    """
    Calls on aiohttp, over at most `POOL_SIZE` kept-alive connections.

    :param settings: the Connection's.
    :param context: whom to trust; `open` makes it.
    """

    def __init__(self, settings: Settings, context: ssl.SSLContext) -> None:
        self.settings = settings
        self._proxy = _proxy(settings)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=POOL_SIZE, ssl=context, keepalive_timeout=_KEEPALIVE, ttl_dns_cache=60
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        # Its own repetition of a GET knows neither the pacing rules nor the rate limit.
        self._session._retry_connection = False

    @classmethod
    async def open(cls, settings: Settings) -> AiohttpTransport:
        """
        Make a transport without holding up the event loop.

        :param settings: the Connection's.
        """
        # Reading a CA bundle takes some ten milliseconds.
        context = await asyncio.to_thread(lambda: ssl.create_default_context(cafile=_ca_bundle(settings)))
        return cls(settings, context)

    async def send(self, call: Call[Any], timeout: float) -> Reply:
        """
        Send a call once and return the answer, whatever its status.

        :param call: what to send.
        :param timeout: seconds, counted from when a connection of the pool is free.
        """
        try:
            async with self._session.request(
                call.method,
                URL(self.settings.base_url + call.path, encoded=True),
                data=call.body,
                headers=_headers(self.settings, call),
                proxy=self._proxy,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=timeout, sock_read=timeout),
                allow_redirects=False,
            ) as response:
                async with asyncio.timeout(timeout):  # sock_read begins anew with each byte
                    return Reply(response.status, response.headers, await self._read(call, response))
        except aiohttp.ClientConnectorCertificateError as error:
            _give_up(CertificateError, call, self.settings, error)
        except (
            aiohttp.ClientConnectorError,
            aiohttp.ConnectionTimeoutError,
            aiohttp.ClientHttpProxyError,
        ) as error:
            _give_up(NotSentError, call, self.settings, error)
        except (aiohttp.InvalidURL, UnicodeError) as error:
            raise _no_address(call, error, self.settings) from None
        except aiohttp.ClientPayloadError as error:
            undecodable = isinstance(error.__cause__, ContentEncodingError)
            _give_up(UnreadableError if undecodable else NoAnswerError, call, self.settings, error)
        except (aiohttp.ClientError, OSError) as error:  # OSError includes the timeouts
            _give_up(NoAnswerError, call, self.settings, error)

    async def _read(self, call: Call[Any], response: aiohttp.ClientResponse) -> bytes:
        read = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            read += chunk
            if len(read) > MAX_BODY_BYTES:
                raise _too_long(call)
        return bytes(read)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()
