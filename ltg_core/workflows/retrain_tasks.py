"""Retraining for a worker process: JSON values in and out, as in ``tasks``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ltg_core.data.workspace import Workspace
from ltg_core.jobs import CancelToken, Progress, ProgressFn
from ltg_core.training.losses import LOSSES
from ltg_core.training.samplers import SAMPLERS
from ltg_core.training.settings import TrainSettings
from ltg_core.workflows.retrain_rows import MixSettings
from ltg_core.workflows.retrained import adopt, arm_of
from ltg_core.workflows.retraining import plugin, resume_retrain, retrain
from ltg_core.workflows.scoring import score


def _retrain(
    ws: Workspace,
    *,
    train: Mapping[str, Any] | None = None,
    loss: Mapping[str, Any] | None = None,
    sampler: Mapping[str, Any] | None = None,
    mix: Mapping[str, Any] | None = None,
    runs: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    name: str = "",
    classifier: str = "",
    device: str = "cpu",
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> Any:
    """Settings as in the record of a run: ``loss`` and ``sampler`` have a ``name`` and their parameters."""
    run = retrain(
        ws,
        arm_of(ws, classifier or "active")[0],
        TrainSettings.from_dict(dict(train or {})),
        loss=plugin(LOSSES, loss) if loss else None,
        sampler=plugin(SAMPLERS, sampler) if sampler else None,
        mix=MixSettings.from_dict(dict(mix or {})),
        runs=runs,
        seeds=seeds,
        name=name,
        device=device,
        on_progress=on_progress,
        cancel=cancel,
    )
    return {"run": run.id, "best": run.result["best"]}


def _resume_retrain(
    ws: Workspace, *, run: str, device: str = "cpu", on_progress: ProgressFn, cancel: CancelToken
) -> Any:
    found = resume_retrain(ws, run, device=device, on_progress=on_progress, cancel=cancel)
    return {"run": found.id, "best": found.result["best"]}


def _adopt(ws: Workspace, *, ref: str, on_progress: ProgressFn, cancel: CancelToken) -> Any:
    """A retrained classifier in use, and what it says of the samples that are there."""
    made = adopt(ws, ref)
    on_progress(Progress(0, 0, "scoring the samples", changed=True))
    score(ws, made, on_progress=on_progress, cancel=cancel)
    return f"{made.name} is in use; fit its head"


RETRAIN_TASKS: dict[str, Callable[..., Any]] = {
    "retrain": _retrain,
    "resume_retrain": _resume_retrain,
    "adopt": _adopt,
}
