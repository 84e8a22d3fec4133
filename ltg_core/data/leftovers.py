"""What a killed export leaves: hidden folders and files beside its place, taken away at the next start or export."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import time
from pathlib import Path

from ltg_core.data.processes import alive, host, owner

PREFIX = ".longtail-export-"
_OWNED = re.compile(
    re.escape(PREFIX) + r"(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-(?P<started>\d*)-[0-9a-f]{12}\.[a-z.]+"
)
_STALE_SECONDS = 24 * 3600


def hidden_name(ending: str) -> str:
    """A new name that says whose it is: host, process, chance; ``ending`` is "partial", "zip.partial" …"""
    pid, _, started = owner().partition(":")
    return f"{PREFIX}{host()}-{pid}-{started}-{secrets.token_hex(6)}.{ending}"


def set_aside(folder: Path, old: Path) -> None:
    """Rename a folder that is about to be replaced; should the process die now, ``sweep`` puts it back."""
    _label(old).write_text(folder.name, encoding="utf-8")
    os.replace(folder, old)


def put_back(old: Path) -> None:
    """Undo ``set_aside``."""
    os.replace(old, old.with_name(_label(old).read_text(encoding="utf-8")))
    _label(old).unlink()


def remove(path: Path) -> None:
    """Take a leftover away, with its label."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    _label(path).unlink(missing_ok=True)


def sweep(folder: Path) -> list[str]:
    """Take away what processes that are gone left in a folder; returns the names.

    An earlier export that was set aside when the process died is put back where nothing took its place. Folders of
    another machine are left alone for a day, for its processes cannot be seen from here.
    """
    found: list[str] = []
    with contextlib.suppress(OSError):  # a folder that cannot be read is told when something is written there
        for path in sorted(folder.glob(f"{PREFIX}*")):
            if (
                path.suffix == ".name"
            ):  # goes with its folder; alone where the process died before or after that
                if not path.with_suffix("").exists() and _lost(path):
                    path.unlink(missing_ok=True)
                continue
            if not _lost(path):
                continue
            with contextlib.suppress(OSError, UnicodeDecodeError):
                if path.suffix == ".old" and _label(path).is_file() and not _home(path).exists():
                    put_back(path)
                else:
                    remove(path)
                found.append(path.name)
    return found


def _label(old: Path) -> Path:
    return old.with_name(old.name + ".name")


def _home(old: Path) -> Path:
    name = Path(_label(old).read_text(encoding="utf-8")).name
    return old.with_name(name) if name else old


def _lost(path: Path) -> bool:
    said = _OWNED.fullmatch(path.name)
    if said is not None and said["host"] == host():
        return not alive(f"{said['pid']}:{said['started']}")
    return time.time() - path.stat().st_mtime > _STALE_SECONDS
