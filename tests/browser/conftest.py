# SPDX-License-Identifier: Apache-2.0
"""A browser, and an Airflow with its UI that has no Connection to the service yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.pages import Pages, browsing
from tests.system.conftest import running_system

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.browser.pages import Airflow2, Airflow3
    from tests.system.conftest import System


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, s3_url: str) -> Iterator[System]:
    """Airflow, the service, S3."""
    with running_system(tmp_path_factory.mktemp("system"), s3_url, connected=False, ui=True) as system:
        yield system


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory, system: System) -> Iterator[Airflow2 | Airflow3]:
    """The pages of this Airflow."""
    with browsing(str(tmp_path_factory.mktemp("profile"))) as context:
        yield Pages(context.new_page(), system.airflow.url)
