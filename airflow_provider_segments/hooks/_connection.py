# SPDX-License-Identifier: Apache-2.0
"""From an Airflow Connection to settings whose secrets Airflow masks in every log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import mask_secret

from airflow_provider_segments.api.errors import ConnectionLookupError
from airflow_provider_segments.connection import HOOK_NAME, Settings, read_settings
from airflow_provider_segments.form import EXTRA_FIELDS

if TYPE_CHECKING:
    from airflow_provider_segments.connection import ConnectionLike

__all__ = ["no_such_connection", "settings_of"]


def settings_of(connection: ConnectionLike, log: Any) -> Settings:
    """
    Read a Connection and have its secrets masked.

    :param connection: an Airflow Connection.
    :param log: where extras that mean nothing are told.
    """
    settings = read_settings(connection)
    for secret in settings.secrets:
        mask_secret(secret)
    if settings.unknown_extras:
        log.warning(
            "Connection %r has extras that mean nothing here: %s. Known are: %s.",
            connection.conn_id,
            ", ".join(settings.unknown_extras),
            ", ".join(EXTRA_FIELDS),
        )
    return settings


def no_such_connection(conn_id: str) -> ConnectionLookupError:
    """
    Return the error for a Connection that Airflow does not find, which it also says when it could not look.

    :param conn_id: the one asked for.
    """
    variable = f"AIRFLOW_CONN_{conn_id.upper()}"
    # A shell takes no other name, though Airflow would.
    instead = (
        f", or set the environment variable {variable} on workers and triggerers"
        if variable.isidentifier()
        else ""
    )
    return ConnectionLookupError(
        f"Connection {conn_id!r} does not exist, or Airflow could not look it up. Create it under Admin > Connections "
        f"with the type {HOOK_NAME!r}{instead}."
    )
