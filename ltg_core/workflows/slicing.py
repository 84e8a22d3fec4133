"""Slices: filters with a name, saved by hand or found by a search for weak ones."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ltg_core.data.column_reading import Base
from ltg_core.data.records import Filter
from ltg_core.data.runs import dump
from ltg_core.data.saved import from_record, to_record
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.introspection.statistics import wilson

_LONGEST = 200


@dataclasses.dataclass(frozen=True)
class Slice:
    """A named set of samples, with how the classifier does on it now.

    Attributes:
        id: Letters and digits.
        name: For people.
        description: One sentence; may be empty.
        kind: "saved" or "found".
        filter: Its samples: ``ws.query(slice.filter)`` gives their ids.
        n: How many there are.
        judged: How many of them have a label and a prediction.
        wrong: How many of those are wrong.
        low: Lower end of the 95 % interval of wrong / judged (Wilson), NaN where nothing is judged.
        high: Upper end.
        median: Median percentile of the signal that was asked for, NaN where there is none.
        evidence: Of a found slice, what was measured when it was found; see ``find_slices``.
        created: Seconds since 1970.
    """

    id: str
    name: str
    description: str
    kind: str
    filter: Filter
    n: int
    judged: int
    wrong: int
    low: float
    high: float
    median: float
    evidence: dict[str, Any]
    created: float

    @property
    def error(self) -> float:
        """Share of wrong ones, NaN where nothing is judged."""
        return self.wrong / self.judged if self.judged else math.nan


def slices(ws: Workspace, kind: str | None = None, signal: str = "") -> list[Slice]:
    """All slices: saved ones, the newest first, then found ones, the worst first.

    Args:
        ws: The workspace.
        kind: "saved", "found" or None for both.
        signal: Of which ``Slice.median`` is taken; "" for none.
    """
    rows = ws.database.rows("SELECT * FROM slices WHERE removed IS NULL ORDER BY kind DESC, seq DESC")
    base = ws.columns.base()
    found = [_slice(ws, base, row, signal) for row in rows if kind in (None, row["kind"])]
    return sorted(found, key=lambda one: (one.kind != "saved", one.evidence.get("place", 0)))


def slice_of(ws: Workspace, slice_id: str, signal: str = "") -> Slice:
    """One slice, also one that was removed.

    Raises:
        InputError: There is none with this id.
    """
    row = ws.database.row("SELECT * FROM slices WHERE id = ?", (slice_id,))
    if row is None:
        raise InputError(f"there is no slice {slice_id[:40]!r} in this workspace; it may be from another one")
    return _slice(ws, ws.columns.base(), row, signal)


def save_slice(ws: Workspace, name: str, chosen: Filter, description: str = "") -> str:
    """Keep a filter under a name; returns the slice's id.

    Raises:
        InputError: The name is empty, too long, or taken by another saved slice.
    """
    name = _name(ws, name)
    return insert(ws, "saved", name, description, to_record(chosen, ws.label_names()), {})


def rename_slice(ws: Workspace, slice_id: str, name: str) -> str:
    """Give a slice another name; returns the old one, so that it can be given back.

    Raises:
        InputError: As ``save_slice``, or there is no such slice.
    """
    old = slice_of(ws, slice_id).name
    if name != old:
        name = _name(ws, name)
        with ws.database.write() as connection:
            connection.execute("UPDATE slices SET name = ? WHERE id = ?", (name, slice_id))
    return old


def remove_slice(ws: Workspace, slice_id: str) -> str:
    """Remove a slice; no sample is touched, and ``restore_slice`` brings it back. Returns its name."""
    name = slice_of(ws, slice_id).name
    _mark(ws, slice_id, time.time())
    return name


def restore_slice(ws: Workspace, slice_id: str) -> str:
    """Bring back a slice that was removed; returns its name, which is changed where it is taken by now."""
    name = slice_of(ws, slice_id).name
    while name in _names(ws):
        name += " (again)"
    with ws.database.write() as connection:
        connection.execute("UPDATE slices SET removed = NULL, name = ? WHERE id = ?", (name, slice_id))
    return name


def keep_slice(ws: Workspace, slice_id: str) -> str:
    """Make a found slice a saved one, so that the next search leaves it; returns its name."""
    with ws.database.write() as connection:
        name = slice_of(ws, slice_id).name
        connection.execute("UPDATE slices SET kind = 'saved' WHERE id = ?", (slice_id,))
    return name


def _slice(ws: Workspace, base: Base, row: Any, signal: str) -> Slice:
    model = (ws.get_state("classifier") or {}).get("hash")
    chosen = from_record(json.loads(row["filter"]), ws.label_names(), model)
    needs = chosen.prediction is not None or chosen.correct is not None
    keep = np.zeros(len(base), dtype=bool) if needs and model is None else ws.columns.mask(chosen, base)
    pred = ws.columns.predictions(model, base).pred
    judged = keep & (pred >= 0) & (base.label >= 0)
    n, wrong = int(judged.sum()), int((judged & (pred != base.label)).sum())
    low, high = wilson(wrong, n) if n else (math.nan, math.nan)
    ranks = ws.columns.scores(model, signal, base).percentiles[keep] if signal else np.empty(0)
    ranks = ranks[~np.isnan(ranks)]
    return Slice(
        id=row["id"],
        name=row["name"],
        description=row["description"],
        kind=row["kind"],
        filter=chosen,
        n=int(keep.sum()),
        judged=n,
        wrong=wrong,
        low=low,
        high=high,
        median=float(np.median(ranks)) if len(ranks) else math.nan,
        evidence=json.loads(row["evidence"]),
        created=row["created"],
    )


@contextlib.contextmanager
def replace_found(ws: Workspace) -> Iterator[None]:
    """Slices that are found within the block take the place of those of the last search, or nothing changes."""
    with ws.database.write() as connection:
        connection.execute(
            "UPDATE slices SET removed = ? WHERE kind = 'found' AND removed IS NULL", (time.time(),)
        )
        yield


def add_evidence(ws: Workspace, slice_id: str, more: Mapping[str, Any]) -> None:
    """Write down what else was measured of a slice; what has the same name is replaced."""
    with ws.database.write() as connection:
        evidence = slice_of(ws, slice_id).evidence | dict(more)
        connection.execute("UPDATE slices SET evidence = ? WHERE id = ?", (dump(evidence), slice_id))


def insert(
    ws: Workspace,
    kind: str,
    name: str,
    description: str,
    chosen: Mapping[str, Any],
    evidence: Mapping[str, Any],
) -> str:
    """Write a slice down; returns its id."""
    slice_id = secrets.token_hex(8)
    with ws.database.write() as connection:
        connection.execute(
            "INSERT INTO slices (id, kind, name, description, filter, evidence, created) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (slice_id, kind, name, description, dump(chosen), dump(evidence), time.time()),
        )
    return slice_id


def _mark(ws: Workspace, slice_id: str, removed: float | None) -> None:
    with ws.database.write() as connection:
        connection.execute("UPDATE slices SET removed = ? WHERE id = ?", (removed, slice_id))


def _names(ws: Workspace) -> Sequence[str]:
    rows = ws.database.rows("SELECT name FROM slices WHERE kind = 'saved' AND removed IS NULL")
    return [row[0] for row in rows]


def _name(ws: Workspace, given: str) -> str:
    name = " ".join(given.split()).encode("utf-8", "replace").decode("utf-8")
    if not 1 <= len(name) <= _LONGEST:
        raise InputError(f"the name of a slice has 1 to {_LONGEST} characters; got {len(name):,}")
    if name in _names(ws):
        raise InputError(f"there is a slice called {name!r} already; choose another name, or remove that one")
    return name
