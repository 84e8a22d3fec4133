"""Whether the server can do its work, for those who look after machines: a word for each thing that hinders it."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import tempfile
import threading
import time
from pathlib import Path

from app.context import AppContext
from app.quotas import SPARE, free
from app.rooms import Rooms
from ltg_core.data.cloning import DATABASE

log = logging.getLogger(__name__)

_KEPT = 1.0  # seconds for which an answer holds, however often somebody asks
_PATIENCE = 1.0  # seconds for the database


class Health:
    """Looks at what all work needs. Its words go to anybody who asks, so they name nothing of the machine.

    Args:
        site: The workspace of the process, or those of its users.
    """

    def __init__(self, site: AppContext | Rooms) -> None:
        self._machine, self._folder = site.machine, site.settings.workspace
        # Of users' workspaces the one that new ones are copied from stands for all.
        inner = site.prepared.settings.workspace if isinstance(site, Rooms) else self._folder
        self._database = inner / DATABASE
        self._looked, self._found = -1e9, list[str]()
        self._lock = threading.Lock()

    def wrong(self) -> list[str]:
        """What hinders the work, as of the last second; empty where nothing does."""
        with self._lock:
            if time.monotonic() - self._looked > _KEPT:
                before, self._found = self._found, self._look()
                self._looked = time.monotonic()
                if self._found and self._found != before:
                    log.error("not healthy: %s", "; ".join(self._found))
            return self._found

    def _look(self) -> list[str]:
        machine = self._machine
        found = [_of_database(self._database), _of_disk(self._folder), machine.lanes.trouble()]
        return [text for text in (*found, machine.trouble) if text]


def _of_database(path: Path) -> str:
    if not path.exists():
        return ""  # the server is starting, and makes it
    try:
        # A path may hold what means something in an address.
        address = path.resolve().as_uri() + "?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=_PATIENCE)) as opened:
            opened.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except (sqlite3.Error, OSError):
        log.exception("the database does not answer")
        return "the database does not answer"
    return ""


def _of_disk(folder: Path) -> str:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
            file.flush()
        left = free(folder)
    except FileNotFoundError:
        return "the workspace is not there"
    except OSError:
        log.exception("the workspace cannot be written to")
        return "the workspace cannot be written to"
    return "" if left >= SPARE else "less than a gigabyte of the disk is free"
