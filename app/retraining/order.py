"""What Retrain asks for: choices in plain words, the arguments that the controls make, and their place in the queue."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from app.context import AppContext
from app.controls import settings_from
from ltg_core.errors import InputError
from ltg_core.jobs import CancelToken, Job, Spec, no_progress
from ltg_core.training.settings import MixSettings, TrainSettings

# Named here because the registries themselves bring torch, and the page should stand before that; a test compares them.
LOSSES: dict[str, tuple[str, str]] = {
    "balanced-softmax": (
        "Balanced softmax",
        "For balanced accuracy on a long tail. Where all classes are equally frequent it is cross-entropy. Begin here.",
    ),
    "cross-entropy": ("Cross-entropy", "The usual loss; what every other one must beat."),
    "logit-adjusted": (
        "Logit-adjusted",
        "Balanced softmax with a strength: above 1 favours rare classes more, below 1 less.",
    ),
    "class-balanced": (
        "Class-balanced",
        "Rare classes weigh more; for moderate imbalance, or to make up for a plain sampler.",
    ),
    "ldam": (
        "LDAM with deferred re-weighting",
        "Rare classes must win by a larger margin; weighted by class in the last part (DRW).",
    ),
    "focal": (
        "Focal",
        "Easy images count little; for hard cases inside classes rather than for rare classes.",
    ),
    "group-dro": (
        "Group DRO",
        "For the worst group: pairs of class and condition, where a column below names the condition.",
    ),
    "neighbour-silencing": (
        "Neighbour silencing",
        "For auxiliary classes beside weak ones: they share features without competing.",
    ),
}
LOSS_SETTINGS: dict[str, tuple[tuple[str, float, float, float, str], ...]] = {
    "cross-entropy": (("smoothing", 0.0, 0.0, 0.5, "Share of each label that is spread over all classes"),),
    "logit-adjusted": (("tau", 1.0, 0.0, 5.0, "Strength; 0 is cross-entropy"),),
    "class-balanced": (
        ("beta", 0.9999, 0.0, 0.999999, "0 weighs all classes alike, near 1 by 1 / number of images"),
    ),
    "ldam": (
        ("margin", 0.5, 0.0, 20.0, "Largest margin, that of the rarest class, in logits"),
        ("scale", 1.0, 0.1, 100.0, "Multiplies the logits; 30 for a cosine head"),
        ("defer", 0.8, 0.0, 1.0, "Share of the training before re-weighting begins; 1 for never"),
        ("beta", 0.9999, 0.0, 0.999999, "Of the class-balanced weights then"),
    ),
    "focal": (("gamma", 2.0, 0.0, 10.0, "0 is cross-entropy; larger looks at hard images only"),),
    "group-dro": (
        ("eta", 0.01, 0.0, 10.0, "How fast weight moves to the worst group"),
        (
            "adjustment",
            0.0,
            0.0,
            100.0,
            "Generalisation adjustment C: small groups count as worse by C / root of size",
        ),
    ),
    "neighbour-silencing": (
        ("silence", 0.1, 0.0, 1.0, "lambda: how much a neighbour competes; 1 as any class, 0 not at all"),
        ("tau", 1.0, 0.0, 5.0, "Strength of the logit adjustment"),
    ),
}
"""Parameters of each loss: name, default, lowest, highest, what it is."""
SAMPLERS: dict[str, tuple[str, str]] = {
    "instance": ("Every image once", "Every image once an epoch, classes as frequent as they are."),
    "class-balanced": (
        "Classes equally often",
        "Every class equally often; with a new last layer it is classifier re-training (cRT).",
    ),
    "square-root": (
        "In between",
        "Rare classes more often, without showing the same few images all day.",
    ),
    "group-balanced": (
        "Groups equally often",
        "Every pair of class and condition equally often; goes with Group DRO.",
    ),
}
SCOPES: dict[str, tuple[str, str]] = {
    "head": (
        "Last layer only",
        "Moves the boundaries between classes on features that are computed once; it cannot see anything new.",
    ),
    "whole": ("All layers", "All layers learn from where they are."),
    "scratch": ("From scratch", "All layers from random weights; what else was known is lost."),
}
SYNTHETIC = [
    ("Those that were accepted", "accepted"),
    ("All that are believed", "believed"),
    ("None: real images only", "none"),
]
ROLES = [
    ("Guided images", "guided"),
    ("Their unguided twins, as a control", "control"),
    ("Both", "any"),
]
DEFAULT = {"synthetic": "accepted", "role": "guided", "scope": "head", "loss": "balanced-softmax"}
"""What a newcomer begins with; the address leaves it out."""
SEEDS = 10
_NAME = 80


def arguments(w: SimpleNamespace, values: Mapping[Any, Any]) -> dict[str, Any]:
    """The arguments of the task "retrain" that the controls stand for.

    Raises:
        LtgError: A value out of bounds or a name that is not known.
    """
    loss, sampler = str(values[w.loss]), str(values[w.sampler])
    if loss not in LOSSES:
        raise InputError(f"there is no loss {loss[:60]!r}; choose one of the list")
    if sampler not in SAMPLERS:
        raise InputError(f"there is no sampler {sampler[:60]!r}; choose one of the list")
    train: Any = settings_from(TrainSettings, w.train, dict(values))
    mix: Any = settings_from(MixSettings, w.mix, dict(values))
    given = {name: _number(values[box], name) for name, box in w.losses.get(loss, {}).items()}
    number, first = _whole(values[w.seeds], "Trainings"), _whole(values[w.first], "First seed")
    if not 1 <= number <= SEEDS:
        raise InputError(f"{number} trainings were asked for; give 1 to {SEEDS}")
    if not 0 <= first < 2**31 - SEEDS:
        raise InputError(f"first seed: {first}; give a number from 0 to {2**31 - SEEDS - 1}")
    return {
        "train": train.to_dict(),
        "loss": {"name": loss, **given},
        "sampler": {"name": sampler},
        "mix": mix.to_dict(),
        "runs": [str(run) for run in values[w.generations] or []],
        "seeds": list(range(first, first + number)),
        "name": str(values[w.name] or "").strip()[:_NAME],
    }


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"{name} is {value!r}; give a number")
    return float(value)


def _whole(value: Any, name: str) -> int:
    number = _number(value, name)
    if number != int(number):
        raise InputError(f"{name} is {value!r}; give a whole number")
    return int(number)


def submit(ctx: AppContext, given: Mapping[str, Any]) -> Job:
    """Check what can be checked now, then queue the work.

    Raises:
        InputError: There is no classifier, or the same is under way already.
    """
    classifier = ctx.need_classifier()
    order = {**given, "classifier": classifier.hash}
    if any(job.about.get("order") == order for job in under_way(ctx)):
        raise InputError("exactly this training is under way already; change something for another")
    seeds = len(order["seeds"])
    title = f"Retraining: {SCOPES[order['train']['scope']][0].lower()}, {LOSSES[order['loss']['name']][0].lower()}"
    title += f", {seeds} seeds" if seeds > 1 else ""
    return ctx.run("retrain", title, "retrain", order, about={"order": order})


def resume(ctx: AppContext, run: str) -> Job:
    """Queue what a stopped training still lacks.

    Raises:
        InputError: It is none, it is done, it is under way, or it had not begun.
    """
    from ltg_core import workflows

    found = next((one for one in ctx.workspace.runs("retrain") if one.id == run), None)
    if found is None or found.state == "done":
        raise InputError("this training is not there, or it is done; look at the list again")
    if under_way_of(ctx, run) is not None or found.state == "running":
        raise InputError("this training is under way already")
    if not workflows.resumable(ctx.workspace, run):
        raise InputError("this training was stopped before its images were chosen; start it again")
    return ctx.run("retrain", "Going on with a retraining", "resume_retrain", {"run": run})


def under_way(ctx: AppContext) -> list[Job]:
    """The visitor's trainings that run or wait."""
    return [job for job in ctx.jobs.all() if job.kind == "retrain" and not job.ended]


def under_way_of(ctx: AppContext, run: str) -> Job | None:
    """The visitor's job that trains this run now, or will."""
    given = ((job, job.spec.arguments if job.spec else {}) for job in under_way(ctx))
    return next((job for job, arguments in given if run in (job.run, arguments.get("run"))), None)


def planned(ctx: AppContext, given: Mapping[str, Any]) -> dict[str, Any]:
    """What such a training would learn from; asked of the worker that holds no models, and kept until data change.

    Raises:
        LtgError: Too little data, or no classifier.
    """
    from ltg_core import workflows

    classifier = ctx.need_classifier()
    order = {**given, "classifier": classifier.hash, "name": ""}
    key = ("retrain plan", json.dumps(order, sort_keys=True), workflows.stamp(ctx.workspace))

    def made() -> dict[str, Any]:
        spec, here = Spec("plan_retrain", order), ctx.settings.workspace
        found: dict[str, Any] = ctx.lanes.run("data", here, spec, no_progress, CancelToken())
        return found

    found: dict[str, Any] = ctx.cached(key, made)
    return found
