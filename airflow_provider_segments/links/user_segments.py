# SPDX-License-Identifier: Apache-2.0
"""
Extra links of a task: to the service's file, and to the user's own.

Airflow 3 asks the task itself for them when it defers and when it ends, and keeps them; Airflow 2 asks when they are
shown, for which the task's XComs are read.
"""

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
    """
    Return where AWS's console shows an object.

    :param bucket: its bucket.
    :param key: its key.
    :param domain: of the console of the part of AWS it is in.
    """
    return f"https://console.{domain}/s3/object/{quote(bucket, safe='')}?prefix={quote(key)}"


class S3FileLink(BaseOperatorLink):
    """To a task's object in AWS's console; the task knows the address, and none for an S3 that is not AWS's."""

    name = "File in S3"
    key = "s3_console_url"

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """
        Return the address, or nothing.

        :param operator: the task.
        :param ti_key: its instance.
        """
        return _value(operator, ti_key, self.key) or ""


class ExportedFileLink(BaseOperatorLink):
    """
    To the service's file; no link before it is there, when it is gone, or when it is not on S3.

    It is named with its end: Airflow 3 can't take a link back.
    """

    name = "File in S3 (for 48 hours)"

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """
        Return the address, or nothing.

        :param operator: the task.
        :param ti_key: its instance.
        """
        return exported_file_url(_value(operator, ti_key, "return_value"))


def _value(operator: Any, ti_key: TaskInstanceKey, key: str) -> Any:
    """Return what a link is made of; Airflow 3 logs an error for each XCom that is not there, so the task is asked."""
    if AIRFLOW_V_3_0_PLUS:
        return getattr(operator, "link_values", {}).get(key)
    return XCom.get_value(ti_key=ti_key, key=key)


def exported_file_url(result: Any) -> str:
    """
    Return where AWS's console shows an exported file, or nothing.

    :param result: what the task returned, if anything.
    """
    if not isinstance(result, dict) or not (result.get("s3_bucket") and result.get("s3_key")):
        return ""
    expires_at = result.get("expires_at")
    if expires_at and datetime.fromisoformat(expires_at) <= utcnow():
        return ""
    return s3_console_url(result["s3_bucket"], result["s3_key"])
