"""Finding and naming for a worker process: JSON values in and out, as in ``tasks``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ltg_core.data.records import REAL, Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import LtgError
from ltg_core.jobs import CancelToken, Progress, ProgressFn
from ltg_core.models.classifier import Classifier
from ltg_core.workflows.asking import ASKED, AskSettings, find_asked
from ltg_core.workflows.causes import CauseSettings, cell_to_check, check_cause
from ltg_core.workflows.imagined import IMAGINED, find_imagined
from ltg_core.workflows.naming import find_slices
from ltg_core.workflows.pool import POOL, retrieve, text_of
from ltg_core.workflows.setup import active_classifier, active_generator, stored_classifier
from ltg_core.workflows.slicing import add_evidence
from ltg_core.workflows.spurious import find_habits
from ltg_core.workflows.terming import TermSettings

SHOWN = 6
"""Pictures of each kind that are kept beside a finding."""


def meant(ws: Workspace, model_hash: str) -> Classifier:
    """The classifier that the page meant when it asked: the active one may be another by now."""
    record = ws.get_state("classifier") or {}
    if not model_hash or record.get("hash") == model_hash:
        return active_classifier(ws)
    return stored_classifier(ws, model_hash)


def _find_slices(
    ws: Workspace,
    *,
    outcome: str,
    classifier: str = "",
    words: Mapping[str, Any] | None = None,
    ask: Mapping[str, Any] | None = None,
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> Any:
    wanted = None if words is None else TermSettings.from_dict(dict(words))
    if outcome == IMAGINED:
        run = find_imagined(ws, wanted, on_progress=on_progress, cancel=cancel)
    elif outcome == ASKED:
        on_progress(Progress(0, 0, "loading the generator"))
        asked, generator = AskSettings.from_dict(dict(ask or {})), active_generator(ws)
        run = find_asked(
            ws, meant(ws, classifier), generator, wanted, asked, on_progress=on_progress, cancel=cancel
        )
    else:
        judged = meant(ws, classifier)
        run = find_slices(ws, judged, outcome, words=wanted, on_progress=on_progress, cancel=cancel)
    return {"run": run.id, **run.result}


def _check_cause(
    ws: Workspace,
    *,
    slice: str,
    classifier: str = "",
    signal: str = "epistemic",
    pairs: int = CauseSettings.pairs,
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> Any:
    """The check, then real pictures beside the imagined ones where there is a pool."""
    judged, cell = meant(ws, classifier), cell_to_check(ws, slice)
    on_progress(Progress(0, 0, "loading the generator"))
    run = check_cause(
        ws,
        judged,
        active_generator(ws),
        cell,
        CauseSettings(signal=signal, pairs=pairs),
        slice_id=slice,
        on_progress=on_progress,
        cancel=cancel,
    )
    add_evidence(ws, slice, {"real": _real(ws, judged, cell, run.result["with"], on_progress, cancel)})
    return {"run": run.id, "verdict": run.result["verdict"], "errs": run.result["errs"]}


def _check_causes(
    ws: Workspace, *, slices: Sequence[str], on_progress: ProgressFn, cancel: CancelToken, **given: Any
) -> Any:
    """One after another; each is written down when it is done."""
    found = []
    for place, one in enumerate(slices, start=1):

        def told(progress: Progress, before: str = f"{place} of {len(slices)}: ") -> None:
            on_progress(dataclasses.replace(progress, message=before + progress.message))

        found.append(_check_cause(ws, slice=one, on_progress=told, cancel=cancel, **given))
    return {"checked": len(found), "errs": sum(one["errs"] for one in found)}


def _real(
    ws: Workspace,
    classifier: Classifier,
    cell: Mapping[str, Any],
    imagined: list[str],
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> dict[str, Any]:
    """Ids from the pool that fit the words, and that are like the imagined failures; what hindered it, in words."""
    if not ws.count(Filter(split=POOL, origin=REAL)):
        return {}
    said = ws.predictions(imagined, classifier.hash)
    labels = {sample.id: sample.label for sample in ws.samples(imagined)}
    failed = [one for one in imagined if one in said and said[one].pred != labels[one]]
    found: dict[str, Any] = {}
    asked: dict[str, dict[str, Any]] = {"text": {"text": text_of(ws, dict(cell))}}
    if failed:
        asked["likeness"] = {"like": failed}
    for name, how in asked.items():
        try:
            got = retrieve(ws, classifier, number=SHOWN, on_progress=on_progress, cancel=cancel, **how)
            found[name] = [dataclasses.asdict(one) for one in got.evidence]
        except LtgError as error:
            found["missing"] = str(error)
    return found


def _find_habits(
    ws: Workspace,
    *,
    classifier: str = "",
    columns: Sequence[str] = (),
    signal: str = "epistemic",
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> Any:
    """Of the terms of the vocabulary, or of metadata columns; the page reads the result from the run."""
    run = find_habits(
        ws,
        meant(ws, classifier),
        columns,
        words=None if columns else TermSettings(),
        signal=signal,
        on_progress=on_progress,
        cancel=cancel,
    )
    return {"run": run.id, "habits": len(run.result["habits"])}


NAMING_TASKS: dict[str, Callable[..., Any]] = {
    "find_slices": _find_slices,
    "check_cause": _check_cause,
    "check_causes": _check_causes,
    "find_habits": _find_habits,
}
