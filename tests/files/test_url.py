# SPDX-License-Identifier: Apache-2.0
"""Reading a URL that carries its own permission: whole or not at all, no credential sent, no query shown."""

from __future__ import annotations

import gzip
import logging
import time
from collections import Counter
from contextlib import suppress
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_segments.api.errors import FileTransferError, RefusedError
from airflow_provider_segments.connection.settings import Settings, read_settings
from airflow_provider_segments.files.source import Source
from airflow_provider_segments.files.url import _target_of, open_url
from tests.support import FakeClock, answering, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BODY = b"user_id\n" + b"x" * 300_000
PACKED = gzip.compress(BODY)
QUERY = "Policy=must-not-be-seen&X-Amz-Signature=must-not-be-seen"


ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>{}</Message><StringToSign>must-not</StringToSign></Error>"
MESSAGES = {
    "expired": "Request has expired",
    "denied": "Access &amp; more denied",
    "early": "Request is not yet valid",
    "headers": "There were headers present in the request which were not signed",
    "policy": "User is not authorized to perform: s3:GetObject with an explicit deny in a VPC endpoint policy",
    "region": "Error parsing the X-Amz-Credential parameter; the region 'us-east-1' is wrong",
    "cut": "Query-string authentication requires the X-Amz-Algorithm parameter",
    "leak": "See https://h/k?X-Amz-Signature=must-not-be-seen",
}
KEPT = {
    "Content-Type": "text/csv; charset=utf-8",
    "Content-Encoding": "gzip",
    "Cache-Control": "private, max-age=60",
    "Content-Disposition": 'attachment; filename="users.csv"',
    "Content-Language": "de",
    "Expires": "Wed, 21 Oct 2037 07:28:00 GMT",
    "x-amz-meta-rows": "1",
    "X-Amz-Meta-City": "K\u00c3\u00b6ln",  # as http.server writes UTF-8
    "X-Amz-Meta-Old": "K\u00f6ln",  # Latin-1
}


# By path: status, body, headers.
ANSWERS: dict[str, Any] = {
    "/whole": (200, BODY),
    "/packed": (200, PACKED, ("Content-Encoding", "gzip")),
    "/kept": (200, PACKED, *KEPT.items()),
    "/short": (200, BODY, ("Content-Length", str(len(BODY) + 1))),
    "/moved": (307, b"", ("Location", f"/whole?{QUERY}"), ("Set-Cookie", "session=1")),
    "/round": (302, b"", ("Location", f"/round?{QUERY}")),
    "/elsewhere": (302, b"", ("Location", f"http://example.com/file?{QUERY}")),
    "/utf-8": (302, b"", ("Location", "/K\u00c3\u00a4ufer.csv")),  # as http.server writes UTF-8
    "/K%C3%A4ufer.csv": (200, BODY),
    "/latin-1": (302, b"", ("Location", "/K\u00e4ufer.csv")),
    "/K%E4ufer.csv": (200, BODY),
    "/throttled": (400, ERROR.format("Throttling", "").encode()),
    "/blanks": (302, b"", ("Location", "/whole \t")),
}


class Host(BaseHTTPRequestHandler):
    """Answers as its path says."""

    def do_GET(self) -> None:
        self.server.seen.append(self.headers)  # type: ignore[attr-defined]
        kind = self.path.split("?")[0]
        if kind.startswith("/error/"):
            _, _, status, code, message = kind.split("/")
            self._answer(int(status), ERROR.format(code, MESSAGES.get(message, message)).encode())
        elif kind.startswith("/busy/") and self.server.busy:  # type: ignore[attr-defined]
            self.server.busy -= 1  # type: ignore[attr-defined]
            code = "SlowDown" if kind == "/busy/503" else ""
            self._answer(int(kind[6:]), ERROR.format(code, "").encode(), ("Retry-After", "7"))
        elif kind.startswith("/busy/"):
            self._answer(200, BODY)
        else:
            self._answer(*ANSWERS.get(kind, (403, b"<Code>AccessDenied</Code>")))

    def _answer(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | dict(headers)).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(autouse=True)
