# SPDX-License-Identifier: Apache-2.0
"""TLS and HTTP proxies, the same on both transports."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import threading
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
import trustme

from airflow_provider_segments.api.errors import (
    CertificateError,
    ConfigurationError,
    NoAnswerError,
    NotSentError,
)
from airflow_provider_segments.emulator import Emulator, Fault, FaultKind
from airflow_provider_segments.hooks.user_segments import UserSegmentsHook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support import Client, FakeClock


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[tuple[Emulator, str]]:
    """The service over TLS, and the PEM file of a CA that nobody else knows."""
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1", "service.example").configure_cert(context)
    bundle = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(bundle))
    with Emulator(bucket=None, ssl_context=context) as running:
        yield running, str(bundle)


def test_untrusted_certificate(
    client: Client, tls: tuple[Emulator, str], connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS is verified; the message names the setting, and a variable that replaces the usual certificates."""
    connect(tls[0])
    with pytest.raises(
        CertificateError, match="set the Connection's CA bundle .* in addition to Python's own"
    ):
        client.list_segments()
    other = Path(tls[1]).with_name("other.pem")
    trustme.CA().cert_pem.write_to_path(str(other))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
    with pytest.raises(CertificateError, match="in addition to the environment's REQUESTS_CA_BUNDLE"):
        client.list_segments()


@pytest.mark.parametrize(
    ("name", "expires", "advice"),
    [
        ("127.0.0.1", datetime(2020, 1, 1), "Check this machine's clock"),
        ("other.example", None, "another host's"),
    ],
)
def test_certificate_that_no_ca_bundle_mends(
    client: Client,
    connect: Callable[..., None],
    tmp_path: Path,
    name: str,
    expires: datetime | None,
    advice: str,
) -> None:
    """The advice is another one."""
    ca, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name, not_after=expires).configure_cert(context)
    ca.cert_pem.write_to_path(bundle := str(tmp_path / "ca.pem"))
    with Emulator(bucket=None, ssl_context=context) as running:
        connect(running, extra={"ca_bundle": bundle})
        with pytest.raises(CertificateError, match=advice) as caught:
            client.list_segments()
    assert "CA bundle" not in str(caught.value)


def test_ca_bundle(client: Client, tls: tuple[Emulator, str], connect: Callable[..., None]) -> None:
    """A company's own CA can be trusted."""
    connect(tls[0], extra={"ca_bundle": tls[1]})
    assert len(client.list_segments()) == 3


def test_ca_bundle_that_is_not_there(
    client: Client, connected: Emulator, connect: Callable[..., None]
) -> None:
    """The path is named."""
    connect(connected, extra={"ca_bundle": "/nowhere/ca.pem"})
    with pytest.raises(ConfigurationError, match="/nowhere/ca.pem"):
        client.list_segments()


@pytest.fixture
def hanging_up() -> Iterator[int]:
    """A server that hangs up in the TLS handshake."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connection.recv(1)
                connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def test_handshake_cut(
    client: Client, connected: Emulator, connect: Callable[..., None], clock: FakeClock, hanging_up: int
) -> None:
    """A TLS handshake that is cut counts as not connected, and is tried again."""
    connect(connected, host=f"https://127.0.0.1:{hanging_up}", extra={"max_retries": 2})
    with pytest.raises(NotSentError, match="could not connect"):
        client.list_segments()
    assert len(clock.sleeps) == 2


def test_post_is_repeated_after_a_cut_handshake(
    connected: Emulator, connect: Callable[..., None], clock: FakeClock, hanging_up: int
) -> None:
    """In a handshake nothing of the request was sent: the POST is tried again."""
    connect(connected, host=f"https://127.0.0.1:{hanging_up}", extra={"max_retries": 2})
    client = UserSegmentsHook()
    client.clock = clock
    with pytest.raises(NotSentError):
        client.request_export("some-segment")
    assert len(clock.sleeps) == 2


ProxyAnswer = Literal["tunnel", "refusal", "silence"]


class ConnectProxy:
    """An HTTP proxy that opens tunnels, refuses to, or says nothing."""

    def __init__(self, answer: ProxyAnswer) -> None:
        self._answer = answer
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._tunnel, args=(client,), daemon=True).start()

    def _tunnel(self, client: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += client.recv(4096)
        if self._answer == "silence":
            client.recv(1)  # until the client leaves
            client.close()
            return
        if self._answer == "refusal":
            client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            client.close()
            return
        port = int(request.split()[1].rpartition(b":")[2])
        service = socket.create_connection(("127.0.0.1", port))
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        threading.Thread(target=self._pump, args=(service, client), daemon=True).start()
        self._pump(client, service)

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def behind_proxy(
    tls: tuple[Emulator, str], connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Emulator]]:
    """Make a Connection to the service through a proxy. The service's name is no loopback one, its address is."""
    proxies: list[ConnectProxy] = []

    def through(answer: ProxyAnswer, **extra: float) -> Emulator:
        proxy = ConnectProxy(answer)
        proxies.append(proxy)
        # As an environment often has it: without a scheme.
        monkeypatch.setenv("HTTPS_PROXY", f"user:pass-word@127.0.0.1:{proxy.port}")
        port = tls[0].url.rpartition(":")[2]
        connect(tls[0], host=f"https://service.example:{port}", extra={"ca_bundle": tls[1], **extra})
        return tls[0]

    yield through
    for proxy in proxies:
        proxy.close()


