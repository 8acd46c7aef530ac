# SPDX-License-Identifier: Apache-2.0
"""Where an export's file lies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit, urlunsplit

__all__ = ["ExportFile", "file_location"]


@dataclass(frozen=True, slots=True)
class ExportFile:
    """
    Where an export's file lies.

    :param filename: the location as received, less the query of a URL.
    :param s3_bucket: its bucket, if the file is known to be on S3.
    :param s3_key: its key, likewise, to the letter.
    """

    filename: str
    s3_bucket: str | None = None
    s3_key: str | None = None

    @property
    def s3_uri(self) -> str | None:
        """``s3://bucket/key``, if the file is known to be on S3."""
        return f"s3://{self.s3_bucket}/{self.s3_key}" if self.s3_bucket else None


# https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html: virtual-hosted and path style,
# with and without region, the old dash form, dual-stack and accelerate endpoints, the Chinese domain.
_S3_HOST = re.compile(
    r"(?:(?P<bucket>.+)\.)?s3(?:-accelerate)?(?:[.-](?!website)[a-z0-9-]+)*?\.amazonaws\.com(?:\.cn)?"
)


def file_location(filename: str) -> ExportFile:
    """
    Split a file's location once, for everyone.

    An ``s3://`` location is split at the first slash after the bucket and the key kept to the letter: a
    question mark or a hash is part of it. Of a URL, the query is dropped, for in a presigned one it is a
    secret; the bucket and the key are read from it if its host is S3's.

    :param filename: ``s3://bucket/key`` or a URL.
    """
    if filename.startswith("s3://"):
        bucket, _, key = filename.removeprefix("s3://").partition("/")
        if bucket and key:
            return ExportFile(filename=filename, s3_bucket=bucket, s3_key=key)
        return ExportFile(filename=filename)
    try:
        url = urlsplit(filename)
        shown = urlunsplit(url._replace(netloc=url.netloc.rpartition("@")[2], query="", fragment=""))
        host = url.hostname or ""
    except ValueError:  # such as "https://[": not a URL after all
        return ExportFile(filename=re.split(r"[?#]", filename, maxsplit=1)[0])
    if url.scheme not in ("http", "https") or not (match := _S3_HOST.fullmatch(host)):
        return ExportFile(filename=shown)
    bucket, path = match["bucket"], url.path[1:]
    if not bucket:
        bucket, _, path = path.partition("/")
    return (
        ExportFile(filename=shown, s3_bucket=bucket, s3_key=unquote(path))
        if path
        else ExportFile(filename=shown)
    )
