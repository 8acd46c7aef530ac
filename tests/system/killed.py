# SPDX-License-Identifier: Apache-2.0
"""A task whose process is killed."""

from __future__ import annotations

import os
import signal
from typing import Any

from airflow_provider_segments.operators.reattach import ExportRecord
from airflow_provider_segments.operators.user_segments import UserSegmentExportOperator


class DiesRightAfterThePost(UserSegmentExportOperator):
    """In its first try the process is killed as soon as the export's id is stored."""

    def pre_execute(self, context: Any) -> None:
        if context["ti"].try_number == 1:
            store = ExportRecord.store_export

            def store_and_die(self: ExportRecord, export: Any) -> None:
                store(self, export)
                os.kill(os.getpid(), signal.SIGKILL)

            ExportRecord.store_export = store_and_die  # type: ignore[method-assign]
        super().pre_execute(context)
