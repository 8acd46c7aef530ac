# SPDX-License-Identifier: Apache-2.0
"""Segments and exports as mParticle's page "User Segments Export API" describes them, without its spelling."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - the reference page resolves it
from difflib import get_close_matches
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from airflow_provider_segments.api.errors import ExportFailedError, SegmentLookupError
from airflow_provider_segments.api.fields import (
    Id,
    Location,
    Name,
    OptionalText,
    OptionalTime,
    or_default,
    without_nul,
)
from airflow_provider_segments.api.location import FILE_LIFETIME, ExportFile, file_location
from airflow_provider_segments.api.text import look_of, quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ExportStatus",
    "RequestedExport",
    "SegmentExport",
    "SegmentType",
    "Segments",
    "UserSegment",
    "find_segment",
]


_NO_STATUS = "UNKNOWN"  # where the service gives none, which counts as not finished


class _OpenEnum(str, Enum):
    """An enum that keeps a word it doesn't know as an unnamed member."""

    @classmethod
    def _missing_(cls, value: object) -> _OpenEnum | None:
        if not isinstance(value, str):
            return None
        value = without_nul(value)
        stranger = str.__new__(cls, value)
        stranger._name_ = "UNKNOWN"
        stranger._value_ = value
        return stranger

    @property
    def is_known(self) -> bool:
        """Whether the service's page lists this word."""
        return self.name != "UNKNOWN"


class SegmentType(_OpenEnum):
    """Whether a segment changes."""

    STATIC = "Static"
    DYNAMIC = "Dynamic"


class ExportStatus(_OpenEnum):
    """The state of an export. A word that is not listed counts as not finished."""

    PENDING = "PENDING"
    COMPLETE = "COMPLETE"
    FAILED = "FAILED"

    @property
    def is_finished(self) -> bool:
        """Whether the export is complete or failed."""
        return self in (ExportStatus.COMPLETE, ExportStatus.FAILED)


# Where the page contradicts its own examples (null filename, missing projectId), both are accepted.
class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, hide_input_in_errors=True)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values without any secret; ``model_validate`` reads them back."""
        return self.model_dump(mode="json")


class UserSegment(_Answer):
    """
    A user segment.

    :param segment_id: its unique id.
    :param name: its name; empty if the service gave none.
    :param description: text for people, if any.
    :param category: the category it is filed under, if any.
    :param project_id: the project it belongs to.
    :param segment_type: ``Static`` (never changes) or ``Dynamic`` (refreshed about daily).
    :param last_run: when it was last refreshed, in UTC; None if never.
    """

    segment_id: Id = Field(alias="segmentId")
    name: Name = ""
    description: OptionalText = None
    category: OptionalText = None
    project_id: OptionalText = Field(None, alias="projectId")
    segment_type: Annotated[SegmentType | None, or_default(None)] = Field(None, alias="type")
    last_run: OptionalTime = Field(None, alias="lastRun")

    @property
    def label(self) -> str:
        """Name and id, for messages."""
        return f"{quoted(self.name)} ({self.segment_id})" if self.name else self.segment_id or "(not named)"


def _with_id(segments: list[UserSegment | None]) -> list[UserSegment]:
    """Leave out what has no id and so can't be exported; an answer of nothing else is no list of segments."""
    found = [segment for segment in segments if segment is not None]
    if segments and not found:
        raise ValueError("none of its items is a segment with an id")
    return found


#: The answer to a listing.
Segments = Annotated[list[Annotated[UserSegment | None, or_default(None)]], AfterValidator(_with_id)]


def find_segment(segments: Sequence[UserSegment], segment_id: str | None, name: str | None) -> UserSegment:
    """Return the one segment with an id or, if there is none, with exactly a name, or raise SegmentLookupError."""
    if segment_id is not None:
        what, asked, known = "id", segment_id, [segment.segment_id for segment in segments]
    else:
        what, asked, known = "name", name or "", [segment.name for segment in segments]
    found = [segment for segment, text in zip(segments, known, strict=True) if text == asked]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(segment.segment_id for segment in found[:10]) + (", …" if len(found) > 10 else "")
        raise SegmentLookupError(
            f"{len(found)} segments have the {what} {quoted(asked)}: {ids}. Name one by its segment_id."
        )
    closest = get_close_matches(asked, known, n=3, cutoff=0.4)
    hint = f"Closest: {', '.join(map(quoted, closest))}." if closest else "Nothing similar was found."
    if twin := next((text for text in closest if look_of(text) == look_of(asked)), None):
        hint += f" It looks the same, but {twin!a} is not {asked!a}."
    raise SegmentLookupError(
        f"None of the project's {len(segments)} segments has the {what} {quoted(asked)}. {hint}"
    )


