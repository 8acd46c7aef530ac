# SPDX-License-Identifier: Apache-2.0
"""The XComs that a trigger writes; tests/system compares them with a worker's on a real Airflow."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import XCom
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_segments.triggers import xcoms


@pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="earlier ones store it")
@pytest.mark.parametrize("refuses_none", [True, False])
def test_key_without_a_value(monkeypatch: pytest.MonkeyPatch, refuses_none: bool) -> None:
    """Airflow 3.0 refuses it, and the task would have to end on a worker."""
    written: dict[str, Any] = {}
    monkeypatch.setattr(XCom, "set", lambda *, key, value, **_: written.update({key: value}))
    monkeypatch.setattr(XCom, "_set_xcom_in_db", lambda **_: None, raising=False)
    monkeypatch.setattr(xcoms, "AIRFLOW_V_3_1_PLUS", not refuses_none)
    instance = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1)
    result = {"export_id": "e", "s3_key": None, "filename": "https://host/f.csv"}
    xcoms.write_xcoms(instance, result, None)
    assert ("s3_key" in written) is not refuses_none
    assert written["return_value"] == result
