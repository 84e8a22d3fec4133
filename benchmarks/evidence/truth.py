"""What only an examiner may know: the planted cells and what the oracles see. Nothing that makes or finds anything reads this.

A test reads the imports of the other modules.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_demo import Oracles, names_of
from benchmarks.evidence.statistics import Judged, packed, unpacked
from ltg_core.demo.data import Split
from ltg_core.demo.plan import PLANTED, planted
from ltg_core.demo.world import CLASSES, CONDITIONS
from ltg_core.evaluation.frame import thirds

CELLS = {(sign, condition) for sign, names in PLANTED.items() for condition in names}
"""Class and condition of every planted cell."""


def frame_record(train: Split, test: Split) -> dict[str, Any]:
    """The test images in a few kilobytes, so that tables can be written where nothing is rendered."""
    counts = np.bincount(train.signs, minlength=len(CLASSES))
    return {
        "classes": list(CLASSES),
        "train_counts": counts.tolist(),
        "labels": "".join(str(int(s)) for s in test.signs),
        "planted": packed(hidden_of(test)),
    }


def frame_of(record: dict[str, Any]) -> Judged:
    """Labels, thirds of the classes by real training images, planted and seen cells."""
    labels = np.array([int(c) for c in record["labels"]])
    hidden = unpacked(record["planted"], len(labels))
    parts = thirds(np.array(record["train_counts"]))
    return Judged(labels, {k: v.tolist() for k, v in parts.items()}, {"planted": hidden, "seen": ~hidden})


class Examiner:
    """The oracles' view of generated images."""

    def __init__(self, assets: Path) -> None:
        self.oracles = Oracles(assets / "oracles")

    def seen(self, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Of uint8 images (N, H, W, 3): shares that are on class and, of those, in planted cells.

        Args:
            images: What was made.
            labels: (N,) classes that were asked for.
        """
        signs, conditions = self.oracles.read(images)
        on = signs == labels
        inside = np.array(
            [planted(CLASSES[label], names_of(row)) for label, row in zip(labels, conditions, strict=True)]
        )
        shown = conditions[on].argmax(axis=1)
        return {
            "on_class": round(float(on.mean()), 4),
            "planted_share": round(float(inside[on].mean()), 4) if on.any() else 0.0,
            "planted": int(inside[on].sum()),
            "conditions": len(np.unique(shown)) / len(CONDITIONS),
        }


def hidden_of(split: Split) -> np.ndarray:
    """(N,) bool, which pictures fall into planted cells."""
    return np.array([planted(CLASSES[s], c) for s, c in zip(split.signs, split.conditions, strict=True)])


def counted(named: list[tuple[str, str]], certain: list[tuple[str, str]]) -> dict[str, Any]:
    """Of the first findings, and of those that pass the corrected test: planted cells, recall, share of others."""

    def of(cells: list[tuple[str, str]]) -> dict[str, Any]:
        hits = sum(cell in CELLS for cell in cells)
        return {
            "findings": len(cells),
            "hits": hits,
            "recall": hits / len(CELLS),
            "false_discovery": 1 - hits / len(cells) if cells else 0.0,
        }

    return {"first": of(named), "significant": of(certain)}
