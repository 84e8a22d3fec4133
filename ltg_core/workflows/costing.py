"""What an order will cost, before it starts: counted calls times what a call takes on this machine."""

from __future__ import annotations

import dataclasses
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ltg_core.data.records import Run
from ltg_core.data.workspace import Workspace
from ltg_core.generators.base import CHUNK, Calls
from ltg_core.guidance.cost import LOOK, batch_cost, padded
from ltg_core.guidance.engine import Target
from ltg_core.guidance.settings import Guidance
from ltg_core.guidance.timing import measure, shares_of
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.workflows.generating import need_reference
from ltg_core.workflows.imagining import Order
from ltg_core.workflows.making import judge_of
from ltg_core.workflows.setup import active_classifier, active_generator, generator_options

_STATE = "cost"
_RUNS = 5


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What an order will cost.

    Attributes:
        images: Guided images.
        calls: Network calls, controls included, by the letters of ``Calls``.
        seconds: Of the whole; None as long as nothing was measured here.
        first: Seconds until the first images are kept; None likewise.
        memory: Bytes at most beside the networks' own; None likewise.
        weights: Bytes of the networks; None likewise.
        runs: Earlier generations that corrected the measurement.
    """

    images: int
    calls: dict[str, int]
    seconds: float | None = None
    first: float | None = None
    memory: int | None = None
    weights: int | None = None
    runs: int = 0


def measure_cost(
    ws: Workspace,
    *,
    device: str | None = None,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> dict[str, Any]:
    """Time the active models once and keep it in the workspace; takes a few seconds.

    Raises:
        InputError: No classifier, generator or reference yet.
    """
    on_progress(Progress(0, 2, "loading the generator"))
    classifier = active_classifier(ws, device=device)
    generator = active_generator(ws, device=device)
    ref = need_reference(ws, classifier)
    (cancel or CancelToken()).check()
    on_progress(Progress(1, 2, "timing one call of each network"))
    found = dataclasses.asdict(measure(generator, Target(classifier, ref, judge_of(generator, classifier))))
    kept = {**found, "models": [classifier.hash, generator.hash], "machine": _machine(device or ws.device)}
    kept["options"] = generator_options(ws)
    ws.put_state(_STATE, kept)
    on_progress(Progress(2, 2, "done"))
    return kept


def measured(ws: Workspace, *, device: str | None = None) -> dict[str, Any] | None:
    """What was measured of the active models on this machine, or None."""
    kept: dict[str, Any] | None = ws.get_state(_STATE)
    active = [(ws.get_state(role) or {}).get("hash") for role in ("classifier", "generator")]
    if kept is None or kept["models"] != active or kept["machine"] != _machine(device or ws.device):
        return None
    if kept.get("options", {}) != generator_options(ws):  # precision and offloading change what a call takes
        return None
    return kept


def estimate(
    ws: Workspace, order: Order, *, runs: Sequence[Run] | None = None, device: str | None = None
) -> Estimate:
    """What an order will cost; reads the workspace only, so it may be asked at every change of a control.

    Earlier generations of the same models correct the measurement by the median of the time that they took over the
    time that was to be expected.

    Args:
        ws: The workspace.
        order: What is wanted.
        runs: Generations, the newest first; None to read them.
        device: Where the networks will be; None for the device of the workspace.
    """
    found = measured(ws, device=device)
    started = bool(order.sources) or (bool(order.settings.like) and _starts(order.settings, found))
    parts = _batches(order.settings, order.frames, order.unit, len(order.weights), started, found)
    calls = sum((part.calls for part in parts), Calls())
    if found is None:
        return Estimate(order.frames, dict(calls))
    past = _corrections(ws.runs("generate") if runs is None else runs, found)
    factor = statistics.median(past) if past else 1.0
    seconds = [factor * _seconds(part, found["seconds"]) for part in parts]
    return Estimate(
        images=order.frames,
        calls=dict(calls),
        seconds=sum(seconds),
        first=seconds[0],
        memory=_memory(order.settings, found),
        weights=int(found["weights"]),
        runs=len(past),
    )


@dataclasses.dataclass(frozen=True)
class _Part:
    """One unit: its calls, the rows that are looked at and the images that are examined."""

    calls: Calls
    looks: int
    examined: int


def _batches(
    guidance: Guidance,
    images: int,
    unit: int,
    strip: int,
    from_source: bool,
    measured: Mapping[str, Any] | None,
) -> list[_Part]:
    known: dict[str, Any] = {"judge": True, "tiny": True, "paired": True}
    shares, chunk = None, CHUNK
    if measured is not None:
        known = {name: bool(measured.get(name, True)) for name in known}
        chunk = int(measured.get("chunk", CHUNK))
        shares = shares_of(measured["noise"], measured["noise_draft"])
    paired = guidance.searches or guidance.climbs
    found: dict[int, _Part] = {}
    sizes = [min(unit, images - start) for start in range(0, images, unit)]
    for size in set(sizes):
        seeds = -(-size // strip) if strip else size
        cost = batch_cost(
            guidance,
            size,
            controls=paired,
            **known,
            from_source=from_source,
            seeds=seeds if strip else None,
            shares=shares,
            chunk=chunk,
        )
        looks = cost.steps // LOOK * padded(1, chunk)
        found[size] = _Part(cost.total, looks, padded(size) + (padded(seeds) if paired else 0))
    return [found[size] for size in sizes]


def _seconds(part: _Part, seconds: Mapping[str, float]) -> float:
    """Of a unit: its calls, a tiny decode and a classification a look, the examination of what came out."""
    looks = part.looks * (seconds["T"] + seconds["C"])
    known = {"Db": seconds.get("Tb", 0.0), **seconds}  # earlier versions knew no other name
    own = sum(number * known.get(name, 0.0) for name, number in part.calls.items())
    return own + looks + part.examined * seconds["E"]


def _corrections(runs: Sequence[Run], found: Mapping[str, Any]) -> list[float]:
    """Of the last few whole generations by the same models: the time that they took over the expected one."""
    factors = []
    for run in runs:
        if run.state != "done" or [run.hashes.get(k) for k in ("classifier", "generator")] != found["models"]:
            continue
        given, took = run.settings, (run.finished or 0.0) - run.started
        if any(not given.get(name) for name in ("guidance", "seeds", "unit")):
            continue  # written by another version: nothing is learnt from it
        guidance = Guidance.from_dict(given["guidance"])
        started = bool(given.get("sources")) or (bool(given.get("like")) and _starts(guidance, found))
        parts = _batches(
            guidance,
            len(given["seeds"]),
            int(given["unit"]),
            len(set(given.get("weights") or ())),
            started,
            found,
        )
        expected = sum(_seconds(part, found["seconds"]) for part in parts)
        if took > 0 and expected > 0:
            factors.append(took / expected)
        if len(factors) == _RUNS:
            break
    return factors


def _starts(guidance: Guidance, found: Mapping[str, Any] | None) -> bool:
    """Whether a likeness is a start from the image, which leaves out steps."""
    best = str((found or {}).get("likeness", "start"))
    return guidance.like_dropout < 1 and (best if guidance.like_by == "auto" else guidance.like_by) == "start"


def _memory(guidance: Guidance, found: Mapping[str, Any]) -> int:
    """Bytes at most beside the weights: what the largest step holds, which is one chunk's whatever the batch.

    Without a gradient a chunk holds less than its graph would, so the graph's size is an upper bound.
    """
    pair = 1 if guidance.cfg == 1.0 or not found.get("paired", True) else 2
    chunk = int(found["denoising"]) * pair
    judging = int(found["judging"]) if guidance.climbs or guidance.searches else 0
    return chunk + judging * (3 if guidance.augment else 1)


def _machine(device: str) -> str:
    return f"{platform.machine()} {os.cpu_count()} {device}"
