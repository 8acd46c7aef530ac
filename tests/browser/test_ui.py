# SPDX-License-Identifier: Apache-2.0
"""A person meets this provider in a browser: the form, its Test button, a run, its links, its log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from airflow_provider_segments.connection.form import EXTRA_FIELDS, ui_field_behaviour
from airflow_provider_segments.emulator import Fault, FaultKind
from airflow_provider_segments.links.user_segments import ExportedFileLink
from tests.browser.pages import follow
from tests.system.conftest import TOKEN
from tests.system.running_airflow import AIRFLOW_3

if TYPE_CHECKING:
    from tests.browser.pages import Airflow2, Airflow3
    from tests.system.conftest import System

pytestmark = pytest.mark.system

KEY = "emulator-key"
DAG_ID, RUN_ID, TASK_ID = "example_export_segment", "seen", "export_segment"


def test_form(ui: Airflow2 | Airflow3) -> None:
    """Fields have our names, the token is masked, the extra has fields with defaults and help."""
    form = ui.open_form()
    for label in ("Host", "API Key", "Access Token"):
        expect(form.get_by_text(label, exact=True)).to_be_visible()
    expect(form.locator("[name=host]")).to_have_attribute("placeholder", "query.indicative.com")
    expect(form.locator("[name=password]")).to_have_attribute("type", "password")
    port = form.locator("[name=port]:visible")
    expect(port).to_have_count(0 if "port" in ui_field_behaviour()["hidden_fields"] else 1)
    for hidden in ("schema", *(() if AIRFLOW_3 else ("extra",))):  # Airflow 3 folds the extra's JSON
        expect(form.locator(f"[name={hidden}]:visible")).to_have_count(0)
    ui.open_extras()
    for name, field in EXTRA_FIELDS.items():
        expect(form.get_by_text(field.label, exact=True)).to_be_visible()
        expect(form.get_by_text(field.description)).to_be_visible()
        default = "" if field.default is None else str(field.default)
        expect(form.locator(f"[name$={name}]")).to_have_value(default)
        if field.secret:
            expect(form.locator(f"[name$={name}]")).to_have_attribute("type", "password")


def test_test_button(ui: Airflow2 | Airflow3, system: System) -> None:
    """Each failure says what is wrong, and none shows the token."""
    service = system.service
    ui.create("tested", service.url, KEY, "wrong-" + TOKEN)
    messages = [ui.press_test("tested")]
    assert "HTTP 401: the API key or the access token is wrong" in messages[0]
    ui.change_token("tested", TOKEN)
    assert ui.press_test("tested") == "Connected. The project has 20 segments."
    for kind, words in ((FaultKind.FORBIDDEN, "HTTP 403"), (FaultKind.HTML, "Not the API. ")):
        service.inject(Fault(kind))
        messages.append(ui.press_test("tested"))
        assert words in messages[-1]
    service.pause("refuse")
    try:
        messages.append(ui.press_test("tested"))
    finally:
        service.resume()
    assert messages[-1].startswith("Unreachable.")
    assert TOKEN not in "".join(messages)


def test_edit(ui: Airflow2 | Airflow3, system: System) -> None:
    """Whoever edits one field of a saved Connection keeps the others, even a 0 and a hidden one."""
    proxy = "http://user:p-w@proxy.example.com:3128"
    ui.create("edited", "h.example.com", KEY, TOKEN, max_retries="0", proxy=proxy)
    if not AIRFLOW_3:
        ui.save()  # type: ignore[union-attr]
    expected = {"request_timeout": "30", "max_retries": "0", "proxy": proxy}
    assert saved_extras(system, "edited") == expected
    ui.describe("edited", "Changed")
    assert saved_extras(system, "edited") == expected


def saved_extras(system: System, conn_id: str) -> dict[str, str]:
    """Return the fields of the extra that are not empty."""
    (saved,) = json.loads(system.airflow.cli("connections", "get", conn_id, "--output", "json"))
    assert saved["password"] == TOKEN
    return {name: str(value) for name, value in saved["extra_dejson"].items() if value not in (None, "")}


def test_run(ui: Airflow2 | Airflow3, system: System) -> None:
    """Save a Connection with settings, run an example, see it wait and end, follow its links, read its log."""
    conn_id = "mparticle_analytics_default"
    ui.create(conn_id, system.service.url, KEY, TOKEN, max_requests_per_second="50", max_retries="2")
    if not AIRFLOW_3:
        ui.save()  # type: ignore[union-attr]
    expected = {"request_timeout": "30", "max_retries": "2", "max_requests_per_second": "50"}
    assert saved_extras(system, conn_id) == expected
    system.airflow.trigger(DAG_ID, RUN_ID)
    system.airflow.wait_until_deferred(DAG_ID, RUN_ID, **{TASK_ID: 1})
    state = ui.open_task(DAG_ID, RUN_ID, TASK_ID)
    expect(state).to_contain_text("deferred", ignore_case=True)
    # Airflow 2 shows it in grey from the start.
    links = ui.page.locator("a:not([disabled])")
    expect(links.filter(has_text=ExportedFileLink.name)).to_have_count(0)
    (export_id,) = system.pending()
    system.end_all()
    assert system.airflow.wait_for_run(DAG_ID, RUN_ID) == "success", system.airflow.task_logs()
    state = ui.open_task(DAG_ID, RUN_ID, TASK_ID)
    expect(state).to_contain_text("success", ignore_case=True)
    file = f"https://console.aws.amazon.com/s3/object/upload-bucket?prefix=path/to/{export_id}.csv"
    assert follow(ui.page, ExportedFileLink.name) == file
    ui.open_log(DAG_ID, RUN_ID, TASK_ID)
    expect(ui.page.get_by_text(f"Complete: export {export_id}").first).to_be_visible()
    expect(ui.page.get_by_text("Details of the export").first).to_be_visible()
    expect(ui.page.get_by_text(f"s3_key: path/to/{export_id}.csv")).not_to_be_visible()
    expect(ui.page.get_by_text(TOKEN)).to_have_count(0)
