# SPDX-License-Identifier: Apache-2.0
"""
Check the prose of the pages: ``python -m tests.prose``, a part of ``make docs``.

Each word of `docs/words.txt` is named with what to write instead. Links to the outside have to be complete and to use
HTTPS; nothing is fetched. Spelling is codespell's and style proselint's, without the checks that `docs/proselint.json`
turns off: they take what is left of code and tables for prose.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[1]
WORDS = ROOT / "docs" / "words.txt"
STYLE = ROOT / "docs" / "proselint.json"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SPELLED = ["README.md", "CHANGELOG.md", "docs", "example_dags", "airflow_provider_segments"]
_FENCE = re.compile(r" *```(\S*)")
_INLINE_CODE = re.compile(r"`[^`]+`")
_TARGET = re.compile(r"\]\([^)]*\)")
_LINK = re.compile(r"\]\((\w+:[^)\s]*)\)")


def words() -> list[tuple[re.Pattern[str], str]]:
    """Return each word with what to write instead."""
    lines = [line for line in WORDS.read_text().splitlines() if line and not line.startswith("#")]
    pairs = [line.split("=>") for line in lines]
    return [(re.compile(rf"\b(?:{word.strip()})\b", re.IGNORECASE), use.strip()) for word, use in pairs]


def prose(text: str) -> str:
    """Return a page without its code, with the same lines."""
    lines, language = [], ""
    for line in text.splitlines():
        fence = _FENCE.match(line)
        if fence:
            language = "" if language else fence[1]
        is_code = fence or (language and language not in ("{note}", "{tip}", "{warning}"))
        lines.append("\n" if is_code else _INLINE_CODE.sub("``", line) + "\n")
    return "".join(lines)


def findings(text: str) -> list[tuple[int, str]]:
    """Return what is wrong with a page, each with the number of its line."""
    plain = prose(text)
    found = [
        (plain.count("\n", 0, match.start()) + 1, f"{match[0]!r}: {use}")
        for word, use in words()
        for match in word.finditer(plain)
    ]
    for match in _LINK.finditer(plain):
        url = urlsplit(match[1])
        if url.scheme != "https" or "." not in url.netloc or url.path.endswith((".", ",")):
            found.append(
                (plain.count("\n", 0, match.start()) + 1, f"{match[1]!r}: not a complete https link")
            )
    return sorted(found)


def main() -> int:
    """Check all pages, say what is wrong, and return the exit code."""
    failed = False
    for page in PAGES:
        for line, finding in findings(page.read_text()):
            print(f"{page.relative_to(ROOT)}:{line}: {finding}", file=sys.stderr)
            failed = True
    spelling = subprocess.run([sys.executable, "-m", "codespell_lib", *SPELLED], cwd=ROOT, check=False)
    return int(failed or spelling.returncode != 0 or not has_style())


def has_style() -> bool:
    """Let proselint read the pages without their code, and return whether it finds nothing."""
    with tempfile.TemporaryDirectory() as folder:
        for page in PAGES:
            (Path(folder) / page.name).write_text(_TARGET.sub("]", prose(page.read_text())))
        names = [page.name for page in PAGES]
        command = [sys.executable, "-m", "proselint", "check", "--config", str(STYLE), *names]
        return subprocess.run(command, cwd=folder, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
