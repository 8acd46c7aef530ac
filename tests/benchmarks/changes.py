# SPDX-License-Identifier: Apache-2.0
"""One process that compares two files of so many users; prints what it took as JSON."""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
from pathlib import Path

KINDS = ("added", "removed", "changed")


def make(folder: Path, users: int, *, quoted: bool) -> None:
    """Write two files of three columns, about 40 bytes a user; a hundredth left, came or changed."""
    import duckdb

    gone = users // 300
    for name, first, mark in (("old", 0, ""), ("new", gone, "x")):
        duckdb.execute(
            f"""copy (select 'user-' || lpad((i * 7919 % 100000007)::varchar, 15, '0') as user_id,
            ['BR', 'DE', 'FR', 'IN', 'JP', 'US'][i % 6 + 1] || '-' || (i * 31 % 1000)::varchar as country,
            (hash(i) % 10000000000)::varchar || case when i % 300 = 0 then '{mark}' else '' end as sessions
            from range({first}, {first + users}) as t(i)) to '{folder}/{name}.csv' (format csv, header true{", force_quote *" if quoted else ""})"""
        )


def ours(folder: Path) -> list[int]:
    """Compare as the operator's task does, in a process that has loaded what it needs."""
    import boto3  # noqa: F401

    from airflow_provider_segments.files.changes import compare
    from airflow_provider_segments.files.csv_file import open_csv
    from airflow_provider_segments.hooks.user_segments import UserSegmentsHook  # noqa: F401
    from airflow_provider_segments.transfers import user_segment_changes_to_s3  # noqa: F401

    found = compare(open_csv(folder / "old.csv", "old"), open_csv(folder / "new.csv", "new"), folder)
    return [found.added, found.removed, found.changed]


def pandas(folder: Path) -> list[int]:
    """Compare by an outer merge."""
    import pandas as pd

    old, new = (
        pd.read_csv(folder / f"{name}.csv", dtype=str, keep_default_na=False) for name in ("old", "new")
    )
    both = old.merge(new, on="user_id", how="outer", suffixes=("_old", ""), indicator=True)
    differ = (both["country_old"] != both["country"]) | (both["sessions_old"] != both["sessions"])
    chosen = [
        both["_merge"] == "right_only",
        both["_merge"] == "left_only",
        (both["_merge"] == "both") & differ,
    ]
    for kind, rows in zip(KINDS, chosen, strict=True):
        names = ["country_old", "sessions_old"] if kind == "removed" else ["country", "sessions"]
        both.loc[rows, ["user_id", *names]].to_csv(
            folder / f"{kind}.csv", index=False, header=list(new.columns)
        )
    return [int(rows.sum()) for rows in chosen]


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    where = Path(sys.argv[2])
    if sys.argv[1] == "make":
        make(where, int(sys.argv[3]), quoted=sys.argv[4] == "quoted")
    else:
        begun = time.monotonic()
        counts = {"ours": ours, "pandas": pandas}[sys.argv[1]](where)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": time.monotonic() - begun, "memory": memory, "counts": counts}))
