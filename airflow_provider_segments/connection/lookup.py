# SPDX-License-Identifier: Apache-2.0
"""Look up a Connection in Airflow and have its secrets masked in every log."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowNotFoundException,
    BaseHook,
    mask_secret,
)
from asgiref.sync import sync_to_async

from airflow_provider_segments.api.errors import ConfigurationError, ConnectionLookupError, UserSegmentsError
from airflow_provider_segments.connection.form import EXTRA_FIELDS
from airflow_provider_segments.connection.settings import HOOK_NAME, Settings, read_settings

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

log = logging.getLogger(__name__)


def get_settings(conn_id: str) -> Settings:
    """Return the settings of a Connection, or raise ConnectionLookupError or ConfigurationError."""
    _check_id(conn_id)
    try:
        connection = BaseHook.get_connection(conn_id)
    except Exception as error:
        raise _lookup_error(conn_id, error) from error
    return _masked_settings(connection)


async def get_settings_async(conn_id: str) -> Settings:
    """Do the same without blocking the event loop."""
    _check_id(conn_id)
    try:
        connection = await get_async_connection(conn_id)
    except Exception as error:
        raise _lookup_error(conn_id, error) from error
    # Masking calls Airflow's supervisor, which blocks. Outside `sync_to_async`, Airflow 3.0 mixes up the answers, and
    # its triggerer exits.
    return await sync_to_async(_masked_settings)(connection)


def _check_id(conn_id: object) -> None:
    if not isinstance(conn_id, str) or not conn_id:
        raise ConfigurationError(
            f"mparticle_conn_id is {conn_id!r}, but it has to be the id of a Connection."
        )


def _masked_settings(connection: Connection) -> Settings:
    settings = read_settings(connection)
    for secret in settings.secrets:
        mask_secret(secret)
    if settings.unknown_extras:
        log.warning(
            "Connection %r has unknown extras, which are ignored: %s. Known are: %s.",
            connection.conn_id,
            ", ".join(settings.unknown_extras),
            ", ".join(EXTRA_FIELDS),
        )
    return settings


def _lookup_error(conn_id: str, error: Exception) -> UserSegmentsError:
    """Return the error for whatever Airflow, its database or a secrets backend has raised."""
    kind = ""
    if not isinstance(error, AirflowNotFoundException):
        kind = f" ({type(error).__name__})"  # not its text, which may show where the secrets are
        log.warning("The look-up of Connection %r failed.", conn_id, exc_info=error)
    if isinstance(error, PermissionError):  # of Airflow 3.2 and later
        return ConfigurationError(f"Airflow denies this task access to Connection {conn_id!r}{kind}.")
    variable = f"AIRFLOW_CONN_{conn_id.upper()}"
    if variable in os.environ and isinstance(error, AirflowException | ValueError | TypeError):
        return ConfigurationError(
            f"Airflow can't read the environment variable {variable} as a Connection{kind}. Write it as JSON, or as a "
            "URI whose special characters are percent-encoded."
        )
    # Airflow accepts other names too; a shell does not.
    instead = f", or set the environment variable {variable} on workers and triggerers"
    return ConnectionLookupError(
        f"Connection {conn_id!r} does not exist, or Airflow could not look it up{kind}. Create it under Admin > "
        f"Connections with the type {HOOK_NAME!r}{instead if variable.isidentifier() else ''}."
    )
