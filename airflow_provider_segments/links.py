# SPDX-License-Identifier: Apache-2.0
"""
Extra links of a task: to the exported file, and to mParticle's page about exports.

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

__all__ = [
    "DOCUMENTATION_URL",
    "DocumentationLink",
    "ExportedFileLink",
    "S3FileLink",
    "link_xcoms",
    "s3_console_url",
]

DOCUMENTATION_URL = "https://docs.mparticle.com/guides/analytics/apis/user-segments-export-api"


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
        return _known(operator, ti_key, self.key) or ""


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
        return _address(_known(operator, ti_key, "return_value"))


def _known(operator: Any, ti_key: TaskInstanceKey, key: str) -> Any:
    """Return what a task has told, without asking Airflow 3 for an XCom: one that is not there, it logs as an error."""
    if AIRFLOW_V_3_0_PLUS:
        return getattr(operator, "_told", {}).get(key)
    return XCom.get_value(ti_key=ti_key, key=key)


def _address(result: Any) -> str:
    if not isinstance(result, dict) or not (result.get("s3_bucket") and result.get("s3_key")):
        return ""
    expires_at = result.get("expires_at")
    if expires_at and datetime.fromisoformat(expires_at) <= utcnow():
        return ""
    return s3_console_url(result["s3_bucket"], result["s3_key"])


class DocumentationLink(BaseOperatorLink):
    """To mParticle's page about the User Segments Export API."""

    name = "About segment exports"

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """
        Return the address.

        :param operator: the task.
        :param ti_key: its instance.
        """
        return DOCUMENTATION_URL


def link_xcoms(result: dict[str, Any]) -> dict[str, str]:
    """
    Return the XComs that hold the links of a task that no worker ends.

    :param result: the task's.
    """
    if not AIRFLOW_V_3_0_PLUS:
        return {}
    return {
        ExportedFileLink().xcom_key: _address(result),
        DocumentationLink().xcom_key: DOCUMENTATION_URL,
    }
