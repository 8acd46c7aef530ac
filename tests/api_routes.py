# SPDX-License-Identifier: Apache-2.0
"""Importing this makes the routes of Airflow 3's task execution API, as `dags test` does: it takes seconds."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS


def make_routes() -> None:
    """Make the API server's application once for all processes that are forked from this one; each uses it once."""
    from airflow.api_fastapi.execution_api import app as module

    app: Any = module.create_task_execution_api_app()
    app._cadwyn_initialize()

    def create(lifespan: Any = app.router.lifespan_context) -> Any:
        app.router.lifespan_context = lifespan
        return app

    module.create_task_execution_api_app = create


if AIRFLOW_V_3_0_PLUS:
    make_routes()
