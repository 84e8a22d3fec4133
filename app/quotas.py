"""How much of this machine a visitor, and all of them, may take; every refusal says what to do."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ltg_core.errors import InputError

log = logging.getLogger(__name__)

GIB = 2**30
_KEPT = 24 * 3600.0
"""Seconds after which an upload is taken away, unless a job that has not ended needs it."""
_LOOK = 120.0  # seconds between two counts of the workspace
SPARE = GIB  # of the disk, left to the rest of the machine


@dataclasses.dataclass(frozen=True)
class Limits:
    """What may be taken; 0 is no limit.

    Attributes:
        user_gb: Uploads of one visitor that are kept at a time.
        uploads_gb: Uploads of all.
        workspace_gb: The workspace, with those of all users where each has one.
        own_gb: The workspace of one user.
        user_jobs: Jobs of one visitor that wait or run.
        jobs: Jobs of all.
        job_hours: The longest that a job may run.
        events: Clicks and questions of all pages that wait to be answered.
        worker_gb: Memory of a worker process.
    """

    user_gb: float = 50.0
    uploads_gb: float = 200.0
    workspace_gb: float = 1000.0
    own_gb: float = 200.0
    user_jobs: int = 50
    jobs: int = 200
    job_hours: float = 72.0
    events: int = 2000
    worker_gb: float = 0.0


_FLAGS = MappingProxyType(
    {
        "user_gb": ("--max-user-gb", "uploads of one visitor that are kept at a time"),
        "uploads_gb": ("--max-uploads-gb", "uploads of all visitors"),
        "workspace_gb": ("--max-workspace-gb", "size of the workspace, with those of all users"),
        "own_gb": ("--max-user-workspace-gb", "size of one user's workspace, where each has one"),
        "user_jobs": ("--max-user-jobs", "jobs of one visitor that wait or run"),
        "jobs": ("--max-jobs", "jobs of all visitors"),
        "job_hours": ("--max-job-hours", "the longest that a job may run"),
        "events": (
            "--max-events",
            "clicks of all visitors that wait for an answer: some 20 for each who works at the same time",
        ),
        "worker_gb": (
            "--max-worker-gb",
            "memory of a worker process; without a GPU, or with --device cpu, only",
        ),
    }
)


def add_arguments(made: argparse.ArgumentParser) -> None:
    """The flags, in a group of their own."""
    group = made.add_argument_group("how much", "Limits of this server; 0 is none.")
    usual = Limits()
    for name, (flag, text) in _FLAGS.items():
        default = getattr(usual, name)
        group.add_argument(
            flag,
            dest=name,
            type=type(default),
            default=default,
            metavar="N",
            help=f"{text} (default: {default:g})",
        )


def limits_of(given: argparse.Namespace) -> Limits:
    """What the command line says.

    Raises:
        InputError: A negative limit.
    """
    values = {name: getattr(given, name) for name in _FLAGS}
    for name, value in values.items():
        if not 0 <= value < float("inf"):
            raise InputError(f"{_FLAGS[name][0]}: {value} is no limit; give 0 or more")
    return Limits(**values)


class Folder:
    """How large a folder is: counted now and then beside everything else, for it may hold a million files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._bytes, self._counted = 0, -1e9
        self._lock = threading.Lock()

    def bytes(self) -> int:
        """As of the last count; another is begun when that was long ago."""
        with self._lock:
            old = time.monotonic() - self._counted > _LOOK
            if old:
                self._counted = time.monotonic()
        if old:
            threading.Thread(target=self.count, name="disk", daemon=True).start()
        return self._bytes

    def count(self) -> int:
        """Count now."""
        self._bytes = size_of(self.path)
        return self._bytes


def size_of(path: Path) -> int:
    """Bytes of all files in a folder; one with several names counts once."""
    total, folders = 0, [str(path)]
    named: set[tuple[int, int]] = set()
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                        continue
                    state = entry.stat(follow_symlinks=False)
                    if state.st_nlink > 1:
                        if (state.st_dev, state.st_ino) in named:
                            continue
                        named.add((state.st_dev, state.st_ino))
                    total += state.st_size
        except OSError:  # gone meanwhile
            continue
    return total


