"""Every signal at finding errors, rare classes and planted cells, and whether its percentiles mean what they say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.bench_cifar import SHARED, outputs, read
from benchmarks.evidence.signs import Signs
from benchmarks.evidence.signs import outputs as sign_outputs
from benchmarks.evidence.truth import hidden_of
from benchmarks.evidence.units import Clock, Store, Unit
from benchmarks.measure import aupr, resampled_auroc
from ltg_core.evaluation.frame import thirds
from ltg_core.models.classifier import Classifier
from ltg_core.models.loaders import load_classifier
from ltg_core.models.preprocess import Preprocess
from ltg_core.signals.head import HeadSettings
from ltg_core.signals.reference import Reference, fit_reference, score_all
from ltg_core.types import Outputs

DEMO = "demo"
NETWORKS = {
    "CIFAR-10, ResNet-20": ("20", "resnet20-12fca82f.th"),
    "CIFAR-10, ResNet-56": ("56", "resnet56-4bfd9763.th"),
}
HELD = 5_000
"""Of CIFAR-10's training images, for percentiles."""
_DRAWS = 300
_PART = 2_500


def ranked(
    scores: dict[str, np.ndarray], truths: dict[str, np.ndarray], draws: int = _DRAWS
) -> dict[str, dict[str, Any]]:
    """AUROC with its interval, the paired difference to entropy's, AUPR; of every signal for every truth.

    Args:
        scores: Signal → (N,).
        truths: What is to be found → (N,) bool.
        draws: Resamples of the images, the same for all signals.
    """
    count, rng = len(next(iter(scores.values()))), np.random.default_rng(0)
    drawn = [np.bincount(rng.integers(count, size=count), minlength=count) for _ in range(draws)]
    weights = np.stack([np.ones(count, dtype=int), *drawn])
    found: dict[str, dict[str, Any]] = {name: {} for name in scores}
    for truth, positive in truths.items():
        if not 0 < positive.sum() < count:
            continue
        with np.errstate(invalid="ignore"):  # a resample without a positive one
            values = {name: resampled_auroc(row, positive, weights) for name, row in scores.items()}
        for name, row in values.items():
            against = row - values["entropy"]
            found[name][truth] = {
                "auroc": _figure(row),
                "minus_entropy": _figure(against),
                "aupr": round(aupr(scores[name], positive), 4),
            }
    return found


def _figure(row: np.ndarray) -> list[float]:
    low, high = np.nanpercentile(row[1:], [2.5, 97.5])
    return [round(float(v), 4) for v in (row[0], low, high)]


def calibration(percentiles: np.ndarray) -> dict[str, float]:
    """How percentiles of real images are distributed; uniform if they mean what they say.

    Returns:
        ``distance``: largest distance of their distribution to the uniform one (Kolmogorov and Smirnov);
        ``above_80``, ``above_95``, ``above_99``: shares beyond.
    """
    u = np.sort(np.asarray(percentiles, dtype=float)) / 100
    n = len(u)
    steps = np.arange(n + 1) / n
    distance = float(max(np.max(steps[1:] - u), np.max(u - steps[:-1])))
    shares = {f"above_{p}": round(float((percentiles > p).mean()), 4) for p in (80, 95, 99)}
    return {"distance": round(distance, 4), **shares}


def measured(
    reference: Reference, test: Outputs, labels: torch.Tensor, truths: dict[str, np.ndarray]
) -> dict[str, Any]:
    """The record of one head: ranking by what a user has (no label), calibration with the true label as in the tables."""
    predicted = test.logits.argmax(dim=1)
    wrong = (predicted != labels).numpy()
    scores = {name: value.numpy() for name, value in score_all(test, reference, predicted).items()}
    signals = ranked(scores, {"errors": wrong, **truths})
    for name, value in score_all(test, reference, labels).items():
        signals[name]["calibration"] = calibration(
            reference.percentile(name, value.numpy().astype(np.float64))
        )
    return {"images": len(wrong), "accuracy": round(float(1 - wrong.mean()), 5), "signals": signals}


