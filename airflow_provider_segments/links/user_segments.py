# SPDX-License-Identifier: Apache-2.0
"""Extra links of a task: to the service's file, and to the user's own."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_segments.utils.clock import utcnow

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import TaskInstanceKey


def s3_console_url(bucket: str, key: str, domain: str = "aws.amazon.com") -> str:
    """Return where AWS's console shows an object; `domain` differs between AWS's partitions."""
    return f"https://console.{domain}/s3/object/{quote(bucket, safe='')}?prefix={quote(key)}"


class S3FileLink(BaseOperatorLink):
    """A link to a task's object in AWS's console; none for an S3 that is not AWS's."""

    name = "File in S3"
    key = "s3_console_url"

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """Return the address, or nothing."""
        return _value(operator, ti_key, self.key) or ""


class ExportedFileLink(BaseOperatorLink):
    """A link to the service's file; none before it is there, after it is gone, or when it is not on S3."""

    name = "File in S3 (for 48 hours)"  # Airflow 3 can't remove a link, so its name says when it expires

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """Return the address, or nothing."""
        return exported_file_url(_value(operator, ti_key, "return_value"))


def _value(operator: Any, ti_key: TaskInstanceKey, key: str) -> Any:
    """Return a link's value. Airflow 3 asks for it when the task defers or ends, Airflow 2 when it shows the link."""
    if AIRFLOW_V_3_0_PLUS:  # it logs an error for each missing XCom, so ask the task
        return getattr(operator, "link_values", {}).get(key)
    return XCom.get_value(ti_key=ti_key, key=key)


def exported_file_url(result: Any) -> str:
    """Return where AWS's console shows the file of a task's result, or nothing."""
    if not isinstance(result, dict) or not (result.get("s3_bucket") and result.get("s3_key")):
        return ""
    expires_at = result.get("expires_at")
    if expires_at and datetime.fromisoformat(expires_at) <= utcnow():
        return ""
    return s3_console_url(result["s3_bucket"], result["s3_key"])
