# SPDX-License-Identifier: Apache-2.0
"""What both transports share: headers, whom to trust, which proxy, and the words for what goes wrong."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies, select_proxy
from urllib3.util.ssl_ import create_urllib3_context

from airflow_provider_segments.api import calls
from airflow_provider_segments.api.errors import (
    CallError,
    CertificateError,
    ConfigurationError,
    NoAnswerError,
    NotSentError,
    OversizedError,
    maybe_started,
)
from airflow_provider_segments.api.redaction import excerpt

if TYPE_CHECKING:
    import ssl

    from airflow_provider_segments.api.calls import Call
    from airflow_provider_segments.connection.settings import Settings

#: Bytes read at a time.
CHUNK = 64 * 1024
_HASHED = re.compile(r"[0-9a-f]{8}\.\d+")


def headers_of(settings: Settings, call: Call[Any]) -> dict[str, str]:
    headers = {"Accept": "application/json", "User-Agent": "airflow-provider-segments"}
    if call.body is not None:
        headers["Content-Type"] = "application/json"
    return headers | {"Authorization": settings.authorization}


def tls_context(settings: Settings) -> ssl.SSLContext:
    """Return whom to trust: what this machine trusts anyway, and the Connection's CA bundle in addition."""
    # As requests and OpenSSL read them, so that one variable serves all of a machine's Python.
    variables = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
    set_here = {f"The environment's {name}": os.environ[name] for name in variables if os.environ.get(name)}
    usual = next(iter(set_here.items()), ("Python's own", DEFAULT_CA_BUNDLE_PATH))
    context = create_urllib3_context()  # without any certificates yet
    _trust(context, *usual)
    if settings.ca_bundle:
        _trust(context, "The Connection's CA bundle", settings.ca_bundle)
    return context


def _trust(context: ssl.SSLContext, what: str, given: str) -> None:
    path = Path(given).expanduser()
    try:
        if path.is_dir():
            _check_hashed(path)
            context.load_verify_locations(capath=path)
        else:
            context.load_verify_locations(cafile=path)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigurationError(
            f"{what} {given!r} can't be read: {error}. It has to be a PEM file of CA certificates, or a directory "
            "that openssl rehash has prepared, on every worker and triggerer."
        ) from error


def _check_hashed(directory: Path) -> None:
    if not any(_HASHED.fullmatch(file.name) for file in directory.iterdir()):
        raise ValueError(f"no certificate in it is named by its hash; run: openssl rehash {directory}")


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


def raise_call_error(
    kind: type[CallError], call: Call[Any], settings: Settings, error: BaseException
) -> NoReturn:
    """Raise ours for the library's: in words that say whether the service may have acted."""
    reason = excerpt(str(error) or type(error).__name__, settings.secrets)
    if issubclass(kind, CertificateError):
        said = (
            "the service's TLS certificate is not trusted. If your company's network puts in its own, set the "
            "Connection's CA bundle to a PEM file with the company's CA; it is trusted in addition to the usual ones."
        )
    elif issubclass(kind, NotSentError):
        said = (
            f"could not connect to {settings.base_url}, so nothing was sent. Check the network and the Host."
        )
    elif issubclass(kind, NoAnswerError):
        hint = " Check the network, or allow a longer Request timeout." if call.repeatable else ""
        said = f"sent, but no complete answer came.{maybe_started(call.repeatable)}{hint}"
    else:
        said = f"the answer can't be read.{maybe_started(call.repeatable)}"
    # The cause would show the URL of a proxy, with its password.
    raise kind(f"{call.what}: {said} ({reason})") from None


def no_address(call: Call[Any], error: Exception, settings: Settings) -> ConfigurationError:
    reason = excerpt(str(error) or type(error).__name__, settings.secrets)
    return ConfigurationError(
        f"{call.what}: {settings.base_url} or the proxy is not an address that can be used ({reason}). Check the "
        "Connection's Host and Proxy."
    )


def too_long(call: Call[Any]) -> OversizedError:
    return OversizedError(
        f"{call.what}: the answer is longer than {calls.MAX_BODY_BYTES} bytes and was not read."
        f"{maybe_started(call.repeatable)}"
    )
