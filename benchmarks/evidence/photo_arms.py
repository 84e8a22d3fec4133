"""The arms on real long-tailed data: classifiers from scratch, a generator that was fitted on the training pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.evidence import arms, learning
from benchmarks.evidence.arms import Arm
from benchmarks.evidence.photos import PLACES, SMALL_GENERATOR, Photos, Place, balanced, generator_of, recipes
from benchmarks.evidence.pools import Pool, likeness
from benchmarks.evidence.statistics import Judged, packed
from benchmarks.evidence.units import Clock, Store, Unit, slug
from benchmarks.measure import call_costs, write_json
from ltg_core.evaluation.frame import thirds
from ltg_core.evaluation.posthoc import adjusted, fit_tau
from ltg_core.generators.base import Generator
from ltg_core.generators.fit.assemble import GeneratorSettings
from ltg_core.generators.judge import find_judge
from ltg_core.generators.loading import load_generator
from ltg_core.guidance.engine import Target, from_uint8
from ltg_core.guidance.settings import Guidance
from ltg_core.models import architectures
from ltg_core.models.classifier import Classifier
from ltg_core.models.preprocess import Preprocess
from ltg_core.signals.reference import fit_reference
from ltg_core.types import Outputs

NAMES = (
    "real only", "post-hoc logit adjustment", "balanced softmax", "+ unguided", "+ LTG epistemic",
    "+ best of N, equal compute", "+ LTG entropy", "+ feedback-guided, entropy", "+ feedback-guided, loss",
    "+ feedback-guided, hardness",
)  # fmt: skip
"""Arms of the road-sign world that make sense here: a class has no named conditions, so prompts cannot be varied."""
UNCERTAIN = 3


def arms_of(place: Place) -> dict[str, tuple[Arm, str]]:
    """Name → arm and the prior of its generator ("" for none)."""
    found: dict[str, tuple[Arm, str]] = {}
    for name in NAMES:
        arm = arms.arm(name)
        if arm.guidance is None:
            found[name] = arm, ""
            continue
        for prior in place.priors:
            found[name if prior == "natural" else f"{name}, {prior} prior"] = arm, prior
    return found


class PhotoArms:
    """One data set.

    Args:
        place: Which.
        recipe: "shortened" or "full"; they are two parts, with results of their own.
        work: Folder of what can be made again.
        clock: Asked between batches.
        device: Where networks are trained; images are made on the CPU.
        fitted: How the generator is trained.
    """

    def __init__(
        self,
        place: Place,
        recipe: str,
        work: Path,
        clock: Clock,
        device: str = "cpu",
        fitted: GeneratorSettings = SMALL_GENERATOR,
    ) -> None:
        self.place, self.fitted = place, fitted
        self.recipe = place.recipe or recipes(place.flip)[recipe]
        self.name = place.name if recipe == "shortened" else f"{place.name}-{recipe}"
        self.work, self.clock, self.device = work / place.name, clock, device
        self.arms = arms_of(place)
        self.bases: dict[int, Target] = {}

    def units(self, seeds: Sequence[int]) -> list[Unit]:
        """Every arm and seed, where the data are there."""
        return [Unit(self.name, arm, seed) for arm in self.arms for seed in seeds] if self.place.there else []

    def settings(self, unit: Unit) -> dict[str, Any]:
        """What decides the result."""
        arm, prior = self.arms[unit.arm]
        return {
            "loss": arm.loss, "free": arm.free, "guidance": self.guidance(arm).to_dict() if arm.guidance else None,
            "prior": prior, "images": self.place.images, "arch": self.recipe.arch,
            "train": self.recipe.settings.to_dict(), "recipe": self.recipe.name,
            "generator": self.fitted.to_dict() if prior else None,
        }  # fmt: skip

    def guidance(self, arm: Arm) -> Guidance:
        """Of an arm that has one; in a trial with few steps."""
        assert arm.guidance is not None
        return arms.shortened(arm.guidance, self.place.steps)

    @cached_property
    def photos(self) -> Photos:
        """The data, decoded once."""
        return self.place.load()

    def frame(self) -> Judged:
        """Test labels; head, mid and tail are thirds of the classes by their training pictures."""
        counts = np.bincount(self.photos.real.labels.numpy(), minlength=self.photos.real.classes)
        return Judged(self.photos.test_labels, {k: v.tolist() for k, v in thirds(counts).items()}, {})

    def generator(self, prior: str) -> Path:
        """Folder of the generator of a prior."""
        real = self.photos.real if prior == "natural" else balanced(self.photos.real)
        return generator_of(
            self.work / f"generator-{prior}", real, self.photos.labels, self.place.caption, self.fitted, self.device,
            lambda _: self.clock.rest(),
        )  # fmt: skip

    def empty(self) -> Classifier:
        """The architecture, untrained."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = architectures.build(self.recipe.arch, self.photos.real.classes)
        preprocess = Preprocess(height=32, width=32, resize="squash")
        return Classifier(net, self.photos.labels, preprocess, name=self.place.title, arch=self.recipe.arch)

    def trained(self, loss: str, images: np.ndarray, labels: np.ndarray, seed: int) -> learning.Learned:
        """From scratch."""
        data = learning.training_set(self.photos.real, images, labels, 1.0)
        settings = self.recipe.settings
        return learning.learned(self.work, self.empty(), data, loss, settings, seed, self.clock, self.device)

    def base(self, seed: int) -> Classifier:
        """The arm "real only": whose blind spots guidance seeks."""
        return self.trained(arms.CE, *nothing(), seed).classifier

    def target(self, seed: int, prior: str) -> Target:
        """The base with a head of its own."""
        base, real = self.base(seed), self.photos.real
        reference = fit_reference(
            outputs(base, real.pixels), real.labels, outputs(base, real.held), real.held_labels, real.classes,
            self.place.head, generator=torch.Generator().manual_seed(seed), model_hash=base.hash,
        )  # fmt: skip
        return Target(base, reference, find_judge(self.generator(prior), self.photos.labels))

    def measure(self, unit: Unit, store: Store) -> dict[str, Any]:
        """One arm, one seed."""
        arm, prior = self.arms[unit.arm]
        images, labels, found = *nothing(), dict[str, Any]()
        if arm.guidance is not None:
            generator, guidance = load_generator(self.generator(prior)), self.guidance(arm)
            target = self.target(unit.seed, prior)
            words = self.place.caption
            pool = Pool(
                self.work / "pools", slug(f"{arm.name} {prior} {self.recipe.name}"), generator, target, guidance,
                lambda k, _: words.replace("{label}", self.photos.labels[k]), unit.seed, clock=self.clock,
                like=likeness(self.photos.real.pixels, self.photos.real.labels.numpy(), unit.seed),
            )  # fmt: skip
            taken = pool.take(max(1, self.place.images // self.photos.real.classes))
            images, labels = taken.images, taken.labels
            found["synthetic"] = {"images": len(images), "attempts": taken.attempts, "short": taken.short,
                                  **bill(taken.calls, generator, target)}  # fmt: skip
            if arm.name == "+ LTG epistemic":
                found["uncertain"] = self.uncertain(pool, target)
        made = self.trained(arm.loss, images, labels, unit.seed)
        logits = outputs(made.classifier, self.photos.test).logits.numpy()
        if arm.free:
            real = self.photos.real
            counts = np.bincount(real.labels.numpy(), minlength=real.classes)
            held = outputs(made.classifier, real.held).logits.numpy()
            found["tau"] = fit_tau(held, real.held_labels.numpy(), counts)
            logits = adjusted(logits, counts, found["tau"])
        right = logits.argmax(axis=1) == self.photos.test_labels
        write_json(store.folder / f"{self.name}.frame.json", self.record())
        figures = {
            name: round(value, 5) for name, value in self.frame().measured(right).items() if value == value
        }
        return {"right": packed(right), "figures": figures, "optimiser_steps": made.steps, **found}

    def record(self) -> dict[str, Any]:
        """The test pictures in a few kilobytes."""
        real = self.photos.real
        counts = np.bincount(real.labels.numpy(), minlength=real.classes)
        return {"classes": list(self.photos.labels), "train_counts": counts.tolist(),
                "labels": " ".join(map(str, self.photos.test_labels.tolist()))}  # fmt: skip

    def uncertain(self, pool: Pool, target: Target) -> list[dict[str, Any]]:
        """The believed images with the highest percentile, one a class, and the real test errors of the same kind."""
        order = np.argsort(-pool.rows("percentile"), kind="stable")
        order = order[pool.rows("believed")[order]]
        labels, images = pool.rows("label"), pool.rows("images")
        test = outputs(target.classifier, self.photos.test).logits.argmax(dim=1).numpy()
        rows: list[dict[str, Any]] = []
        for place in order.tolist():
            asked = int(labels[place])
            if len(rows) == UNCERTAIN or self.photos.labels[asked] in [row["class"] for row in rows]:
                continue
            said = int(target.classifier.outputs(from_uint8(images[place : place + 1])).logits.argmax())
            own = self.photos.test_labels == asked
            rows.append({
                "class": self.photos.labels[asked], "read_as": self.photos.labels[said],
                "percentile": round(float(pool.rows("percentile")[place]), 1), "test_pictures": int(own.sum()),
                "test_errors": int((test[own] != asked).sum()), "test_read_as_the_same": int((test[own] == said).sum()),
            })  # fmt: skip
        return rows


def bill(calls: dict[str, float], generator: Generator, target: Target) -> dict[str, Any]:
    """Network calls and operations of a pool."""
    costs = call_costs(generator, target)
    return {
        "calls": {name: round(n) for name, n in sorted(calls.items())},
        "gflop": round(sum(n * costs.get(name, 0.0) for name, n in calls.items()), 1),
    }


def nothing() -> tuple[np.ndarray, np.ndarray]:
    """No synthetic images."""
    return np.zeros((0, 32, 32, 3), np.uint8), np.zeros(0, np.int64)


def outputs(classifier: Classifier, images: torch.Tensor) -> Outputs:
    """Of many uint8 images, in parts."""
    parts = [classifier.outputs(part.float() / 255, batch_size=256) for part in images.split(2048)]
    early = [p.early for p in parts if p.early is not None]
    return Outputs(
        torch.cat([p.logits for p in parts]),
        torch.cat([p.features for p in parts]),
        torch.cat(early) if early else None,
    )


def photo_parts(
    recipe: str,
    work: Path,
    clock: Clock,
    device: str,
    places: Mapping[str, Place] = PLACES,
    fitted: GeneratorSettings = SMALL_GENERATOR,
) -> list[PhotoArms]:
    """Every data set."""
    return [PhotoArms(place, recipe, work, clock, device, fitted) for place in places.values()]
