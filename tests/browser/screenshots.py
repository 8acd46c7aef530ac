# SPDX-License-Identifier: Apache-2.0
"""``make screenshots``: take the pictures in docs/images, on Airflow 3."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from moto.server import ThreadedMotoServer
from playwright.sync_api import expect
from rich.console import Console
from rich.text import Text

from tests.browser.pages import Airflow3, browsing
from tests.system.conftest import running_system

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.system.conftest import System

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
MANY, RUN_ID = "example_export_many_segments", "nightly"


def connection_form(ui: Airflow3) -> None:
    """Take the form, filled in, with its extra fields."""
    ui.page.set_viewport_size({"width": 1180, "height": 1140})
    form = ui.open_form()
    form.locator("[name=connection_id]").fill("mparticle_analytics_default")
    form.locator("[name=login]").fill("the-key-of-your-project")
    form.locator("[name=password]").fill("not-a-real-token-at-all")
    form.get_by_text("Add Connection").click()
    ui.page.wait_for_timeout(500)  # the list of types fades out
    form.screenshot(path=IMAGES / "connection-form.png")
    ui.open_extras()
    expect(form.get_by_text("Proxy", exact=True)).to_be_visible()
    ui.page.wait_for_timeout(500)  # the section unfolds
    form.screenshot(path=IMAGES / "connection-form-extra.png")


def mapped_grid(ui: Airflow3, system: System) -> None:
    """Take a run whose exports all wait in the triggerer."""
    system.airflow.trigger(MANY, RUN_ID)
    system.airflow.wait_until_deferred(MANY, RUN_ID, export_segment=20)
    ui.page.set_viewport_size({"width": 1280, "height": 800})
    ui.page.goto(f"{system.airflow.url}/dags/{MANY}/runs/{RUN_ID}/tasks/export_segment/mapped")
    expect(ui.page.get_by_role("row").filter(has_text="Deferred").first).to_be_visible()
    ui.page.wait_for_timeout(1000)  # the grid moves into place
    ui.page.screenshot(path=IMAGES / "mapped-run.png")
    system.end_all()
    assert system.airflow.wait_for_run(MANY, RUN_ID) == "success", system.airflow.task_logs()


def log(ui: Airflow3) -> None:
    """Take the log of one of its tasks."""
    ui.page.set_viewport_size({"width": 1680, "height": 600})  # its lines are long
    ui.open_log(MANY, RUN_ID, "export_segment/mapped/0")
    expect(ui.page.get_by_text("Details of the export").first).to_be_visible()
    ui.page.wait_for_timeout(1000)  # the grid moves into place
    ui.page.screenshot(path=IMAGES / "log.png")


def terminal(page: Page, command: list[str], shown: str, to: Path) -> None:
    """Run a command and take what a terminal shows of it."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"FORCE_COLOR": "1", "COLUMNS": "110"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    # A pipe, and no other output, so that nothing is shown twice.
    console = Console(record=True, width=110, file=Path(os.devnull).open("w"))  # noqa: SIM115
    console.print(f"[bold]$ {shown}[/]", highlight=False)
    console.print(Text.from_ansi(done.stdout.rstrip()))
    page.set_content(f"<body style='margin:0'>{console.export_svg(title=shown)}</body>")
    page.locator("svg").first.screenshot(path=to)


def main() -> None:
    """Take all pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix="segments-pictures-"))
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with browsing(str(root / "profile")) as context:
        page = context.new_page()
        with running_system(root / "system", f"http://{host}:{port}", ui=True) as system:
            ui = Airflow3(page, system.airflow.url)
            connection_form(ui)
            mapped_grid(ui, system)
            log(ui)
        page.set_viewport_size({"width": 1280, "height": 800})
        terminal(page, [sys.executable, "-m", "tests.system.demo"], "make demo", IMAGES / "demo.png")
    server.stop()


if __name__ == "__main__":
    main()
