"""Paths on this machine, for those who sit at it."""

from __future__ import annotations

from pathlib import Path

from app.context import AppContext
from ltg_core.errors import InputError


def local_path(ctx: AppContext, text: str) -> Path:
    """A path that exists.

    Raises:
        InputError: The page is served to others too, or there is nothing.
    """
    if not ctx.settings.local:
        raise InputError(
            "paths can be given only where the page is served to this machine alone; upload a file instead"
        )
    if not (text or "").strip() or "\0" in text:
        raise InputError("give a path")
    place = Path(text.strip()).expanduser()
    if not place.exists():
        raise InputError(f"'{place}' does not exist")
    return place
