"""Outputs of the classifier on stored images: read by threads, computed in batches, here or by other processes, kept
chunk by chunk.
"""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from ltg_core.data import reading
from ltg_core.data.images import content_hash, read_image, to_pil, to_tensor
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.models.preprocess import Preprocess
from ltg_core.types import Outputs
from ltg_core.workers.engine import There
from ltg_core.workflows.loaded import classifier_at
from ltg_core.workflows.setup import where_classifier
from ltg_core.workflows.store import FeatureStore

CHUNK = 2048
READERS = 4
Skipped = list[tuple[str, str]]


def compute_outputs(
    ws: Workspace,
    classifier: Classifier,
    ids: Sequence[str],
    *,
    batch_size: int | None = None,
    store: FeatureStore | None = None,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> tuple[int, Skipped]:
    """Run the classifier on those samples that lack outputs; store outputs and predictions chunk by chunk.

    ``store`` is one whose index has been read; without it every call reads that of all chunks.

    Returns:
        How many were computed, and (id, reason) of images that could not be read.
    """
    token = cancel or CancelToken()
    store = FeatureStore(ws, classifier) if store is None else store
    todo = store.missing(list(dict.fromkeys(ids)))
    batch = batch_size or batch_size_of(classifier.preprocess)
    skipped: Skipped = []
    buffer: list[tuple[list[str], Outputs]] = []
    started, done, total = time.monotonic(), 0, len(todo)
    there = There[Sequence[str]](
        "ltg_core.workflows.computing:classifier_there",
        lambda: {"classifier": where_classifier(ws, classifier), "batch": batch},
        lambda part: files_of(ws, part),
        lambda part: key_of(classifier.hash, part),
        (Outputs,),
    )
    if total and ws.engine.words:
        on_progress(Progress(0, total, f"starting {ws.engine.words}"))
    try:
        for part, out, broken in in_batches(ws, todo, batch, Asked.of(classifier, batch), there, token):
            skipped += broken
            if part:
                buffer.append((part, out))
            done += len(part) + len(broken)
            if sum(len(p) for p, _ in buffer) >= CHUNK:
                _store(ws, store, buffer)
            left = (time.monotonic() - started) / done * (total - done)
            by = f" by {ws.engine.words}" if ws.engine.words else ""
            on_progress(Progress(done, total, f"scoring images{by}, {_duration(left)} left"))
    finally:  # also when stopped: what was computed is kept
        _store(ws, store, buffer)
    return total - len(skipped), skipped


class Asked(NamedTuple):
    """A model that is asked about pictures of the size that it takes.

    Attributes:
        reader: Brings pictures in [0, 1] to that size.
        ask: Of (B, 3, h, w) such pictures.
    """

    reader: Preprocess
    ask: Callable[[torch.Tensor], Outputs]

    @classmethod
    def of(cls, classifier: Classifier, batch: int) -> Asked:
        """A classifier, with so many pictures at once."""
        asked = for_fitted(classifier)
        return cls(fitting(classifier.preprocess), lambda images: asked.outputs(images, batch))


Files = Sequence[tuple[str, Path]]
"""Ids of samples, and where their pictures are."""
Answers = tuple[list[str], Outputs, Skipped]
"""Ids of pictures that could be read, what the model says of them, and what could not be read and why."""


def in_batches(
    ws: Workspace,
    ids: Sequence[str],
    size: int,
    asked: Asked,
    there: There[Sequence[str]],
    cancel: CancelToken,
) -> Iterator[Answers]:
    """Ask about samples, batch by batch, in order; in this process pictures are read some batches ahead.

    Args:
        ws: The workspace, whose engine does the work.
        ids: The samples.
        size: Pictures of one batch.
        asked: The model in this process.
        there: The same model in another process: the function that ``answering`` gives.
        cancel: Checked at every batch.
    """
    parts = [ids[start : start + size] for start in range(0, len(ids), size)]
    begun: dict[str, _Reading] = {}
    with ThreadPoolExecutor(READERS, thread_name_prefix="read") as pool:

        def soon(part: Sequence[str]) -> None:
            begun[part[0]] = _reading(files_of(ws, part), asked.reader, pool)

        def here(part: Sequence[str]) -> Answers:
            return _answer(begun.pop(part[0]), asked)

        for _, answer in ws.engine.map(parts, here, there, cancel, soon):
            yield answer


def key_of(model: str, ids: Sequence[str]) -> str:
    """What tells the answers of a model about a batch from all others."""
    return f"answers-{content_hash(chr(10).join((model, *ids)).encode())}"


def answering(asked: Asked) -> Callable[[Files], Answers]:
    """The other process's side of ``in_batches``."""
    pool = ThreadPoolExecutor(READERS, thread_name_prefix="read")
    return lambda files: _answer(_reading(files, asked.reader, pool), asked)


def classifier_there(options: Mapping[str, Any]) -> Callable[[Files], Answers]:
    """A classifier in another process."""
    classifier = classifier_at(**options["classifier"], device=options["device"])
    return answering(Asked.of(classifier, options["batch"]))


def files_of(ws: Workspace, ids: Sequence[str]) -> Files:
    """Where the pictures of samples are: what travels to another process."""
    files = reading.image_files(ws.database, list(ids))
    return [(sample, ws.blobs.image_path(*file)) for sample, file in zip(ids, files, strict=True)]


_Reading = list[tuple[str, "Future[torch.Tensor]"]]


def _reading(files: Files, reader: Preprocess, pool: ThreadPoolExecutor) -> _Reading:
    return [(sample, pool.submit(_read, path, reader)) for sample, path in files]


def _answer(read: _Reading, asked: Asked) -> Answers:
    good: list[str] = []
    images: list[torch.Tensor] = []
    broken: Skipped = []
    for sample, future in read:
        try:
            images.append(future.result())
            good.append(sample)
        except InputError as error:
            broken.append((sample, str(error)))
    nothing = Outputs(torch.empty(0), torch.empty(0))
    return good, asked.ask(torch.stack(images)) if images else nothing, broken


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


def keep_outputs(store: FeatureStore, ids: Sequence[str], out: Outputs) -> None:
    """Store what ``outputs_now`` said about these samples, as one chunk; what is there stays."""
    rows = {sample: row for row, sample in enumerate(ids)}
    todo = store.missing(list(rows))
    index = torch.tensor([rows[sample] for sample in todo], dtype=torch.long)
    some = Outputs(out.logits[index], out.features[index], None if out.early is None else out.early[index])
    _store(store.ws, store, [(todo, some)] if todo else [])


def outputs_now(classifier: Classifier, images: Sequence[Image.Image | np.ndarray]) -> Outputs:
    """What the classifier says of pictures that are no samples yet, on the CPU: the same as once they are; nothing is
    kept.
    """
    asked = Asked.of(classifier, batch_size_of(classifier.preprocess))
    fitted = [asked.reader(to_tensor(to_pil(image))[None])[0] for image in images]
    return asked.ask(torch.stack(fitted) if fitted else torch.empty(0))


def batch_size_of(preprocess: Preprocess) -> int:
    pixels = preprocess.height * preprocess.width
    return 256 if pixels <= 96 * 96 else 64 if pixels <= 256 * 256 else 16


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
