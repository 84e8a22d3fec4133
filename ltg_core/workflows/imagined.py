"""Names from generated images alone: what guided images show more often than their controls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ltg_core.data.records import Filter, Run, Sample
from ltg_core.data.saved import to_record
from ltg_core.data.workspace import Workspace
from ltg_core.errors import DatasetError, InputError
from ltg_core.introspection.paired import MoreOften, more_often
from ltg_core.introspection.statistics import wilson
from ltg_core.introspection.terms import Shown
from ltg_core.introspection.weak import WeakSettings
from ltg_core.jobs import CancelToken, ProgressFn, no_progress
from ltg_core.workflows.naming import ALL
from ltg_core.workflows.recording import recorded
from ltg_core.workflows.slicing import insert, replace_found
from ltg_core.workflows.terming import TermSettings, shown

IMAGINED = "imagined"
LEAST = 4
"""Guided images of a class that show a term, for it to be tried."""


def find_imagined(
    ws: Workspace,
    words: TermSettings | None = None,
    settings: WeakSettings | None = None,
    *,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Run:
    """Name what guidance brings: terms of a class that guided images show more often than controls of the same seeds.

    All guided images with a control count, sweeps of the weight and quarantined images left out; no real sample is
    needed. The findings
    replace those of the last search, as slices of the guided images that show the term.

    Args:
        ws: The workspace.
        words: Where words come from, a vocabulary or captions; None for the vocabulary.
        settings: ``alpha`` and ``most`` are read; None for the defaults.
        on_progress: Told about every few pictures.
        cancel: Checked at every picture.

    Raises:
        DatasetError: There are no guided images with controls.
        InputError: Words from metadata, or from something that is not there.
        EndpointError: Words come from an endpoint that cannot be used.
        Cancelled: On request.
    """
    words, settings = words or TermSettings(), settings or WeakSettings()
    if words.source == "metadata":
        raise InputError(
            "generated images have no metadata about what they show; take a vocabulary or captions"
        )
    with recorded(
        ws, "slices", {"outcome": IMAGINED, **settings.to_dict(), "words": words.to_dict()}
    ) as recording:
        guided = pairs(ws)
        ids = [one.id for one in guided] + [str(one.meta["control"]) for one in guided]
        labels = np.array([-1 if one.label is None else one.label for one in guided])
        seen = shown(ws, ids, np.tile(labels, 2), words, on_progress=on_progress, cancel=cancel)
        n = len(guided)
        both = seen.known[:n] & seen.known[n:]
        rows = np.flatnonzero(both)
        tested, tried = more_often(seen.present[:n][rows], seen.present[n:][rows], labels[rows], LEAST)
        found = [one for one in tested if one.q <= settings.alpha and one.low > 0]
        kept = specific(found)[: settings.most]
        with replace_found(ws):
            for place, one in enumerate(kept):
                _keep(ws, one, place, seen, [guided[i] for i in rows], seen.present[:n][rows], tried)
        recording.result |= {
            "outcome": IMAGINED,
            "words": words.source,
            "tried": tried,
            "significant": len(found),
            "shown": len(kept),
            "samples": len(rows),
            "bad": len(rows),
            "splits": [],
            "skipped": list(seen.skipped),
            "alpha": settings.alpha,
        }
    return recording.run


def pairs(ws: Workspace) -> list[Sample]:
    """Guided images that have a control, each control once; pairs of which an image is quarantined are left out.

    Raises:
        DatasetError: There are none.
    """
    found: dict[str, Sample] = {}
    sweeps = {run.id for run in ws.runs("generate") if run.settings.get("weights")}
    for sample in ws.there(ws.query(Filter(origin="generated", meta={"role": "guided"}))):
        control = sample.meta.get("control")
        if control and sample.origin not in sweeps and sample.belief != "quarantined":
            found.setdefault(str(control), sample)
    there = {sample.id for sample in ws.there(list(found)) if sample.belief != "quarantined"}
    kept = [sample for control, sample in found.items() if control in there]
    if not kept:
        raise DatasetError(
            "names come from believed guided images and their controls, and there are none yet; make some under "
            "Imagine, or with 'generate'"
        )
    return kept


def specific(found: list[MoreOften]) -> list[MoreOften]:
    """Of a term of all classes and the same of single classes, the single ones where there are any."""
    single = {one.term for one in found if one.label >= 0}
    return [one for one in found if one.label >= 0 or one.term not in single]


def _keep(
    ws: Workspace,
    one: MoreOften,
    place: int,
    seen: Shown,
    guided: list[Sample],
    present: np.ndarray,
    tried: int,
) -> None:
    labels, term = ws.label_names(), seen.terms[one.term]
    name = labels[one.label] if one.label >= 0 else ""
    ids: list[str] = []
    without: list[str] = []
    for sample, there in zip(guided, present[:, one.term], strict=True):
        if one.label in (-1, sample.label):
            (ids if there else without).append(sample.id)
    low, high = wilson(one.guided, one.pairs)
    evidence: dict[str, Any] = {
        "place": place,
        "outcome": IMAGINED,
        "n": one.pairs,
        "bad": one.guided,
        "low": low,
        "high": high,
        "rest": one.control / one.pairs,
        "log_odds": [one.log_odds, one.low, one.high],
        "p": one.p,
        "q": one.q,
        "tried": tried,
        "cluster": False,
        "effect": effect(ws, ids, without),
        "cell": {"class": name, "column": "", "value": term.name, "phrase": term.phrase},
    }
    said = f"{one.guided:,} of {one.pairs:,} guided images show it, {one.control:,} of their controls."
    title = f"{name or ALL} {term.phrase}"
    insert(ws, "found", title, said, to_record(Filter(ids=tuple(ids)), labels), evidence)


def effect(ws: Workspace, showing: Sequence[str], others: Sequence[str]) -> dict[str, Any]:
    """What the classifier in use makes of images that show a term and of those that do not.

    Returns:
        ``errors`` and ``percentiles`` (of ``signal``, "" for none): the means with and without the term, None where no
        image has one.
    """
    model = str((ws.get_state("classifier") or {}).get("hash", ""))
    known = ws.score_names(model) if model else []
    signal = next((name for name in ("epistemic", *known) if name in known), "")

    def mean(values: Sequence[float]) -> float | None:
        return float(np.mean(values)) if values else None

    errors: list[float | None] = []
    ranks: list[float | None] = []
    for ids in (showing, others):
        said = [one.correct for one in ws.predictions(ids, model).values()] if model else []
        scores = ws.scores(ids, model, signal) if signal else {}
        errors.append(mean([0.0 if right else 1.0 for right in said if right is not None]))
        ranks.append(mean([one.percentile for one in scores.values() if one.percentile == one.percentile]))
    return {"signal": signal, "errors": errors, "percentiles": ranks}
