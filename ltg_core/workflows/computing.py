"""Outputs of the classifier on stored images: read by threads, computed in batches, kept chunk by chunk."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image

from ltg_core.data import reading
from ltg_core.data.images import read_image, to_tensor
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.models.preprocess import Preprocess
from ltg_core.types import Outputs
from ltg_core.workflows.store import FeatureStore

CHUNK = 2048
READERS = 4
_AHEAD = 3
Skipped = list[tuple[str, str]]


def compute_outputs(
    ws: Workspace,
    classifier: Classifier,
    ids: Sequence[str],
    *,
    batch_size: int | None = None,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> tuple[int, Skipped]:
    """Run the classifier on those samples that lack outputs; store outputs and predictions chunk by chunk.

    Returns:
        How many were computed, and (id, reason) of images that could not be read.
    """
    token = cancel or CancelToken()
    store = FeatureStore(ws, classifier)
    todo = store.missing(list(dict.fromkeys(ids)))
    batch = batch_size or batch_size_of(classifier.preprocess)
    reader = fitting(classifier.preprocess)
    asked = for_fitted(classifier)
    skipped: Skipped = []
    buffer: list[tuple[list[str], Outputs]] = []
    started, done, total = time.monotonic(), 0, len(todo)
    with ThreadPoolExecutor(READERS, thread_name_prefix="read") as pool:
        try:
            for part, images, broken in read_batches(ws, todo, batch, reader, pool, token):
                skipped += broken
                if part:
                    buffer.append((part, asked.outputs(images, batch)))
                done += len(part) + len(broken)
                if sum(len(p) for p, _ in buffer) >= CHUNK:
                    _store(ws, store, buffer)
                left = (time.monotonic() - started) / done * (total - done)
                on_progress(Progress(done, total, f"scoring images, {_duration(left)} left"))
        finally:  # also when stopped: what was computed is kept
            _store(ws, store, buffer)
    return total - len(skipped), skipped


def read_batches(
    ws: Workspace,
    ids: Sequence[str],
    size: int,
    reader: Preprocess,
    pool: ThreadPoolExecutor,
    cancel: CancelToken,
) -> Iterator[tuple[list[str], torch.Tensor, Skipped]]:
    """Ids, images (B, 3, h, w) at the classifier's input size, and what could not be read; some batches
    ahead.
    """
    waiting: deque[tuple[list[str], list[Future[torch.Tensor]]]] = deque()
    starts = iter(range(0, len(ids), size))

    def submit() -> None:
        start = next(starts, None)
        if start is not None:
            part = list(ids[start : start + size])
            files = reading.image_files(ws.database, part)
            waiting.append((part, [pool.submit(_read, ws.blobs.image_path(*f), reader) for f in files]))

    for _ in range(_AHEAD):
        submit()
    while waiting:
        cancel.check()
        part, futures = waiting.popleft()
        good: list[str] = []
        images: list[torch.Tensor] = []
        broken: Skipped = []
        for sample, future in zip(part, futures, strict=True):
            try:
                images.append(future.result())
                good.append(sample)
            except InputError as error:
                broken.append((sample, str(error)))
        submit()
        yield good, torch.stack(images) if images else torch.empty(0), broken


def _read(path: Path, reader: Preprocess) -> torch.Tensor:
    return reader(to_tensor(read_image(path))[None])[0]


def fitting(preprocess: Preprocess) -> Preprocess:
    """Only the resizing of a preprocessing: photographs of many megapixels are made small before they are
    batched.
    """
    return dataclasses.replace(preprocess, mean=(0.0,) * 3, std=(1.0,) * 3, channels=3, order="rgb")


def for_fitted(classifier: Classifier) -> Classifier:
    """The same network for images that have its input size already."""
    other = copy.copy(classifier)
    other.preprocess = dataclasses.replace(classifier.preprocess, resize="none")
    return other


def _store(ws: Workspace, store: FeatureStore, buffer: list[tuple[list[str], Outputs]]) -> None:
    """Write the buffered batches as one chunk, predictions first; empties the buffer."""
    if not buffer:
        return
    ids = [sample for part, _ in buffer for sample in part]
    outs = [out for _, out in buffer]
    early = [out.early for out in outs if out.early is not None]
    out = Outputs(
        torch.cat([o.logits for o in outs]),
        torch.cat([o.features for o in outs]),
        torch.cat(early) if early else None,
    )
    buffer.clear()
    confidence, chosen = out.logits.float().softmax(dim=1).max(dim=1)
    ws.set_predictions(
        store.classifier.hash,
        dict(zip(ids, zip(chosen.tolist(), confidence.tolist(), strict=True), strict=True)),
    )
    store.add(ids, out)


def features_now(classifier: Classifier, images: Sequence[Image.Image]) -> torch.Tensor:
    """Features (N, D) of pictures that are no samples, on the CPU; nothing is kept."""
    reader, asked = fitting(classifier.preprocess), for_fitted(classifier)
    fitted = [reader(to_tensor(image)[None])[0] for image in images]
    if not fitted:
        return asked.outputs(torch.empty(0)).features.float().cpu()
    return asked.outputs(torch.stack(fitted), batch_size_of(classifier.preprocess)).features.float().cpu()


def batch_size_of(preprocess: Preprocess) -> int:
    pixels = preprocess.height * preprocess.width
    return 256 if pixels <= 96 * 96 else 64 if pixels <= 256 * 256 else 16


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
