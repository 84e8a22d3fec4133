"""Generated images of one arm and seed: the first believed ones of every class, and what all attempts cost."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.evidence.units import Clock, plain, same
from benchmarks.measure import read_json, write_json
from ltg_core.generators.base import Generator
from ltg_core.guidance.engine import GenerateRequest, Target, generate_images
from ltg_core.guidance.settings import Guidance
from ltg_core.guidance.validity import examine

BATCH = 16
ATTEMPTS = 4
"""A class is given up, and said to be short, after so many attempts an image."""
_SPAN = 10_000  # seeds of a class
Prompt = Callable[[int, int], str]
"""(class, attempt) → words."""
Likeness = Callable[[int, int], torch.Tensor]
"""(class, attempt) → a real training picture of the class, (3, H, W) in [0, 1]."""


class Taken(NamedTuple):
    """The believed images of a pool, and the bill for all of it.

    Attributes:
        images: (N, H, W, 3) uint8, class by class.
        labels: (N,) the class that was asked for.
        attempts: Images generated for them, quarantined ones included.
        calls: Network calls of all attempts.
        short: Images that are lacking because a class had too few believed ones.
    """

    images: np.ndarray
    labels: np.ndarray
    attempts: int
    calls: dict[str, float]
    short: int


class Pool:
    """Images of an arm and seed, kept in batches, extended on demand.

    The image of a class and attempt has one seed and depends on nothing else; so a smaller set is always a part of a
    larger one, and arms with the same seeds start from the same noise.

    Args:
        folder: Where pools are kept.
        name: The arm and seed.
        generator: Makes the images.
        target: Whose blind spots are sought, and who examines.
        guidance: All settings.
        prompt: Words of a class and attempt.
        seed: Of the arm.
        start: First attempt; for a second round.
        clock: Asked between batches.
        like: What images resemble, where the guidance asks for it.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        generator: Generator,
        target: Target,
        guidance: Guidance,
        prompt: Prompt,
        seed: int,
        *,
        start: int = 0,
        clock: Clock | None = None,
        like: Likeness | None = None,
    ) -> None:
        self.generator, self.target, self.guidance, self.prompt = generator, target, guidance, prompt
        self.seed, self.start, self.clock, self.like = seed, start, clock or Clock(), like
        self.classes = len(target.classifier.labels)
        words = [prompt(0, k) for k in range(12)]
        identity = {"guidance": guidance.to_dict(), "seed": seed, "start": start,
                    "classifier": target.classifier.hash, "words": words}  # fmt: skip
        self.folder = _folder(folder, f"{name}-{seed}", plain(identity))
        self.batches: list[dict[str, Any]] = []
        for path in sorted(self.folder.glob("*.npz")):
            with np.load(path) as file:
                self.batches.append({key: file[key] for key in file.files})

    def rows(self, key: str) -> np.ndarray:
        """One column over all attempts: images, label, attempt, believed, survival, percentile, signal."""
        return np.concatenate([batch[key] for batch in self.batches])

    def take(self, each: int) -> Taken:
        """The first ``each`` believed images of every class; what is missing is generated."""
        while lacking := self._lacking(each):
            self._make(lacking)
        label, believed, attempt = (self.rows(key) for key in ("label", "believed", "attempt"))
        rows, attempts, short = [], 0, 0
        for k in range(self.classes):
            own = np.flatnonzero(label == k)
            own = own[np.argsort(attempt[own])]
            good = np.flatnonzero(believed[own])[:each]
            rows += own[good].tolist()
            short += each - len(good)
            attempts += int(good[-1]) + 1 if len(good) == each else len(own)
        images = np.concatenate([batch["images"] for batch in self.batches])
        return Taken(images[rows], label[rows], attempts, self.calls(attempts), short)

    def first(self, each: int, only: Sequence[int] | None = None) -> np.ndarray:
        """Rows of the first ``each`` attempts of every class, or of some, believed or not; to be read by ``rows``."""
        wanted = list(range(self.classes)) if only is None else sorted(set(only))
        while lacking := [k for k in wanted for _ in range(max(0, each - self._made()[k]))]:
            self._make(lacking)
        inside = np.isin(self.rows("label"), wanted) & (self.rows("attempt") < self.start + each)
        found: np.ndarray = np.flatnonzero(inside)
        label, attempt = self.rows("label")[found], self.rows("attempt")[found]
        return found[np.lexsort((attempt, label))]

    def calls(self, attempts: int) -> dict[str, float]:
        """Network calls of so many attempts: their share of all calls."""
        total: dict[str, float] = {}
        for batch in self.batches:
            for name, n in json.loads(str(batch["calls"])).items():
                total[name] = total.get(name, 0.0) + n
        count = len(self.rows("label"))
        return {name: n * attempts / count for name, n in total.items()}

    def _made(self) -> list[int]:
        if not self.batches:
            return [0] * self.classes
        found: list[int] = np.bincount(self.rows("label"), minlength=self.classes).tolist()
        return found

    def _lacking(self, each: int) -> list[int]:
        """Class of every image that is to be made, those that lack most first."""
        made, good = self._made(), [0] * self.classes
        if self.batches:
            label, believed = self.rows("label"), self.rows("believed")
            good = np.bincount(label[believed], minlength=self.classes).tolist()
        open_ = [
            min(each - g, ATTEMPTS * each - m) if g < each and m < ATTEMPTS * each else 0
            for g, m in zip(good, made, strict=True)
        ]
        return [k for turn in range(each) for k in range(self.classes) if open_[k] > turn]

    def _make(self, lacking: list[int]) -> None:
        """One batch; filled up to whole chunks, for the networks see whole chunks anyway."""
        self.clock.rest()
        labels = lacking[:BATCH]
        while len(labels) % self.generator.chunk:
            labels.append(labels[len(labels) % len(lacking)])
        made, attempts = self._made(), []
        for k in labels:
            attempts.append(self.start + made[k])
            made[k] += 1
        base = 20_000_000 + 1_000_000 * self.seed
        like = None
        if self.guidance.like and self.like is not None:
            like = torch.stack([self.like(k, a) for k, a in zip(labels, attempts, strict=True)])
        request = GenerateRequest(
            tuple(self.prompt(k, a) for k, a in zip(labels, attempts, strict=True)),
            tuple(labels),
            tuple(base + _SPAN * k + a for k, a in zip(labels, attempts, strict=True)),
            like=like,
        )
        result = generate_images(self.generator, self.target, self.guidance, request, controls=False)
        validity = examine(
            self.generator, self.target, self.guidance.signal, result.images, torch.tensor(labels)
        )
        batch: dict[str, Any] = {
            "images": result.images,
            "label": np.array(labels),
            "attempt": np.array(attempts),
            "believed": np.array([one.believed for one in validity]),
            "survival": np.array([one.survival for one in validity]),
            "percentile": np.asarray(result.percentile),
            "signal": np.asarray(result.signal),
            "calls": np.array(json.dumps(result.calls)),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / "part.tmp"
        with temporary.open("wb") as file:
            np.savez_compressed(file, **batch)
        os.replace(temporary, self.folder / f"{len(self.batches):05d}.npz")
        self.batches.append(batch)


def _folder(root: Path, name: str, identity: dict[str, Any]) -> Path:
    """The folder of images that were made in this way, or a new one."""
    number = 0
    while True:
        folder = root / f"{name}-{number}"
        found = read_json(folder / "identity.json")
        if found is None:
            write_json(folder / "identity.json", identity)
            return folder
        if same(found, identity):
            return folder
        number += 1


def likeness(pixels: torch.Tensor, labels: np.ndarray, seed: int) -> Likeness:
    """A random training picture for every class and attempt, always the same one.

    Args:
        pixels: uint8 (N, 3, H, W).
        labels: (N,).
        seed: Of the arm.
    """

    def of(label: int, attempt: int) -> torch.Tensor:
        own = np.flatnonzero(labels == label)
        own = own if len(own) else np.arange(len(labels))  # only a trial is so small that a class is missing
        row = int(own[np.random.default_rng([seed, label, attempt]).integers(len(own))])
        return pixels[row].float() / 255

    return of
