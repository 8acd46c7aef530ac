# SPDX-License-Identifier: Apache-2.0
"""What both transports share: headers, whom to trust, which proxy, and the words for what goes wrong."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING, Any, NoReturn

from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies, select_proxy

from airflow_provider_segments.api import calls
from airflow_provider_segments.api.errors import (
    CallError,
    CertificateError,
    ConfigurationError,
    NoAnswerError,
    NotSentError,
    OversizedError,
    excerpt,
)

if TYPE_CHECKING:
    from airflow_provider_segments.api.calls import Call
    from airflow_provider_segments.connection import Settings

__all__ = ["CHUNK", "ca_bundle_of", "give_up", "headers_of", "no_address", "proxy_of", "too_long"]

#: Bytes read at a time.
CHUNK = 64 * 1024


def headers_of(settings: Settings, call: Call[Any]) -> dict[str, str]:
    headers = {"Accept": "application/json", "User-Agent": "airflow-provider-segments"}
    if call.body is not None:
        headers["Content-Type"] = "application/json"
    return headers | {"Authorization": settings.authorization}


def ca_bundle_of(settings: Settings) -> str:
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


def proxy_of(settings: Settings) -> str | None:
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


def give_up(kind: type[CallError], call: Call[Any], settings: Settings, error: BaseException) -> NoReturn:
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
        said = f"{what}: sent, but no complete answer came. Check the network, or allow a longer Request timeout."
    else:
        said = f"{what}: the answer can't be read."
    raise kind(f"{said} ({reason})") from None  # the cause would show the URL of a proxy, with its password


def no_address(call: Call[Any], error: Exception, settings: Settings) -> ConfigurationError:
    reason = excerpt(str(error) or type(error).__name__, settings.secrets)
    return ConfigurationError(
        f"{call.what}: {settings.base_url} or the proxy is not an address that can be used ({reason}). Check the "
        "Connection's Host and Proxy."
    )


def too_long(call: Call[Any]) -> OversizedError:
    return OversizedError(
        f"{call.what}: the answer is longer than {calls.MAX_BODY_BYTES} bytes and was not read."
    )
