"""Does the background decide? Context that moves the answers or a signal, and where it may come from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ltg_core.data.column_reading import Base
from ltg_core.data.records import REAL, Filter, Run
from ltg_core.data.workspace import Workspace
from ltg_core.errors import DatasetError, InputError
from ltg_core.introspection.habits import habits, lifts
from ltg_core.jobs import CancelToken, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.workflows.naming import HELD_OUT, NO_CONDITIONS
from ltg_core.workflows.recording import recorded
from ltg_core.workflows.terming import TermSettings, shown

_MOST_VALUES = 60
_MOST = 50


def find_habits(
    ws: Workspace,
    classifier: Classifier,
    columns: Sequence[str] = (),
    *,
    words: TermSettings | None = None,
    signal: str = "epistemic",
    alpha: float = 0.05,
    smallest: int = 12,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Run:
    """Spurious correlations on held-out real samples: which context makes the classifier say which class.

    Args:
        ws: The workspace.
        classifier: Scored on it.
        columns: Metadata columns of text or true and false that are context: background, camera, weather.
        words: Or a vocabulary, of which the terms that are marked as context count, and all where none is marked.
        signal: Whose percentiles are compared within the classes.
        alpha: Expected share of false findings among those shown, at most.
        smallest: Rarer terms are not tried.
        on_progress: Told about every few pictures.
        cancel: Checked at every few pictures.

    Returns:
        The run; its result has ``habits`` (term, answer, n, said, rest, expected, ratio and its interval, p, q, and how
        often training samples of the answer and of other classes show the term), ``lifts`` (term, n, change and its
        interval, p, q), ``tried`` (of both), ``samples``.

    Raises:
        InputError: Neither columns nor words, an unknown column, or no context in the vocabulary.
        DatasetError: Nothing is held out, labelled and scored.
        Cancelled: On request.
    """
    if bool(columns) == bool(words):
        raise InputError("name the metadata columns that are context, or take a vocabulary: one of the two")
    settings: dict[str, Any] = {
        "columns": list(columns),
        "words": words.to_dict() if words else None,
        "signal": signal,
    }
    settings |= {"alpha": alpha, "smallest": smallest}
    with recorded(ws, "habits", settings, hashes={"classifier": classifier.hash}) as recording:
        base = ws.columns.base()
        pred = ws.columns.predictions(classifier.hash, base).pred
        held = ws.columns.mask(Filter(split=HELD_OUT, origin=REAL), base) & (pred >= 0) & (base.label >= 0)
        if not held.any():
            raise DatasetError(
                "habits are tested on labelled, scored real samples of the splits 'val' and 'test'; there are none"
            )
        train = ws.columns.mask(Filter(split="train", origin=REAL), base) & (base.label >= 0)
        places = np.flatnonzero(held | train)
        names, there = _context(ws, base, places, columns, words, on_progress, cancel)
        mine = held[places]
        labels, answers = base.label[places], pred[places]
        found, tried = habits(there[mine], labels[mine], answers[mine], smallest)
        ranks = ws.columns.scores(classifier.hash, signal, base).percentiles[places]
        ranked = mine & ~np.isnan(ranks)
        moved, tried_too = lifts(there[ranked], labels[ranked], ranks[ranked], smallest)
        taught = train[places]
        recording.result |= {
            "habits": [
                {**dataclasses.asdict(one), "term": names[one.term], "answer": classifier.labels[one.answer]}
                | _taught(there[taught][:, one.term], labels[taught] == one.answer)
                for one in found
                if one.q <= alpha
            ][:_MOST],
            "lifts": [
                {**dataclasses.asdict(one), "term": names[one.term]} for one in moved if one.q <= alpha
            ][:_MOST],
            "tried": [tried, tried_too],
            "samples": int(mine.sum()),
        }
    return recording.run


def _taught(there: np.ndarray, own: np.ndarray) -> dict[str, float | None]:
    """How often the training samples of the class that is said, and those of the others, show the term."""
    return {
        "trained": float(there[own].mean()) if own.any() else None,
        "trained_others": float(there[~own].mean()) if (~own).any() else None,
    }


def _context(
    ws: Workspace,
    base: Base,
    places: np.ndarray,
    columns: Sequence[str],
    words: TermSettings | None,
    on_progress: ProgressFn,
    cancel: CancelToken | None,
) -> tuple[list[str], np.ndarray]:
    """Names (T) and presence (N, T) of what is context."""
    if words is not None:
        seen = shown(
            ws, ws.columns.ids(places), base.label[places], words, on_progress=on_progress, cancel=cancel
        )
        marked = [i for i, term in enumerate(seen.terms) if term.context] or list(range(len(seen.terms)))
        return [seen.terms[i].phrase for i in marked], seen.present[:, marked]
    names: list[str] = []
    masks: list[Any] = []
    known = [name for name in ws.meta_columns() if name not in NO_CONDITIONS]
    for column in columns:
        if column not in known:
            raise InputError(
                f"there is no metadata column {column!r}; there are: {', '.join(known) or 'none'}"
            )
        coded = ws.columns.meta(column, base)
        codes = coded.codes[places]
        here = [code for code in np.unique(codes).tolist() if code >= 0]
        if len(here) > _MOST_VALUES:
            raise InputError(f"{column!r} has {len(here):,} values; context has {_MOST_VALUES} at most")
        names += [f"{column} {coded.values[code]}" for code in here]
        masks += [codes == code for code in here]
    return names, np.stack(masks, axis=1)
