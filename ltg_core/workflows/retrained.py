"""Classifiers that retraining made: by run, by hash, and which of them is used from now on."""

from __future__ import annotations

from ltg_core.data.records import Run
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.models.classifier import Classifier
from ltg_core.workflows.setup import stored_classifier, use_classifier

KIND = "retrain"


def adopt(ws: Workspace, ref: str) -> Classifier:
    """Make a retrained classifier the active one: a run (its best seed) or a classifier's hash.

    Its head is not fitted yet; ``fit_head`` and ``score`` begin the loop again.

    Raises:
        InputError: There is none.
    """
    found = best_of(ws, ref)
    return use_classifier(ws, found)


def best_of(ws: Workspace, ref: str) -> Classifier:
    """The classifier that ``ref`` names, of a run the one with the best validation figure."""
    run = _run_of(ws, ref)
    if run is None:
        return stored_classifier(ws, _hash_of(ws, ref))
    if "best" not in run.result:
        raise InputError(f"{run.id} has no classifier yet: it is {run.state}")
    return stored_classifier(ws, run.result["best"])


def arm_of(ws: Workspace, ref: str) -> list[Classifier]:
    """All classifiers that ``ref`` names: "active", a hash or its beginning, or a run with one a seed.

    Raises:
        InputError: There is none.
    """
    if ref == "active":
        record = ws.get_state("classifier")
        if record is None:
            raise InputError("no classifier is active yet")
        return [stored_classifier(ws, record["hash"], labels=record["labels"])]
    run = _run_of(ws, ref)
    if run is None:
        return [stored_classifier(ws, _hash_of(ws, ref))]
    made = [one["classifier"] for one in run.result.get("seeds", [])]
    if not made:
        raise InputError(f"{run.id} has no classifier yet: it is {run.state}")
    return [stored_classifier(ws, hash) for hash in made]


def _run_of(ws: Workspace, ref: str) -> Run | None:
    return next((run for run in ws.runs(KIND) if run.id == ref), None)


def _hash_of(ws: Workspace, ref: str) -> str:
    """The whole hash of a stored classifier from its beginning."""
    known = sorted(path.parent.name for path in ws.models_folder.glob("*/classifier.safetensors"))
    found = [hash for hash in known if len(ref) >= 4 and hash.startswith(ref)]
    if len(found) != 1:
        what = "no classifier" if not found else f"{len(found)} classifiers"
        raise InputError(
            f"{what} of this workspace {'is' if len(found) < 2 else 'are'} called {ref[:60]!r}; name a retrain run, "
            f"'active', or one of {', '.join(known) or 'none'}"
        )
    return found[0]
