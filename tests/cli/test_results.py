# SPDX-License-Identifier: Apache-2.0
"""Results in each style, whatever the names are."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import yaml
from rich.cells import cell_len

from airflow_provider_segments.api.models import SegmentExport, UserSegment
from airflow_provider_segments.api.text import printable
from airflow_provider_segments.cli._results import show_export, show_segments
from airflow_provider_segments.cli._terminal import RawFile, Terminal

# Spaces, joiners, marks, emoji sequences, flags of tags, private use, and what Unicode has not assigned yet.
SHOWN = [
    "Prospects\u00a0EU",
    "東京\u3000ユーザー",
    "Family 👩\u200d👧",
    "می\u200cخواهم",
    "a\u2009b\u202fc\u2060d\u200be\u00adf\ufeffg",
    "❤\ufe0f 🏴\U000e0067\U000e0062\U000e007f 🇧🇷",
    "ก็ e\u0301 한",
    "\ue000 \u0378 \U0001faff",
]
REPLACED = [
    *map(chr, range(0x20)),
    *map(chr, range(0x7F, 0xA0)),
    *"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
    *"\u2028\u2029\ud800\udfff",
]


def listed(output: str, *names: str) -> str:
    """Return what `list` prints."""
    out = io.StringIO()
    segments = [UserSegment(segment_id=f"id-{number}", name=name) for number, name in enumerate(names)]
    show_segments(Terminal(out), segments, output)
    return out.getvalue()


def export(**fields: object) -> SegmentExport:
    """Return a complete export."""
    now = datetime.now(timezone.utc)
    defaults = {
        "export_id": "e-1",
        "segment": {"segment_id": "s-1", "name": "Prospects\u00a0EU"},
        "status": "COMPLETE",
        "end_time": now,
        "filename": "s3://bucket/key.csv",
        "start_time": now - timedelta(minutes=1),
    }
    return SegmentExport.model_validate(defaults | fields)


@pytest.mark.parametrize("name", SHOWN)
def test_letters_spaces_and_joiners_are_shown_as_they_are(name: str) -> None:
    """In tables, and in messages."""
    assert printable(name) == name
    assert name in listed("table", name)
    assert name in listed("plain", name)
    assert name in UserSegment(segment_id="x", name=name).label


@pytest.mark.parametrize("character", REPLACED, ids=ascii)
def test_control_and_direction_characters_are_replaced(character: str) -> None:
    """One for one."""
    shown = "a\N{REPLACEMENT CHARACTER}b"
    assert printable(f"a{character}b") == shown
    assert f"'{shown}'" in UserSegment.model_construct(segment_id="x", name=f"a{character}b").label


def test_table_columns_line_up_whatever_the_names_are() -> None:
    """Each line is as wide as the others."""
    lines = listed("table", *SHOWN, "a\x1b[2Jb\tc", "[bold]x[/] :smile:").splitlines()
    assert len({cell_len(line) for line in lines if line.strip()}) == 1
    assert "[bold]x[/] :smile:" in lines[-1]


def test_plain_keeps_names_that_look_like_numbers() -> None:
    """A name is no number."""
    words = listed("plain", "1e5", "007").split()
    assert "1e5" in words
    assert "007" in words


@pytest.mark.parametrize(("output", "load"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_styles_for_scripts_keep_names_to_the_letter(output: str, load: object) -> None:
    """A list of objects; one object for an export."""
    assert callable(load)
    names = [*SHOWN, "a\x1b\u202eb", "007"]
    assert [row["name"] for row in load(listed(output, *names))] == names
    out = io.StringIO()
    show_export(Terminal(out), export(), output)
    assert load(out.getvalue())["segment_name"] == "Prospects\u00a0EU"


def test_csv_keeps_names_to_the_letter() -> None:
    """One row a segment."""
    rows = list(csv.DictReader(io.StringIO(listed("csv", *SHOWN, 'a,"b"'))))
    assert [row["name"] for row in rows] == [*SHOWN, 'a,"b"']


@pytest.mark.parametrize("output", ["json", "yaml", "csv"])
def test_no_style_steers_a_terminal(output: str) -> None:
    """Also those for scripts, where a person looks at them."""
    unsafe = "".join(REPLACED[:-2])  # no answer of the service has half a character
    screen = type("Screen", (io.StringIO,), {"isatty": lambda _: True})()
    show_segments(Terminal(screen), [UserSegment(segment_id="s", name=unsafe)], output)
    assert not {*screen.getvalue()} & {*unsafe} - {"\n"}


@pytest.mark.parametrize("output", ["table", "plain"])
def test_export_is_a_list_of_properties(output: str) -> None:
    """Without those it does not have."""
    out = io.StringIO()
    show_export(Terminal(out), export(end_time=None, status="PENDING", filename=None), output)
    assert "Prospects\u00a0EU (s-1)" in out.getvalue()
    assert "1 minute ago" in out.getvalue()
    assert "Ended" not in out.getvalue()


@pytest.mark.parametrize("output", ["table", "json", "yaml", "plain", "csv"])
def test_full_stdout_is_an_error_at_once(output: str) -> None:
    """No style leaves it to the end of the interpreter."""
    with RawFile(Path("/dev/full"), "w", "stdout") as full:
        stream = io.TextIOWrapper(full, write_through=True)  # type: ignore[type-var]
        with pytest.raises(OSError, match="stdout can't be written: No space left on device"):
            show_export(Terminal(stream), export(), output)
