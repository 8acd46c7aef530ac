# SPDX-License-Identifier: Apache-2.0
"""Provider metadata, which Airflow reads through the entry point ``apache_airflow_provider``."""

from __future__ import annotations

from typing import Any

from airflow_provider_segments.connection import form, settings

__all__ = ["get_provider_info"]

_INTEGRATION = "mParticle Analytics"
_PACKAGE = "airflow_provider_segments"


def get_provider_info() -> dict[str, Any]:
    """Return what Airflow's ``provider_info`` schema asks for."""
    return {
        "package-name": "airflow-provider-segments",
        "name": "mParticle Analytics User Segments",
        "description": "Export mParticle Analytics (formerly Indicative) User Segments to Amazon S3.",
        "integrations": [
            {
                "integration-name": _INTEGRATION,
                "external-doc-url": "https://docs.mparticle.com/",
                "tags": ["service"],
            }
        ],
        "hooks": _modules("hooks"),
        "operators": _modules("operators"),
        "sensors": _modules("sensors"),
        "triggers": _modules("triggers", "user_segments", "segment_refresh"),
        "transfers": [
            {
                "source-integration-name": _INTEGRATION,
                "target-integration-name": "Amazon Simple Storage Service (S3)",
                "python-module": f"{_PACKAGE}.transfers.{name}",
            }
            for name in ("user_segment_to_s3", "user_segment_changes_to_s3")
        ],
        "connection-types": [_connection_type()],
        "extra-links": [
            f"{_PACKAGE}.links.user_segments.{name}" for name in ("ExportedFileLink", "S3FileLink")
        ],
        # Read by Airflow 3.2 and later; `python -m airflow_provider_segments` is the same elsewhere.
        "cli": [f"{_PACKAGE}.cli.definition.airflow_commands"],
    }


def _connection_type() -> dict[str, Any]:
    behaviour = form.ui_field_behaviour()
    return {
        "hook-class-name": f"{_PACKAGE}.hooks.user_segments.UserSegmentsHook",
        "connection-type": settings.CONN_TYPE,
        "hook-name": settings.HOOK_NAME,
        "conn-fields": form.conn_fields(),
        "ui-field-behaviour": {
            "hidden-fields": behaviour["hidden_fields"],
            "relabeling": behaviour["relabeling"],
            "placeholders": behaviour["placeholders"],
        },
    }


def _modules(kind: str, *names: str) -> list[dict[str, Any]]:
    modules = [f"{_PACKAGE}.{kind}.{name}" for name in names or ["user_segments"]]
    return [{"integration-name": _INTEGRATION, "python-modules": modules}]
