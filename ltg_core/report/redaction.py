"""Texts without file names and paths, for a report that leaves the house."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath, PureWindowsPath

HIDDEN = "[file]"
_SUFFIXES = (
    "png|jpe?g|webp|bmp|tiff?|gif|heic|raw|dng|zip|tar|gz|parquet|csv|tsv|jsonl?|npy|npz|safetensors|pth?|th|ckpt|bin|"
    "onnx|pt2|html?|pdf|txt"
)
# With a known ending, whatever stands before it without a space; or something that starts like an absolute path.
_NAME = re.compile(rf"[^\s\"'<>|,;()]+\.(?:{_SUFFIXES})\b", re.IGNORECASE)
_PATH = re.compile(r"(?<![\w.])(?:[A-Za-z]:[\\/]|\\\\|~?/)[^\s\"'<>|,;()]*[\\/][^\s\"'<>|,;()]*")
_SHORTEST = 3


class Redactor:
    """Takes file names and paths out of texts.

    Args:
        known: Names that must not appear, whole paths or parts of them; also without their ending.
        on: False for one that leaves every text as it is.
    """

    def __init__(self, known: Iterable[str], *, on: bool = True) -> None:
        self.on = on
        names: set[str] = set()
        for one in known:
            for pure in (PurePosixPath(one), PureWindowsPath(one)):
                names |= {one, pure.name, pure.stem}
        # The longest first: "a/b.png" before "b.png".
        self.known = sorted(
            (n for n in names if len(n) >= _SHORTEST and not n.isdigit()), key=lambda n: (-len(n), n)
        )

    def __call__(self, text: str) -> str:
        """The text with every file name and path replaced."""
        if not self.on:
            return text
        for name in self.known:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", HIDDEN, text)
        return _PATH.sub(HIDDEN, _NAME.sub(HIDDEN, text))
