"""Which cells the images of an arm point at. Nothing here knows the planted ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from benchmarks.evidence import arms
from ltg_core.demo.world import CLASSES
from ltg_core.guidance.engine import from_uint8
from ltg_core.introspection.paired import MoreOften, more_often
from ltg_core.introspection.statistics import corrected, excess
from ltg_core.introspection.terms import from_phrases, present
from ltg_core.models.textimage import TextImage

SMALLEST = 2
"""Images of a cell, at least."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """A cell in which images are bad more often than elsewhere.

    Attributes:
        sign: Class.
        word: Term.
        n: Images of it.
        bad: Those that the classifier reads wrongly.
        p: Of Fisher's exact test, one side.
        q: The same, corrected for all cells that were tried.
    """

    sign: str
    word: str
    n: int
    bad: int
    p: float
    q: float


def shown(encoder: TextImage, phrases: dict[str, str], images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N, T) bool, which terms uint8 images (N, H, W, 3) of these classes show."""
    terms = from_phrases(phrases)
    plain = [arms.plain_words(k, 0) for k in range(len(CLASSES))]
    with torch.no_grad():
        seen = torch.cat([encoder.images(part) for part in from_uint8(images).split(64)])
        texts = torch.stack([encoder.texts([f"{word} {t.phrase}" for t in terms]) for word in plain])
        alone = encoder.texts(plain)
        cosines = torch.einsum("nd,ntd->nt", seen, texts[torch.from_numpy(labels)])
        own = (seen * alone[torch.from_numpy(labels)]).sum(dim=1)
    return present(cosines.numpy(), own.numpy(), terms, float(encoder.temperature))


def findings(table: np.ndarray, bad: np.ndarray, labels: np.ndarray, words: Sequence[str]) -> list[Finding]:
    """Cells by the strength of their evidence: the smallest p first, of equals the larger share of bad images.

    Args:
        table: (N, T) bool, terms that images show.
        bad: (N,) bool.
        labels: (N,) classes that were asked for.
        words: T names.
    """
    rows = []
    for k, sign in enumerate(CLASSES):
        for t, word in enumerate(words):
            inside = (labels == k) & table[:, t]
            if inside.sum() >= SMALLEST:
                rows.append((sign, word, int(inside.sum()), int(bad[inside].sum())))
    if not rows:
        return []
    n, hits = np.array([row[2] for row in rows]), np.array([row[3] for row in rows])
    p = excess(hits, n, int(bad.sum()), len(bad))
    q = corrected(p)
    made = [Finding(*row, float(a), float(b)) for row, a, b in zip(rows, p, q, strict=True)]
    return sorted(
        (one for one in made if one.bad), key=lambda one: (one.p, -one.bad / one.n, one.sign, one.word)
    )


def oftener(
    guided: np.ndarray, control: np.ndarray, labels: np.ndarray, words: Sequence[str]
) -> list[MoreOften]:
    """Cells that guided images show more often than the unguided ones of the same seeds, by the product's paired test.

    Args:
        guided: (N, T) bool, terms that they show.
        control: (N, T) bool, of the same seeds.
        labels: (N,) classes that were asked for.
        words: T names.

    Returns:
        Of single classes, those with more than the controls have, the smallest p first.
    """
    if not len(labels):
        return []
    tried, _ = more_often(guided, control, labels, SMALLEST)
    return [one for one in tried if one.label >= 0 and one.guided > one.control]
