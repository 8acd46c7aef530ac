# SPDX-License-Identifier: Apache-2.0
"""What both transports share: headers, trust, proxy and error messages."""

from __future__ import annotations

import logging
import os
import re
import shlex
from typing import TYPE_CHECKING, Any, NoReturn

from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies, select_proxy
from urllib3.util.ssl_ import create_urllib3_context

from airflow_provider_segments.api import calls, errors
from airflow_provider_segments.api.redaction import excerpt

if TYPE_CHECKING:
    import ssl

    from airflow_provider_segments.api.calls import Call
    from airflow_provider_segments.connection.settings import Settings

log = logging.getLogger(__name__)

#: HTTP connections that all waits on one Airflow Connection share.
POOL_SIZE = 32
#: Bytes read at a time.
CHUNK = 64 * 1024
_HASHED = re.compile(r"[0-9a-f]{8}\.\d+")


def headers_of(settings: Settings, call: Call[Any]) -> dict[str, str]:
    headers = {"Accept": "application/json", "User-Agent": "airflow-provider-segments"}
    if call.body is not None:
        headers["Content-Type"] = "application/json"
    return headers | {"Authorization": settings.authorization}


def tls_context(settings: Settings) -> ssl.SSLContext:
    """Trust what this machine trusts, and the Connection's CA bundle in addition."""
    context = create_urllib3_context()  # without any certificates yet
    # The variables that requests and OpenSSL read, so that one setting serves all Python on a machine.
    unusable = []
    for what, given in (usual := _usual_trust()):
        try:
            _trust(context, what, given)
        except errors.ConfigurationError as error:
            unusable.append(error)
    if len(unusable) == len(usual):
        raise unusable[0]
    for left_out in unusable:  # OpenSSL, too, leaves out what it can't use of its two variables
        log.warning("%s", left_out)
    if settings.ca_bundle:
        _trust(context, "The Connection's CA bundle", settings.ca_bundle)
    return context


def _usual_trust() -> list[tuple[str, str]]:
    bundle = _set_here("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")[:1]
    return (
        bundle
        or _set_here("SSL_CERT_FILE", "SSL_CERT_DIR")
        or [("Python's own CA bundle", DEFAULT_CA_BUNDLE_PATH)]
    )


def _set_here(*variables: str) -> list[tuple[str, str]]:
    return [(f"the environment's {name}", os.environ[name]) for name in variables if os.environ.get(name)]


def _trust(context: ssl.SSLContext, what: str, given: str) -> None:
    path = os.path.expanduser(given)
    try:
        # OpenSSL takes several, and leaves out what is not there.
        if directories := list(filter(os.path.isdir, path.split(os.pathsep))):
            _check_hashed(directories)
            context.load_verify_locations(capath=path)
        else:
            context.load_verify_locations(cafile=path)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise errors.ConfigurationError(
            f"{what[0].upper()}{what[1:]} {given!r} can't be read: {error}. It has to be a PEM file of CA "
            "certificates, or a directory that openssl rehash has prepared, on every worker and triggerer."
        ) from error


def _check_hashed(directories: list[str]) -> None:
    if not any(_HASHED.fullmatch(name) for directory in directories for name in os.listdir(directory)):
        command = shlex.join(["openssl", "rehash", *directories])
        raise ValueError(f"no certificate in it is named by its hash; run: {command}")


def proxy_of(settings: Settings) -> str | None:
    if settings.is_loopback:  # else a proxy of the environment would get credentials in the clear
        return None
    proxy = settings.proxy or select_proxy(settings.base_url, get_environ_proxies(settings.base_url))
    if proxy is None:
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"  # the environment's is often without a scheme
    scheme = proxy.partition("://")[0].lower()
    if scheme not in ("http", "https"):
        raise errors.ConfigurationError(
            f"A proxy with the scheme {scheme!r} is not supported. Use an HTTP proxy, or set the Connection's "
            "Proxy, which comes before HTTPS_PROXY."
        )
    return proxy


def raise_call_error(
    kind: type[errors.UserSegmentsError], call: Call[Any], settings: Settings, error: BaseException
) -> NoReturn:
    """Raise our error for a library's, with words that say whether the service may have acted."""
    reason = excerpt(str(error) or type(error).__name__, settings.secrets)
    hint = " Check the network, or allow a longer Request timeout." if call.repeatable else ""
    started = errors.maybe_started(call.repeatable)
    said: dict[type[errors.UserSegmentsError], str] = {
        errors.CertificateError: f"the service's TLS certificate is not trusted. {certificate_advice(error)}",
        errors.NotSentError: f"could not connect to {settings.base_url}, so nothing was sent. Check the network and "
        "the Host.",
        errors.NoAnswerError: f"sent, but no complete answer came.{started}{hint}",
        errors.UnreadableError: f"the answer can't be read.{started}",
        errors.ConfigurationError: f"{settings.base_url} or the proxy is not an address that can be used. Check the "
        "Connection's Host and Proxy.",
    }
    # A cause would show the URL of a proxy, with its password.
    raise kind(f"{call.what}: {said[kind]} ({reason})") from None


def certificate_advice(error: BaseException) -> str:
    """Return what to do about a certificate that OpenSSL refuses."""
    reason = str(error)
    if "has expired" in reason or "not yet valid" in reason:
        return "Check this machine's clock; if it is right, the certificate has to be renewed."
    if "mismatch" in reason:
        return "It is another host's: check the Host, and that no proxy answers in its place."
    usual = " and ".join(what for what, _ in _usual_trust())
    return (
        "If your company's network intercepts TLS, set the Connection's CA bundle to a PEM file with the company's "
        f"CA; it is trusted in addition to {usual}."
    )


def too_long(call: Call[Any]) -> errors.OversizedError:
    said = f"the answer is longer than {calls.MAX_BODY_BYTES} bytes and was not read."
    return errors.OversizedError(f"{call.what}: {said}{errors.maybe_started(call.repeatable)}")
