"""A workspace of 100,000 samples for ``benchmarks.ui``: small drawn pictures, metadata, predictions, signals, features.

Everything goes through the workspace's own functions. 5,000 different pictures are each used by twenty samples, which
differ in everything else; nothing that is measured reads more than one page of pictures.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import ROOT
from ltg_core import workflows
from ltg_core.data.records import NewSample, StoredImage
from ltg_core.data.workspace import Workspace
from ltg_core.models.classifier import Classifier
from ltg_core.types import Outputs
from ltg_core.workflows.recording import recorded
from ltg_core.workflows.store import FeatureStore

MODEL = ROOT / "assets" / "demo" / "classifier.safetensors"
PICTURES = 5_000
MAPPED = 20_000
SIDE = 64
PART = 10_000
SIGNALS = ("epistemic", "margin", "energy", "density", "entropy")
CONDITIONS = ("clear day", "overcast", "rain", "fog", "snow", "night", "dusk", "low sun")
SITES = tuple(f"site {i:02d}" for i in range(12))
CAMERAS = tuple(f"camera-{i:03d}" for i in range(40))


@dataclasses.dataclass(frozen=True)
class Rows:
    """Columns of all samples, (N,) each; ``features`` is (N, D)."""

    label: np.ndarray
    pred: np.ndarray
    confidence: np.ndarray
    condition: np.ndarray
    features: np.ndarray


def make(folder: Path, count: int = 100_000) -> Workspace:
    """The workspace in ``folder``; made at the first call, found there afterwards."""
    ws = Workspace(folder)
    if ws.get_state("crowd") == count:
        return ws
    started = time.perf_counter()
    classifier = workflows.use_classifier(ws, MODEL)
    rng = np.random.default_rng(0)
    rows = _rows(classifier, count, rng)
    ids = _samples(ws, classifier, rows, rng)
    _results(ws, classifier, ids, rows, rng)
    _map(ws, classifier, ids, rows)
    ws.put_state(f"scored-{classifier.hash}", "none")
    ws.put_state("crowd", count)
    print(f"{count:,} samples made in {time.perf_counter() - started:.0f} s", flush=True)
    return ws


def _rows(classifier: Classifier, count: int, rng: np.random.Generator) -> Rows:
    """A long tail of classes; errors are more frequent at night and in fog."""
    classes = classifier.num_classes
    share = 0.75 ** np.arange(classes)
    label = rng.choice(classes, size=count, p=share / share.sum())
    condition = rng.choice(len(CONDITIONS), size=count, p=(0.4, 0.2, 0.1, 0.05, 0.05, 0.1, 0.05, 0.05))
    risk = np.where(np.isin(condition, (3, 5)), 0.25, 0.05)
    wrong = rng.random(count) < risk
    pred = np.where(wrong, (label + rng.integers(1, classes, size=count)) % classes, label)
    confidence = np.clip(rng.beta(8, 2, size=count) - 0.25 * wrong, 0.11, 0.999)
    width = classifier.outputs(torch.zeros(1, 3, SIDE, SIDE)).features.shape[1]
    centres = rng.normal(size=(classes * len(CONDITIONS), width)).astype(np.float32)
    features = centres[label * len(CONDITIONS) + condition]
    features = features + 0.5 * rng.normal(size=(count, width)).astype(np.float32)
    return Rows(label, pred, confidence, condition, features)


def _map(ws: Workspace, classifier: Classifier, ids: list[str], rows: Rows) -> None:
    """20,000 samples by the main directions of their features, kept as a map."""
    from sklearn.decomposition import PCA

    with recorded(ws, "map", {"samples": MAPPED}, hashes={"classifier": classifier.hash}) as recording:
        key = f"map-{recording.run.id}"
        ws.put_array(key, PCA(2, random_state=0).fit_transform(rows.features[:MAPPED]).astype(np.float32))
        ws.put_array(f"{key}-ids", np.array([one.encode() for one in ids[:MAPPED]]))
        recording.result |= {"samples": MAPPED, "notes": [f"{MAPPED:,} of {len(ids):,} samples."]}
        ws.put_state("map", {"run": recording.run.id, "model_hash": classifier.hash})


def _pictures(ws: Workspace, rng: np.random.Generator) -> list[StoredImage]:
    """Coloured gradients with a disc: small, and all different."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    made = []
    for _ in range(PICTURES):
        low, high, disc = rng.integers(0, 256, size=(3, 3))
        centre, radius = rng.uniform(0.3, 0.7, size=2), rng.uniform(0.1, 0.3)
        ramp = (low + (high - low) * (x * rng.random() + y * rng.random())[..., None]).clip(0, 255)
        inside = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2
        made.append(ws.store_image(np.where(inside[..., None], disc, ramp).astype(np.uint8)))
    return made


def _samples(ws: Workspace, classifier: Classifier, rows: Rows, rng: np.random.Generator) -> list[str]:
    pictures = _pictures(ws, rng)
    count = len(rows.label)
    split = rng.choice(("train", "val", "test"), size=count, p=(0.7, 0.1, 0.2))
    site, camera = rng.integers(len(SITES), size=count), rng.integers(len(CAMERAS), size=count)
    hour, speed = rng.integers(24, size=count), rng.gamma(4, 12, size=count).round(1)
    ids: list[str] = []
    for start in range(0, count, PART):
        batch = []
        for i in range(start, min(count, start + PART)):
            name, condition = classifier.labels[rows.label[i]], CONDITIONS[rows.condition[i]]
            meta = {
                "condition": condition,
                "site": SITES[site[i]],
                "camera": CAMERAS[camera[i]],
                "hour": int(hour[i]),
                "speed": float(speed[i]),
            }
            caption = f"a {name} sign, {condition}, seen by {CAMERAS[camera[i]]} at {int(hour[i])} h"
            batch.append(
                NewSample(
                    pictures[i % PICTURES], split=str(split[i]), label=int(rows.label[i]), label_name=name,
                    source=f"{SITES[site[i]]}/{i:06d}.png", caption=caption, meta=meta,
                )
            )  # fmt: skip
        ids += ws.add_images(batch)
    return ids


def _results(
    ws: Workspace, classifier: Classifier, ids: list[str], rows: Rows, rng: np.random.Generator
) -> None:
    """Predictions, signals that know a little of the errors, and the classifier's outputs."""
    store = FeatureStore(ws, classifier)
    early = classifier.outputs(torch.zeros(1, 3, SIDE, SIDE)).early
    wrong = rows.pred != rows.label
    signals = {name: rng.normal(size=len(ids)) + 1.5 * wrong for name in SIGNALS}
    ranks = {name: 100 * values.argsort().argsort() / len(ids) for name, values in signals.items()}
    for start in range(0, len(ids), PART):
        part = slice(start, start + PART)
        some = ids[part]
        said = zip(rows.pred[part].tolist(), rows.confidence[part].tolist(), strict=True)
        ws.set_predictions(classifier.hash, dict(zip(some, said, strict=True)))
        for name in SIGNALS:
            pairs = zip(signals[name][part].tolist(), ranks[name][part].tolist(), strict=True)
            ws.set_scores(classifier.hash, name, dict(zip(some, pairs, strict=True)))
        features = torch.from_numpy(rows.features[part])
        logits = torch.zeros(len(some), classifier.num_classes)
        logits[torch.arange(len(some)), torch.from_numpy(rows.pred[part])] = 5.0
        blank = None if early is None else torch.zeros(len(some), early.shape[1])
        store.add(some, Outputs(logits, features, blank))
