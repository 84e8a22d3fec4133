"""What happened to signal and weight while the images of a run were made, step by step."""

from __future__ import annotations

import dataclasses
import json
import math
from statistics import NormalDist
from typing import Any

from ltg_core.data.workspace import Workspace
from ltg_core.guidance.settings import Guidance

Points = list[tuple[int, float]]
"""(step from 1, value), the steps ascending."""


@dataclasses.dataclass(frozen=True)
class ImageTrace:
    """One image.

    Attributes:
        control: The signal of the unguided twin, as a standard score among held-out real data.
        guided: Likewise of the guided image.
        weight: How hard it was pushed at the guided steps; 0 where it was past the target already.
    """

    control: Points
    guided: Points
    weight: Points


@dataclasses.dataclass(frozen=True)
class RunTrace:
    """A run.

    Attributes:
        steps: Of the final images.
        images: By the index of the image.
        mean: Over the images.
        target: Standard score above which nothing is pushed; None for never.
    """

    steps: int
    images: dict[int, ImageTrace]
    mean: ImageTrace
    target: float | None


def run_trace(ws: Workspace, run_id: str) -> RunTrace:
    """The trace of a generation, as far as it got; images of runs that were not watched have none.

    What the record of the run does not say is read as the default.

    Raises:
        InputError: There is no such run.
    """
    guidance = {**Guidance().to_dict(), **(ws.run(run_id).settings.get("guidance") or {})}
    goal = float(guidance["target"])
    target = NormalDist().inv_cdf(goal / 100) if 0 < goal < 100 else None
    aligned = guidance["search"] in (
        "none",
        "lookahead",
    )  # inside the loop, candidates have rows of their own
    images: dict[int, ImageTrace] = {}
    steps = 0
    for path in sorted(ws.run_folder(run_id).glob("unit-*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        looks, pushes = record.get("looks") or [], record.get("trace") or []
        first = int(guidance["steps"]) - next((e["of"] for e in looks if e["stage"] == "guided"), 0)
        steps = max([steps, *(int(e["of"]) for e in looks if e["stage"] == "guided")])
        for place, index in enumerate(record.get("rows") or []):
            images[int(index)] = ImageTrace(
                _levels(looks, "control", place),
                _levels(looks, "guided", place),
                [(e["step"] - first + 1, _weight(e, place, target if aligned else None)) for e in pushes],
            )
    return RunTrace(steps, images, _mean(list(images.values())), target)


def _levels(looks: list[dict[str, Any]], stage: str, place: int) -> Points:
    return [
        (int(e["step"]), float(e["level"][place]))
        for e in looks
        if e["stage"] == stage and place < len(e["level"]) and math.isfinite(e["level"][place])
    ]


def _weight(entry: dict[str, Any], place: int, target: float | None) -> float:
    weight = entry["weight"]
    own = float(weight[place] if isinstance(weight, list) and place < len(weight) else 0.0)
    own = own if isinstance(weight, list) else float(weight)
    level = entry["level"][place] if place < len(entry["level"]) else None
    return 0.0 if target is not None and level is not None and level >= target else own


def _mean(images: list[ImageTrace]) -> ImageTrace:
    def over(name: str) -> Points:
        found: dict[int, list[float]] = {}
        for image in images:
            for step, value in getattr(image, name):
                found.setdefault(step, []).append(value)
        return [(step, sum(values) / len(values)) for step, values in sorted(found.items())]

    return ImageTrace(over("control"), over("guided"), over("weight"))
