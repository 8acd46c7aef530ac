# SPDX-License-Identifier: Apache-2.0
"""The table of docs/reliability.md, made of the rules: ``python -m tests.retry_table`` writes it."""

from __future__ import annotations

import re
from pathlib import Path

from airflow_provider_segments.api.retries import RULES, Rule

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
_TABLE = re.compile(r"(?<=<!-- retries -->\n).*?(?=<!-- end of retries -->)", re.DOTALL)
_IN_A_ROW = {3: "third", 5: "fifth"}


def retry_table() -> str:
    """Return the table in Markdown."""
    rows = [f"| {rule.failure} | {_get(rule)} | {_post(rule)} |" for rule in dict.fromkeys(RULES.values())]
    head = ["| what happened | polling, or listing | requesting an export |", "| --- | --- | --- |"]
    return "\n".join(head + rows) + "\n"


def shown() -> str:
    """Return the table as the page has it."""
    (table,) = _TABLE.findall(PAGE.read_text())
    found: str = table
    return found


def _get(rule: Rule) -> str:
    if rule.reload:
        return "the Connection is read once more; then ends"
    if rule.attempts == 1:
        return "ends"
    delays = "a minute" if rule.min_delay else "1, 2, 4, … 60 s"
    delays = "`Retry-After`, else as the learned limit allows" if rule.throttles else delays
    last = f"; the {_IN_A_ROW[rule.attempts]} in a row is the last" if rule.attempts else ""
    return f"repeated after {delays}{last}"


def _post(rule: Rule) -> str:
    return "the same: nothing was carried out" if rule.repeats_post else "ends"


if __name__ == "__main__":
    PAGE.write_text(_TABLE.sub(lambda _: retry_table(), PAGE.read_text()))
