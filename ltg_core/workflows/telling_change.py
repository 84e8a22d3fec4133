"""Before and after, for a report: the newest comparison that is about the classifier in use."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ltg_core.data.records import Run
from ltg_core.data.workspace import Workspace
from ltg_core.evaluation.frame import LOWER_IS_BETTER
from ltg_core.models.classifier import Classifier
from ltg_core.report import Change, Redactor, Step
from ltg_core.workflows.compared import chances, figure_words, learned_from, overall
from ltg_core.workflows.comparing import KIND

_WORSE = 12


def before_after(ws: Workspace, classifier: Classifier, hide: Redactor) -> Change | None:
    """What changed, what became worse first; None where no comparison is about this classifier.

    Args:
        ws: The workspace.
        classifier: The one in use: what came out of a retraining, or what it was compared with.
        hide: Redacts texts; where it is on, classifiers have no names.
    """
    found = _newest(ws, classifier.hash)
    if found is None:
        return None
    run, arm, own = found
    result = run.result
    worse = result["regressions"][arm["name"]]
    shown = told_of(worse)
    notes = [chances(arm), *result["notes"]]
    return Change(
        about=hide(_about(result, arm, own=own, named=not hide.on)),
        worse=tuple(_step(one, hide) for one in worse[:shown]),
        more=len(worse) - shown,
        overall=tuple(_step(one, hide) for one in overall(arm)),
        note=hide(" ".join(_sentence(note) for note in notes if note)),
        learned=tuple(hide(part) for part in learned_from(arm.get("quality"))),
    )


def told_of(worse: Sequence[Mapping[str, Any]]) -> int:
    """How many regressions a report lists: all that are certain, which come first, and some of the others."""
    return min(len(worse), max(_WORSE, sum(bool(one["certain"]) for one in worse)))


def comparison_record(ws: Workspace, classifier: Classifier) -> tuple[str, str] | None:
    """Name and words for the part on how a report was made."""
    found = _newest(ws, classifier.hash)
    if found is None:
        return None
    run, given = found[0], found[0].settings
    day = time.strftime("%Y-%m-%d", time.localtime(run.started))
    return (
        f"Comparison {run.id}",
        f"{day}; paired bootstrap over images, {given['rounds']:,} resamples, seed {given['seed']}; images "
        f"{run.result['images']['fingerprint'][:12]}",
    )


def _newest(ws: Workspace, hash: str) -> tuple[Run, dict[str, Any], bool] | None:
    """The comparison, the arm that is told of, and whether that is the classifier itself."""
    for run in ws.runs(KIND):
        if run.state != "done":
            continue
        trained = [arm for arm in run.result["arms"] if arm.get("free") is None]
        mine = next((arm for arm in trained if hash in arm["classifiers"]), None)
        if mine is not None:
            return run, mine, True
        if hash in run.result["base"]["classifiers"] and run.result["arms"]:
            return run, next(iter(trained), run.result["arms"][0]), False
    return None


def _about(result: Mapping[str, Any], arm: Mapping[str, Any], *, own: bool, named: bool) -> str:
    base = f"“{result['base']['name']}”" if named else "the classifier that it came from"
    other = f"“{arm['name']}”" if named else "another version"
    seeds = len(arm["classifiers"])
    mean = f" (the mean of {seeds} trainings)" if seeds > 1 else ""
    images = result["images"]
    what = (
        f"Before is {base}, after is this classifier as it was retrained{mean}"
        if own
        else f"Before is this classifier, after would be {other}{mean}, which is not in use"
    )
    return (
        f"{what}. Both were measured on the same {images['n']:,} real images of the split “{images['split']}”, from "
        "which neither learned; 95\u00a0% intervals of the change."
    )


def _step(one: Mapping[str, Any], hide: Redactor) -> Step:
    turned = one["name"] in LOWER_IS_BETTER
    name = figure_words(str(one["name"]))
    return Step(
        name=hide(name[:1].upper() + name[1:] + (", less is better" if turned else "")),
        before=float(one["before"]),
        after=float(one["after"]),
        low=one["low"],
        high=one["high"],
        images=one["n"],
        worse=bool(one["worse"]),
        certain=bool(one["certain"]),
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
