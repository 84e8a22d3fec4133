"""The search for weak slices, and names for them: which words go with errors, with a signal, with guidance."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ltg_core.data.column_reading import Base
from ltg_core.data.records import REAL, Filter, Range, Run
from ltg_core.data.saved import to_record
from ltg_core.data.workspace import Workspace
from ltg_core.errors import DatasetError
from ltg_core.introspection.candidates import Column, Condition
from ltg_core.introspection.terms import SHOWS, Shown, Term
from ltg_core.introspection.weak import Findings, WeakSettings, WeakSlice, find_weak
from ltg_core.jobs import CancelToken, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.workflows.breakdown import ranges
from ltg_core.workflows.recording import recorded
from ltg_core.workflows.slicing import insert, replace_found
from ltg_core.workflows.store import FeatureStore
from ltg_core.workflows.terming import TermSettings, shown

ERRORS = "errors"
HELD_OUT = ("val", "test")
RARE = 90.0
"""Percentile of a signal from which a sample counts as rare."""
CLASS, SAID = "class", "prediction"
ALL = "all classes"
# Of generated samples, or of the import; they say nothing about the world.
NO_CONDITIONS = frozenset({"given_label", "prompt", "seed", "source", "control", "role", "caption"})


def find_slices(
    ws: Workspace,
    classifier: Classifier,
    outcome: str = ERRORS,
    settings: WeakSettings | None = None,
    *,
    words: TermSettings | None = None,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Run:
    """Search held-out real samples for slices with more errors than the rest, or with more rare samples.

    Without ``words``, values of class, prediction and metadata are tried alone and in pairs, and groups of samples that
    look alike to the classifier. With them, the candidates are those that can be named and asked for: a class, a word,
    a class with a word; groups that look alike are called by the words that they show. The slices replace those of the
    last search.

    Args:
        ws: The workspace.
        classifier: Scored on it.
        outcome: "errors", or the name of a signal, for samples at its 90th percentile and above.
        settings: None for the defaults.
        words: Where words come from.
        on_progress: Told about every stage.
        cancel: Checked between stages; the slices of the last search stay.

    Returns:
        The run; its result says ``tried``, ``significant``, ``shown``, ``samples``, ``bad``, ``splits``, ``skipped``.

    Raises:
        DatasetError: Nothing is held out, labelled and scored.
        InputError: Words come from something that is not there.
        EndpointError: Words come from an endpoint that cannot be used.
        Cancelled: On request.
    """
    settings = settings or WeakSettings()
    record = {"outcome": outcome, **settings.to_dict(), **({"words": words.to_dict()} if words else {})}
    with recorded(
        ws, "slices", record, seed=settings.seed, hashes={"classifier": classifier.hash}
    ) as recording:
        base = ws.columns.base()
        places, bad = _outcome(ws, base, classifier, outcome)
        columns, apart, skipped = _columns(ws, base, classifier, places), [], tuple[str, ...]()
        if outcome == ERRORS:
            apart.append(frozenset({CLASS, SAID}))
        if words is not None:
            seen = None
            if words.source != "metadata":
                ids = ws.columns.ids(places)
                seen = shown(ws, ids, base.label[places], words, on_progress=on_progress, cancel=cancel)
                skipped = seen.skipped
            columns, apart = named(columns, seen)
        features = _features(ws, base, classifier, places) if settings.use_clusters else None
        found = find_weak(
            bad, columns, features, settings, apart=apart, on_progress=on_progress, cancel=cancel
        )
        _store(ws, base, places, found, outcome)
        recording.result |= {
            "outcome": outcome,
            "words": words.source if words else "",
            "tried": found.tried,
            "significant": found.significant,
            "shown": len(found.slices),
            "samples": found.n,
            "bad": found.bad,
            "splits": [name for name in HELD_OUT if name in ws.splits()],
            "skipped": [*found.skipped, *skipped],
            "smallest": settings.smallest,
            "alpha": settings.alpha,
        }
    return recording.run


def named(columns: Sequence[Column], seen: Shown | None) -> tuple[list[Column], list[frozenset[str]]]:
    """The class and what can be asked for in words, and the pairs that are not tried: all but those with the class."""
    kept = [column for column in columns if column.name == CLASS]
    if seen is None:
        kept += [c for c in columns if c.name not in (CLASS, SAID) and not _numbers(c)]
    else:
        kept += seen.columns()
    others = sorted({column.name for column in kept} - {CLASS})
    return kept, [frozenset(pair) for pair in itertools.combinations(others, 2)]


def _numbers(column: Column) -> bool:
    return any(isinstance(v, (Range, float)) for v in column.values)


def cell_of(conditions: Sequence[Condition]) -> dict[str, Any] | None:
    """What a slice asks a generator for (``class``, "" for any; ``column``, ``value``, ``phrase``), or None."""
    names = [name for name, _ in conditions]
    others = [(name, value) for name, value in conditions if name != CLASS]
    if len(others) != 1 or SAID in names:
        return None
    column, value = others[0]
    label = next((str(value) for name, value in conditions if name == CLASS), "")
    if isinstance(value, Term):
        return {"class": label, "column": "", "value": value.name, "phrase": value.phrase}
    if isinstance(value, (Range, float)):
        return None
    return {"class": label, "column": column, "value": value, "phrase": ""}


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
        if name in NO_CONDITIONS:
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


def _store(ws: Workspace, base: Base, places: np.ndarray, found: Findings, outcome: str) -> None:
    """Write the findings down in place of those of the last search."""
    with replace_found(ws):
        for place, one in enumerate(found.slices):
            _keep(ws, base, places, one, place, found, outcome)


def _keep(
    ws: Workspace,
    base: Base,
    places: np.ndarray,
    one: WeakSlice,
    place: int,
    found: Findings,
    outcome: str,
) -> None:
    labels = ws.label_names()
    chosen: dict[str, Any] = {"split": HELD_OUT, "origin": REAL, "meta": {}}
    for name, value in one.conditions:
        if name in (CLASS, SAID):
            chosen["label" if name == CLASS else "prediction"] = labels.index(value)
        else:
            chosen["meta"][name] = value
    if not one.conditions or SHOWS in chosen["meta"]:
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
        "cell": cell_of(one.conditions),
    }
    insert(ws, "found", said(one), _sentence(one, outcome), to_record(Filter(**chosen), labels), evidence)


def said(one: WeakSlice) -> str:
    """A found slice in a few words."""
    if one.conditions:
        term = next((value for _, value in one.conditions if isinstance(value, Term)), None)
        told = [_words(*condition) for condition in one.conditions if condition[1] is not term]
        return ", ".join(told) if term is None else f"{', '.join(told) or ALL} {term.phrase}"
    if not one.typical:
        return f"Similar images ({one.n:,})"
    return "Similar images: " + ", ".join(
        f"{_words(*what)} ({100 * share:.0f} %)" for what, share in one.typical
    )


def _words(column: str, value: Any) -> str:
    if column == CLASS:
        return str(value)
    if isinstance(value, Term):
        return value.name
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
