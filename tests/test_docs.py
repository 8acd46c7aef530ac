# SPDX-License-Identifier: Apache-2.0
"""What README and docs show works: code runs, links lead somewhere."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import tomllib
from pathlib import Path
from textwrap import dedent

import pytest
import yaml
from airflow.configuration import conf
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_segments.connection.form import DEFAULT_HOST, EXTRA_FIELDS, ui_field_behaviour
from airflow_provider_segments.connection.settings import DEFAULT_CONN_ID
from tests import dag_runs, prose, retry_table

ROOT = Path(__file__).parents[1]
EXAMPLES = str(ROOT / "example_dags")
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
# Its blocks make one DAG, which tests/handoff runs.
ONE_DAG = {"handoff.md"}
# A block in another language would go untested; "text" is what programs print.
CHECKED = {"python", "bash", "json", "yaml", "dockerfile", "text"}
# Blocks that Sphinx carries out when it builds the pages.
DIRECTIVES = {
    *("{eval-rst}", "{image}", "{figure}", "{include}", "{literalinclude}", "{toctree}", "{raw}"),
    *("{note}", "{warning}", "{tip}"),
}


def blocks(page: Path, language: str = r"\S*") -> list[tuple[str, str]]:
    """Return a page's code blocks with their languages, also those that are indented."""
    found = re.findall(
        rf"^ *```({language}) *[^\n]*\n(.*?)^ *```$", page.read_text(), re.DOTALL | re.MULTILINE
    )
    return [(name, dedent(code)) for name, code in found]


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
    for number, (_, code) in enumerate(blocks(page, "python"))
]


@pytest.mark.parametrize("code", BLOCKS)
@pytest.mark.usefixtures("database")
def test_python_runs(code: str, tmp_path: Path) -> None:
    """Every Python block runs as it stands, one with a test in pytest, beside the example DAGs."""
    shown, has_test = tmp_path / "test_shown.py", "\ndef test_" in code
    shown.write_text(code)
    (tmp_path / "conftest.py").write_text(dag_runs.WAIT_FOR_THE_API_SERVER)
    program = ["pytest", "-p", "no:cacheprovider", str(shown)] if has_test else [str(shown)]
    done = dag_runs.LOADED.run(*program, env=dag_runs.environment(EXAMPLES, PYTHONPATH=EXAMPLES))
    assert done.returncode == 0, done.stdout + done.stderr
    assert not has_test or "1 passed" in done.stdout


def test_image_is_of_the_tested_airflow() -> None:
    """The Dockerfile has six instructions that Docker knows, and names the Airflow that the constraints pin."""
    (_, dockerfile), *others = blocks(ROOT / "docs" / "deployment.md", "dockerfile")
    assert not others
    instructions = [line.split(maxsplit=1) for line in dockerfile.splitlines()]
    assert [word for word, _ in instructions] == ["FROM", "ARG", "COPY", "RUN", "ENV", "COPY"]
    pins = (ROOT / "tests" / "constraints" / "airflow-3.3.txt").read_text()
    (airflow,) = re.findall(r"^apache-airflow==(\S+)", pins, re.MULTILINE)
    assert instructions[0][1] == f"apache/airflow:{airflow}"
    assert instructions[1][1] == f"AIRFLOW_VERSION={airflow}"


