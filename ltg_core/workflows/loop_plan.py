"""A loop in figures: what it needs and would do before it starts, what a round asks for, and how far it is."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ltg_core.data.records import REAL, Filter, Run
from ltg_core.data.workspace import Workspace
from ltg_core.errors import DatasetError, InputError
from ltg_core.evaluation.bootstrap import FEW
from ltg_core.guidance.settings import PRESETS, Guidance
from ltg_core.jobs import CancelToken, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.training.losses.balanced_softmax import BalancedSoftmax
from ltg_core.training.losses.base import Loss
from ltg_core.training.settings import LoopSettings, MixSettings, TrainSettings
from ltg_core.workflows.costing import estimate
from ltg_core.workflows.imagining import Order
from ltg_core.workflows.retrain_plan import plan_retrain
from ltg_core.workflows.scoring import labels_of
from ltg_core.workflows.store import FeatureStore

STATE = "loop.json"
MEASURED, LAST = "val", "test"
"""Splits: where it is measured whether a round helped, and what is looked at once, at the end."""
IMAGES, TRAINING, COMPARING = "images", "training", "comparing"
"""Steps of a round."""
_PULL = 10.0  # images' worth by which a class's error rate is pulled toward the overall one


def loop_needs(ws: Workspace, classifier: Classifier) -> list[str]:
    """The real validation images on which a loop would measure.

    Raises:
        InputError: There is no generator.
        DatasetError: There are no such images, or too few for an interval.
    """
    if ws.get_state("generator") is None:
        raise InputError(
            "the loop makes images: choose a generator first (under Setup, or with use --generator)"
        )
    held = labelled(ws, classifier, MEASURED)
    enough(len(held))
    return held


def enough(count: int) -> None:
    """Whether an interval can be made of so many validation images.

    Raises:
        DatasetError: It cannot.
    """
    if count >= FEW:
        return
    what = f"only {count} of them" if count else "none"
    raise DatasetError(
        f"the loop measures on labelled real images of a split {MEASURED!r}, which are not trained on, and needs {FEW} "
        f"of them for an interval; there {'are' if count != 1 else 'is'} {what}. Import more, or hold some out "
        "(--holdout .1,.2)"
    )


def labelled(ws: Workspace, classifier: Classifier, split: str) -> list[str]:
    """Ids of the real images of a split that have a class of the classifier."""
    ids = ws.query(Filter(split=split, origin=REAL))
    labels = labels_of(ws, ids, classifier.num_classes)
    return [id for id, label in zip(ids, labels, strict=True) if label >= 0]


def wanted(ws: Workspace, classifier: Classifier, held: Sequence[str], number: int) -> list[int]:
    """Images by class: in proportion to the error rates on validation, each pulled toward the overall one.

    Args:
        ws: The workspace.
        classifier: Its answers to ``held`` are stored.
        held: Validation images.
        number: Images altogether.
    """
    labels = labels_of(ws, held, classifier.num_classes)
    wrong = FeatureStore(ws, classifier).outputs(held).logits.numpy().argmax(axis=1) != labels
    n = np.bincount(labels, minlength=classifier.num_classes)
    errors = np.bincount(labels, weights=wrong, minlength=classifier.num_classes)
    rate = (errors + _PULL * max(float(wrong.mean()), 1e-3)) / (n + _PULL)
    exact = number * rate / rate.sum()
    counts = [math.floor(value) for value in exact]
    for place in np.argsort(-(exact - np.floor(exact)), kind="stable")[: number - sum(counts)]:
        counts[int(place)] += 1
    return counts


def plan_loop(
    ws: Workspace,
    classifier: Classifier,
    settings: LoopSettings | None = None,
    train: TrainSettings | None = None,
    *,
    loss: Loss | None = None,
    mix: MixSettings | None = None,
    guidance: dict[str, Any] | None = None,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> dict[str, Any]:
    """What ``loop`` with the same arguments would do at most; nothing is written and no run is recorded.

    Returns:
        ``images`` and ``twins`` of all rounds, ``trainings``, ``real`` (images that each learns from), ``validation``
        and ``test`` (images that are measured on), ``first`` (by class what the first round asks for, [] where the
        classifier has not answered yet), ``making`` and ``training`` (seconds, None where not known), ``problem`` (why
        nothing can be trained in this way, "" where it can).

    Raises:
        InputError: As in ``loop``.
        DatasetError: Likewise.
    """
    settings = settings or LoopSettings()
    held = loop_needs(ws, classifier)
    plain = Guidance.from_dict({**PRESETS[settings.preset].to_dict(), **(guidance or {})})
    lacking = FeatureStore(ws, classifier).missing(held)
    first = [] if lacking else wanted(ws, classifier, held, settings.number)
    told: dict[str, Any] = {"on_progress": on_progress, "cancel": cancel}
    training = plan_retrain(
        ws, classifier, train, loss=loss or BalancedSoftmax(), mix=mix, seeds=settings.seeds, **told
    )
    images, seconds = settings.rounds * settings.number, training["seconds"]
    making = _making(ws, settings, plain)
    return {
        "images": images,
        "twins": images if plain.searches or plain.climbs else 0,
        "trainings": settings.rounds * settings.seeds,
        "real": training["real"],
        "validation": len(held),
        "test": len(labelled(ws, classifier, LAST)),
        "first": first,
        "making": making,
        "training": None if seconds is None else settings.rounds * seconds,
        "problem": training["problem"],
    }


def _making(ws: Workspace, settings: LoopSettings, guidance: Guidance) -> float | None:
    """Seconds that the images of all rounds take, None where nothing was measured."""
    order = Order(settings.number, guidance=guidance.to_dict(), preset=settings.preset)
    seconds = estimate(ws, order, runs=ws.runs("generate")).seconds
    return None if seconds is None else settings.rounds * seconds


def loop_state(ws: Workspace, run: Run) -> dict[str, Any]:
    """A loop as far as it is: its result, or while there is none what was written down after its last step."""
    file = ws.run_folder(run.id) / STATE
    kept = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return {"rounds": [], "best": "", "compare": "", "ended": "", "notes": [], **kept, **run.result}


def step_of(one: dict[str, Any]) -> str:
    """The step that a round is in, "" where all are done."""
    if one.get("improved") is not None:
        return ""
    return COMPARING if "retrain" in one else TRAINING if "accepted" in one else IMAGES
