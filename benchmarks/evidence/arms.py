"""The arms of the road-sign world: what an arm learns from, with which loss. Nothing here knows the ground truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.evidence import learning
from benchmarks.evidence.pools import Pool, Prompt, Taken, likeness
from benchmarks.evidence.signs import Signs
from benchmarks.evidence.units import Clock, slug
from ltg_core.demo.world import CLASSES, article
from ltg_core.guidance.settings import PRESETS, Guidance, feedback_guided

CE, BALANCED = "cross-entropy", "balanced-softmax"
BEST_OF = 6
"""Candidates of best-of-N: its network calls then cost what the default preset's cost (bench_demo measures 1.01 of them)."""
SECOND_ROUND = 5_000
_EXPLORE = PRESETS["explore"]
Asked = Mapping[int, Sequence[str]]
"""Words that make errors, by class."""


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way to retrain.

    Attributes:
        name: For people.
        loss: Of the training.
        guidance: How its synthetic images are made; None for real pictures only.
        words: "" for the class alone, "conditions" for prompts that name the generator's conditions in turn, "asked" for
            those that make errors (`benchmarks.evidence.asking`).
        free: "" or "logit-adjustment", after the training.
        rounds: 2 to make the second half of the images against the learner of the first.
        scale: Images, in multiples of 1x.
        untouched: The bundled classifier without any training.
        pool: Name of the images, where another arm has the same ones.
    """

    name: str
    loss: str = BALANCED
    guidance: Guidance | None = None
    words: str = ""
    free: str = ""
    rounds: int = 1
    scale: float = 1.0
    untouched: bool = False
    pool: str = ""

    def settings(self, signs: Signs, recipe: learning.Recipe) -> dict[str, Any]:
        """All that decides the result beside the seed."""
        found: dict[str, Any] = {
            "loss": self.loss, "guidance": None, "words": self.words, "free": self.free, "rounds": self.rounds,
            "scale": self.scale, "untouched": self.untouched, "sizes": dataclasses.asdict(signs.sizes),
            "recipe": dataclasses.asdict(recipe),
        }  # fmt: skip
        if self.guidance is not None:
            found["guidance"] = small(self.guidance, signs).to_dict()
        for key in ("network_steps", "checked", "world"):  # do not touch this part
            found["sizes"].pop(key)
        return found


ARMS: tuple[Arm, ...] = (
    Arm("as bundled, not retrained", loss="", untouched=True),
    Arm("real only", loss=CE),
    Arm("post-hoc logit adjustment", loss=CE, free="logit-adjustment"),
    Arm("balanced softmax"),
    Arm("+ unguided", guidance=PRESETS["unguided"]),
    Arm("+ LTG epistemic", guidance=_EXPLORE),
    Arm("+ best of N, equal compute", guidance=dataclasses.replace(
        _EXPLORE, climb="none", search="best of n", candidates=BEST_OF)),
    Arm("+ prompt diversity", guidance=PRESETS["unguided"], words="conditions"),
    Arm("+ what errs when asked for", guidance=PRESETS["unguided"], words="asked"),
    Arm("+ LTG epistemic in two rounds", guidance=_EXPLORE, rounds=2, pool="+ LTG epistemic"),
    Arm("+ LTG entropy", guidance=dataclasses.replace(_EXPLORE, signal="entropy")),
    Arm("+ feedback-guided, entropy", guidance=feedback_guided("entropy")),
    Arm("+ feedback-guided, loss", guidance=feedback_guided("loss")),
    Arm("+ feedback-guided, hardness", guidance=feedback_guided("hardness")),
    Arm("+ feedback-guided as released, entropy", guidance=feedback_guided(as_released=True)),
)  # fmt: skip
"""In the order in which a campaign measures them."""
SCALES = (0.25, 0.5, 2.0, 4.0)


def curve_arm(base: Arm, scale: float) -> Arm:
    """The same arm with more or fewer images."""
    return dataclasses.replace(base, name=f"{base.name}, {scale:g}x", scale=scale, pool=base.name)


def arm(name: str) -> Arm:
    """The arm of that name."""
    return next(one for one in ARMS if one.name == name)


CURVE: tuple[Arm, ...] = tuple(
    curve_arm(arm(name), scale)
    for scale, names in (
        (0.25, ("+ LTG epistemic", "+ unguided")),
        (0.5, ("+ LTG epistemic", "+ unguided")),
        (2.0, ("+ unguided",)),
        (4.0, ("+ unguided",)),
        (2.0, ("+ LTG epistemic",)),
        (4.0, ("+ LTG epistemic",)),
    )
    for name in names
)


def small(guidance: Guidance, signs: Signs) -> Guidance:
    """The settings, in the quick form with a few steps and candidates."""
    return shortened(guidance, signs.sizes.steps)


def shortened(guidance: Guidance, steps: int) -> Guidance:
    """So few steps, with two candidates; 0 steps for the settings as they are."""
    if not steps:
        return guidance
    few = min(2, guidance.candidates)
    return dataclasses.replace(guidance, steps=steps, candidates=few, draft_steps=1, survivors=1)


def plain_words(label: int, attempt: int) -> str:
    """The class alone."""
    return f"a photo of {article(CLASSES[label])} {CLASSES[label]} sign"


def diverse_words(signs: Signs) -> Prompt:
    """Every condition that the generator's card names, in turn; they come from the card and from nothing else."""
    phrases = list(signs.phrases.values())

    def words(label: int, attempt: int) -> str:
        return f"{plain_words(label, attempt)} {phrases[attempt % len(phrases)]}"

    return words


