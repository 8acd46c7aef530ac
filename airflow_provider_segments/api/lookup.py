# SPDX-License-Identifier: Apache-2.0
"""Find one segment among all, which the service has no call for."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from airflow_provider_segments.api.errors import SegmentLookupError
from airflow_provider_segments.api.text import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_segments.api.models import UserSegment

__all__ = ["pick"]


def pick(segments: Sequence[UserSegment], segment_id: str | None, name: str | None) -> UserSegment:
    """
    Return the one segment with an id or with exactly a name.

    :param segments: all of the project.
    :param segment_id: the id, or None.
    :param name: the name, to the letter, if there is no id.
    :raises SegmentLookupError: there is none, or there are several.
    """
    if segment_id is not None:
        found = [segment for segment in segments if segment.segment_id == segment_id]
        asked, known = f"the id {quoted(segment_id)}", [segment.segment_id for segment in segments]
    else:
        found = [segment for segment in segments if segment.name == name]
        asked, known = f"the name {quoted(name or '')}", [segment.name for segment in segments]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(segment.segment_id for segment in found)
        raise SegmentLookupError(f"{len(found)} segments have {asked}: {ids}. Name one by its segment_id.")
    closest = get_close_matches(segment_id or name or "", known, n=3, cutoff=0.4)
    hint = f"Closest: {', '.join(map(quoted, closest))}." if closest else "None is alike."
    raise SegmentLookupError(f"None of the project's {len(segments)} segments has {asked}. {hint}")
