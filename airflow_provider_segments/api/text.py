# SPDX-License-Identifier: Apache-2.0
"""Make text from elsewhere, such as a segment's name, fit to be shown."""

from __future__ import annotations

import re
import unicodedata

# Control characters, line and paragraph separators, lone surrogates, and Unicode's property Bidi_Control.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
_WITHOUT_WIDTH = re.compile("[\u00ad\u034f\u200b-\u200f\u2060-\u2064\ufe00-\ufe0f\ufeff]")


def printable(text: str) -> str:
    """Return text that can neither steer a terminal nor change the direction of what follows."""
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text)


def quoted(text: str) -> str:
    """Return text in quotes, for a message; unlike ``repr``, it keeps letters of any script."""
    return f"'{printable(text)}'"


def look_of(text: str) -> str:
    """Return what texts that look the same share: a browser copies a no-break space as a space, for instance."""
    return _WITHOUT_WIDTH.sub("", unicodedata.normalize("NFKC", text))
