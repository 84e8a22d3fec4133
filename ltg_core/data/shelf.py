"""Columns of a large workspace in files, so that a server that starts again need not read its database.

A file may be lost, old, or cut short at any time: whoever reads it then reads the database. What a file holds is that
of one state of the database, and the database names the file: one that is put back from a copy names another, or none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import secrets
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ltg_core.data.database import Database
from ltg_core.errors import WorkspaceError

log = logging.getLogger(__name__)

FOLDER = "columns"
_STATE = "column "
_DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile)


class Shelf:
    """The files in ``columns`` beside a database.

    Args:
        database: The one whose columns they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._folder = database.path.parent / FOLDER

    def read(self, key: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """What was written of a column, and in which state; None where there is nothing that can be read."""
        row = self._database.row("SELECT value FROM state WHERE key = ?", (_STATE + _name(key),))
        if row is None:
            return None
        try:
            path = self._file(_name(key), json.loads(row[0]))
            with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
                found = {name: file[name] for name in file.files}
            about = json.loads(found.pop("about").tobytes())
            if about["key"] != json.loads(json.dumps(key)):
                return None
            return about, _nested(found)
        except _DAMAGED as error:
            log.info("a column is read from the database again: %s", error)
            return None

    def write(self, key: Any, about: dict[str, Any], value: Any) -> None:
        """Keep a column of the state that ``about`` tells; where that cannot be, nothing is kept, and the log says so.

        Args:
            key: Its name, of JSON values.
            about: JSON values, to be read back with it.
            value: An array, JSON values, or a dataclass of these.
        """
        name, token = _name(key), secrets.token_hex(8)
        told = np.frombuffer(json.dumps({**about, "key": key}).encode(), dtype=np.uint8)
        part = self._file(name, token).with_suffix(".part")
        try:
            self._folder.mkdir(exist_ok=True)
            with open(part, "wb") as file:
                np.savez(file, about=told, **_flat(value))
            os.replace(part, self._file(name, token))
            with self._database.write() as connection:
                connection.execute(
                    "INSERT OR REPLACE INTO state VALUES (?, ?)", (_STATE + name, json.dumps(token))
                )
        except (OSError, WorkspaceError) as error:
            log.warning("a column is not kept in a file, so the next start takes longer: %s", error)
            token = ""
        with contextlib.suppress(OSError):
            for old in self._folder.glob(f"{name}-*"):
                if token and old != self._file(name, token):
                    old.unlink(missing_ok=True)
            part.unlink(missing_ok=True)

    def _file(self, name: str, token: str) -> Path:
        return self._folder / f"{name}-{token}.npz"


def _name(key: Any) -> str:
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]


def _flat(value: Any, name: str = "v") -> dict[str, Any]:
    """Arrays by their place in a value."""
    if isinstance(value, np.ndarray):
        return {name: value}
    if dataclasses.is_dataclass(value):
        found: dict[str, Any] = {}
        for field in dataclasses.fields(value):
            found |= _flat(getattr(value, field.name), f"{name}.{field.name}")
        return found
    return {f"{name}:json": np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)}


def _nested(arrays: dict[str, Any]) -> dict[str, Any]:
    """The places back from their names: ``{"seq": array, "split": {"codes": array, "values": list}}``."""
    root: dict[str, Any] = {}
    for name, array in arrays.items():
        *path, last = name.removesuffix(":json").split(".")[1:]
        inside = root
        for step in path:
            inside = inside.setdefault(step, {})
        inside[last] = json.loads(array.tobytes()) if name.endswith(":json") else array
    return root
