# SPDX-License-Identifier: Apache-2.0
"""
A local stand-in for the User Segments Export API, for demos and tests.

It imitates the service, so it shares no code with the client in the rest of this package.
"""

from __future__ import annotations

from airflow_provider_segments.emulator._emulator import Emulator
from airflow_provider_segments.emulator._exports import RequestRecord, Submission
from airflow_provider_segments.emulator._faults import Fault, FaultKind
from airflow_provider_segments.emulator._segments import EmulatedSegment

__all__ = ["EmulatedSegment", "Emulator", "Fault", "FaultKind", "RequestRecord", "Submission"]
