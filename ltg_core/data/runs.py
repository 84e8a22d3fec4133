"""The record of work done: start, finish, and what a killed process left running."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import platform
import secrets
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ltg_core.data.blobs import safe_name
from ltg_core.data.database import Database
from ltg_core.data.processes import alive, owner
from ltg_core.data.records import RUN_STATES, Run
from ltg_core.errors import InputError

_RECORDED = ("torch", "numpy", "pillow", "diffusers", "transformers", "timm", "captum")


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python, this package and the libraries that decide results."""
    from ltg_core import __version__

    found = {"python": platform.python_version(), "longtail": __version__}
    for name in _RECORDED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def start(
    database: Database,
    kind: str,
    settings: Mapping[str, Any],
    seed: int | None,
    hashes: Mapping[str, Any],
    parent: str | None,
    id: str = "",
) -> Run:
    """Record that work begins in this process; a run of the given id that is there already is taken up."""
    safe_name(kind)
    now = time.time()
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    run_id = safe_name(id) if id else f"{kind}-{stamp}-{secrets.token_hex(3)}"
    values = (
        run_id,
        kind,
        "running",
        dump(settings),
        seed,
        dump(hashes),
        dump(versions()),
        now,
        parent,
        owner(),
    )
    with database.write() as connection:
        new = connection.execute(
            "INSERT INTO runs (id, kind, state, settings, seed, hashes, versions, started, parent, owner)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
            values,
        ).rowcount
    return get(database, run_id) if new else resume(database, run_id)


def finish(database: Database, run_id: str, state: str, reason: str, result: Mapping[str, Any] | None) -> Run:
    """Record how work ended."""
    if state not in RUN_STATES:
        raise InputError(f"there is no run state {state!r}; known: {', '.join(RUN_STATES)}")
    get(database, run_id)
    with database.write() as connection:
        connection.execute(
            "UPDATE runs SET state = ?, reason = ?, finished = ? WHERE id = ?",
            (state, reason, time.time(), run_id),
        )
        if result is not None:
            connection.execute("UPDATE runs SET result = ? WHERE id = ?", (dump(result), run_id))
    return get(database, run_id)


def resume(database: Database, run_id: str, *, alone: bool = False) -> Run:
    """Record that this process takes up a run that ended early; with ``alone`` none that another process works at.

    Raises:
        InputError: It is done, or another process works at it.
    """
    run = get(database, run_id)
    if run.state == "done":
        raise InputError(f"run {run_id} is done; there is nothing to resume")
    with database.write() as connection:
        row = connection.execute("SELECT state, owner FROM runs WHERE id = ?", (run_id,)).fetchone()
        if alone and row["state"] == "running" and row["owner"] != owner() and alive(row["owner"]):
            raise InputError(
                f"another process works at {run_id} (process {row['owner'].partition(':')[0]}); wait until it has "
                "ended, or stop it first"
            )
        connection.execute(
            "UPDATE runs SET state = 'running', reason = '', finished = NULL, owner = ? WHERE id = ?",
            (owner(), run_id),
        )
    return get(database, run_id)


def leave(database: Database, run_id: str, reason: str, result: Mapping[str, Any]) -> Run:
    """Record that this process has done its part of a run; what another one took up or finished stays as it is."""
    with database.write() as connection:
        connection.execute(
            "UPDATE runs SET state = 'interrupted', reason = ?, finished = ?, result = ?"
            " WHERE id = ? AND state = 'running' AND owner = ?",
            (reason, time.time(), dump(result), run_id, owner()),
        )
    return get(database, run_id)


def get(database: Database, run_id: str) -> Run:
    """The run with this id."""
    found = find(database, run_id)
    if found is None:
        raise InputError(f"there is no run {run_id!r} in this workspace")
    return found


def find(database: Database, run_id: str) -> Run | None:
    """The same, None where there is none."""
    row = database.row("SELECT * FROM runs WHERE id = ?", (run_id,))
    return None if row is None else _run(row)


def every(database: Database, kind: str | None) -> list[Run]:
    """All runs, or those of one kind, the newest first."""
    if kind is None:
        rows = database.rows("SELECT * FROM runs ORDER BY seq DESC")
    else:
        rows = database.rows("SELECT * FROM runs WHERE kind = ? ORDER BY seq DESC", (kind,))
    return [_run(row) for row in rows]


def mark_interrupted(database: Database) -> list[str]:
    """Mark the runs whose process is gone; returns their ids."""
    running = database.rows("SELECT id, owner FROM runs WHERE state = 'running'")
    lost = [row["id"] for row in running if not alive(row["owner"])]
    if lost:
        with database.write() as connection:
            connection.executemany(
                "UPDATE runs SET state = 'interrupted', finished = ?, reason = ? WHERE id = ?",
                [
                    (time.time(), "its process ended before it finished; what was done is kept", i)
                    for i in lost
                ],
            )
    return lost


def dump(value: Any) -> str:
    """JSON text; arrays, paths and sets are made plain, NaN becomes null (SQLite reads no NaN)."""
    try:
        return json.dumps(value, ensure_ascii=False, sort_keys=True, default=_plain, allow_nan=False)
    except ValueError:
        loose = json.dumps(value, ensure_ascii=False, sort_keys=True, default=_plain)
        strict = json.loads(loose, parse_constant=lambda name: None if name == "NaN" else name)
        return json.dumps(strict, ensure_ascii=False, sort_keys=True, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Path):
        return str(value)
    for method in ("to_dict", "tolist"):
        if hasattr(value, method):
            return getattr(value, method)()
    return str(value)


def _run(row: sqlite3.Row) -> Run:
    return Run(
        id=row["id"],
        kind=row["kind"],
        state=row["state"],
        settings=json.loads(row["settings"]),
        seed=row["seed"],
        hashes=json.loads(row["hashes"]),
        versions=json.loads(row["versions"]),
        started=row["started"],
        finished=row["finished"],
        reason=row["reason"],
        parent=row["parent"],
        result=json.loads(row["result"]),
    )