def test_through_a_proxy(client: Client, behind_proxy: Callable[..., Emulator]) -> None:
    """The environment's proxy is used by both transports."""
    service = behind_proxy("tunnel")
    assert len(client.list_segments()) == 3
    assert len(service.requests) == 1


def test_proxy_that_refuses(client: Client, behind_proxy: Callable[..., Emulator]) -> None:
    """Nothing was sent, and the proxy's password is not shown."""
    behind_proxy("refusal")
    with pytest.raises(NotSentError, match="407") as caught:
        client.list_segments()
    assert "pass-word" not in str(caught.value)


def test_proxy_that_says_nothing(client: Client, behind_proxy: Callable[..., Emulator]) -> None:
    """The request timeout bounds that too, so that no wait hangs and keeps a connection from others."""
    behind_proxy("silence", request_timeout=0.3, max_retries=0)
    with pytest.raises(NotSentError):
        client.list_segments()


def test_post_through_a_proxy_is_not_repeated(
    behind_proxy: Callable[..., Emulator], clock: FakeClock
) -> None:
    """An answer that is lost behind a proxy is as lost as any."""
    service = behind_proxy("tunnel")
    service.inject(Fault(FaultKind.CUT_AFTER, on="export", times=None))
    client = UserSegmentsHook()
    client.clock = clock
    with pytest.raises(NoAnswerError, match="may have started"):
        client.request_export(service.segments[0].segment_id)
    assert len(service.submissions) == 1


def hashed_directory(folder: Path, pem: str) -> Path:
    """Make a directory as `openssl rehash` does."""
    command = ["openssl", "x509", "-hash", "-noout", "-in", pem]
    name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    folder.mkdir()
    (folder / f"{name}.0").symlink_to(pem)
    return folder


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_ca_bundle_of_the_environment_is_trusted(
    client: Client,
    tls: tuple[Emulator, str],
    connect: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    """As requests, curl and OpenSSL read it."""
    monkeypatch.setenv(variable, tls[1])
    connect(tls[0])
    assert len(client.list_segments()) == 3


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", None])
def test_ca_directory_is_trusted(
    client: Client,
    tls: tuple[Emulator, str],
    connect: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variable: str | None,
) -> None:
    """A directory of hashed certificates does as well as a file, in the environment and in the Connection."""
    directory = str(hashed_directory(tmp_path / "certs", tls[1]))
    if variable == "SSL_CERT_DIR":  # OpenSSL takes several, beside a file, and leaves out what is not there
        directory = os.pathsep.join(["/nowhere", str(tmp_path), directory, ""])
        trustme.CA().cert_pem.write_to_path(str(tmp_path / "usual.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "usual.pem"))
    connect(tls[0], extra={} if variable else {"ca_bundle": directory})
    if variable:
        monkeypatch.setenv(variable, directory)
    assert len(client.list_segments()) == 3


@pytest.mark.parametrize("unusable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_half_of_what_openssl_reads_is_enough(
    client: Client,
    tls: tuple[Emulator, str],
    connect: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    unusable: str,
) -> None:
    """Some distributions set both variables, one of them to what is not there or has no hashed names."""
    directory = hashed_directory(tmp_path / "certs", tls[1])
    monkeypatch.setenv("SSL_CERT_FILE", tls[1])
    monkeypatch.setenv("SSL_CERT_DIR", str(directory))
    monkeypatch.setenv(unusable, str(tmp_path) if unusable == "SSL_CERT_DIR" else "/nowhere/ca.pem")
    connect(tls[0])
    assert len(client.list_segments()) == 3


def test_ca_bundle_is_trusted_in_addition(
    client: Client,
    tls: tuple[Emulator, str],
    connect: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A company's CA does not replace those that this machine trusts anyway."""
    company = tmp_path / "company.pem"
    trustme.CA().cert_pem.write_to_path(str(company))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", tls[1])
    connect(tls[0], extra={"ca_bundle": str(company)})
    assert len(client.list_segments()) == 3


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "openssl rehash"), (b"", "can't be read"), (b"\x30\x82not PEM", "can't be read")],
)
def test_ca_bundle_that_holds_none_is_refused(
    client: Client,
    connected: Emulator,
    connect: Callable[..., None],
    tmp_path: Path,
    content: bytes | None,
    words: str,
) -> None:
    """A directory without hashed names, an empty file and a DER file would all trust nobody."""
    path = tmp_path / "ca"
    path.mkdir() if content is None else path.write_bytes(content)
    connect(connected, extra={"ca_bundle": str(path)})
    with pytest.raises(ConfigurationError, match=f"The Connection's CA bundle .*{words}"):
        client.list_segments()
    assert connected.requests == []


def test_ca_bundle_of_the_environment_that_is_not_there_is_named(
    client: Client, connected: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which variable it comes from is what the reader needs to know."""
    for path in ("/nowhere/ca.pem", "~nobody-here/ca.pem"):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", path)
        with pytest.raises(ConfigurationError, match=f"environment's REQUESTS_CA_BUNDLE '{path}'"):
            client.list_segments()