class Uploads:
    """Whose the uploaded files are, how much each visitor has, and when they are taken away.

    Args:
        folder: Where they arrive.
        limits: What may be taken.
        needed: Gives the paths that unfinished jobs still need.
    """

    def __init__(self, folder: Path, limits: Limits, needed: Callable[[], Collection[str]] = tuple) -> None:
        self.folder, self.limits, self._needed = folder, limits, needed
        self._lock = threading.Lock()
        self._owners: dict[str, str] = {}  # path by owner
        self._coming: dict[str, int] = {}  # bytes on their way, by owner

    def admit(self, owner: str, size: int) -> str:
        """Say that this many bytes are coming; why not, or "". Everything that is admitted has to be ``arrived``."""
        self.sweep()
        with self._lock:
            own = sum(_size(path) for path, whose in self._owners.items() if whose == owner)
            own += self._coming.get(owner, 0)
            total = size_of(self.folder) + sum(self._coming.values())
            full = _full(own + size, self.limits.user_gb, "Your uploads", "--max-user-gb") or _full(
                total + size, self.limits.uploads_gb, "The uploads of all visitors", "--max-uploads-gb"
            )
            left = free(self.folder)
            if not full and left - sum(self._coming.values()) - size < SPARE:
                full = (
                    f"The server's disk has {left / GIB:,.1f} GB left, too little for this upload. "
                    "Delete exports or files that are no longer needed."
                )
            if not full:
                self._coming[owner] = self._coming.get(owner, 0) + size
            return full

    def arrived(self, owner: str, size: int, paths: Collection[str]) -> None:
        """An upload has ended, well or not."""
        with self._lock:
            rest = self._coming.get(owner, 0) - size
            if rest > 0:
                self._coming[owner] = rest
            else:
                self._coming.pop(owner, None)
            self._owners |= dict.fromkeys(paths, owner)

    def owner(self, path: str) -> str | None:
        """Who uploaded this file to this server; None for nobody."""
        return self._owners.get(path)

    def sweep(self, age: float = _KEPT) -> None:
        """Take away what was uploaded long ago and no unfinished job needs, also before a restart."""
        if not self.folder.is_dir():
            return
        needed, now = {os.path.realpath(path) for path in self._needed()}, time.time()
        for path in self.folder.glob("*/*"):
            try:
                old = path.is_file() and now - path.stat().st_mtime > age
                if old and os.path.realpath(path) not in needed:
                    path.unlink()
                    self._owners.pop(str(path), None)
                    path.parent.rmdir()
            except OSError:  # gone meanwhile, or its folder holds another
                continue


def _full(size: int, limit: float, what: str, flag: str) -> str:
    if not limit or size <= limit * GIB:
        return ""
    return (
        f"{what} would take {size / GIB:,.2f} GB, and {limit:,g} GB are allowed. Uploads are taken away a day after "
        f"they came; until then import less at a time, or have the server started with a larger {flag}."
    )


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def free(folder: Path) -> int:
    """Bytes that are left on the disk of a folder, which need not exist."""
    import shutil

    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


class Admission:
    """Whether another job may be queued.

    Args:
        disk: The workspace, with those of all users.
        limits: What may be taken.
        own: The user's, where each has one.
    """

    def __init__(self, disk: Folder, limits: Limits, own: Folder | None = None) -> None:
        self.limits, self.disk, self.own = limits, disk, own

    def check(self, own: int, others: int) -> None:
        """Of a visitor with ``own`` unfinished jobs beside ``others`` of everybody else.

        Raises:
            InputError: One of the limits is reached; says what to do.
        """
        limits = self.limits
        if limits.user_jobs and own >= limits.user_jobs:
            raise InputError(
                f"{own} jobs of yours wait or run, and {limits.user_jobs} are allowed; wait until one has ended or "
                "cancel one under Jobs (--max-user-jobs)"
            )
        if limits.jobs and own + others >= limits.jobs:
            raise InputError(
                f"{own + others} jobs wait or run on this server, and {limits.jobs} are allowed; try again when some "
                "have ended (--max-jobs)"
            )
        if self.own is not None:
            _roomy(self.own, limits.own_gb, "your workspace takes", "--max-user-workspace-gb")
            _roomy(self.disk, limits.workspace_gb, "the workspaces of all take", "--max-workspace-gb")
        else:
            _roomy(self.disk, limits.workspace_gb, "the workspace takes", "--max-workspace-gb")


def _roomy(folder: Folder, limit: float, what: str, flag: str) -> None:
    used = folder.bytes()
    if limit and used >= limit * GIB:
        raise InputError(
            f"{what} {used / GIB:,.1f} GB, and {limit:,g} GB are allowed; delete exports that are no longer needed, "
            f"or start the server with a larger {flag}"
        )


def texts_in(value: Any) -> list[str]:
    """All texts in the arguments of a job, among them the paths that it needs."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for one in value.values() for text in texts_in(one)]
    return [text for one in value for text in texts_in(one)] if isinstance(value, list) else []
