# SPDX-License-Identifier: Apache-2.0
"""The XComs of a task that ends in the triggerer, written as a worker writes them."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_1_PLUS

from airflow_provider_segments.links.user_segments import ExportedFileLink, exported_file_url

__all__ = ["write_xcoms"]


def write_xcoms(task_instance: Any, result: dict[str, Any], keys: list[str] | None) -> None:
    """
    Write a task's result, or only the given keys of it, and its link.

    This blocks: it asks Airflow's supervisor, or its database. TaskSuccessEvent can't do it, as Airflow 3.3 encodes its
    XComs twice.
    """
    # Late: Airflow 2 builds the class from its configuration.
    from airflow.providers.common.compat.sdk import XCom

    names = ("dag_id", "task_id", "run_id", "map_index")
    where = {name: getattr(task_instance, name) for name in names}
    values = result | {"return_value": result}
    for key in values if keys is None else keys:
        if values[key] is None and AIRFLOW_V_3_0_PLUS and not AIRFLOW_V_3_1_PLUS:
            continue  # Airflow 3.0 refuses None, but reads a missing key as None
        XCom.set(key=key, value=values[key], **where)
    if AIRFLOW_V_3_0_PLUS:  # earlier ones read the result when the link is shown
        url = "" if keys == [] else exported_file_url(result)
        # Bypass a custom XCom backend: the API server reads links without it.
        XCom._set_xcom_in_db(key=ExportedFileLink().xcom_key, value=url, **where)
