"""Texts of anybody for HTML."""

from __future__ import annotations

import html
import unicodedata

_LONGEST = 4000


def text(value: str) -> str:
    """A text of anybody's for HTML: escaped, without signs that turn the reading direction, and not endless."""
    kept = "".join(
        sign for sign in value if sign in "\n\t" or unicodedata.category(sign) not in ("Cc", "Cf", "Cs", "Co")
    )
    return html.escape(kept if len(kept) <= _LONGEST else kept[:_LONGEST] + " …", quote=True)
