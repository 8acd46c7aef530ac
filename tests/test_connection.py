# SPDX-License-Identifier: Apache-2.0
"""From a Connection to settings: what is accepted, and the words for what is not."""

from __future__ import annotations

import json
from base64 import b64decode
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_segments.api.errors import ConfigurationError
from airflow_provider_segments.connection.settings import API_PATH, Settings, read_settings


def settings(**fields: Any) -> Settings:
    """Read settings from a Connection with a key and a token."""
    base = {
        "conn_id": "c",
        "host": None,
        "port": None,
        "schema": None,
        "login": "key",
        "password": "token",
        "extra": None,
    }
    return read_settings(SimpleNamespace(**(base | fields)))  # type: ignore[arg-type]


def test_defaults() -> None:
    """An API key and a token are enough."""
    found = settings()
    assert found.base_url == "https://query.indicative.com/service/v1/segments"
    assert b64decode(found.authorization.removeprefix("Basic ")) == b"key:token"
    assert (found.request_timeout, found.max_retries, found.max_requests_per_second) == (30, 5, None)
    assert not found.is_loopback


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "query.indicative.mparticle.com"}, "https://query.indicative.mparticle.com"),
        ({"host": "h.example.com:8443"}, "https://h.example.com:8443"),
        ({"host": "h.example.com", "port": 8443}, "https://h.example.com:8443"),
        ({"host": "https://h.example.com/"}, "https://h.example.com"),
        ({"host": "https://h.example.com/service/v1/segments/"}, "https://h.example.com"),
        ({"host": " https://h.example.com "}, "https://h.example.com"),
        ({"host": "http://127.0.0.1:8400"}, "http://127.0.0.1:8400"),
        ({"host": "http://localhost:8400"}, "http://localhost:8400"),
        ({"host": "http://[::1]:8400"}, "http://[::1]:8400"),
        ({"host": "2001:db8::1", "port": 8443}, "https://[2001:db8::1]:8443"),
        ({"host": "münchen.example"}, "https://xn--mnchen-3ya.example"),
        ({"host": "127.0.0.1", "port": 8400, "schema": "http"}, "http://127.0.0.1:8400"),
    ],
)
def test_hosts(fields: dict[str, Any], url: str) -> None:
    """A bare host, host and port, an https URL; http on this machine."""
    assert settings(**fields).base_url == url + "/service/v1/segments"


@pytest.mark.parametrize(
    "host",
    [
        "http://query.indicative.com",
        "http://10.0.0.1:8400",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "ftp://h.example.com",
    ],
)
def test_no_token_in_the_clear(host: str) -> None:
    """HTTP is for this machine only."""
    with pytest.raises(ConfigurationError, match="HTTPS only") as caught:
        settings(host=host)
    assert host in str(caught.value)


@pytest.mark.parametrize(
    "host",
    [
        "https://",
        "https://h.example.com/other",
        "https://u:secret@h.example.com",
        "https://h/?q=secret",
        "a b",
        "h:port",
        "[",
        "h:99999999",
    ],
)
def test_hosts_that_are_none(host: str) -> None:
    """The message says how one looks, and shows none that may hold credentials."""
    with pytest.raises(ConfigurationError, match="bare host") as caught:
        settings(host=host)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "label"),
    [({"login": None}, "API Key"), ({"login": " "}, "API Key"), ({"password": ""}, "Access Token")],
)
def test_missing_credentials(fields: dict[str, Any], label: str) -> None:
    """What is missing is called what the form calls it."""
    with pytest.raises(ConfigurationError, match=f"has no {label}"):
        settings(**fields)


@pytest.mark.parametrize(
    "around", [" {} ", "{}\n", "\t{}\r\n", "\ufeff{}", "{}\u200b", "\u00a0{}\u2060", "\u200e{}"]
)
def test_credentials_lose_what_copy_and_paste_brings(around: str) -> None:
    """White space and characters without width at either end of key and token are not sent."""
    found = settings(login=around.format("key"), password=around.format("token"))
    assert b64decode(found.authorization.removeprefix("Basic ")) == b"key:token"
    assert "token" in found.secrets


def test_host_loses_what_copy_and_paste_brings() -> None:
    """As key and token do."""
    assert settings(host="\ufeffh.example.com\u200b\n").base_url == f"https://h.example.com{API_PATH}"


