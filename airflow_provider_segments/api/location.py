# SPDX-License-Identifier: Apache-2.0
"""Where an export's file lies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import unquote, urlsplit, urlunsplit

__all__ = ["FILE_LIFETIME", "ExportFile", "file_location"]

#: How long the service keeps a file after the export is complete.
FILE_LIFETIME = timedelta(hours=48)


@dataclass(frozen=True, slots=True)
class ExportFile:
    """
    Where an export's file lies.

    :param filename: the location as received, less the query of a URL.
    :param s3_bucket: its bucket, if the file is known to be on S3.
    :param s3_key: its key, likewise, unchanged.
    """

    filename: str
    s3_bucket: str | None = None
    s3_key: str | None = None

    @property
    def is_s3_uri(self) -> bool:
        """Whether the location is ``s3://…``, not a URL."""
        return self.filename.startswith("s3://")

    @property
    def s3_uri(self) -> str | None:
        """``s3://bucket/key``, if the file is known to be on S3."""
        return f"s3://{self.s3_bucket}/{self.s3_key}" if self.s3_bucket else None


_DOMAIN = r"\.amazonaws\.(?:com(?:\.cn)?|eu)"
_REGION = r"[a-z]{2,4}(?:-[a-z]+)+-\d+"
# Hosts below which a bucket's name, or the path, begins: https://docs.aws.amazon.com/general/latest/gr/s3.html. All
# other hosts of AWS (access points, Outposts, Object Lambda, websites, control planes) name no bucket.
_PATH_OR_HOST = (
    r"s3(?:-external-1)?"  # the legacy global ones
    rf"|s3[.-]{_REGION}|s3\.dualstack\.{_REGION}"
    rf"|s3-fips[.-]{_REGION}|s3-fips\.dualstack\.{_REGION}"
)
_HOST_ONLY = (
    r"s3-accelerate(?:\.dualstack)?"
    rf"|s3express-(?:fips-)?[a-z0-9-]+-az\d+(?:\.dualstack)?\.{_REGION}"
)
_S3_HOSTS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?:(?P<bucket>.+)\.)?(?:{_PATH_OR_HOST}){_DOMAIN}",
        rf"(?P<bucket>.+)\.(?:{_HOST_ONLY}){_DOMAIN}",
        # https://docs.aws.amazon.com/AmazonS3/latest/userguide/privatelink-interface-endpoints.html
        rf"(?:(?P<bucket>.+)\.)?bucket\.vpce-[a-z0-9-]+\.s3\.{_REGION}\.vpce{_DOMAIN}",
    )
)
_S3_URI = re.compile(r"\s*s3://((?P<bucket>[^/]*)/?(?P<key>.*))", re.IGNORECASE | re.DOTALL)
_USER = re.compile(r"^([^/]*//)[^/]*@")
# Legacy names may have capitals and underscores. An access point's ARN has colons, its alias a suffix of its own.
_BUCKET = re.compile(r"(?!.*(?:-s3alias|--(?:ol|op|xa)-s3)$)[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


def file_location(filename: str) -> ExportFile:
    """Split ``s3://bucket/key`` or a URL; drop a URL's query, which is a secret in a presigned one."""
    if found := _S3_URI.fullmatch(filename):  # a question mark or a hash is part of the key
        shown, bucket, key = f"s3://{found[1]}", found["bucket"], found["key"]
        if bucket and key and not bucket.startswith("arn:"):
            return ExportFile(shown, s3_bucket=bucket, s3_key=key)
        return ExportFile(shown)
    try:
        url = urlsplit(filename)
        host = url.hostname
    except ValueError:  # such as "https://["
        host = None
    if not host:  # not a URL after all
        shown = _USER.sub(r"\1", re.split(r"[?#]", filename, maxsplit=1)[0])
        return ExportFile(shown) if shown == filename else file_location(shown)  # which may be one now
    shown = urlunsplit(url._replace(netloc=url.netloc.rpartition("@")[2], query="", fragment=""))
    place = _bucket_and_path(host, url.path) if url.scheme in ("http", "https") else None
    return ExportFile(shown, place[0], unquote(place[1])) if place else ExportFile(shown)


def _bucket_and_path(host: str, path: str) -> tuple[str, str] | None:
    match = next((found for pattern in _S3_HOSTS if (found := pattern.fullmatch(host.rstrip(".")))), None)
    if match is None:
        return None
    bucket, path = match["bucket"], path.removeprefix("/")
    if not bucket:
        bucket, _, path = path.partition("/")
    return (bucket, path) if path and _BUCKET.fullmatch(bucket) else None
