"""What words do to errors: every class is drawn with and without every word, from the same seeds, and read.

Nothing is guided and no real picture is used. A cell that an arm's images point at is confirmed, or not, by what the
classifier does when the generator is asked for it; and cells can be asked for one after the other without any arm, those
that err most a second time. Nothing here reads the planted cells; `benchmarks.evidence.truth` counts afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from benchmarks.evidence import arms
from benchmarks.evidence.discovery import FIRST, UNGUIDED
from benchmarks.evidence.pools import Pool
from benchmarks.evidence.signs import Signs
from benchmarks.evidence.truth import counted
from benchmarks.evidence.units import Clock, Store, Unit, slug
from ltg_core.demo.world import CLASSES
from ltg_core.guidance.engine import from_uint8
from ltg_core.introspection import paired

EVERY = "every class and word"
PAIRS = 24
"""Pairs of a cell; in the quick form two."""
AGAIN = 20
"""Cells that are asked for a second time: those whose first pairs err most."""
SECOND = 96
"""Their new pairs: of a word that adds errors to 15 % of the images 4 of 5 times enough to be told from chance among
twenty; in the quick form four."""

Cell = tuple[int, str]
"""Class and word."""


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
            "pairs": self.pairs[0],
            "again": [AGAIN, self.pairs[1]],
            "phrases": self.signs.phrases,
        }

    @property
    def pairs(self) -> tuple[int, int]:
        """Of a cell, the first time and the second."""
        return (2, 4) if self.signs.sizes.steps else (PAIRS, SECOND)

    def measure(self, unit: Unit, store: Store) -> dict[str, Any]:
        """Errors without and with each word, over pairs of which both images show the class that was asked for."""
        first, second = self.pairs
        every = [(k, word) for word in self.signs.phrases for k in range(len(CLASSES))]
        found = self._asked(unit.seed, every, 0, first)
        chosen = [every[i] for i in paired.promising([_errs(one) for one in found], AGAIN)]
        again = self._asked(unit.seed, chosen, first, first + second)
        asked = len({k for k, _ in chosen}) + len(chosen)
        return {
            "cells": found,
            "again": again,
            "images": len(CLASSES) * first * (1 + len(self.signs.phrases)),
            "images_again": second * asked,
            "all": judged(confirmed(found, _names(found))),
            "twice": judged(confirmed(again, _names(again))),
        }

    def _asked(self, seed: int, cells: Sequence[Cell], start: int, end: int) -> list[dict[str, Any]]:
        """Every cell, over the attempts from ``start`` to ``end``."""
        found = {}
        plain = self._read(arms.pool_of(self.signs, arms.arm(UNGUIDED), seed, self.clock), cells, start, end)
        for word in dict.fromkeys(word for _, word in cells):
            own = [cell for cell in cells if cell[1] == word]
            with_ = self._read(self._pool(word, seed), own, start, end)
            for k, _ in own:
                (seen, wrong), (there, other) = plain[k], with_[k]
                got = paired.errs(wrong[seen & there], other[seen & there])
                found[k, word] = {
                    "cell": f"{CLASSES[k]} / {word}",
                    "pairs": got.n,
                    "without": got.without,
                    "with": got.with_,
                    "p": got.p,
                }
        return [found[cell] for cell in cells]

    def _pool(self, word: str, seed: int) -> Pool:
        signs, guidance, phrase = self.signs, arms.arm(UNGUIDED).guidance, self.signs.phrases[word]
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

    def _read(
        self, pool: Pool, cells: Sequence[Cell], start: int, end: int
    ) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """By class, of the images of these attempts: whether the class is believed to be there, whether it is read
        wrongly."""
        rows = pool.first(end, [k for k, _ in cells])
        rows = rows[pool.rows("attempt")[rows] >= start]
        labels = pool.rows("label")[rows]
        said = self.signs.classifier.outputs(from_uint8(pool.rows("images")[rows]), batch_size=256).logits
        believed, wrong = pool.rows("believed")[rows], said.argmax(dim=1).numpy() != labels
        return {k: (believed[labels == k], wrong[labels == k]) for k in np.unique(labels).tolist()}


def _errs(one: dict[str, Any]) -> paired.Errs:
    return paired.Errs(one["pairs"], one["without"], one["with"], one["p"])


def _names(cells: Sequence[dict[str, Any]]) -> list[str]:
    return [one["cell"] for one in cells]


def confirmed(cells: Sequence[dict[str, Any]], candidates: Iterable[str]) -> list[dict[str, Any]]:
    """Candidates that are read wrongly more often when they are asked for, corrected over the candidates alone.

    Args:
        cells: Of `Asking.measure`.
        candidates: Names of cells.

    Returns:
        Those with q ≤ .05, the smallest p first, of equals the larger excess of errors.
    """
    wanted = set(candidates)
    tried = [one for one in cells if one["cell"] in wanted]
    return [tried[i] | {"q": q} for i, q in paired.confirmed([_errs(one) for one in tried])]


def judged(made: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The first ten of confirmed cells, counted."""
    cells = [tuple(one["cell"].split(" / ")) for one in made][:FIRST]
    return counted(cells, [])["first"]  # type: ignore[arg-type, no-any-return]
