"""Category extrapolation for a worker process: JSON values in and out, as in ``tasks``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ltg_core.data.workspace import Workspace
from ltg_core.extension.space import Band
from ltg_core.jobs import CancelToken, ProgressFn
from ltg_core.workflows.extending import granularity, propose
from ltg_core.workflows.extension_images import add_images, random_control
from ltg_core.workflows.setup import active_classifier
from ltg_core.workflows.weak_classes import POOL


def _band(given: Mapping[str, Any] | None) -> Band | None:
    return None if given is None else Band.from_dict(dict(given))


def _propose(
    ws: Workspace,
    *,
    source: str,
    classes: Sequence[str] = (),
    pool: str = POOL,
    most: int = 8,
    band: Mapping[str, Any] | None = None,
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> Any:
    told: dict[str, Any] = {"most": most, "band": _band(band), "on_progress": on_progress, "cancel": cancel}
    found = propose(ws, active_classifier(ws), source, classes, pool=pool, **told)
    return {"run": found["run"], "added": len(found["added"])}


def _images(
    ws: Workspace,
    *,
    folder: str = "",
    pool: str = "",
    generate: int = 0,
    limit: int = 0,
    band: Mapping[str, Any] | None = None,
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> Any:
    found = add_images(
        ws,
        active_classifier(ws),
        folder=folder or None,
        pool=pool,
        generate=generate,
        limit=limit,
        band=_band(band),
        on_progress=on_progress,
        cancel=cancel,
    )
    return {"run": found["run"], "added": found["added"]}


def _random(ws: Workspace, *, pool: str = POOL, on_progress: ProgressFn, cancel: CancelToken) -> Any:
    found = random_control(ws, active_classifier(ws), pool=pool, on_progress=on_progress, cancel=cancel)
    return {"run": found["run"], "added": found["added"]}


def _granularity(
    ws: Workspace, *, extended: bool = True, on_progress: ProgressFn, cancel: CancelToken
) -> Any:
    told: dict[str, Any] = {"on_progress": on_progress, "cancel": cancel}
    return {"classes": len(granularity(ws, active_classifier(ws), extended=extended, **told))}


EXTEND_TASKS: dict[str, Callable[..., Any]] = {
    "extend_propose": _propose,
    "extend_images": _images,
    "extend_random": _random,
    "extend_granularity": _granularity,
}
