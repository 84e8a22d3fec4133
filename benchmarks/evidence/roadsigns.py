"""Parts on the road-sign world that retrain: the arms, the curve over their number of images, the choice of the recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from benchmarks.evidence import arms, learning
from benchmarks.evidence.arms import ARMS, CURVE, Arm
from benchmarks.evidence.asking import EVERY, Asking, confirmed
from benchmarks.evidence.signs import ASSETS, Signs
from benchmarks.evidence.statistics import packed
from benchmarks.evidence.truth import Examiner, frame_of, frame_record
from benchmarks.evidence.units import Clock, Store, Unit
from benchmarks.measure import read_json, write_json
from ltg_core.demo.world import CLASSES

RECIPE = learning.Recipe()
"""Chosen by the part "recipe"."""
TUNING_SEED = 90
"""Seed of images and training that no other part uses."""
RECIPES: dict[str, learning.Recipe] = {
    "lr 0.0003, weight 1": learning.Recipe(lr=3e-4),
    "lr 0.001, weight 1": learning.Recipe(lr=1e-3),
}


class Retraining:
    """A list of arms on the road-sign world.

    Args:
        name: Of the part.
        arms: In order of importance.
        signs: The world.
        clock: Asked between batches.
    """

    def __init__(self, name: str, arms: Sequence[Arm], signs: Signs, clock: Clock) -> None:
        self.name, self.arms, self.signs, self.clock = name, {arm.name: arm for arm in arms}, signs, clock

    def units(self, seeds: Sequence[int]) -> list[Unit]:
        """Every arm and seed; what nothing random happens to has one."""
        return [
            Unit(self.name, name, seed)
            for name, arm in self.arms.items()
            for seed in (seeds[:1] if arm.untouched else seeds)
        ]

    def settings(self, unit: Unit) -> dict[str, Any]:
        """What decides the result."""
        return self.arms[unit.arm].settings(self.signs, RECIPE)

    def measure(self, unit: Unit, store: Store) -> dict[str, Any]:
        """One arm, one seed."""
        arm = self.arms[unit.arm]
        asked, searched = self.asked(unit, store) if arm.words == "asked" else (None, 0)
        trained = arms.train(self.signs, arm, unit.seed, RECIPE, self.clock, asked)
        frame = frame_of(self.frame(store))
        found: dict[str, Any] = {
            "right": packed(trained.right),
            "figures": {
                name: round(value, 5)
                for name, value in frame.measured(trained.right).items()
                if value == value
            },
            "validation": trained.validation,
            "optimiser_steps": trained.steps,
        }
        if trained.tau is not None:
            found["tau"] = trained.tau
        if trained.taken is not None:
            taken = trained.taken
            costs = {  # the images of the search, which are unguided like those that are learned from, are paid for, too
                name: cost * (1 + searched / taken.attempts) for name, cost in self.signs.costs.items()
            }
            seen = Examiner(ASSETS).seen(taken.images, taken.labels)
            found["synthetic"] = {
                "images": len(taken.images),
                "attempts": taken.attempts,
                "short": taken.short,
                **(
                    {"searched": searched, "words": {CLASSES[k]: list(own) for k, own in asked.items()}}
                    if asked
                    else {}
                ),
                "calls": {name: round(n) for name, n in sorted(taken.calls.items())},
                "gflop": round(sum(n * costs.get(name, 0.0) for name, n in taken.calls.items())),
                "seen_by_oracles": seen,
            }
        return found

    def asked(self, unit: Unit, store: Store) -> tuple[arms.Asked, int]:
        """The words that make errors, by class, and how many images it took to find them; nothing real, nothing planted."""
        got = Asking(self.signs, self.clock).measure(Unit(Asking.name, EVERY, unit.seed), store)
        found: dict[int, list[str]] = {}
        for one in confirmed(got["again"], [cell["cell"] for cell in got["again"]]):
            sign, _, word = one["cell"].partition(" / ")
            found.setdefault(CLASSES.index(sign), []).append(word)
        return found, got["images"] + got["images_again"]

    def frame(self, store: Store) -> dict[str, Any]:
        """The record of the test pictures, written once; results of other pictures are refused."""
        return frame(self.signs, store)


def frame(signs: Signs, store: Store) -> dict[str, Any]:
    """See `Retraining.frame`.

    Raises:
        SystemExit: The folder has results of other test pictures.
    """
    path = store.folder / "roadsigns.frame.json"
    now, found = frame_record(signs.train, signs.test), read_json(path)
    if found is not None and found != now:
        raise SystemExit(f"{path.name} is of other test pictures; use another folder of results (--results)")
    if found is None:
        write_json(path, now)
    return now


class Recipes:
    """The choice of learning rate and weight, on validation pictures, with unguided images and a seed of its own."""

    name = "recipe"

    def __init__(self, signs: Signs, clock: Clock) -> None:
        self.signs, self.clock = signs, clock
        self.arm = arms.arm("+ unguided")

    def units(self, seeds: Sequence[int]) -> list[Unit]:
        """One each, whatever the seeds of the arms are."""
        return [Unit(self.name, name, TUNING_SEED) for name in RECIPES] if seeds else []

    def settings(self, unit: Unit) -> dict[str, Any]:
        """What decides the result."""
        return self.arm.settings(self.signs, RECIPES[unit.arm])

    def measure(self, unit: Unit, store: Store) -> dict[str, Any]:
        """Validation figures of one recipe."""
        recipe = RECIPES[unit.arm]
        taken = arms.images_of(self.signs, self.arm, unit.seed, recipe, self.clock)
        assert taken is not None
        learned = learning.retrained(
            self.signs, self.arm.loss, taken.images, taken.labels, recipe, unit.seed, self.clock
        )
        return {"validation": learned.validation, "recipe": dataclasses.asdict(recipe)}


def retraining_parts(signs: Signs, clock: Clock) -> list[Any]:
    """In the order of a campaign."""
    return [
        Recipes(signs, clock),
        Retraining("roadsigns", ARMS, signs, clock),
        Retraining("curve", CURVE, signs, clock),
    ]