class Signals:
    """The demo and the third-party networks; a seed is that of the head."""

    name = "signals"

    def __init__(self, signs: Signs, clock: Clock, quick: bool) -> None:
        self.signs, self.clock, self.quick = signs, clock, quick

    def units(self, seeds: Sequence[int]) -> list[Unit]:
        """Networks whose data are not there are left to the table, which says so."""
        there = [] if self.quick or not (SHARED / "cifar10").exists() else list(NETWORKS)
        return [Unit(self.name, arm, seed) for arm in (DEMO, *there) for seed in seeds]

    def settings(self, unit: Unit) -> dict[str, Any]:
        """What decides the result."""
        if unit.arm != DEMO:
            return {"weights": NETWORKS[unit.arm][1], "held": HELD}
        sizes = self.signs.sizes
        return {"train": sizes.train, "val": sizes.val, "test": sizes.test, "head_passes": sizes.head_passes}

    def measure(self, unit: Unit, store: Store) -> dict[str, Any]:
        """One network, one head."""
        if unit.arm != DEMO:
            return self._cifar(*NETWORKS[unit.arm], unit.seed)
        signs = self.signs
        reference = signs.reference(signs.classifier, unit.seed)
        rare = thirds(np.bincount(signs.train.signs, minlength=reference.num_classes))["tail"]
        truths = {"planted": hidden_of(signs.test), "tail": np.isin(signs.test.signs, rare)}
        test = sign_outputs(signs.classifier, signs.test.images)
        return measured(reference, test, torch.from_numpy(signs.test.signs), truths)

    def _cifar(self, depth: str, file: str, seed: int) -> dict[str, Any]:
        train, y = self._outputs(depth, file, "train")
        test, target = self._outputs(depth, file, "test")
        cut = len(y) - HELD
        reference = fit_reference(
            _rows(train, slice(cut)), y[:cut], _rows(train, slice(cut, None)), y[cut:], 10, HeadSettings(),
            generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip
        return measured(reference, test, target, {})

    def _outputs(self, depth: str, file: str, split: str) -> tuple[Outputs, torch.Tensor]:
        """Computed once for all heads, in parts, so that a stopped computation goes on."""
        folder = self.signs.work / f"cifar10-{depth}-{split}"
        folder.mkdir(parents=True, exist_ok=True)
        images, y, names = read(SHARED / "cifar10" / f"{split}.parquet")
        classifier = third_party(depth, file, names)
        parts = []
        for place, part in enumerate(images.split(_PART)):
            path = folder / f"{place:03d}.pt"
            if not path.exists():
                self.clock.rest()
                out = outputs(classifier, part)
                kept = {"logits": out.logits, "features": out.features}
                torch.save(
                    kept | ({} if out.early is None else {"early": out.early}), path.with_suffix(".tmp")
                )
                path.with_suffix(".tmp").replace(path)
            parts.append(torch.load(path, weights_only=True))
        early = [p["early"] for p in parts if "early" in p]
        logits, features = (torch.cat([p[name] for p in parts]) for name in ("logits", "features"))
        return Outputs(logits, features, torch.cat(early) if early else None), y


def third_party(depth: str, file: str, names: list[str]) -> Classifier:
    """A ResNet for CIFAR-10 that others trained."""
    path: Path = SHARED / "weights" / "resnet_cifar10" / file
    preprocess = Preprocess(height=32, width=32, resize="squash")
    return load_classifier(path, arch=f"resnet{depth}_cifar", labels=names, preprocess=preprocess)


def _rows(out: Outputs, rows: slice) -> Outputs:
    return Outputs(out.logits[rows], out.features[rows], None if out.early is None else out.early[rows])


def mean_of_heads(found: dict[int, dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Signal → truth → mean of the heads' figures; the interval reaches from the lowest end to the highest."""
    runs = [one["signals"] for _, one in sorted(found.items())]
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for name, truths in runs[0].items():
        table[name] = {}
        for truth, first in truths.items():
            rows = [run[name][truth] for run in runs]
            if truth == "calibration":
                table[name][truth] = {key: float(np.mean([row[key] for row in rows])) for key in first}
                continue
            joined: dict[str, Any] = {"aupr": float(np.mean([row["aupr"] for row in rows]))}
            for key in ("auroc", "minus_entropy"):
                joined[key] = [
                    float(np.mean([row[key][0] for row in rows])),
                    min(row[key][1] for row in rows),
                    max(row[key][2] for row in rows),
                ]
            table[name][truth] = joined
    return table
