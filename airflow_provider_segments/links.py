# SPDX-License-Identifier: Apache-2.0
"""
Extra links of a task: to the exported file, and to mParticle's page about exports.

Airflow 3 has them written by whoever ends the task, as an XCom each; Airflow 2 asks for them when they are clicked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

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


def s3_console_url(result: Any) -> str:
    """
    Return where AWS's console shows a task's file, or nothing if there is none on S3.

    :param result: what the task returned.
    """
    if not isinstance(result, dict) or not (result.get("s3_bucket") and result.get("s3_key")):
        return ""
    bucket, key = quote(result["s3_bucket"], safe=""), quote(result["s3_key"])
    return f"https://console.aws.amazon.com/s3/object/{bucket}?prefix={key}"


class S3FileLink(BaseOperatorLink):
    """To a task's file in AWS's console; no link before it is there, or when it is not on S3."""

    name = "File in S3"

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """
        Return the address, or nothing.

        :param operator: the task.
        :param ti_key: its instance.
        """
        return s3_console_url(XCom.get_value(ti_key=ti_key, key="return_value"))


class ExportedFileLink(S3FileLink):
    """To the service's file, which is named with its end: Airflow 3 can't take a link back."""

    name = "File in S3 (for 48 hours)"


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
        ExportedFileLink().xcom_key: s3_console_url(result),
        DocumentationLink().xcom_key: DOCUMENTATION_URL,
    }
