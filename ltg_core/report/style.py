"""The report's style sheet, which travels inside the file."""

from __future__ import annotations

import functools
from pathlib import Path


@functools.cache
def style() -> str:
    """The rules of ``report.css``."""
    return Path(__file__).with_name("report.css").read_text(encoding="utf-8")
