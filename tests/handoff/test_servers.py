# SPDX-License-Identifier: Apache-2.0
"""The servers these tests start."""

from __future__ import annotations

import pytest

from tests.handoff import servers


def test_missing_program() -> None:
    """It is an error that says what to install, never a test left out."""
    with pytest.raises(FileNotFoundError, match="apt-get install some-package"):
        servers.program("no-such-program", "some-package")