# The segment of an export when the service leaves it out.
_UNNAMED = UserSegment.model_construct(segment_id="")


class SegmentExport(_Answer):
    """
    An export of a segment.

    :param export_id: its unique id: the only handle on it, as the service can't list exports.
    :param segment: the segment it was asked for; without id and name when the service leaves it out.
    :param status: how far it is.
    :param project_id: the project; the segment's own when the service leaves it out.
    :param start_time: when it started, in UTC.
    :param end_time: when it ended, in UTC; None until then.
    :param filename: where the file is, as received; the query of a presigned URL is a secret.
    """

    export_id: Id = Field(alias="exportId")
    segment: Annotated[UserSegment, or_default(_UNNAMED)] = Field(default_factory=lambda: _UNNAMED)
    status: Annotated[ExportStatus, BeforeValidator(lambda found: found or _NO_STATUS)] = ExportStatus(
        _NO_STATUS
    )
    project_id: OptionalText = Field(None, alias="projectId")
    start_time: OptionalTime = Field(None, alias="startTime")
    end_time: OptionalTime = Field(None, alias="endTime")
    filename: Location = Field(None, repr=False)

    def model_post_init(self, context: Any, /) -> None:
        """Fill in what both of the page's examples leave out."""
        if self.project_id is None:
            object.__setattr__(self, "project_id", self.segment.project_id)

    def with_segment_id(self, segment_id: str) -> SegmentExport:
        """Return the export, with the segment it was requested for if the service left that out."""
        if self.segment.segment_id:
            return self
        return self.model_copy(update={"segment": UserSegment(segment_id=segment_id)})

    @property
    def label(self) -> str:
        """Export and segment, for messages."""
        return f"export {self.export_id} of segment {self.segment.label}"

    @property
    def file(self) -> ExportFile | None:
        """Where the file is, without any secret; None as long as there is none."""
        return file_location(self.filename) if self.filename else None

    @property
    def expires_at(self) -> datetime | None:
        """Until when the service keeps the file, in UTC; None as long as the export runs."""
        return self.end_time + FILE_LIFETIME if self.end_time else None

    def ensure_complete(self) -> SegmentExport:
        """
        Return the export itself if it is complete and has a file.

        :raises ExportFailedError: it failed, or it has no file.
        """
        if self.status != ExportStatus.COMPLETE:
            raise ExportFailedError(
                f"The service reports {self.label} as {self.status.value}. It gives no reason; request it again, and "
                "if that fails too, look at the segment in mParticle Analytics or ask mParticle's support."
            )
        if not self.filename:
            raise ExportFailedError(
                f"The service reports {self.label} as {self.status.value}, but names no file, so there is nothing to "
                "deliver. Request it again, and contact mParticle's support if that happens again."
            )
        return self

    def result(self, output_format: str) -> dict[str, Any]:
        """
        Return what a task hands on: plain JSON values, times as ISO 8601 in UTC, no secret.

        :param output_format: the format the export was asked for in; the service doesn't repeat it.
        """
        file, plain = self.file, self.to_dict()
        return {
            "export_id": self.export_id,
            "segment_id": self.segment.segment_id,
            "segment_name": self.segment.name,
            "segment_type": plain["segment"]["segment_type"],
            "status": self.status.value,
            "output_format": output_format,
            "start_time": plain["start_time"],
            "end_time": plain["end_time"],
            "expires_at": self.expires_at.isoformat() if self.expires_at else None,
            "filename": file.filename if file else None,
            "s3_uri": file.s3_uri if file else None,
            "s3_bucket": file.s3_bucket if file else None,
            "s3_key": file.s3_key if file else None,
        }


class RequestedExport(SegmentExport):
    """The answer to a request. Whatever else it lacks, its id must not be lost: the export runs."""

    status: Annotated[ExportStatus, or_default(ExportStatus.PENDING)] = ExportStatus.PENDING
