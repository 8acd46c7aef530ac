# SPDX-License-Identifier: Apache-2.0
"""What the changes in a bucket have to add up to."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

NAMES = ("users", "added", "removed", "changed")


def check_chain(s3: Any, bucket: str, folder: str) -> list[str]:
    """Follow latest.json: each export's changes lead from its predecessor to it; return the exports, oldest first."""

    def body(key: str) -> str:
        found: str = s3.get_object(Bucket=bucket, Key=f"{folder}/{key}")["Body"].read().decode()
        return found

    def rows(export_id: str, name: str) -> dict[str, tuple[str, ...]]:
        text = io.StringIO(body(f"{export_id}/{name}.csv"), newline="")
        return {row[0]: tuple(row) for row in list(csv.reader(text))[1:]}

    state = json.loads(body("latest.json"))
    records = [state, *state["earlier"]]
    assert [record["previous_export_id"] for record in records] == [r["export_id"] for r in records[1:]] + [
        None
    ]
    composed: dict[str, tuple[str, ...]] = {}
    for record in reversed(records):
        users, added, removed, changed = (rows(record["export_id"], name) for name in NAMES)
        assert removed == {key: composed.pop(key) for key in removed}
        assert not added.keys() & composed.keys()
        assert changed.keys() <= composed.keys()
        assert not changed.items() & composed.items()
        composed |= added | changed
        assert composed == users
        counts = [record[name] for name in ("added", "removed", "changed", "unchanged")]
        assert counts == [len(added), len(removed), len(changed), len(users) - len(added) - len(changed)]
    return [record["export_id"] for record in reversed(records)]