def test_helm_values_are_of_the_image() -> None:
    """They are YAML of the chart's keys, with that Airflow and the variable that the provider reads."""
    ((_, text),) = blocks(ROOT / "docs" / "deployment.md", "yaml")
    values = yaml.safe_load(text)
    chart = {"defaultAirflowRepository", "defaultAirflowTag", "airflowVersion", "executor", "secret"}
    assert set(values) == chart | {"workers", "triggerer", "config"}
    (_, dockerfile) = blocks(ROOT / "docs" / "deployment.md", "dockerfile")[0]
    assert f"apache/airflow:{values['airflowVersion']}\n" in dockerfile
    (secret,) = values["secret"]
    assert set(secret) == {"envName", "secretName", "secretKey"}
    assert secret["envName"] == f"AIRFLOW_CONN_{DEFAULT_CONN_ID.upper()}"
    for option in values["config"]["core"]:
        assert conf.has_option("core", option)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_shell_parses(page: Path) -> None:
    """Every shell block is shell."""
    for _, code in blocks(page, "bash"):
        subprocess.run(["bash", "-n", "-c", code], check=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_have_a_language(page: Path) -> None:
    """Every block is in a language that is checked, and every JSON block is JSON."""
    assert {language for language, _ in blocks(page)} <= CHECKED | DIRECTIVES
    for _, code in blocks(page, "json"):
        json.loads(code)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pictures_have_a_text(page: Path) -> None:
    """Those who don't see a picture are given its content; so is the diagram's reader."""
    shown = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", page.read_text())
    assert [file for text, file in shown if len(text) < 20] == []
    assert "<desc" in (ROOT / "docs" / "images" / "how-it-works.svg").read_text()


@pytest.mark.parametrize("page", prose.PAGES, ids=lambda page: page.name)
def test_prose(page: Path) -> None:
    """No word that is not to be used, no line over 120 columns but in tables."""
    text = page.read_text()
    assert prose.findings(text) == []
    lines = zip(text.splitlines(), prose.prose(text).splitlines(), strict=True)
    assert [line for line, plain in lines if plain and len(line) > 120 and line[0] != "|"] == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_begins_with_what_it_is_for(page: Path) -> None:
    """In one sentence; the landing page and the changelog take theirs from elsewhere."""
    (_, *paragraphs) = re.split(r"\n\n+", page.read_text())
    assert page.name in ("index.md", "changelog.md") or paragraphs[0].startswith("This page ")


def test_prose_is_checked() -> None:
    """A word in the text is found with its line, one in code is not; a link has to be whole."""
    text = "# A\n\n`anew`\n\n```python\nanew = 1\n```\n\nOnce anew.\n\n[a](http://a.b) [b](https://b.c/d)\n"
    assert prose.findings(text) == [(9, "'anew': again"), (11, "'http://a.b': not a complete https link")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    """Every relative link names a file of the project and, if any, a heading in it."""
    for target, _, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(#([^)]+))?", page.read_text()):
        file = page.parent / target if target else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """Return what a page's headings are called in links, as GitHub and Sphinx make it of them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_exist(page: Path) -> None:
    """Every `make` target a page names is one."""
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z0-9-]+)", page.read_text(), re.MULTILINE))
    assert named <= targets


def test_contributing_names_every_make_target() -> None:
    """What `make help` lists, apart from itself."""
    page = (ROOT / "docs" / "contributing.md").read_text()
    for target in re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE):
        assert target == "help" or f"`make {target}`" in page, target


def test_contributing_names_what_ci_runs() -> None:
    """Those targets, in that order."""
    run = re.findall(r"^(?:time )?make (\S+)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    page = (ROOT / "docs" / "contributing.md").read_text()
    (named,) = re.findall(r"A change lands when `.ci/run` passes: (.*?)\.", page, re.DOTALL)
    assert re.findall(r"`(.+?)`", named) == run


def test_every_field_of_the_connection_is_explained() -> None:
    """By the name the form gives it, with its name in JSON and its default."""
    page = (ROOT / "docs" / "connection.md").read_text()
    for name, label in ui_field_behaviour()["relabeling"].items():
        assert f"| {label} | `{name}` |" in page
    for name, field in EXTRA_FIELDS.items():
        default = "" if field.default is None else f" {field.default} |\n"
        assert re.search(rf"\| {re.escape(field.label)} \| extra `{name}` \|.*\|{default}", page), name
    assert f"`{DEFAULT_HOST}` |" in page


def test_evidence_names_tests() -> None:
    """Every test and every file of tests that the page names is there."""
    page = (ROOT / "docs" / "evidence.md").read_text()
    code = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name in re.findall(r"`(test_\w+)`", page) if f"def {name}(" not in code] == []
    assert [file for file in re.findall(r"`(tests/[\w/.]+)`", page) if not (ROOT / file).exists()] == []


def test_retry_table_is_the_rules() -> None:
    """`python -m tests.retry_table` writes it."""
    assert retry_table.shown() == retry_table.retry_table()


def test_readme_names_what_is_tested() -> None:
    """Each Airflow in its pinned version with the Pythons of the matrix, and where a real one starts."""
    matrix = {
        target.id: ast.literal_eval(node.value)
        for node in ast.parse((ROOT / "noxfile.py").read_text()).body
        if isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Name)
        if target.id in ("PYTHONS", "ALL_TESTS", "HAPPY_PATH")
    }
    expected = {}
    for airflow, pythons in matrix["PYTHONS"].items():
        pins = (ROOT / "tests" / "constraints" / f"airflow-{airflow}.txt").read_text()
        (pinned,) = re.findall(r"^apache-airflow==(\S+)", pins, re.MULTILINE)
        for python in pythons:
            one = ", one example" * ((python, airflow) in matrix["HAPPY_PATH"])
            is_all = (python, airflow) in matrix["ALL_TESTS"]
            expected[pinned, python] = "all tests" if is_all else f"unit tests{one}"
    rows = re.findall(r"^\| (\d[\d.]+) \|(.*)\|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    cells = {airflow: [cell.strip() for cell in row.split("|")] for airflow, row in rows}
    pythons = ("3.11", "3.12", "3.13")
    shown = {
        (airflow, python): cell
        for airflow, row in cells.items()
        for python, cell in zip(pythons, row, strict=True)
        if cell
    }
    assert shown == expected


def test_contributing_shows_the_layers() -> None:
    """The packages in the order of the contract that the linter checks."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    page = (ROOT / "docs" / "contributing.md").read_text()
    table = page[page.index("| package | has |") :].split("\n\n")[0]
    shown = [" | ".join(re.findall(r"`(\w+)`", row.split("|")[1])) for row in table.splitlines()[2:]]
    assert shown == layers
