# SPDX-License-Identifier: Apache-2.0
"""Stop a task right before it would reach for a service that isn't here, and keep its rendered arguments."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowSkipException

FOLDER = "RENDERED_ARGUMENTS"


def record(context: Any) -> NoReturn:
    """Write the task's template fields down, under the name of its operator."""
    task = context["ti"].task  # Airflow 3.0 does not render the one in the context
    rendered = {name: getattr(task, name) for name in task.template_fields}
    Path(os.environ[FOLDER], f"{task.task_type}.json").write_text(json.dumps(rendered, default=repr))
    raise AirflowSkipException("Its arguments are rendered.")