def asked_words(signs: Signs, cells: Asked) -> Prompt:
    """The words that make errors of the class, in turn; the class alone where none does."""

    def words(label: int, attempt: int) -> str:
        own, plain = cells.get(label, ()), plain_words(label, attempt)
        return f"{plain} {signs.phrases[own[attempt % len(own)]]}" if own else plain

    return words


def pool_of(signs: Signs, arm: Arm, seed: int, clock: Clock, asked: Asked | None = None) -> Pool:
    """The images of an arm; arms that differ in their number alone share them."""
    assert arm.guidance is not None
    name = slug(arm.pool or arm.name)
    prompt = diverse_words(signs) if arm.words == "conditions" else plain_words
    if arm.words == "asked":
        assert asked is not None
        prompt = asked_words(signs, asked)
    guidance = small(arm.guidance, signs)
    where = signs.work / "pools"
    like = likeness(torch.from_numpy(signs.train.images), signs.train.signs, seed)
    return Pool(where, name, signs.generator, signs.target, guidance, prompt, seed, clock=clock, like=like)


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """An arm after its training.

    Attributes:
        right: (N,) bool, test pictures.
        taken: Its synthetic images, None for an arm without any.
        validation: See `learning.Learned`.
        steps: Optimiser steps.
        tau: Strength of the adjustment after training, where there is one.
    """

    right: np.ndarray
    taken: Taken | None
    validation: dict[str, float]
    steps: int
    tau: float | None = None


def train(
    signs: Signs, arm: Arm, seed: int, recipe: learning.Recipe, clock: Clock, asked: Asked | None = None
) -> Trained:
    """Make the images of an arm, retrain, answer for the test pictures."""
    if arm.untouched:
        return Trained(learning.right(signs.classifier, signs.test), None, {}, 0)
    taken = images_of(signs, arm, seed, recipe, clock, asked)
    images, labels = (taken.images, taken.labels) if taken is not None else nothing()
    learned = learning.retrained(signs, arm.loss, images, labels, recipe, seed, clock)
    if arm.free:
        right, tau = learning.right_adjusted(learned.classifier, signs)
        return Trained(right, taken, learned.validation, learned.steps, tau)
    right = learning.right(learned.classifier, signs.test)
    return Trained(right, taken, learned.validation, learned.steps)


def nothing() -> tuple[np.ndarray, np.ndarray]:
    """No synthetic images."""
    return np.zeros((0, 64, 64, 3), np.uint8), np.zeros(0, np.int64)


def images_of(
    signs: Signs, arm: Arm, seed: int, recipe: learning.Recipe, clock: Clock, asked: Asked | None = None
) -> Taken | None:
    """The believed images of an arm, equally many of every class."""
    if arm.guidance is None:
        return None
    each = max(1, round(arm.scale * signs.sizes.images / len(CLASSES)))
    pool = pool_of(signs, arm, seed, clock, asked)
    if arm.rounds == 1:
        return pool.take(each)
    one = pool.take(max(1, each // 2))
    learned = learning.retrained(signs, arm.loss, one.images, one.labels, recipe, seed, clock)
    target = signs.target_of(learned.classifier)
    guidance = small(arm.guidance, signs)
    where, name = signs.work / "pools", slug(f"{arm.name} second")
    more = Pool(
        where, name, signs.generator, target, guidance, plain_words, seed, start=SECOND_ROUND, clock=clock
    )
    two = more.take(max(1, each - each // 2))
    calls = {name: one.calls.get(name, 0.0) + two.calls.get(name, 0.0) for name in one.calls | two.calls}
    return Taken(
        np.concatenate([one.images, two.images]),
        np.concatenate([one.labels, two.labels]),
        one.attempts + two.attempts,
        calls,
        one.short + two.short,
    )
