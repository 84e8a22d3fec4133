"""The way back from a backup (``backup``): nothing is made before the hash of every file was found right."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
import time
from pathlib import Path
from typing import IO

from ltg_core.data import leftovers
from ltg_core.data.backup import ABOUT, DATABASE, FORMAT, BackupReport, places
from ltg_core.data.database import explained
from ltg_core.data.packing import MANIFEST, every_few
from ltg_core.data.schema import SCHEMA_VERSION
from ltg_core.errors import InputError, WorkspaceError
from ltg_core.jobs import CancelToken, ProgressFn, no_progress

_BLOCK = 1 << 20


def restore(
    file: str | Path,
    workspace: str | Path,
    *,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> BackupReport:
    """Make the workspace that a backup holds, after the hash of every file was found right.

    Work that ran or waited when the backup was made is marked as interrupted: it can be resumed or started again, but
    nothing begins by itself.

    Args:
        file: What ``backup`` wrote.
        workspace: A folder that does not exist yet, or is empty; it appears whole or not at all.
        on_progress: Told about every few files.
        cancel: Checked at every file.

    Raises:
        InputError: There is something in ``workspace``, or ``file`` is no backup.
        WorkspaceError: The backup is damaged, incomplete or of a newer version, or the disk is full.
        Cancelled: On request.
    """
    source, out = Path(file), Path(workspace).absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            f"'{out}' is not empty, and nothing is overwritten; restore to another folder, or move this one away first"
        )
    if not source.is_file():
        raise InputError(f"there is no file '{source}'")
    with explained(out.parent, "folder of the workspace"):
        out.parent.mkdir(parents=True, exist_ok=True)
        leftovers.sweep(out.parent)
        made = out.parent / leftovers.hidden_name("restore.partial")
        made.mkdir(mode=0o700)
        try:
            with tempfile.TemporaryFile() as listed:
                unpacking = _Unpacking(made, listed, on_progress, cancel or CancelToken())
                try:
                    with open(source, "rb") as opened, tarfile.open(fileobj=opened, mode="r|") as tar:
                        unpacking.take(tar)
                except (tarfile.TarError, EOFError) as error:
                    raise WorkspaceError(f"the backup '{source}' is damaged or cut off ({error})") from error
            samples = sum(_settle(place) for place in places(made))
            os.replace(made, out)  # onto an empty folder at most
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return BackupReport(out, unpacking.workspaces, samples, unpacking.files, unpacking.bytes)


class _Unpacking:
    """A folder that is being filled from a tar file, and the list of what came."""

    def __init__(self, folder: Path, listed: IO[bytes], told: ProgressFn, cancel: CancelToken) -> None:
        self._folder, self._listed, self._told, self._cancel = folder, listed, every_few(told), cancel
        self.files = self.bytes = self.workspaces = 0

    def take(self, tar: tarfile.TarFile) -> None:
        """All of it.

        Raises:
            InputError: It is no backup.
            WorkspaceError: A file is not what it was, or the end is missing.
        """
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # tarfile would remember every one of millions
            self._cancel.check()
            if self.files == 0:
                self._introduce(
                    _content(tar, member) if member.name == ABOUT and member.size < _BLOCK else None
                )
            elif member.name == MANIFEST:
                self._compare(_content(tar, member))
                return
            elif member.islnk():
                self._link(_safe(member.name), _safe(member.linkname))
            else:
                self._write(_safe(member.name), _content(tar, member))
        raise WorkspaceError("the backup ends before its list of files; it is incomplete. Use another copy")

    def _introduce(self, content: IO[bytes] | None) -> None:
        data = content.read() if content is not None else b""
        try:
            said = json.loads(data)
            self.workspaces = int(said["workspaces"])
            newer = int(said["format"]) > FORMAT or int(said["schema"]) > SCHEMA_VERSION
        except (ValueError, KeyError, TypeError):
            raise InputError("this tar file is no backup of a workspace") from None
        if newer:
            raise WorkspaceError(
                f"the backup was written by a newer version ({said.get('version')}); update this package"
            )
        self._note(ABOUT, hashlib.sha256(data).hexdigest(), len(data))

    def _write(self, name: str, content: IO[bytes]) -> None:
        target, summed = self._place(name), hashlib.sha256()
        with open(target, "xb") as file:
            while block := content.read(_BLOCK):
                summed.update(block)
                file.write(block)
        self._note(name, summed.hexdigest(), target.stat().st_size)

    def _link(self, name: str, first: str) -> None:
        source, target = self._folder / first, self._place(name)
        if not source.is_file():
            raise WorkspaceError(f"the backup is damaged: {name} is a link to nothing in it")
        try:
            os.link(source, target)
        except FileExistsError:
            raise
        except OSError:  # a disk that knows no links
            shutil.copyfile(source, target)
        with open(target, "rb") as file:
            self._note(name, hashlib.file_digest(file, "sha256").hexdigest(), target.stat().st_size)

    def _place(self, name: str) -> Path:
        target = self._folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def _note(self, name: str, digest: str, size: int) -> None:
        self._listed.write(f"{digest}  {name}\n".encode())
        self.files += 1
        self.bytes += size
        self._told(self.files, self.bytes)

    def _compare(self, said: IO[bytes]) -> None:
        """The list as it was written against the list of what came, which has the same order."""
        self._listed.seek(0)
        for theirs, ours in itertools.zip_longest(said, self._listed):
            if theirs != ours:
                name = (theirs or ours).decode("utf-8", "replace").rstrip("\n")[66:]
                raise WorkspaceError(
                    f"the backup is damaged: {name} is not what it was. Nothing was restored; use another copy"
                )


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    found = tar.extractfile(member) if member.isreg() else None
    if found is None:
        raise InputError(f"this is no backup: {member.name!r} in it is no plain file")
    return found


def _safe(name: str) -> str:
    """The name, if it stays inside.

    Raises:
        InputError: It does not.
    """
    parts = name.split("/")
    if not name or "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise InputError(f"this is no backup: {name!r} in it leaves its folder")
    return name


def _settle(place: Path) -> int:
    """Look at a restored database and mark open work as interrupted; returns the number of samples."""
    why = "it was under way or waited when the backup was made"
    with contextlib.closing(sqlite3.connect(place / DATABASE)) as database, database:
        said = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if said != "ok":
            raise WorkspaceError(f"the database in the backup is damaged ({said})")
        for table, states in (("runs", "('running')"), ("jobs", "('queued', 'running')")):
            known = database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone()
            if known:  # the first format had no jobs
                database.execute(
                    f"UPDATE {table} SET state = 'interrupted', reason = ?, finished = ? WHERE state IN {states}",
                    (why, time.time()),
                )
        return int(database.execute("SELECT count(*) FROM samples").fetchone()[0])
