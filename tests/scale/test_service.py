# SPDX-License-Identifier: Apache-2.0
"""The journal that `make scale` reads, of an emulator that is really there."""

from __future__ import annotations

import time

from airflow_provider_segments.emulator import Emulator
from tests.emulator.support import call, finished
from tests.scale.service import Journal, Service


def test_journal() -> None:
    """Exports and requests, on the same clock as Airflow's database."""
    before = time.time()
    with Emulator(bucket=None, export_seconds=0, segments=2) as emulator:
        service = Service("some", int(emulator.url.rpartition(":")[2]), "")
        assert service.answers()
        assert service.journal() == Journal()
        export = finished(emulator)
        call(emulator, "GET", "/list", auth=("somebody", "else"))
        assert service.submitted() == 1
        assert [one["segmentId"] for one in service.segments()] == [s.segment_id for s in emulator.segments]
        journal = service.journal()
    assert not service.answers()
    after = time.time()
    (found,) = journal.exports
    assert (found.export_id, found.segment_id, found.status) == (
        export["exportId"],
        emulator.segments[0].segment_id,
        "COMPLETE",
    )
    requests = [(one.route, one.status, one.export_id) for one in journal.requests]
    id_ = export["exportId"]
    assert requests == [("export", 200, id_), ("status", 200, id_), ("list", 401, None), ("list", 200, None)]
    # Milliseconds are cut off, and the clocks are not read at the same instant.
    for moment in (found.started, found.ended, *(one.time for one in journal.requests)):
        assert moment is not None
        assert before - 1 <= moment <= after + 1


def test_command_line() -> None:
    """It is the emulator's, with the options that are given."""
    service = Service("some", 8400, "http://127.0.0.1:5000")
    service.configure(segments=7, export_seconds="2-90", requests_per_second=None)
    assert service.command[2:] == [
        "airflow_provider_segments.emulator",
        "--port=8400",
        "--s3-endpoint-url=http://127.0.0.1:5000",
        "--segments=7",
        "--export-seconds=2-90",
    ]
    assert service.connection["host"] == "http://127.0.0.1:8400"
