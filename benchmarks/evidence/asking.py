"""What words do to errors: every class is drawn with and without every word, from the same seeds, and read.

Nothing is guided and no real picture is used. A cell that an arm's images point at is confirmed, or not, by what the
classifier does when the generator is asked for it; and cells can be asked for one after the other without any arm.
Nothing here reads the planted cells; `benchmarks.evidence.truth` counts afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest

from benchmarks.evidence import arms
from benchmarks.evidence.discovery import FIRST, UNGUIDED
from benchmarks.evidence.pools import Pool
from benchmarks.evidence.signs import Signs
from benchmarks.evidence.truth import counted
from benchmarks.evidence.units import Clock, Store, Unit, slug
from ltg_core.demo.world import CLASSES
from ltg_core.guidance.engine import from_uint8
from ltg_core.introspection.statistics import corrected

EVERY = "every class and word"
PAIRS = 24
"""Pairs of a cell; in the quick form two."""
ALPHA = 0.05


class Asking:
    """All cells, asked for in words."""

    name = "asking"

    def __init__(self, signs: Signs, clock: Clock) -> None:
        self.signs, self.clock = signs, clock

    def units(self, seeds: Sequence[int]) -> list[Unit]:
        """One a seed."""
        return [Unit(self.name, EVERY, seed) for seed in seeds]

    def settings(self, unit: Unit) -> dict[str, Any]:
        """What decides the result."""
        guidance = arms.arm(UNGUIDED).guidance
        assert guidance is not None
        return {
            "guidance": arms.small(guidance, self.signs).to_dict(),
            "pairs": self.pairs,
            "phrases": self.signs.phrases,
        }

    @property
    def pairs(self) -> int:
        """Of a cell."""
        return 2 if self.signs.sizes.steps else PAIRS

    def measure(self, unit: Unit, store: Store) -> dict[str, Any]:
        """Errors without and with each word, over pairs of which both images show the class that was asked for."""
        plain = arms.pool_of(self.signs, arms.arm(UNGUIDED), unit.seed, self.clock)
        believed, wrong, labels = self._read(plain)
        found = []
        for word, phrase in self.signs.phrases.items():
            seen, other, same = self._read(self._pool(word, phrase, unit.seed))
            assert (same == labels).all()
            for k, sign in enumerate(CLASSES):
                rows = (labels == k) & believed & seen
                only, lost = int((other & ~wrong)[rows].sum()), int((wrong & ~other)[rows].sum())
                found.append(
                    {
                        "cell": f"{sign} / {word}",
                        "pairs": int(rows.sum()),
                        "without": int(wrong[rows].sum()),
                        "with": int(other[rows].sum()),
                        "p": exact(only, lost),
                    }
                )
        made = confirmed(found, [one["cell"] for one in found])
        return {
            "cells": found,
            "images": len(CLASSES) * self.pairs * (1 + len(self.signs.phrases)),
            "all": judged(made),
        }

    def _pool(self, word: str, phrase: str, seed: int) -> Pool:
        signs, guidance = self.signs, arms.arm(UNGUIDED).guidance
        assert guidance is not None
        return Pool(
            signs.work / "pools",
            slug(f"asked for {word}"),
            signs.generator,
            signs.target,
            arms.small(guidance, signs),
            lambda label, attempt: f"{arms.plain_words(label, attempt)} {phrase}",
            seed,
            clock=self.clock,
        )

    def _read(self, pool: Pool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the first images: whether the class is believed to be there, whether it is read wrongly, the class."""
        rows = pool.first(self.pairs * len(CLASSES))
        labels = pool.rows("label")[rows]
        said = self.signs.classifier.outputs(from_uint8(pool.rows("images")[rows]), batch_size=256).logits
        return pool.rows("believed")[rows], said.argmax(dim=1).numpy() != labels, labels


def exact(only: int, lost: int) -> float:
    """McNemar's exact test, one side: pairs that are wrong with the word only, against those without it only."""
    return float(binomtest(only, only + lost, 0.5, alternative="greater").pvalue) if only + lost else 1.0


def confirmed(cells: Sequence[dict[str, Any]], candidates: Iterable[str]) -> list[dict[str, Any]]:
    """Candidates that are read wrongly more often when they are asked for, corrected over the candidates alone.

    Args:
        cells: Of `Asking.measure`.
        candidates: Names of cells.

    Returns:
        Those with q ≤ .05, the smallest p first, of equals the larger share of errors.
    """
    wanted = set(candidates)
    tried = [one for one in cells if one["cell"] in wanted]
    if not tried:
        return []
    q = corrected(np.array([one["p"] for one in tried]))
    kept = [one | {"q": float(value)} for one, value in zip(tried, q, strict=True) if value <= ALPHA]
    return sorted(kept, key=lambda one: (one["p"], -one["with"] / one["pairs"], one["cell"]))


def judged(made: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The first ten of confirmed cells, counted."""
    cells = [tuple(one["cell"].split(" / ")) for one in made][:FIRST]
    return counted(cells, [])["first"]  # type: ignore[arg-type, no-any-return]
