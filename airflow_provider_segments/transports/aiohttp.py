# SPDX-License-Identifier: Apache-2.0
"""Calls on aiohttp, without redirects, which would get the credentials, and ``.netrc``, which would replace them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.http_exceptions import ContentEncodingError
from yarl import URL

from airflow_provider_segments.api import calls, errors
from airflow_provider_segments.api.calls import Call, Reply
from airflow_provider_segments.transports import common
from airflow_provider_segments.transports.common import raise_call_error

if TYPE_CHECKING:
    import ssl

    from airflow_provider_segments.connection.settings import Settings

# Longer than the longest pause between two polls, so that the connection is still there for the next.
_KEEPALIVE = 75.0
_LONGEST_LINE = 65536
_UNSENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError)


class AiohttpTransport:
    """Calls on aiohttp, over at most `common.POOL_SIZE` kept-alive connections."""

    def __init__(self, settings: Settings, context: ssl.SSLContext) -> None:
        self.settings = settings
        self._proxy = common.proxy_of(settings)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=common.POOL_SIZE, ssl=context, keepalive_timeout=_KEEPALIVE, ttl_dns_cache=60
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            # As long as `http.client`, and so the other transport, takes them.
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_LINE,
        )
        # aiohttp's own retry of a GET ignores the pacing rules and the rate limit.
        self._session._retry_connection = False

    @classmethod
    async def open(cls, settings: Settings) -> AiohttpTransport:
        """Make a transport without holding up the event loop."""
        # Reading a CA bundle takes some ten milliseconds.
        return cls(settings, await asyncio.to_thread(common.tls_context, settings))

    async def send(self, call: Call[Any], timeout: float) -> Reply:
        """Send a call once and return the answer, whatever its status."""
        try:
            async with self._session.request(
                call.method,
                URL(self.settings.base_url + call.path, encoded=True),
                data=call.body,
                headers=common.headers_of(self.settings, call),
                proxy=self._proxy,
                # `connect` bounds the look-up of the name and a proxy's answer, too.
                timeout=aiohttp.ClientTimeout(
                    total=None, connect=timeout, sock_connect=timeout, sock_read=timeout
                ),
                allow_redirects=False,
            ) as response:
                async with asyncio.timeout(timeout):  # sock_read begins anew with each byte
                    return Reply(response.status, response.headers, await self._read(call, response))
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            raise_call_error(
                error_class_of(error), call, self.settings, getattr(error, "certificate_error", error)
            )

    async def _read(self, call: Call[Any], response: aiohttp.ClientResponse) -> bytes:
        read = bytearray()
        async for chunk in response.content.iter_chunked(common.CHUNK):
            read += chunk
            if len(read) > calls.MAX_BODY_BYTES:
                raise common.too_long(call)
        return bytes(read)

    async def close(self) -> None:
        await self._session.close()


def error_class_of(error: Exception) -> type[errors.UserSegmentsError]:
    """Tell how far the request got, and what was wrong."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return errors.CertificateError
    if isinstance(error, _UNSENT):
        return errors.NotSentError
    if isinstance(error, aiohttp.InvalidURL | UnicodeError):
        return errors.ConfigurationError
    if isinstance(error, aiohttp.ClientPayloadError) and isinstance(error.__cause__, ContentEncodingError):
        return errors.UnreadableError
    return errors.NoAnswerError  # of a timeout too
