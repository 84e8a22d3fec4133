"""Backup of a workspace while it is in use, and its way back: one tar file that holds the hash of all that is in it.

What is kept is what a power cut at one moment would have left, which every workspace is made to survive. For that
moment writers wait: the database's state is pinned and every small file gets a second name. Then everything is copied
at leisure; images need no pin, for a file of their name never changes.

```
longtail-backup.json        what it is
longtail.sqlite             the database as it was at the moment
images/… thumbs/…           of the samples in it
arrays/… models/… runs/… exports/…
MANIFEST.sha256             one line for each of these files, as sha256sum writes it
```
A server's folder with several users' workspaces holds each of them below its own path.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ltg_core.data import leftovers
from ltg_core.data.blobs import temporary_name
from ltg_core.data.database import explained
from ltg_core.data.packing import Packing
from ltg_core.data.schema import SCHEMA_VERSION
from ltg_core.errors import InputError
from ltg_core.jobs import CancelToken, ProgressFn, no_progress

DATABASE = "longtail.sqlite"
ABOUT = "longtail-backup.json"
FORMAT = 1
_PINNED = ("arrays", "models", "runs", "exports")
_BLOCK = 1 << 20


@dataclasses.dataclass(frozen=True)
class BackupReport:
    """What a backup or a restore did.

    Attributes:
        path: The file that was written, or the folder.
        workspaces: How many it holds; more than one for a server with users.
        samples: Rows of all of them.
        files: How many files.
        bytes: Of those files.
        missing: Pictures that samples name and that were gone already, by path.
    """

    path: Path
    workspaces: int
    samples: int
    files: int
    bytes: int
    missing: tuple[str, ...] = ()


def backup(
    workspace: str | Path,
    target: str | Path,
    *,
    exports: bool = True,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> BackupReport:
    """Write everything that a workspace holds into one file; others may be using it meanwhile.

    Args:
        workspace: A workspace, or the folder of a server with users.
        target: A ``.tar`` that is not there yet; it appears whole or not at all.
        exports: Whether exports come along; they can be written again from what is kept.
        on_progress: Told about every few files.
        cancel: Checked at every file; a stopped backup leaves nothing.

    Raises:
        InputError: There is no workspace, or something is at ``target`` already.
        WorkspaceError: The disk is full, or the database is damaged.
        Cancelled: On request.
    """
    source, out = Path(workspace), Path(target).absolute()
    found = places(source)
    if not found:
        raise InputError(f"there is no workspace in '{source}'")
    if out.exists():
        raise InputError(
            f"'{out}' is there already; give the backup another name, or take that one away first"
        )
    if not out.parent.is_dir():
        raise InputError(f"there is no folder '{out.parent}'")
    with explained(out.parent, "folder of the backup"):
        leftovers.sweep(out.parent)
        partial = out.parent / leftovers.hidden_name("backup.partial")
        try:
            with open(partial, "xb") as file, tempfile.TemporaryFile() as listed:
                packing = Packing(file, listed, len(found) > 1, on_progress, cancel or CancelToken())
                packing.say(ABOUT, _about(len(found)))
                for place in found:
                    _pack(packing, place, _prefix(source, place), exports)
                packing.end()
                file.flush()
                os.fsync(file.fileno())
            _name(partial, out)
        finally:
            partial.unlink(missing_ok=True)
    counts = (len(found), packing.samples, packing.files, packing.bytes)
    return BackupReport(out, *counts, tuple(packing.missing))


def places(folder: Path) -> list[Path]:
    """Workspaces in a folder: itself, and those of a server's users."""
    found = [folder, folder / "prepared"]
    users = folder / "users"
    if users.is_dir():
        found += sorted(path for path in users.iterdir() if not path.name.startswith("."))
    return [place for place in found if (place / DATABASE).is_file()]


