"""Words for a browser: of paths on this machine only the last part is told; the log has the rest."""

from __future__ import annotations

import re

# From a slash that begins a word to the end of the path: at least two parts, so that "accept/reject" and "3 / 12" are
# left alone. In quotes a path may hold spaces.
_QUOTED = re.compile(
    r"""(?P<mark>['"“‘])(?:/|[A-Za-z]:\\)[^'"“”‘’\n]*[/\\](?P<name>[^'"“”‘’/\\\n]*)(?=['"”’])"""
)
_PLAIN = re.compile(r"(?<![\w./:~'\"])(?:/[\w.@+~-]+)+/(?P<name>[\w.@+~-]+)")


def discreet(text: str) -> str:
    """The text with every path cut down to its last part."""
    if "/" not in text and "\\" not in text:
        return text
    text = _QUOTED.sub(lambda found: found["mark"] + (found["name"] or "…"), text)
    return _PLAIN.sub(lambda found: found["name"], text)
