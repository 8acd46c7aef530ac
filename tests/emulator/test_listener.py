# SPDX-License-Identifier: Apache-2.0
"""Outages, HTTPS, and control over HTTP."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from airflow_provider_segments.emulator import Emulator, Fault, FaultKind
from tests.emulator.support import call, finished, submit

if TYPE_CHECKING:
    from pathlib import Path


def test_outage_refuses_and_ends_on_the_same_port(bare: Emulator) -> None:
    """An outage cuts what is open, refuses connections, and ends where it began."""
    url, port = bare.url, int(bare.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as idle, requests.Session() as session:
        session.get(f"{url}/_emulator/state", timeout=10)
        bare.pause()
        bare.pause()
        assert idle.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=10)
        bare.resume()
        bare.resume()
    assert bare.url == url
    assert call(bare, "GET", "/list").status_code == 200


def test_stopping_during_an_outage_gives_up_the_port() -> None:
    """After the end the port is free, whatever state it was in."""
    with Emulator(bucket=None) as emulator:
        emulator.pause()
    port = int(emulator.url.rpartition(":")[2])
    with Emulator(bucket=None, port=port) as other:
        assert call(other, "GET", "/list").status_code == 200
        with pytest.raises(OSError, match="in use"), Emulator(bucket=None, port=port):
            pass


def test_silent_outage_answers_nothing(bare: Emulator) -> None:
    """In a silent outage requests arrive and stay unanswered."""
    bare.pause("silence")
    with pytest.raises(requests.ReadTimeout):
        submit(bare, timeout=0.2)
    bare.resume()
    assert submit(bare).status_code == 200
    assert [record.status for record in bare.requests] == [None, 200]
    assert len(bare.submissions) == 1


def test_unknown_outage_is_refused(bare: Emulator) -> None:
    """A mistyped outage is refused, and nothing happens."""
    with pytest.raises(ValueError, match="refsue"):
        bare.pause("refsue")  # type: ignore[arg-type]
    assert call(bare, "GET", "/list").status_code == 200


def certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "emulator")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    signed = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "emulator.pem"
    path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return path


def test_https_has_cuts_and_outages_too(tmp_path: Path) -> None:
    """The emulator serves HTTPS with a certificate given, and cuts and outages work there too."""
    path = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    with Emulator(bucket=None, ssl_context=context) as emulator:
        assert emulator.url.startswith("https://127.0.0.1:")
        assert call(emulator, "GET", "/list", verify=str(path)).status_code == 200
        with pytest.raises(requests.exceptions.SSLError):
            call(emulator, "GET", "/list")
        assert emulator.connections == 2
        emulator.inject(Fault(FaultKind.CUT_AFTER))
        with pytest.raises(requests.ConnectionError):
            submit(emulator, verify=str(path))
        assert len(emulator.submissions) == 1
        emulator.pause()
        with pytest.raises(requests.ConnectionError, match="refused"):
            submit(emulator, verify=str(path))
        emulator.resume()
        assert submit(emulator, verify=str(path)).status_code == 200


def test_control_shows_the_state_and_sets_faults(bare: Emulator) -> None:
    """A process next door reads the state and sets faults over HTTP."""
    control = f"{bare.url}/_emulator"
    export = finished(bare)
    state = requests.get(f"{control}/state", timeout=10).json()
    assert state["requests"] == {"export": 1, "status": 1}
    assert state["exports"] == {"COMPLETE": 1}
    assert state["connections"] == 3
    assert [s["export_id"] for s in state["submissions"]] == [export["exportId"]]
    fault = {"kind": "unavailable", "times": None}
    assert requests.post(f"{control}/faults", json=fault, timeout=10).status_code == 201
    assert call(bare, "GET", "/list").status_code == 503
    assert requests.delete(f"{control}/faults", timeout=10).status_code == 200
    assert call(bare, "GET", "/list").status_code == 200
    before = bare.segments[0].last_run
    assert requests.post(f"{control}/refresh", timeout=10).status_code == 200
    assert bare.segments[0].last_run != before
    assert requests.post(f"{control}/refresh?segment_id=unknown", timeout=10).status_code == 404


@pytest.mark.parametrize("body", ["{", "[]", "{}", '{"kind": "x"}', '{"kind": "html", "tiems": 1}'])
def test_control_refuses_what_is_no_fault(bare: Emulator, body: str) -> None:
    """A fault that is none is refused with a reason."""
    answer = requests.post(f"{bare.url}/_emulator/faults", data=body, timeout=10)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_journal_over_http(bare: Emulator) -> None:
    """Another process sees each request and each export."""
    export = finished(bare)
    call(bare, "GET", "/export/unknown")
    seen = requests.get(f"{bare.url}/_emulator/requests", timeout=10).json()
    assert [(one["route"], one["status"]) for one in seen] == [
        ("export", 200),
        ("status", 200),
        ("status", 404),
    ]
    assert seen[0]["export_id"] == seen[1]["export_id"] == export["exportId"]
    assert requests.get(f"{bare.url}/_emulator/exports", timeout=10).json() == [export]