def _pack(packing: Packing, place: Path, prefix: str, exports: bool) -> None:
    """One workspace: the moment is pinned, then copied."""
    folders = [name for name in _PINNED if exports or name != "exports"]
    held = _room(place) / temporary_name()
    held.mkdir()
    try:
        _copy(packing, place, held, prefix, folders)
    finally:
        shutil.rmtree(held, ignore_errors=True)


def _copy(packing: Packing, place: Path, held: Path, prefix: str, folders: list[str]) -> None:
    with contextlib.closing(_connected(place)) as reader:
        with contextlib.closing(_connected(place)) as writer:
            writer.execute("BEGIN IMMEDIATE")  # writers wait while files get their second names
            reader.execute("BEGIN")
            reader.execute("SELECT version FROM schema_version").fetchone()
            for folder in folders:
                _pin(place / folder, held / folder)
            writer.execute("ROLLBACK")
        with contextlib.closing(sqlite3.connect(held / DATABASE)) as copy:
            reader.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
        reader.execute("ROLLBACK")
    packing.add(prefix + DATABASE, held / DATABASE)
    _pictures(packing, place, held / DATABASE, prefix)
    for folder in folders:
        for path in _files(held / folder):
            packing.add(prefix + path.relative_to(held).as_posix(), path)


def _pictures(packing: Packing, place: Path, database: Path, prefix: str) -> None:
    """Images and thumbnails of the samples in the copy of the database; what is gone is told."""
    with contextlib.closing(sqlite3.connect(database)) as copy:
        packing.samples += int(copy.execute("SELECT count(*) FROM samples").fetchone()[0])
        for hash, suffix in copy.execute(
            "SELECT DISTINCT image_hash, suffix FROM samples ORDER BY image_hash"
        ):
            name = f"images/{hash[:2]}/{hash}.{suffix}"
            try:
                packing.add(prefix + name, place / name)
            except FileNotFoundError:
                packing.missing.append(prefix + name)
            thumb = f"thumbs/{hash[:2]}/{hash}.webp"
            with contextlib.suppress(FileNotFoundError):  # it is made again when it is wanted
                packing.add(prefix + thumb, place / thumb)


def _pin(source: Path, target: Path) -> None:
    """A second name for every file, so that it stays as it is now; a copy where the disk knows no links.

    Files that a job may write on in place are copied.
    """
    for path in _files(source):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # a job has just replaced or removed it
            if source.name == "runs" and path.suffix not in (".safetensors", ".ckpt"):
                shutil.copyfile(path, place)
                continue
            try:
                os.link(path, place)
            except FileNotFoundError:
                raise
            except OSError:
                shutil.copyfile(path, place)


def _files(folder: Path) -> Iterator[Path]:
    """Plain files below a folder by name; half-written ones, links and packed exports are left out."""
    for base, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(base) / name
            packed = Path(base) == folder and folder.name == "exports" and name.endswith(".zip")
            if not name.startswith(".") and not packed and path.is_file() and not path.is_symlink():
                yield path


def _room(place: Path) -> Path:
    """Where second names can be given: in the workspace itself, where it can be written."""
    room = place / "tmp"
    return room if room.is_dir() and os.access(room, os.W_OK) else Path(tempfile.gettempdir())


def _connected(place: Path) -> sqlite3.Connection:
    return sqlite3.connect(place / DATABASE, timeout=30, isolation_level=None)


def _name(partial: Path, out: Path) -> None:
    """Give a finished file its name, unless somebody was quicker."""
    try:
        os.link(partial, out)  # unlike a rename it does not overwrite
    except FileExistsError:
        raise InputError(f"'{out}' has appeared meanwhile and was left alone") from None
    except OSError:  # a disk that knows no links
        os.rename(partial, out)


def _prefix(folder: Path, place: Path) -> str:
    return "" if place == folder else place.relative_to(folder).as_posix() + "/"


def _about(count: int) -> str:
    from ltg_core import __version__

    said: dict[str, Any] = {
        "what": "backup of a longtail workspace",
        "format": FORMAT,
        "schema": SCHEMA_VERSION,
        "workspaces": count,
        "version": __version__,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    return json.dumps(said, indent=1) + "\n"
