"""Values that are too long for an address: their beginning and a hash stand for them there."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

LONGEST = 300
"""Characters of a value that the address holds as it is."""
WHOLE = 20_000
"""Characters of a value that a page may send."""
_BEGINNING = 60
_BRIEF = re.compile(r"(?s).{60}…[0-9a-f]{20}")


def brief(value: str) -> str:
    """What stands for a value in the address: itself, unless it is very long."""
    if len(value) <= LONGEST:
        return value
    return f"{value[:_BEGINNING]}…{hashlib.sha256(value.encode('utf-8', 'surrogatepass')).hexdigest()[:20]}"


def is_brief(text: str) -> bool:
    """Whether this stands for a longer value."""
    return _BRIEF.fullmatch(text) is not None


def whole(text: str, known: Iterable[str]) -> str:
    """The value that a text from the address stands for; the text itself where it is none of the known ones."""
    if not is_brief(text):
        return text
    return next((value for value in known if len(value) > LONGEST and brief(value) == text), text)
