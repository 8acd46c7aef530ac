# SPDX-License-Identifier: Apache-2.0
"""The settings that both transports read from the Connection."""

from __future__ import annotations

import json
import math
import string
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from airflow_provider_segments.api.errors import ConfigurationError
from airflow_provider_segments.connection.form import DEFAULT_HOST, EXTRA_FIELDS

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

CONN_TYPE = "mparticle_analytics"
CONN_NAME_ATTR = "mparticle_conn_id"
DEFAULT_CONN_ID = "mparticle_analytics_default"
HOOK_NAME = "mParticle Analytics"

API_PATH = "/service/v1/segments"
_LIMIT = "max_requests_per_second"
# White space and characters without width: byte order mark, zero-width space, joiners, direction marks.
_PASTED = (
    string.whitespace
    + "\x85\u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff\u00ad\u2060"
    + "".join(map(chr, range(0x2000, 0x2010)))
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a transport needs to know, checked."""

    base_url: str  # without a slash at the end
    authorization: str = field(repr=False)  # the header's value
    secrets: tuple[str, ...] = field(repr=False)  # never to be shown
    request_timeout: float  # seconds
    max_retries: int  # of a call on a worker
    max_requests_per_second: float | None
    ca_bundle: str | None  # a PEM file or a hashed directory, trusted in addition
    proxy: str | None = field(repr=False)
    is_loopback: bool  # the service is on this machine, where no proxy is used
    unknown_extras: tuple[str, ...]


def read_settings(connection: Connection) -> Settings:
    """Return a Connection's settings, or raise ConfigurationError, which names the wrong field."""
    where = f"Connection {connection.conn_id!r}"
    login = _credential(connection.login, "API Key (login)", where)
    token = _credential(connection.password, "Access Token (password)", where)
    if ":" in login:
        raise ConfigurationError(
            f"{where}: the API Key (login) contains a colon, which HTTP Basic authentication can't carry. Copy the key "
            "alone from the Project Page of mParticle Analytics; the Access Token has a field of its own."
        )
    base_url, is_loopback = _base_url(connection, where)
    extras = _extras(connection.extra, where)
    proxy = _proxy(extras, is_loopback, where)
    limit = _number(extras, _LIMIT, where) if _LIMIT in extras else None
    basic = b64encode(f"{login}:{token}".encode()).decode()
    return Settings(
        base_url=base_url,
        authorization=f"Basic {basic}",
        secrets=(token, basic, *_proxy_password(proxy)),
        request_timeout=_number(extras, "request_timeout", where),
        max_retries=int(_number(extras, "max_retries", where)),
        max_requests_per_second=limit,
        ca_bundle=_text(extras, "ca_bundle", where),
        proxy=proxy,
        is_loopback=is_loopback,
        # The Test button of Airflow 2 sends each field twice, the second time under a long name.
        unknown_extras=tuple(
            sorted(name for name in set(extras) - set(EXTRA_FIELDS) if f"extra__{CONN_TYPE}__" not in name)
        ),
    )


def _credential(value: Any, label: str, where: str) -> str:
    """Strip what copy and paste leaves at the ends; the messages don't show the value."""
    text = str(value or "").strip(_PASTED)
    if not text:
        raise ConfigurationError(
            f"{where} has no {label}. Copy it from the Project Page of mParticle Analytics into the Connection."
        )
    if wrong := next((c for c in text if not c.isascii() or c.isspace() or not c.isprintable()), None):
        raise ConfigurationError(
            f"{where}: the {label} contains {ascii(wrong)}, which no key or token has. Copy it again from the Project "
            "Page of mParticle Analytics."
        )
    return text


def _base_url(connection: Connection, where: str) -> tuple[str, bool]:
    given = (connection.host or "").strip(_PASTED) or DEFAULT_HOST
    given = f"[{given}]" if _is_ipv6(given) else given  # Airflow takes the brackets from a URI's host
    scheme = (connection.schema or "https").lower()
    if scheme not in ("http", "https"):
        raise ConfigurationError(f"{where} has the Schema {connection.schema!r}. Leave it empty.")
    url, host, port = _split(given if "://" in given else f"{scheme}://{given}", given, where)
    port = port or connection.port
    is_loopback = is_loopback_host(host)
    if url.scheme != "https" and not (url.scheme == "http" and is_loopback):
        raise ConfigurationError(
            f"{where} has the Host {given!r}, but the service is reached by HTTPS only: the access token would "
            "travel in the clear. Write the bare host or an https:// URL; http:// is for an emulator on this "
            "machine (127.0.0.1, localhost)."
        )
    netloc = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    return f"{url.scheme}://{netloc}{API_PATH}", is_loopback


def _split(text: str, given: str, where: str) -> tuple[SplitResult, str, int | None]:
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
        (host or "").encode("idna")  # refuses empty and over-long parts of a name
        host = host if not host or host.isascii() else _idna(host)
    except ValueError:
        url, host, port = SplitResult("", "", "", "", ""), None, None
    other_parts = url.path.rstrip("/") not in ("", API_PATH), url.query, url.fragment, "@" in url.netloc
    if not host or any(other_parts) or any(c.isspace() for c in text):
        # Don't repeat what may hold credentials.
        shown = "" if "@" in given or "?" in given else f" {given!r}"
        raise ConfigurationError(
            f"{where} has an invalid Host{shown}. Write a bare host ({DEFAULT_HOST}), host:port, or an "
            "https:// URL without a path; API Key and Access Token have fields of their own."
        )
    return url, host, port


def _idna(host: str) -> str:
    """Encode a name as requests does; aiohttp would send it as it is."""
    import idna

    return idna.encode(host, uts46=True).decode()


def _is_ipv6(host: str) -> bool:
    try:
        return ip_address(host).version == 6
    except ValueError:
        return False


def is_loopback_host(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _extras(extra: Any, where: str) -> Mapping[str, Any]:
    if not extra:
        return {}
    try:
        extras = json.loads(extra) if isinstance(extra, str) else extra
    except ValueError:
        extras = None
    if not isinstance(extras, Mapping):
        raise ConfigurationError(f'{where}: the Extra is not a JSON object like {{"request_timeout": 30}}.')
    # An empty field of the form counts as not given.
    return {name: value for name, value in extras.items() if value is not None and value != ""}


def _number(extras: Mapping[str, Any], name: str, where: str) -> float:
    value, whole = extras.get(name, EXTRA_FIELDS[name].default), EXTRA_FIELDS[name].kind == "integer"
    number = _as_number(value)
    fits = 0 <= number < 1e9 and number.is_integer() if whole else 0 < number < 1e9
    if not fits:
        kind = "a whole number from 0" if whole else "a number above 0"
        raise ConfigurationError(f"{where}: the extra {name!r} is {value!r}, but it must be {kind}.")
    return number


def _as_number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def _text(extras: Mapping[str, Any], name: str, where: str) -> str | None:
    value = extras.get(name)
    if value is not None and not isinstance(value, str):
        raise ConfigurationError(f"{where}: the extra {name!r} has to be text, not {type(value).__name__}.")
    return (value or "").strip(_PASTED) or None


def _proxy_password(proxy: str | None) -> tuple[str, ...]:
    password = urlsplit(proxy).password if proxy else None
    return (password,) if password else ()


def _proxy(extras: Mapping[str, Any], is_loopback: bool, where: str) -> str | None:
    proxy = _text(extras, "proxy", where)
    if proxy is None:
        return None
    if is_loopback:
        raise ConfigurationError(f"{where} has a proxy, but its Host is this machine. Remove the proxy.")
    try:
        usable = urlsplit(proxy).scheme in ("http", "https") and bool(urlsplit(proxy).hostname)
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(f"{where}: the extra 'proxy' has to be a URL like http://proxy:3128.")
    return proxy
