# SPDX-License-Identifier: Apache-2.0
"""What README and docs show works: code runs, links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

ROOT = Path(__file__).parents[1]
EXAMPLES = str(ROOT / "example_dags")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Its blocks make one DAG, which tests/handoff runs.
ONE_DAG = {"handoff.md"}
BLOCKS = [
    pytest.param(
        code,
        id=f"{page.name}-{number}",
        marks=pytest.mark.skipif(
            "AssetWatcher" in code and not AIRFLOW_V_3_0_PLUS, reason="Airflow 2 has no asset watchers"
        ),
    )
    for page in PAGES
    if page.name not in ONE_DAG
    for number, code in enumerate(
        re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    )
]


@pytest.mark.parametrize("code", BLOCKS)
@pytest.mark.usefixtures("database")
def test_python_runs(code: str, tmp_path: Path) -> None:
    """Every Python block runs as it stands, one with a test in pytest, beside the example DAGs."""
    shown, has_test = tmp_path / "test_shown.py", "\ndef test_" in code
    shown.write_text(code)
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            *(["-m", "pytest", "-p", "no:cacheprovider"] if has_test else []),
            shown,
        ],
        env=os.environ | {"AIRFLOW__CORE__DAGS_FOLDER": EXAMPLES, "PYTHONPATH": EXAMPLES},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not has_test or "1 passed" in done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_shell_parses(page: Path) -> None:
    """Every shell block is shell."""
    for code in re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        subprocess.run(["bash", "-n", "-c", code], check=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    """Every relative link names a file of the project."""
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_make_targets_exist() -> None:
    """Every `make` target the README names is one."""
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`?make ([a-z0-9-]+)", (ROOT / "README.md").read_text()))
    assert named
    assert named <= targets