@pytest.mark.parametrize(
    "inside",
    [
        "to ken",
        "to\nken",
        "to\u200bken",
        "to\x00ken",
        "to\u00a0ken",
        "to\ufe0fken",
        "to\u3164ken",
        "t\uff1aken",
    ],
)
@pytest.mark.parametrize(("field", "label"), [("login", "API Key"), ("password", "Access Token")])
def test_credential_with_white_space_inside_is_refused(field: str, label: str, inside: str) -> None:
    """The field is named, and nothing of the value is shown but that character."""
    with pytest.raises(ConfigurationError, match=f"the {label} .* contains '") as caught:
        settings(**{field: inside})
    assert "ken" not in str(caught.value).replace("token", "").replace("Token", "")


def test_api_key_with_a_colon_is_refused() -> None:
    """Basic authentication would take what follows for the token."""
    with pytest.raises(ConfigurationError, match="API Key .* contains a colon") as caught:
        settings(login="key:secret-part")
    assert "secret-part" not in str(caught.value)
    assert settings(password="to:ken").authorization


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("not json", "not a JSON object"),
        ("[1]", "not a JSON object"),
        ({"request_timeout": "soon"}, "'request_timeout' is 'soon'.* a number above 0"),
        ({"request_timeout": 0}, "above 0"),
        ({"request_timeout": float("nan")}, "above 0"),
        ({"request_timeout": True}, "above 0"),
        ({"max_retries": -1}, "a whole number from 0"),
        ({"max_retries": 1.5}, "a whole number"),
        ({"max_retries": 1e400}, "a whole number"),
        ({"max_requests_per_second": 0}, "above 0"),
        ({"max_requests_per_second": []}, "above 0"),
        ({"ca_bundle": 7}, "has to be text"),
        ({"proxy": "proxy:3128"}, "'proxy' has to be a URL"),
    ],
)
def test_nonsense_extras(extra: Any, words: str) -> None:
    """The extra is named, and what it has to be."""
    with pytest.raises(ConfigurationError, match=words):
        settings(extra=extra if isinstance(extra, str) else json.dumps(extra))


def test_extras() -> None:
    """Numbers may come as text from a form; empty ones count as not given; others are told."""
    given = {
        "request_timeout": "12.5",
        "max_retries": "0",
        "max_requests_per_second": "",
        "ca_bundle": "/ca.pem",
        "proxy": "http://u:p-w@proxy.example.com:3128",
        "request_timout": 3,
    }
    found = settings(extra=json.dumps(given))
    assert (found.request_timeout, found.max_retries, found.max_requests_per_second) == (12.5, 0, None)
    assert found.secrets[2:] == ("p-w",)
    assert (found.ca_bundle, found.proxy) == ("/ca.pem", "http://u:p-w@proxy.example.com:3128")
    assert found.unknown_extras == ("request_timout",)


def test_no_proxy_on_this_machine() -> None:
    """It would get the credentials in the clear."""
    with pytest.raises(ConfigurationError, match="this machine"):
        settings(host="http://127.0.0.1:1", extra=json.dumps({"proxy": "http://proxy:3128"}))


def test_secrets_are_not_in_the_repr() -> None:
    """Nor in a traceback that shows locals by repr."""
    found = repr(settings(password="tok-en", extra=json.dumps({"proxy": "http://u:p-w@proxy:3128"})))
    assert "tok-en" not in found
    assert "Basic" not in found
    assert "p-w" not in found


@pytest.mark.parametrize(
    "uri",
    [
        "mparticle-analytics://key:token@h.example.com:8443",
        "mparticle-analytics://key:token@/?__extra__=%7B%7D&host=x",
    ],
)
def test_a_connection_from_a_uri(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it comes from an environment variable."""
    monkeypatch.setenv("AIRFLOW_CONN_C", uri)
    connection = BaseHook.get_connection("c")
    assert connection.conn_type == "mparticle_analytics"
    found = read_settings(connection)
    assert b64decode(found.authorization.removeprefix("Basic ")) == b"key:token"


def test_the_emulator_from_a_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its http address as the URI has it: quoted, so that it stays in one piece."""
    uri = "mparticle-analytics://key:token@http%3A%2F%2F127.0.0.1%3A8400"
    monkeypatch.setenv("AIRFLOW_CONN_C", uri)
    connection = BaseHook.get_connection("c")
    assert read_settings(connection).base_url == "http://127.0.0.1:8400/service/v1/segments"
