# SPDX-License-Identifier: Apache-2.0
"""
Calls on aiohttp: bytes out, bytes in, its errors turned into ours.

It does not follow redirects (credentials would go along), read ``.netrc`` (it would replace them), or read more
than `MAX_BODY_BYTES`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.http_exceptions import ContentEncodingError
from yarl import URL

from airflow_provider_segments.api import calls
from airflow_provider_segments.api.calls import Call, Reply
from airflow_provider_segments.api.errors import (
    CertificateError,
    NoAnswerError,
    NotSentError,
    UnreadableError,
)
from airflow_provider_segments.transports.common import (
    CHUNK,
    headers_of,
    no_address,
    proxy_of,
    raise_call_error,
    tls_context,
    too_long,
)

if TYPE_CHECKING:
    import ssl

    from airflow_provider_segments.connection.settings import Settings

#: Connections that all waits of a process on one Connection share.
POOL_SIZE = 32
# Longer than the longest pause between two polls, so that the connection is still there for the next.
_KEEPALIVE = 75.0


class AiohttpTransport:
    """Calls on aiohttp, over at most `POOL_SIZE` kept-alive connections."""

    def __init__(self, settings: Settings, context: ssl.SSLContext) -> None:
        self.settings = settings
        self._proxy = proxy_of(settings)
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
        """Make a transport without holding up the event loop."""
        # Reading a CA bundle takes some ten milliseconds.
        return cls(settings, await asyncio.to_thread(tls_context, settings))

    async def send(self, call: Call[Any], timeout: float) -> Reply:
        """Send a call once and return the answer, whatever its status."""
        try:
            async with self._session.request(
                call.method,
                URL(self.settings.base_url + call.path, encoded=True),
                data=call.body,
                headers=headers_of(self.settings, call),
                proxy=self._proxy,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=timeout, sock_read=timeout),
                allow_redirects=False,
            ) as response:
                async with asyncio.timeout(timeout):  # sock_read begins anew with each byte
                    return Reply(response.status, response.headers, await self._read(call, response))
        except aiohttp.ClientConnectorCertificateError as error:
            raise_call_error(CertificateError, call, self.settings, error)
        except (
            aiohttp.ClientConnectorError,
            aiohttp.ConnectionTimeoutError,
            aiohttp.ClientHttpProxyError,
        ) as error:
            raise_call_error(NotSentError, call, self.settings, error)
        except (aiohttp.InvalidURL, UnicodeError) as error:
            raise no_address(call, error, self.settings) from None
        except aiohttp.ClientPayloadError as error:
            undecodable = isinstance(error.__cause__, ContentEncodingError)
            raise_call_error(UnreadableError if undecodable else NoAnswerError, call, self.settings, error)
        except (aiohttp.ClientError, OSError) as error:  # OSError includes the timeouts
            raise_call_error(NoAnswerError, call, self.settings, error)

    async def _read(self, call: Call[Any], response: aiohttp.ClientResponse) -> bytes:
        read = bytearray()
        async for chunk in response.content.iter_chunked(CHUNK):
            read += chunk
            if len(read) > calls.MAX_BODY_BYTES:
                raise too_long(call)
        return bytes(read)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()
