"""Scoring: outputs of the classifier on stored images, then every signal with its percentile."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ltg_core.data.records import Filter, Run
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.signals.reference import Reference, score_all
from ltg_core.types import Outputs
from ltg_core.workflows.computing import compute_outputs
from ltg_core.workflows.recording import recorded
from ltg_core.workflows.setup import reference, reference_path
from ltg_core.workflows.store import FeatureStore

_MARK = "entropy"  # a sample that has it has all the others: they are written in one transaction


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


def refresh_scores(
    ws: Workspace,
    classifier: Classifier,
    ids: Sequence[str],
    *,
    force: bool = False,
    store: FeatureStore | None = None,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> int:
    """Write signals from stored outputs: for the given samples that lack them, for all after a new reference.

    ``store`` is one whose index has been read; without it every call reads that of all chunks.

    Returns:
        How many samples were scored.
    """
    token = cancel or CancelToken()
    store = FeatureStore(ws, classifier) if store is None else store
    ref = reference(ws, classifier)
    key, stamp = f"scored-{classifier.hash}", reference_stamp(ws, classifier)
    known = ws.get_state(key)
    renewed = force or known not in (stamp, _stamped_earlier(ws, classifier))
    if renewed:
        store.refresh()  # all are all, those of other processes too
    todo = store.ids() if renewed else _unscored(ws, classifier, store, ids)
    done = 0
    for part, out in store.batches(todo):
        token.check()
        write_scores(ws, classifier, part, out, ref)
        done += len(part)
        on_progress(Progress(done, len(todo), "signals and percentiles"))
    if known != stamp:
        ws.put_state(key, stamp)
    return len(todo)


def unscored(ws: Workspace, classifier: Classifier, ids: Sequence[str]) -> set[str]:
    """Those of the samples that have no outputs of this classifier yet, or no scores."""
    store = FeatureStore(ws, classifier)
    return {*store.missing(ids), *_unscored(ws, classifier, store, ids)}


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
        some = out if len(rows) == len(ids) else _rows(out, rows)
        if ref is not None:
            some = moved(some, ref.projection.mean.device)
        given = torch.from_numpy(labels[rows]) if labelled else None
        for name, found in score_all(some, ref, given).items():
            values.setdefault(name, np.full(len(ids), np.nan))[rows] = found.cpu().double().numpy()
    _write(ws, classifier, ids, values, ref)
    return values


def _rows(out: Outputs, rows: np.ndarray) -> Outputs:
    index = torch.from_numpy(rows)
    return Outputs(out.logits[index], out.features[index], None if out.early is None else out.early[index])


def _write(
    ws: Workspace,
    classifier: Classifier,
    ids: Sequence[str],
    values: dict[str, np.ndarray],
    ref: Reference | None,
) -> None:
    """All signals of these samples with their percentiles, in one transaction."""
    groups: dict[bytes, list[str]] = {}  # signals that the same samples have
    for name, found in values.items():
        groups.setdefault(np.isnan(found).tobytes(), []).append(name)
    with ws.database.write():
        for names in groups.values():
            rows = np.flatnonzero(~np.isnan(values[names[0]]))
            some = {name: values[name][rows] for name in names}
            ranked = {name: (v.tolist(), _percentiles(ref, name, v).tolist()) for name, v in some.items()}
            ws.set_signals(classifier.hash, [ids[row] for row in rows.tolist()], ranked)


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
    """Changes with the content of the reference, so that scores of an older one are replaced; a copy of a workspace, or
    one that came back from a backup, has the same.
    """
    path = reference_path(ws, classifier.hash)
    try:
        about = path.stat()
        return _content(path, about.st_mtime_ns, about.st_size)
    except FileNotFoundError:
        return "none"


@functools.lru_cache(maxsize=64)
def _content(path: Path, changed: int, size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _stamped_earlier(ws: Workspace, classifier: Classifier) -> str:
    """What earlier versions wrote down instead: the time of the file."""
    try:
        return str(reference_path(ws, classifier.hash).stat().st_mtime_ns)
    except FileNotFoundError:
        return "none"


def _plain(filter: Filter | None) -> dict[str, object] | None:
    if filter is None:
        return None
    given = {f.name: getattr(filter, f.name) for f in dataclasses.fields(filter)}
    return {name: value for name, value in given.items() if value not in (None, "", {})}