def file_clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """Let waiting take no time."""
    clock = FakeClock()
    monkeypatch.setattr(Source, "clock", clock)
    return clock


@pytest.fixture
def host() -> Iterator[Any]:
    """A host of files, which remembers what headers it got."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Host)
    server.seen, server.busy = [], 0
    server.url = f"http://127.0.0.1:{server.server_port}"
    with serving(server):
        yield server


def settings(**extra: Any) -> Settings:
    """Return settings with credentials that must not be sent."""
    empty = dict.fromkeys(("host", "port", "schema"))
    return read_settings(SimpleNamespace(conn_id="c", login="key", password="token", extra=extra, **empty))


def read(url: str, **extra: Any) -> tuple[bytes, int | None]:
    """Return what came, and how much was announced."""
    with open_url(f"{url}?{QUERY}", settings(**extra)) as source:
        return source.readall(), source.size


def test_whole(host: Any) -> None:
    """All bytes, and how many were announced."""
    assert read(f"{host.url}/whole") == (BODY, len(BODY))


def test_kept_compressed(host: Any) -> None:
    """As it is stored, so that the length tells whether it is whole."""
    assert read(f"{host.url}/packed") == (PACKED, len(PACKED))


def test_redirect_takes_no_credential(host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the Connection's, nor those of .netrc, nor a cookie."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    assert read(f"{host.url}/moved")[0] == BODY
    assert len(host.seen) == 2
    for headers in host.seen:
        assert not {"authorization", "cookie", "referer"} & {name.lower() for name in headers}


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/short", "can't be resumed safely"),
        ("/round", "more than 5 redirects"),
        ("/elsewhere", "example.com/file is refused"),
        ("/gone", "HTTP 403 AccessDenied. It may have expired"),
    ],
)
def test_not_to_be_had(host: Any, path: str, says: str) -> None:
    """It says so without the query, cause included."""
    with pytest.raises(FileTransferError) as caught:
        read(f"{host.url}{path}")
    assert says in str(caught.value)
    assert "must-not" not in str(caught.value)
    assert caught.value.__suppress_context__ or not caught.value.__context__


def test_nothing_is_logged_of_a_query_where_headers_are_odd(caplog: pytest.LogCaptureFixture) -> None:
    """urllib3 warns of what it can't parse, with the URL."""
    answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx-amz-meta-gr\u00f6\u00dfe: 1\r\n\r\nab".encode()
    with answering(answer) as url:
        assert read(url)[0] == b"ab"
    assert "headers" in caplog.text
    assert "must-not" not in caplog.text


