"""Slices: filters with a name, saved by hand or found by a search for weak ones."""

from __future__ import annotations

import dataclasses
import json
import math
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltg_core.data.columns import Base
from ltg_core.data.records import REAL, Filter, Range, Run
from ltg_core.data.runs import dump
from ltg_core.data.saved import from_record, to_record
from ltg_core.data.workspace import Workspace
from ltg_core.errors import DatasetError, InputError
from ltg_core.introspection.candidates import Column
from ltg_core.introspection.statistics import wilson
from ltg_core.introspection.weak import Findings, WeakSettings, WeakSlice, find_weak
from ltg_core.jobs import CancelToken, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.workflows.breakdown import ranges
from ltg_core.workflows.recording import recorded
from ltg_core.workflows.store import FeatureStore

ERRORS = "errors"
HELD_OUT = ("val", "test")
RARE = 90.0
"""Percentile of a signal from which a sample counts as rare."""
_LONGEST = 200
CLASS, SAID = "class", "prediction"
# Of generated samples, or of the import; they say nothing about the world.
_NO_CONDITIONS = frozenset({"given_label", "prompt", "seed", "source", "control", "role", "caption"})


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
    return _insert(ws, "saved", name, description, to_record(chosen, ws.label_names()), {})


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


def find_slices(
    ws: Workspace,
    classifier: Classifier,
    outcome: str = ERRORS,
    settings: WeakSettings | None = None,
    *,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Run:
    """Search held-out real samples for slices with more errors than the rest, or with more rare samples.

    Values of class, prediction and metadata are tried alone and in pairs, and groups of samples that look alike to
    the classifier. The slices replace those of the last search.

    Args:
        ws: The workspace.
        classifier: Scored on it.
        outcome: "errors", or the name of a signal, for samples at its 90th percentile and above.
        settings: None for the defaults.
        on_progress: Told about every stage.
        cancel: Checked between stages; the slices of the last search stay.

    Returns:
        The run; its result says ``tried``, ``significant``, ``shown``, ``samples``, ``bad``, ``splits``, ``skipped``.

    Raises:
        DatasetError: Nothing is held out, labelled and scored.
        Cancelled: On request.
    """
    settings = settings or WeakSettings()
    record = {"outcome": outcome, **settings.to_dict()}
    with recorded(
        ws, "slices", record, seed=settings.seed, hashes={"classifier": classifier.hash}
    ) as recording:
        base = ws.columns.base()
        places, bad = _outcome(ws, base, classifier, outcome)
        columns = _columns(ws, base, classifier, places)
        features = _features(ws, base, classifier, places) if settings.use_clusters else None
        apart = [frozenset({CLASS, SAID})] if outcome == ERRORS else []
        found = find_weak(
            bad, columns, features, settings, apart=apart, on_progress=on_progress, cancel=cancel
        )
        with ws.database.write() as connection:
            connection.execute(
                "UPDATE slices SET removed = ? WHERE kind = 'found' AND removed IS NULL", (time.time(),)
            )
            for place, one in enumerate(found.slices):
                _keep(ws, base, places, one, place, found, outcome)
        recording.result |= {
            "outcome": outcome,
            "tried": found.tried,
            "significant": found.significant,
            "shown": len(found.slices),
            "samples": found.n,
            "bad": found.bad,
            "splits": [name for name in HELD_OUT if name in ws.splits()],
            "skipped": list(found.skipped),
            "smallest": settings.smallest,
            "alpha": settings.alpha,
        }
    return recording.run


def _outcome(
    ws: Workspace, base: Base, classifier: Classifier, outcome: str
) -> tuple[np.ndarray, np.ndarray]:
    """Places of the samples to search, and which of them are bad."""
    keep = ws.columns.mask(Filter(split=HELD_OUT, origin=REAL), base)
    if outcome == ERRORS:
        pred = ws.columns.predictions(classifier.hash, base).pred
        keep &= (pred >= 0) & (base.label >= 0)
        bad = pred != base.label
    else:
        ranks = ws.columns.scores(classifier.hash, outcome, base).percentiles
        keep &= ~np.isnan(ranks)
        bad = ranks >= RARE
    places = np.flatnonzero(keep)
    if not len(places):
        wanted = "labelled, scored" if outcome == ERRORS else f"scored by {outcome}"
        raise DatasetError(
            f"slices are tested on {wanted} real samples of the splits 'val' and 'test', which the classifier has not "
            "learned from; there are none. Hold some out when you import (--holdout), then score them"
        )
    return places, bad[places]


def _columns(ws: Workspace, base: Base, classifier: Classifier, places: np.ndarray) -> list[Column]:
    """Class, prediction and metadata of these samples; numbers in quarters."""
    names = tuple(ws.label_names()) or classifier.labels
    found = [Column(CLASS, base.label[places], names)]
    found.append(Column(SAID, ws.columns.predictions(classifier.hash, base).pred[places], names))
    for name in ws.meta_columns():
        if name in _NO_CONDITIONS:
            continue
        coded = ws.columns.meta(name, base)
        codes, values = coded.codes[places], coded.values
        parts = ranges(dataclasses.replace(coded, codes=codes), parts=4)
        if parts:
            numbers = np.array([float(value) for value in values])
            edges = [part.high for part in parts[:-1]]
            codes = np.where(codes < 0, -1, np.searchsorted(edges, numbers[codes], side="right"))
            values = tuple(parts)
        found.append(Column(name, codes, values))
    return found


def _features(ws: Workspace, base: Base, classifier: Classifier, places: np.ndarray) -> np.ndarray | None:
    ids = ws.columns.ids(places)
    store = FeatureStore(ws, classifier)
    return None if store.missing(ids) else store.features(ids)


def _keep(
    ws: Workspace,
    base: Base,
    places: np.ndarray,
    one: WeakSlice,
    place: int,
    found: Findings,
    outcome: str,
) -> None:
    """Write one finding down."""
    labels = ws.label_names()
    chosen: dict[str, Any] = {"split": HELD_OUT, "origin": REAL, "meta": {}}
    for name, value in one.conditions:
        if name in (CLASS, SAID):
            chosen["label" if name == CLASS else "prediction"] = labels.index(value)
        else:
            chosen["meta"][name] = value
    if not one.conditions:
        chosen = {"ids": tuple(ws.columns.ids(places[one.mask]))}
    evidence = {
        "place": place,
        "outcome": outcome,
        "n": one.n,
        "bad": one.bad,
        "low": one.low,
        "high": one.high,
        "rest": one.rest,
        "p": one.p,
        "q": one.q,
        "tried": found.tried,
        "cluster": not one.conditions,
    }
    _insert(ws, "found", _said(one), _sentence(one, outcome), to_record(Filter(**chosen), labels), evidence)


def _said(one: WeakSlice) -> str:
    """A found slice in a few words."""
    if one.conditions:
        return ", ".join(_words(*condition) for condition in one.conditions)
    if not one.typical:
        return f"Similar images ({one.n:,})"
    return "Similar images: " + ", ".join(
        f"{_words(*what)} ({100 * share:.0f} %)" for what, share in one.typical
    )


def _words(column: str, value: Any) -> str:
    if column == CLASS:
        return str(value)
    if column == SAID:
        return f"read as {value}"
    if not isinstance(value, Range):
        return f"{column} {str(value).lower() if isinstance(value, bool) else value}"
    if math.isinf(value.low):
        return f"{column} < {value.high:g}"
    return (
        f"{column} ≥ {value.low:g}" if math.isinf(value.high) else f"{column} {value.low:g} to {value.high:g}"
    )


def _sentence(one: WeakSlice, outcome: str) -> str:
    what = "are wrong" if outcome == ERRORS else f"are at P 90 of {outcome} or above"
    return f"{one.bad:,} of {one.n:,} held-out samples {what}; {100 * one.rest:.1f} % of the others."


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


def _insert(
    ws: Workspace,
    kind: str,
    name: str,
    description: str,
    chosen: Mapping[str, Any],
    evidence: Mapping[str, Any],
) -> str:
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
