# SPDX-License-Identifier: Apache-2.0
"""The fixtures in a project of somebody else's, on a machine that is set up for other work."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TEST = """
pytest_plugins = ["airflow_provider_segments.emulator.pytest_plugin"]


def test_file(user_segments, user_segments_s3):
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from airflow_provider_segments.hooks.user_segments import UserSegmentsHook

    hook = UserSegmentsHook()
    export = hook.request_export(hook.list_segments()[0].segment_id)
    file = hook.wait_for_export(export.export_id).file
    assert S3Hook("aws_default").check_for_key(file.s3_key, file.s3_bucket)
"""


def test_proxy_and_profile_of_the_developer(tmp_path: Path) -> None:
    """Neither a proxy nor an AWS profile gets between the fixtures and their servers."""
    test = tmp_path / "test_mine.py"
    test.write_text(TEST)
    nowhere = "http://127.0.0.1:1"
    others = {"AWS_PROFILE": "work", "HTTP_PROXY": nowhere, "http_proxy": nowhere}
    home = {"AIRFLOW_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test],
        env=os.environ | others | home,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