def test_nothing_is_logged_of_a_query(host: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Not at DEBUG either, where urllib3 logs each request and each retry."""
    caplog.set_level(logging.DEBUG)
    read(f"{host.url}/moved")
    assert "/whole" in caplog.text
    assert "must-not" not in caplog.text


class Expiring(BaseHTTPRequestHandler):
    """A large file, whose first URL expires while it is read."""

    file = bytes(range(256)) * 80_000
    refused_from = 8 * 1024 * 1024  # at the first URL; what comes before has been read by then
    used: Counter[str]

    def do_GET(self) -> None:
        self.used[self.path] += 1
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        body, status = self.file[int(first) : int(last) + 1 if last else None], 206 if first != "0" else 200
        if int(first) >= self.refused_from and self.path == next(iter(self.used)):
            body, status = ERROR.format("AccessDenied", MESSAGES["expired"]).encode(), 403
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(body) - 1}/{len(self.file)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", '"1"')
        self.end_headers()
        with suppress(OSError):  # the first answer is not read to its end
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def test_api_that_is_away_when_a_url_expires() -> None:
    """It is asked as often as its own rules say, not by each thread and at each retry of the download."""
    asked = []

    def fail() -> str:
        asked.append(1)
        raise RefusedError("a ticket was opened", status=500)

    Expiring.used = Counter()
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Expiring)) as server:
        url = f"http://127.0.0.1:{server.server_port}/f?signature=1"
        with (
            open_url(url, settings(), fail) as source,
            pytest.raises(FileTransferError, match="has expired, and no new one could be obtained: a ticket"),
        ):
            source.readall()
    assert len(asked) == 1


@pytest.mark.parametrize("renewed", [True, False])
def test_url_that_expires_during_the_download(renewed: bool) -> None:
    """The export is asked for another one, and only the rest is read from there."""
    Expiring.used = Counter()
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Expiring)) as server:
        urls = (f"http://127.0.0.1:{server.server_port}/f?signature={number}" for number in count())
        with open_url(next(urls), settings(), (lambda: next(urls)) if renewed else None) as source:
            if renewed:
                assert source.readall() == Expiring.file
                assert len(Expiring.used) > 1
            else:
                with pytest.raises(FileTransferError, match="The URL has expired"):
                    source.readall()


def test_nobody_listens(host: Any, file_clock: FakeClock) -> None:
    """Likewise."""
    host.shutdown()
    host.server_close()
    with pytest.raises(FileTransferError, match=r"/whole can't be read: .*refused") as caught:
        read(f"{host.url}/whole")
    assert len(file_clock.sleeps) == settings().max_retries
    assert "must-not" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://example.com/f", "https://a:b@example.com/f", "https://", "ftp://h/f"]
)
def test_not_asked_for(url: str) -> None:
    """What is not https, or carries a password, is not asked for."""
    with pytest.raises(FileTransferError, match="is refused"):
        read(url)


@pytest.mark.parametrize("path", ["/utf-8", "/latin-1", "/blanks"])
def test_redirect_with_raw_bytes(host: Any, path: str) -> None:
    """They are quoted as they came, as requests and curl do."""
    assert read(f"{host.url}{path}")[0] == BODY


def test_metadata_is_kept(host: Any) -> None:
    """By boto3's names; what is not ASCII as S3 writes it."""
    with open_url(f"{host.url}/kept", settings()) as source:
        found = dict(source.metadata)
    assert found.pop("Expires") == datetime(2037, 10, 21, 7, 28, tzinfo=timezone.utc)
    assert found.pop("Metadata") == {"rows": "1"} | dict.fromkeys(("city", "old"), "=?UTF-8?B?S8O2bG4=?=")
    kept = {name.replace("-", ""): value for name, value in KEPT.items() if name.startswith("C")}
    assert found == kept


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("403/AccessDenied/expired", "The URL has expired"),
        ("400/ExpiredToken/expired", "The URL has expired"),
        ("403/AccessDenied/denied", "may have expired"),
        ("403/AccessDenied/early", "not valid yet"),
        ("403/AccessDenied/headers", "not the one that was signed"),
        ("403/AccessDenied/policy", "A policy forbids it"),
        ("400/AuthorizationQueryParametersError/region", "different region"),
        ("400/AuthorizationQueryParametersError/cut", "not the one that was signed"),
        ("403/SignatureDoesNotMatch/leak", "not the one that was signed"),
        ("403/RequestTimeTooSkewed/", "Set this machine's clock"),
        ("404/NoSuchKey/", "The file is gone"),
        ("301/PermanentRedirect/", "different region"),
        ("400/AuthorizationHeaderMalformed/", "different region"),
        ("403/InvalidAccessKeyId/", "not valid any more"),
        ("418/Teapot/", "HTTP 418 Teapot."),
    ],
)
def test_error_code_decides_the_advice(host: Any, error: str, advice: str) -> None:
    """S3's code is shown, with what to do; its secrets are not."""
    with pytest.raises(FileTransferError) as caught:
        read(f"{host.url}/error/{error}")
    status, code, _ = error.split("/")
    assert f"HTTP {status} {code}" in str(caught.value)
    assert advice in str(caught.value)
    assert "must-not" not in str(caught.value)
    assert len(host.seen) == 1


def test_code_without_advice_is_not_taken_for_an_expired_url(host: Any) -> None:
    """A 403 has many causes."""
    with pytest.raises(FileTransferError, match=r"HTTP 403 KMS.DisabledException\.$"):
        read(f"{host.url}/error/403/KMS.DisabledException/")


