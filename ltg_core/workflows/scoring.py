"""Scoring: outputs of the classifier on stored images, then every signal with its percentile."""

from __future__ import annotations

import copy
import dataclasses
import json
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from ltg_core.data import reading
from ltg_core.data.images import read_image, to_tensor
from ltg_core.data.records import Filter, Run
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.models.preprocess import Preprocess
from ltg_core.signals.reference import Reference, score_all
from ltg_core.types import Outputs
from ltg_core.workflows.recording import recorded
from ltg_core.workflows.setup import reference, reference_path
from ltg_core.workflows.store import FeatureStore

CHUNK = 2048
_READERS = 4
_AHEAD = 3
_MARK = "entropy"  # written last for every part: a sample that has it has all the others
Skipped = list[tuple[str, str]]


def score(
    ws: Workspace,
    classifier: Classifier,
    *,
    filter: Filter | None = None,
    batch_size: int | None = None,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Run:
    """Predictions, features and signals of all samples that lack them; what is there is not computed again.

    Signals that need a fitted reference are left out until ``fit_head`` has run; it scores again by itself.

    Args:
        ws: The workspace.
        classifier: The frozen classifier.
        filter: Only these samples; None for all, real and generated.
        batch_size: Images at once; None chooses by the classifier's input size.
        on_progress: Called after every batch.
        cancel: Checked at every batch; finished chunks are kept.

    Returns:
        The run; its result says how many samples were computed, scored and skipped, and why.

    Raises:
        Cancelled: On request.
        WorkspaceError: The disk is full; finished chunks are kept.
    """
    token = cancel or CancelToken()
    settings = {"filter": _plain(filter), "batch_size": batch_size}
    with recorded(ws, "score", settings, hashes={"classifier": classifier.hash}) as recording:
        started = time.monotonic()
        ids = [sample for part in ws.iterate(filter) for sample in part]
        computed, skipped = compute_outputs(
            ws, classifier, ids, batch_size=batch_size, on_progress=on_progress, cancel=token
        )
        if skipped and not computed:
            raise InputError(f"none of {len(skipped):,} images could be scored; the first: {skipped[0][1]}")
        scored = refresh_scores(ws, classifier, ids, on_progress=on_progress, cancel=token)
        recording.result |= {
            "samples": len(ids),
            "computed": computed,
            "scored": scored,
            "skipped": len(skipped),
            "first_skipped": skipped[:100],
            "seconds": round(time.monotonic() - started, 2),
        }
    return recording.run


def features(ws: Workspace, classifier: Classifier, ids: Sequence[str]) -> np.ndarray:
    """Penultimate features (N, D) float32 of scored samples, in the order of ``ids``.

    Raises:
        InputError: Some are not scored yet.
    """
    return FeatureStore(ws, classifier).features(ids)


def outputs(ws: Workspace, classifier: Classifier, ids: Sequence[str]) -> Outputs:
    """Logits, features and early features of scored samples, in the order of ``ids``, on the CPU.

    Raises:
        InputError: Some are not scored yet.
    """
    return FeatureStore(ws, classifier).outputs(ids)


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
    batch = batch_size or _batch_size(classifier.preprocess)
    reader = _fitted(classifier.preprocess)
    asked = _for_fitted(classifier)
    skipped: Skipped = []
    buffer: list[tuple[list[str], Outputs]] = []
    started, done, total = time.monotonic(), 0, len(todo)
    with ThreadPoolExecutor(_READERS, thread_name_prefix="read") as pool:
        try:
            for part, images, broken in _read_batches(ws, todo, batch, reader, pool, token):
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


def refresh_scores(
    ws: Workspace,
    classifier: Classifier,
    ids: Sequence[str],
    *,
    force: bool = False,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> int:
    """Write signals from stored outputs: for the given samples that lack them, for all after a new reference.

    Returns:
        How many samples were scored.
    """
    token = cancel or CancelToken()
    store = FeatureStore(ws, classifier)
    ref = reference(ws, classifier)
    key, stamp = f"scored-{classifier.hash}", reference_stamp(ws, classifier)
    renewed = force or ws.get_state(key) != stamp
    todo = store.ids() if renewed else _unscored(ws, classifier, store, ids)
    done = 0
    for part, out in store.batches(todo):
        token.check()
        write_scores(ws, classifier, part, out, ref)
        done += len(part)
        on_progress(Progress(done, len(todo), "signals and percentiles"))
    if renewed:
        ws.put_state(key, stamp)
    return len(todo)


def write_scores(
    ws: Workspace, classifier: Classifier, ids: Sequence[str], out: Outputs, ref: Reference | None
) -> dict[str, np.ndarray]:
    """Compute and record every signal that can be had for these samples; returns the values by signal, NaN
    for none.

    Labelled samples get the signals that need a label.
    """
    labels = labels_of(ws, ids, classifier.num_classes)
    values: dict[str, np.ndarray] = {}
    for labelled in (True, False):
        rows = np.flatnonzero((labels >= 0) == labelled)
        if not len(rows):
            continue
        index = torch.from_numpy(rows)
        some = Outputs(
            out.logits[index], out.features[index], None if out.early is None else out.early[index]
        )
        if ref is not None:
            some = moved(some, ref.projection.mean.device)
        given = torch.from_numpy(labels[rows]) if labelled else None
        for name, found in score_all(some, ref, given).items():
            values.setdefault(name, np.full(len(ids), np.nan))[rows] = found.cpu().double().numpy()
    for name in sorted(values, key=lambda name: name == _MARK):
        ranks = _percentiles(ref, name, values[name])
        rows = np.flatnonzero(~np.isnan(values[name]))
        ws.set_scores(
            classifier.hash, name, {ids[i]: (float(values[name][i]), float(ranks[i])) for i in rows.tolist()}
        )
    return values


def labels_of(ws: Workspace, ids: Sequence[str], num_classes: int) -> np.ndarray:
    """Class index of each sample (N,) int64, -1 for none or one that the classifier has no output for."""
    found = np.full(len(ids), -1, dtype=np.int64)
    position = {sample: row for row, sample in enumerate(ids)}
    for start in range(0, len(ids), 10_000):
        # Not whole samples: of 50,000 only the number is wanted. One that was removed since counts as unlabelled.
        rows = ws.database.rows(
            "SELECT s.id, s.label FROM json_each(?) j JOIN samples s ON s.id = j.value WHERE s.label >= 0",
            (json.dumps(list(ids[start : start + 10_000])),),
        )
        for sample, label in rows:
            if label < num_classes:
                found[position[sample]] = label
    return found


def _read_batches(
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


def _fitted(preprocess: Preprocess) -> Preprocess:
    """Only the resizing of a preprocessing: photographs of many megapixels are made small before they are
    batched.
    """
    return dataclasses.replace(preprocess, mean=(0.0,) * 3, std=(1.0,) * 3, channels=3)


def _for_fitted(classifier: Classifier) -> Classifier:
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


def _unscored(ws: Workspace, classifier: Classifier, store: FeatureStore, ids: Sequence[str]) -> list[str]:
    todo: list[str] = []
    absent = set(store.missing(ids))
    for start in range(0, len(ids), 10_000):
        part = ids[start : start + 10_000]
        have = ws.scores(part, classifier.hash, _MARK)
        todo += [sample for sample in part if sample not in have and sample not in absent]
    return todo


def moved(out: Outputs, device: torch.device) -> Outputs:
    early = None if out.early is None else out.early.to(device)
    return Outputs(out.logits.to(device), out.features.to(device), early)


def _percentiles(ref: Reference | None, name: str, values: np.ndarray) -> np.ndarray:
    if ref is None or name not in ref.tables:
        return np.full(len(values), np.nan)
    return ref.percentile(name, values)


def reference_stamp(ws: Workspace, classifier: Classifier) -> str:
    """Changes with the reference, so that scores of an older one are replaced."""
    try:
        return str(reference_path(ws, classifier.hash).stat().st_mtime_ns)
    except FileNotFoundError:
        return "none"


def _batch_size(preprocess: Preprocess) -> int:
    pixels = preprocess.height * preprocess.width
    return 256 if pixels <= 96 * 96 else 64 if pixels <= 256 * 256 else 16


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _plain(filter: Filter | None) -> dict[str, object] | None:
    if filter is None:
        return None
    given = {f.name: getattr(filter, f.name) for f in dataclasses.fields(filter)}
    return {name: value for name, value in given.items() if value not in (None, "", {})}
