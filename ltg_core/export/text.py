"""Texts from outside made harmless: for JSON lines, for spreadsheet cells, for Markdown."""

from __future__ import annotations

import html
import re
from typing import Any

from ltg_core.data.runs import dump

SHOWN = 200
"""Longest text that a dataset card shows, in characters."""
# Control characters, marks that turn the writing direction, invisible ones, and separators that some readers take
# for the end of a line.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
# A spreadsheet calculates a cell that begins so. It may split at a semicolon, tab or line end too, whatever the
# quotes say, and then the rest is a cell of its own.
_FORMULA = re.compile(r"(^|[;\t\r\n])(?=\s*[=+\-@＝＋－＠])|^(?=[\t\r\n])")  # fmt: skip


def json_line(value: Any) -> str:
    """One line of JSON; characters that reorder or hide text are written as escapes, so nothing is lost."""
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", dump(value)) + "\n"


def visible(text: str) -> str:
    """The text with unseen characters as ``\\u202e`` and the like."""
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def without_control(text: str) -> str:
    """The text without the characters that XML and PNG text cannot hold."""
    return re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]", "\N{REPLACEMENT CHARACTER}", text)


def cell(value: Any) -> Any:
    """A spreadsheet cell: a text that would be calculated gets an apostrophe before it; numbers stay."""
    if value is None:
        return ""
    return _FORMULA.sub(r"\1'", visible(value)) if isinstance(value, str) else value


def plain(text: str) -> str:
    """A text that Markdown and HTML show as it is; the end of a very long one is cut off."""
    short = " ".join(visible(text).split())
    short = short if len(short) <= SHOWN else f"{short[:SHOWN]} … ({len(short):,} characters)"
    escaped = html.escape(short, quote=False)
    return re.sub(r"([\\`*_{}\[\]()#+!|~$])", r"\\\1", escaped)
