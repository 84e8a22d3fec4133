"""A second workspace with the same samples, in a moment: files are linked, for none is ever changed in place."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import uuid
from collections.abc import Callable
from pathlib import Path

from ltg_core.data.database import explained

DATABASE = "longtail.sqlite"
_LINKED = ("images", "thumbs", "arrays", "models")
_COPIED = ("runs",)


def clone(source: Path, target: Path) -> None:
    """Make a workspace that holds what another one holds; its jobs and exports stay behind.

    Args:
        source: The folder of a workspace; others may be reading it.
        target: Appears whole or not at all; left alone where it is there already.

    Raises:
        WorkspaceError: The disk is full or read-only.
    """
    with explained(target):
        if target.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = target.parent / f".{target.name}.{uuid.uuid4().hex}.part"
        made.mkdir(mode=0o700)
        try:
            _copy_database(source / DATABASE, made / DATABASE)
            for name in (*_LINKED, *_COPIED):
                _take(source / name, made / name, _linked if name in _LINKED else shutil.copy2)
            os.rename(made, target)
        finally:
            shutil.rmtree(made, ignore_errors=True)


def _take(source: Path, target: Path, copy: Callable[[str, str], object]) -> None:
    """A folder with everything in it; the first error ends it, so that a full disk is called by its name."""
    for folder, _, files in os.walk(source):
        place = target / Path(folder).relative_to(source)
        place.mkdir()
        for name in files:
            copy(os.path.join(folder, name), str(place / name))


def _linked(file: str, name: str) -> None:
    """Another name of the file; a copy where the disk knows no links."""
    try:
        os.link(file, name)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        shutil.copy2(file, name)


def _copy_database(file: Path, copy: Path) -> None:
    with contextlib.closing(sqlite3.connect(file)) as old, contextlib.closing(sqlite3.connect(copy)) as new:
        old.backup(new)
        with new:
            new.execute("DELETE FROM jobs")
