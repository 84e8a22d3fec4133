"""Before a retraining: what it would learn from, what is left out and why, and how long it would take."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ltg_core.data.workspace import Workspace
from ltg_core.errors import UnsupportedError
from ltg_core.jobs import CancelToken, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.training.losses.base import Loss
from ltg_core.training.losses.cross_entropy import CrossEntropy
from ltg_core.training.samplers.base import Sampler
from ltg_core.training.samplers.instance import InstanceSampler
from ltg_core.training.settings import MixSettings, TrainSettings
from ltg_core.training.student import Teacher
from ltg_core.workflows.retrain_rows import Rows, choose
from ltg_core.workflows.retraining import notes_on
from ltg_core.workflows.store import FeatureStore

_ROWS = 8  # images that are timed


def plan_retrain(
    ws: Workspace,
    classifier: Classifier,
    settings: TrainSettings | None = None,
    *,
    loss: Loss | None = None,
    sampler: Sampler | None = None,
    mix: MixSettings | None = None,
    runs: Sequence[str] = (),
    seeds: int = 1,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> dict[str, Any]:
    """What ``retrain`` would do with the same arguments; nothing is written and no run is recorded.

    Args:
        ws: The workspace.
        classifier: Where it would start.
        settings: None for the defaults.
        loss: None for cross-entropy.
        sampler: None for every image once an epoch.
        mix: Which synthetic images.
        runs: Generations to take them from; empty for all.
        seeds: How many trainings.
        on_progress: Told while near copies are looked for.
        cancel: Checked often.

    Returns:
        The counts of ``Rows.summary``, ``notes``, ``problem`` (why it cannot be done in this way, "" where it can) and
        ``seconds`` (at most; None where that is not known).

    Raises:
        DatasetError: Too little labelled real data.
    """
    settings, mix = settings or TrainSettings(), mix or MixSettings()
    loss, sampler = loss or CrossEntropy(), sampler or InstanceSampler()
    token = cancel or CancelToken()
    rows = choose(ws, classifier, mix, runs, {}, on_progress=on_progress, cancel=token)
    found = rows.summary(classifier.num_classes)
    found["notes"] = notes_on(rows, settings, mix, loss.NAME, sampler.NAME)
    found["problem"], found["seconds"] = "", None
    token.check()
    try:
        loss.check(rows.about(classifier.num_classes))
        sampler.check(torch.tensor(rows.groups, dtype=torch.long))
        found["seconds"] = round(seeds * _seconds(ws, classifier, settings, rows), 1)
    except UnsupportedError as error:
        found["problem"] = str(error)
    return found


def _seconds(ws: Workspace, classifier: Classifier, settings: TrainSettings, rows: Rows) -> float:
    """Of one training that runs to its last epoch: a step and an answer are timed on a few images."""
    teacher = Teacher(classifier, settings, [name for name, _ in rows.auxiliary])
    student = teacher.student().to(classifier.device)
    shape: tuple[int, ...] = (3, classifier.preprocess.height, classifier.preprocess.width)
    ahead = 0.0
    if settings.scope == "head":
        lacking = FeatureStore(ws, classifier).missing([*rows.ids, *rows.held])
        if lacking:
            grey = torch.full((_ROWS, *shape), 0.5)
            ahead = len(lacking) * _timed(lambda: classifier.outputs(grey)) / _ROWS
        shape = (_width(student.net),)
    size = min(settings.batch_size, max(2, len(rows.ids)))
    few = size if settings.scope == "head" else min(size, _ROWS)
    x = torch.full((few, *shape), 0.5, device=classifier.device)
    optimizer = torch.optim.AdamW(student.parameters(), lr=0.0)

    def step() -> None:
        student.train()
        optimizer.zero_grad()
        student(x).float().square().mean().backward()
        optimizer.step()

    def answer() -> None:
        student.eval()
        with torch.no_grad():
            student(x)

    steps = max(1, len(rows.ids) // settings.batch_size)
    an_epoch = steps * _timed(step) * size / few + len(rows.held) / few * _timed(answer)
    return ahead + settings.epochs * an_epoch


def _width(layer: torch.nn.Module) -> int:
    return int(getattr(layer, "in_features", 1))


def _timed(work: Callable[[], object]) -> float:
    """Seconds of the fastest of two, after one that warms up; the first alone where it is slow."""
    best = math.inf
    for turn in range(3):
        began = time.perf_counter()
        work()
        took = time.perf_counter() - began
        if turn or took > 1.0:
            best = min(best, took)
        if took > 1.0:
            break
    return best
