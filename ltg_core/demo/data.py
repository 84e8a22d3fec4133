"""Rendered splits of the road-sign world, cached on disk so that an interrupted build goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from ltg_core.demo.plan import draw_cell
from ltg_core.demo.world import CLASSES, Scene, prompt, render, sample_scene
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress

_CHUNK = 500
_STREAM = {"whole": 1, "train": 2, "even": 3}


@dataclass(frozen=True)
class Split:
    """Rendered pictures with their factors.

    Attributes:
        images: uint8 (N, 3, H, W).
        signs: (N,) class indices.
        conditions: conditions of each picture.
        metadata: all factors of each picture, flat.
    """

    images: np.ndarray
    signs: np.ndarray
    conditions: list[tuple[str, ...]]
    metadata: list[dict[str, str | float | int]]

    def captions(self) -> list[tuple[str, ...]]:
        """The texts that describe each picture: three times in full, once without the conditions."""
        texts: list[tuple[str, ...]] = []
        for sign, conditions in zip(self.signs, self.conditions, strict=True):
            full, plain = prompt(CLASSES[sign], conditions), prompt(CLASSES[sign])
            texts.append((full, full, full, plain))
        return texts


def scene_of(kind: str, seed: int, index: int) -> Scene:
    """The scene of picture ``index``; it depends on nothing else."""
    rng = np.random.default_rng([_STREAM[kind], seed, index])
    sign, conditions = draw_cell(rng, kind)
    return sample_scene(rng, sign, conditions)


def render_split(
    kind: str,
    count: int,
    seed: int,
    folder: Path,
    *,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
    workers: int | None = None,
) -> Split:
    """Render ``count`` pictures of a world, or load them from ``folder`` where they are already there."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, count, _CHUNK)
    # Another plan draws other scenes, and with them other files; so does the next version of the renderer's factors.
    world = hashlib.sha256(repr([scene_of(kind, seed, i) for i in range(16)]).encode()).hexdigest()[:8]
    paths = [folder / f"{kind}-{seed}-{world}-{start}-{min(start + _CHUNK, count)}.npy" for start in starts]
    todo = [
        (kind, seed, start, min(start + _CHUNK, count), path)
        for start, path in zip(starts, paths, strict=True)
        if not path.exists()
    ]
    if todo:
        with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=get_context("spawn")) as pool:
            for done, _ in enumerate(pool.map(_render_chunk, todo), start=1):
                on_progress(Progress(done * _CHUNK, len(todo) * _CHUNK, f"rendering the {kind} world"))
                if cancel is not None and cancel.cancelled:
                    pool.shutdown(cancel_futures=True)
                    cancel.check()
    scenes = [scene_of(kind, seed, index) for index in range(count)]
    images = np.concatenate([np.load(path) for path in paths])
    return Split(
        images=images,
        signs=np.array([CLASSES.index(scene.sign) for scene in scenes]),
        conditions=[scene.conditions for scene in scenes],
        metadata=[scene.metadata() for scene in scenes],
    )


def _render_chunk(task: tuple[str, int, int, int, Path]) -> None:
    kind, seed, start, stop, path = task
    images = np.stack([render(scene_of(kind, seed, i)).transpose(2, 0, 1) for i in range(start, stop)])
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        np.save(file, images)
    os.replace(temporary, path)


def write_metadata(split: Split, path: Path, indices: Sequence[int] | None = None) -> None:
    """One JSON line a picture."""
    chosen = range(len(split.images)) if indices is None else indices
    path.write_text("".join(json.dumps(split.metadata[i]) + "\n" for i in chosen), encoding="utf-8")
