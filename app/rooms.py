"""A workspace for every user: opened when its user comes, closed when nobody has used it for a while."""

from __future__ import annotations

import dataclasses
import logging
import shutil
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

from app import visitors
from app.context import AppContext
from app.lanes import Machine
from app.settings import Settings
from app.users import Users, folder_of, usual_file
from ltg_core.data.cloning import DATABASE, clone
from ltg_core.errors import InputError, LtgError

log = logging.getLogger(__name__)

IDLE = 1800.0
"""Seconds after which a workspace that nobody looks at and that has no unfinished job is closed."""
_LOOK = 5.0
_PAGES = 20_000  # pages whose user is remembered


@dataclasses.dataclass
class _Room:
    ctx: AppContext
    used: float


class Rooms:
    """The workspaces of all users, on one machine.

    What the command line asks for is opened once, in ``prepared``; a new user's workspace begins as a copy of it, and
    one that is there already stays as its user has it.

    Args:
        settings: From the command line; ``settings.workspace`` holds ``users/`` and ``prepared/``.
        idle: Seconds after which an unused workspace is closed.
    """

    def __init__(self, settings: Settings, *, idle: float = IDLE) -> None:
        self.settings, self.machine, self._idle = settings, Machine(settings), idle
        self.users = Users(settings.users or usual_file())
        self.prepared = self._context(settings.workspace / "prepared")
        self._rooms: dict[str, _Room] = {}
        self._doors: dict[str, threading.Lock] = {}
        self._pages: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()
        self._started, self._ended = False, threading.Event()

    def of(self, user: str) -> AppContext:
        """The workspace of a user, opened if need be.

        Raises:
            InputError: Nobody asks, or somebody who is no user.
            WorkspaceError: It cannot be opened.
        """
        room = self._rooms.get(user)
        if room is None:
            with self._door(user):
                room = self._rooms.get(user) or self._opened(user)
        room.used = time.monotonic()
        return room.ctx

    def here(self) -> AppContext:
        """The workspace of whoever the event that is being handled comes from."""
        user, page = visitors.name(), visitors.page()
        if page and not self.owns(user, page):
            raise InputError("this page belongs to somebody else; load it again")
        return self.of(user)

    def owns(self, user: str, page: str) -> bool:
        """Whether a page is the user's: it belongs to whoever used its id first."""
        with self._lock:
            owner = self._pages.setdefault(page, user)
            self._pages.move_to_end(page)
            while len(self._pages) > _PAGES:
                self._pages.popitem(last=False)
        return owner == user

    def waits_for(self, user: str) -> str:
        """What has to end before a new user's workspace can be made, in words; "" where it can be opened now."""
        if user in self._rooms or folder_of(self.settings.workspace, user).exists():
            return ""
        job = self.prepared.latest("open")
        if job is None:
            return "The server is starting." if self.prepared.warming else ""
        return "" if job.ended else f"{job.title}: {job.progress.message}."

    def start(self) -> None:
        """Begin what the command line asked for, and the jobs that the last server left."""
        self._started = True
        self.prepared.start()
        threading.Thread(target=self._keep, name="rooms", daemon=True).start()

    def close(self) -> None:
        """End the workers and close everything; jobs that wait are found again at the next start."""
        self._ended.set()
        self.machine.close()
        for room in (*self._rooms.values(), _Room(self.prepared, 0.0)):
            room.ctx.leave()

    def sweep(self) -> None:
        """Close what nobody uses, and what belongs to users who were removed."""
        try:
            known = set(self.users.names())
        except InputError:  # the log-in says so, and lets nobody in
            return
        for user, room in list(self._rooms.items()):
            if user not in known:
                for job in room.ctx.jobs.all():
                    room.ctx.jobs.cancel(job.id)
            with self._door(user):
                unused = user not in known or time.monotonic() - room.used > self._idle
                if unused and all(job.ended for job in room.ctx.jobs.all()) and not room.ctx.warming:
                    del self._rooms[user]
                    room.ctx.leave()
                    self._clear(user, known)

    def _clear(self, user: str, known: set[str]) -> None:
        """What a job wrote after ``users remove --delete-data`` had taken the rest away."""
        folder = folder_of(self.settings.workspace, user)
        if user not in known and folder.exists() and not (folder / DATABASE).exists():
            shutil.rmtree(folder, ignore_errors=True)

    def _keep(self) -> None:
        try:
            self._resume()
        except LtgError:
            log.exception("the users cannot be read")
        while not self._ended.wait(_LOOK):
            try:
                self.sweep()
            except Exception:  # the thread's last frame: the next look may go well
                log.exception("the workspaces could not be looked after")

    def _resume(self) -> None:
        """Open the workspaces in which jobs wait, although their users are not here."""
        for user in self.users.names():
            folder = folder_of(self.settings.workspace, user)
            try:
                if (folder / DATABASE).is_file() and waiting(folder / DATABASE):
                    self.of(user)
            except LtgError:  # the user meets it again, in words
                log.exception("the workspace of %s cannot be opened", user)

    def _opened(self, user: str) -> _Room:
        if not user or user not in self.users.names():
            raise InputError("log in first: load the page again")
        folder = folder_of(self.settings.workspace, user)
        new = not folder.exists()
        if new:
            _ = self.prepared.workspace  # made, where it could not be filled
            clone(self.prepared.settings.workspace, folder)
        room = _Room(self._context(folder), time.monotonic())
        if self._started:
            filled = self.prepared.latest("open")
            # Where it failed before, it fails again, where the user sees why.
            room.ctx.start(opens=new and (filled is None or filled.state != "done"))
        else:
            room.ctx.restore()
        self._rooms[user] = room
        return room

    def _context(self, folder: Path) -> AppContext:
        return AppContext(dataclasses.replace(self.settings, workspace=folder), self.machine)

    def _door(self, user: str) -> threading.Lock:
        with self._lock:
            return self._doors.setdefault(user, threading.Lock())


class Here:
    """Stands for the workspace of whoever asks, so that one page serves all users.

    The page itself holds nothing of anybody: outside of an event there is no workspace here, only the settings.

    Args:
        rooms: Everybody's.
    """

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self.settings = rooms.settings

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rooms.here(), name)


def waiting(database: Path) -> bool:
    """Whether jobs wait in a workspace that is not open."""
    import contextlib
    import sqlite3

    try:
        with contextlib.closing(sqlite3.connect(database)) as opened:
            row = opened.execute("SELECT count(*) FROM jobs WHERE state = 'queued'").fetchone()
    except sqlite3.Error:  # opening it says in words what is wrong
        return True
    return bool(row[0])