@pytest.mark.parametrize(
    "body",
    [
        "<Code>ExpiredToken</Code>",
        "<s3:Error xmlns:s3='x'><s3:Code a='b'>\n ExpiredToken</s3:Code></s3:Error>",
        "<Error><Code><![CDATA[ExpiredToken]]></Code></Error>",
        ERROR.format("ExpiredToken", "").encode("utf-16"),
        ERROR.format("ExpiredToken", "").encode("utf-8-sig"),
    ],
)
def test_error_code_is_found_however_it_is_written(
    host: Any, monkeypatch: pytest.MonkeyPatch, body: str | bytes
) -> None:
    """S3 has imitators."""
    monkeypatch.setitem(ANSWERS, "/odd", (403, body.encode() if isinstance(body, str) else body))
    with pytest.raises(FileTransferError, match="HTTP 403 ExpiredToken. The URL has expired"):
        read(f"{host.url}/odd")


@pytest.mark.parametrize("body", ["<html>Access blocked by ACME proxy</html>", "", '{"error": "blocked"}'])
def test_refusal_that_is_not_of_s3(host: Any, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """It is shown, so that a proxy is recognized."""
    monkeypatch.setitem(ANSWERS, "/odd", (403, body.encode()))
    with pytest.raises(FileTransferError, match="a proxy or a firewall") as caught:
        read(f"{host.url}/odd")
    assert body in str(caught.value)


def test_refusal_that_trickles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its beginning is enough."""
    error = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 900\r\n\r\n<Code>NoSuchKey</Code>"
    with answering(error, *[b" "] * 800, pause=0.1) as url:
        began = time.monotonic()
        with pytest.raises(FileTransferError, match="NoSuchKey"):
            read(f"{url}/k", request_timeout=0.5)
        assert time.monotonic() - began < 60  # of 80


@pytest.mark.parametrize("span", ["Content-Range: bytes 5-8/*", "Content-Range: bytes 0-3/9", "X-Nothing: 1"])
def test_part_that_nobody_asked_for(span: str) -> None:
    """It is not taken for the whole file."""
    part = f"HTTP/1.1 206 Partial Content\r\n{span}\r\nContent-Length: 4\r\n\r\n1,2\n".encode()
    with answering(part) as url, pytest.raises(FileTransferError, match="a part of the file"):
        read(f"{url}/k")


def test_whole_file_as_a_range() -> None:
    """Some servers answer so."""
    answer = b"HTTP/1.1 206 OK\r\nContent-Range: bytes 0-3/4\r\nContent-Length: 4\r\n\r\n1,2\n"
    with answering(answer) as url:
        assert read(f"{url}/k")[0] == b"1,2\n"


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 509, 522, 529, 599])
def test_busy_host_is_asked_again(host: Any, file_clock: FakeClock, status: int) -> None:
    """When it asks for it."""
    host.busy = 2
    assert read(f"{host.url}/busy/{status}")[0] == BODY
    assert len(file_clock.sleeps) == 2
    assert all(7 <= seconds <= 8 for seconds in file_clock.sleeps)


def test_throttling_is_repeated_whatever_its_status(host: Any) -> None:
    """As botocore does."""
    with pytest.raises(FileTransferError, match="Throttling"):
        read(f"{host.url}/throttled")
    assert len(host.seen) == settings().max_retries + 1


def test_redirect_to_an_international_host() -> None:
    """Its name is encoded as IDNA, not quoted as a path is."""
    assert (
        urlsplit(_target_of("https://b\u00c3\u00bccher.example/k\u00c3\u00a4se")).hostname
        == "b\u00fccher.example"
    )


def test_host_that_stays_busy(host: Any) -> None:
    """Ends the try with its code."""
    host.busy = 100
    with pytest.raises(FileTransferError, match="HTTP 503 SlowDown, Retry-After 7 s. Try again"):
        read(f"{host.url}/busy/503")
    assert len(host.seen) == settings().max_retries + 1
