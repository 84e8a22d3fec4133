"""Retraining for a worker process: JSON values in and out, as in ``tasks``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ltg_core.data.records import Run
from ltg_core.data.workspace import Workspace
from ltg_core.jobs import CancelToken, Progress, ProgressFn
from ltg_core.training.losses import LOSSES
from ltg_core.training.samplers import SAMPLERS
from ltg_core.training.settings import LoopSettings, MixSettings, TrainSettings
from ltg_core.workflows.comparing import CompareSettings, compare
from ltg_core.workflows.free import without_training
from ltg_core.workflows.loop_plan import plan_loop
from ltg_core.workflows.looping import loop, resume_loop
from ltg_core.workflows.retrain_plan import plan_retrain
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
        on_progress=on_progress,
        cancel=cancel,
    )
    return {"run": run.id, "best": run.result["best"]}


def _resume_retrain(ws: Workspace, *, run: str, on_progress: ProgressFn, cancel: CancelToken) -> Any:
    found = resume_retrain(ws, run, on_progress=on_progress, cancel=cancel)
    return {"run": found.id, "best": found.result["best"]}


def _plan_retrain(
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
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> Any:
    """What ``retrain`` with these arguments would learn from; ``name`` changes nothing."""
    return plan_retrain(
        ws,
        arm_of(ws, classifier or "active")[0],
        TrainSettings.from_dict(dict(train or {})),
        loss=plugin(LOSSES, loss) if loss else None,
        sampler=plugin(SAMPLERS, sampler) if sampler else None,
        mix=MixSettings.from_dict(dict(mix or {})),
        runs=runs,
        seeds=len(seeds),
        on_progress=on_progress,
        cancel=cancel,
    )


def _without_training(
    ws: Workspace,
    *,
    method: str,
    tau: float | None = None,
    classifier: str = "",
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> Any:
    found = arm_of(ws, classifier or "active")[0]
    run = without_training(ws, found, method, tau=tau, on_progress=on_progress, cancel=cancel)
    return {"run": run.id, "best": run.result["best"]}


def _compare(
    ws: Workspace,
    *,
    arms: Sequence[str],
    base: str = "",
    settings: Mapping[str, Any] | None = None,
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> Any:
    """The page reads the figures from the run."""
    chosen = CompareSettings.from_dict(dict(settings or {}))
    run = compare(ws, base, arms, chosen, on_progress=on_progress, cancel=cancel)
    return {"run": run.id}


def _loop(
    ws: Workspace,
    *,
    settings: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    loss: Mapping[str, Any] | None = None,
    mix: Mapping[str, Any] | None = None,
    guidance: Mapping[str, Any] | None = None,
    classifier: str = "",
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> Any:
    """``guidance`` has the settings that differ from the preset's; the page reads the rounds from the run."""
    run = loop(
        ws,
        arm_of(ws, classifier or "active")[0],
        *_loop_settings(settings, train),
        **_learning(loss, mix),
        guidance=dict(guidance or {}),
        on_progress=on_progress,
        cancel=cancel,
    )
    return _looped(run)


def _resume_loop(ws: Workspace, *, run: str, on_progress: ProgressFn, cancel: CancelToken) -> Any:
    return _looped(resume_loop(ws, run, on_progress=on_progress, cancel=cancel))


def _plan_loop(
    ws: Workspace,
    *,
    settings: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    loss: Mapping[str, Any] | None = None,
    mix: Mapping[str, Any] | None = None,
    guidance: Mapping[str, Any] | None = None,
    classifier: str = "",
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> Any:
    """What ``loop`` with these arguments would do at most."""
    return plan_loop(
        ws,
        arm_of(ws, classifier or "active")[0],
        *_loop_settings(settings, train),
        **_learning(loss, mix),
        guidance=dict(guidance or {}),
        on_progress=on_progress,
        cancel=cancel,
    )


def _loop_settings(
    settings: Mapping[str, Any] | None, train: Mapping[str, Any] | None
) -> tuple[LoopSettings, TrainSettings]:
    return LoopSettings.from_dict(dict(settings or {})), TrainSettings.from_dict(dict(train or {}))


def _learning(loss: Mapping[str, Any] | None, mix: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "loss": plugin(LOSSES, loss) if loss else None,
        "mix": MixSettings.from_dict(dict(mix or {})),
    }


def _looped(run: Run) -> dict[str, Any]:
    return {"run": run.id, "best": run.result["best"], "compare": run.result["compare"]}


def _adopt(ws: Workspace, *, ref: str, on_progress: ProgressFn, cancel: CancelToken) -> Any:
    """A retrained classifier in use, and what it says of the samples that are there."""
    made = adopt(ws, ref)
    on_progress(Progress(0, 0, "scoring the samples", changed=True))
    score(ws, made, on_progress=on_progress, cancel=cancel)
    return f"{made.name} is in use; fit its head"


RETRAIN_TASKS: dict[str, Callable[..., Any]] = {
    "retrain": _retrain,
    "plan_retrain": _plan_retrain,
    "without_training": _without_training,
    "compare": _compare,
    "resume_retrain": _resume_retrain,
    "adopt": _adopt,
    "loop": _loop,
    "plan_loop": _plan_loop,
    "resume_loop": _resume_loop,
}
