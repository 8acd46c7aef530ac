# SPDX-License-Identifier: Apache-2.0
"""What a person sees and clicks, on each Airflow, and the browser for it."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect, sync_playwright

from tests.system.running_airflow import AIRFLOW_3

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import BrowserContext, Locator, Page

_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]
# Milliseconds; they only bound a test that fails.
PATIENCE = 60_000


@contextmanager
def browsing(profile: str) -> Iterator[BrowserContext]:
    """
    Run Chromium, which finds no host but this machine.

    :param profile: an empty folder.
    """
    chromium = shutil.which("chromium")
    if not chromium:
        raise RuntimeError("Chromium is missing. On Debian: apt-get install chromium")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=chromium, args=_ARGUMENTS, viewport={"width": 1280, "height": 960}
        )
        context.set_default_timeout(PATIENCE)
        yield context
        context.close()


def follow(page: Page, name: str) -> str:
    """
    Click a link that leads to a page of its own and return what the browser asks the internet for, which is not there.

    :param page: where it is.
    :param name: what it says.
    """
    with (
        page.context.expect_page() as opened,
        page.context.expect_event("request", lambda request: request.url.startswith("https:")) as asked,
    ):
        page.get_by_role("link", name=name).click()
    opened.value.close()
    return str(asked.value.url)


def _fill_extras(form: Locator, extras: dict[str, str]) -> None:
    for name, value in extras.items():
        form.locator(f"[name$={name}]").fill(value)


class Airflow3:
    """The pages of Airflow 3."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self._url = page, url

    def open_form(self) -> Locator:
        """Open the form of a new Connection of our type."""
        self.page.goto(f"{self._url}/connections")
        self.page.get_by_role("button", name="Add Connection").click()
        form = self.page.get_by_role("dialog")
        form.get_by_role("combobox").click()
        self.page.keyboard.type("mPart")
        self.page.get_by_role("option", name="mParticle Analytics").click()
        return form

    def open_extras(self) -> None:
        """Show the fields of the extra, and hide the standard ones, as Airflow does."""
        self.page.get_by_role("button", name="Extra Fields", exact=True).click()

    def create(self, conn_id: str, host: str, key: str, token: str, **extras: str) -> None:
        """Fill in the form and save it; this Airflow tests only what is saved."""
        form = self.open_form()
        form.locator("[name=connection_id]").fill(conn_id)
        form.locator("[name=host]").fill(host)
        form.locator("[name=login]").fill(key)
        form.locator("[name=password]").fill(token)
        if form.locator("[name=port]").count():
            form.locator("[name=port]").fill("443")
        if extras:
            self.open_extras()
            _fill_extras(form, extras)
        self._save(form)

    def change_token(self, conn_id: str, token: str) -> None:
        """Edit a Connection."""
        self._row(conn_id).get_by_role("button", name="Edit Connection").click()
        form = self.page.get_by_role("dialog")
        form.locator("[name=password]").fill(token)
        self._save(form)

    def describe(self, conn_id: str, description: str) -> None:
        """Edit a saved Connection's description and nothing else."""
        self.page.goto(f"{self._url}/connections")
        self._row(conn_id).get_by_role("button", name="Edit Connection").click()
        form = self.page.get_by_role("dialog")
        form.locator("[name=description]").fill(description)
        self._save(form)

    def press_test(self, conn_id: str) -> str:
        """Press Test and return the message."""
        with self.page.expect_response("**/connections/test") as response:
            self._row(conn_id).get_by_role("button", name="Test Connection").click()
        found: dict[str, Any] = response.value.json()
        expect(self.page.get_by_text(found["message"]).first).to_be_visible()
        return str(found["message"])

    def open_task(self, dag_id: str, run_id: str, task_id: str) -> Locator:
        """Open a task and return where its state stands."""
        self.page.goto(f"{self._url}/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/details")
        return self.page.locator("body")

    def open_log(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Open a task's log."""
        self.page.goto(f"{self._url}/dags/{dag_id}/runs/{run_id}/tasks/{task_id}")

    def _save(self, form: Locator) -> None:
        form.get_by_role("button", name="Save").click()
        expect(form).to_be_hidden()

    def _row(self, conn_id: str) -> Locator:
        return self.page.get_by_role("row").filter(has_text=conn_id)


class Airflow2:
    """The pages of Airflow 2."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self._url = page, url

    def open_form(self) -> Locator:
        """Open the form of a new Connection of our type."""
        self.page.goto(f"{self._url}/connection/add")
        self.page.locator("#conn_type").select_option(label="mParticle Analytics")
        return self.page.locator("form#model_form")

    def open_extras(self) -> None:
        """Do nothing: all fields are in sight."""

    def create(self, conn_id: str, host: str, key: str, token: str, **extras: str) -> None:
        """Fill in the form; this Airflow tests what is not saved yet."""
        form = self.open_form()
        for name, value in {"conn_id": conn_id, "host": host, "login": key, "password": token}.items():
            form.locator(f"#{name}").fill(value)
        _fill_extras(form, extras)

    def change_token(self, conn_id: str, token: str) -> None:
        """Change what is filled in."""
        self.page.locator("#password").fill(token)

    def describe(self, conn_id: str, description: str) -> None:
        """Edit a saved Connection's description and nothing else."""
        self.page.goto(f"{self._url}/connection/list/")
        row = self.page.get_by_role("row").filter(has_text=conn_id)
        row.locator("a[href*='/connection/edit/']").click()
        self.page.locator("#description").fill(description)
        self.save()

    def press_test(self, conn_id: str) -> str:
        """Press Test and return the message above the form."""
        with self.page.expect_response("**/connections/test") as response:
            self.page.locator("#test-connection").click()
        message = str(response.value.json()["message"])
        expect(self.page.locator(".alert")).to_have_text(message)
        return message

    def save(self) -> None:
        """Save what is filled in."""
        with self.page.expect_navigation():
            self.page.get_by_role("button", name="Save").click()

    def open_task(self, dag_id: str, run_id: str, task_id: str) -> Locator:
        """Open a task and return where its state stands."""
        self.page.goto(f"{self._url}/dags/{dag_id}/grid?dag_run_id={run_id}&task_id={task_id}&tab=details")
        return self.page.get_by_role("row").filter(has_text="Status")

    def open_log(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Open a task's log."""
        self.page.goto(f"{self._url}/dags/{dag_id}/grid?dag_run_id={run_id}&task_id={task_id}&tab=logs")


Pages = Airflow3 if AIRFLOW_3 else Airflow2
