"""Paths on this machine, for those who sit at it, and paths of uploads, for those who sent them."""

from __future__ import annotations

from pathlib import Path

from app import visitors
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


def uploaded(ctx: AppContext, path: str) -> Path:
    """A file that this visitor has sent.

    Raises:
        InputError: Somebody else has, or it came before the server was restarted.
    """
    uploads, visitor = ctx.machine.uploads, visitors.uploader()
    if uploads is not None and visitor is not None and uploads.owner(path) != visitor:
        raise InputError("this file is not known to the server any more; choose it again")
    return Path(path)
