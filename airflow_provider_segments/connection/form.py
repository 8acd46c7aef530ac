# SPDX-License-Identifier: Apache-2.0
"""What the Connection's form shows. Light to import: Airflow reads the provider metadata at each start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

DEFAULT_RETRIES = 5

#: mParticle's page uses this host in its examples, and query.indicative.mparticle.com in one.
DEFAULT_HOST = "query.indicative.com"


@dataclass(frozen=True)
class ExtraField:
    """A field of the form that is kept in the Connection's extra."""

    label: str
    kind: Literal["integer", "number", "string"]  # its type in JSON
    default: int | float | None
    description: str
    secret: bool = False  # may hold a password, so the form hides it


EXTRA_FIELDS: dict[str, ExtraField] = {
    "request_timeout": ExtraField(
        "Request timeout (s)", "number", 30, "Seconds one request to the service may take. Default: 30."
    ),
    "max_retries": ExtraField(
        "Retries",
        "integer",
        DEFAULT_RETRIES,
        "Retries of a call on a worker. Waits in the triggerer retry until their deadline. Default: 5.",
    ),
    "max_requests_per_second": ExtraField(
        "Rate limit",
        "number",
        None,
        "Maximum requests a second of one process. Empty: learned from the service's 429s.",
    ),
    "ca_bundle": ExtraField(
        "CA bundle",
        "string",
        None,
        "Path to a PEM file or hashed directory of additional trusted CAs, on workers and triggerers.",
    ),
    "proxy": ExtraField(
        "Proxy",
        "string",
        None,
        "URL of an HTTP proxy. Empty: the environment's (HTTPS_PROXY).",
        secret=True,
    ),
}


# The Test button of these sends port 0 for an empty port, and their server refuses it (apache/airflow#73298).
_TEST_NEEDS_A_PORT = ("3.3.1", "3.3.2")


def ui_field_behaviour() -> dict[str, Any]:
    """Return how the standard fields look, spelled as in the hook's method."""
    from airflow import __version__
    from packaging.version import Version

    source = "from the Project Page of mParticle Analytics"
    behaviour: dict[str, Any] = {
        # Each extra has a field of its own. Airflow 3 shows the raw extra all the same.
        "hidden_fields": ["schema", "port", "extra"],
        "relabeling": {"host": "Host", "login": "API Key", "password": "Access Token"},
        "placeholders": {"host": DEFAULT_HOST, "login": source, "password": source},
    }
    if Version(__version__).base_version in _TEST_NEEDS_A_PORT:  # vendors append to the version
        behaviour["hidden_fields"].remove("port")
        behaviour["placeholders"]["port"] = "443, for the Test button of this Airflow; else empty"
    return behaviour


def conn_fields() -> dict[str, dict[str, Any]]:
    """Return the extra fields for the provider metadata, where Airflow 3.2 and later find them."""
    fields = {}
    for name, field in EXTRA_FIELDS.items():
        schema: dict[str, Any] = {"type": [field.kind, "null"]}
        if field.default is not None:
            schema["default"] = field.default
        if field.secret:
            schema["format"] = "password"
        fields[name] = {"label": field.label, "description": field.description, "schema": schema}
    return fields


def widgets() -> dict[str, Any]:
    """Return the extra fields for the hook's method, which Airflow below 3.2 calls."""
    from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget
    from flask_babel import lazy_gettext
    from wtforms import PasswordField, StringField
    from wtforms.validators import Optional, Regexp

    # Numbers are text fields: Airflow 2 would show a 0 as an empty field, and save it so.
    forms = {
        "integer": [Regexp(r"\s*\d+\s*$", message="It has to be a whole number from 0.")],
        "number": [Regexp(r"\s*\d*\.?\d+\s*$", message="It has to be a number.")],
        "string": [],
    }
    # Airflow 2 treats an empty field as cleared, so the field has to contain its value. The stand-in class of
    # Airflow 3.0 and 3.1 takes no argument.
    hidden = BS3PasswordFieldWidget()
    hidden.hide_value = False
    return {
        name: (PasswordField if field.secret else StringField)(
            lazy_gettext(field.label),
            widget=hidden if field.secret else BS3TextFieldWidget(),
            description=field.description,
            default=None if field.default is None else str(field.default),
            validators=[Optional(), *forms[field.kind]],
        )
        for name, field in EXTRA_FIELDS.items()
    }
