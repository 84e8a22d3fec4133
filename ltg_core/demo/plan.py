"""The demo's ground truth: how often each class and condition is seen, and which cells the classifier never saw.

Only the builder of the demo and the benchmarks may import this module; nothing that discovers blind spots reads it
(a test checks the imports).
"""

from __future__ import annotations

import numpy as np

from ltg_core.demo.world import CLASSES, CONDITIONS, LIGHT, STATE

PLANTED: dict[str, tuple[str, ...]] = {
    "stop": ("graffiti",),
    "yield": ("snow",),
    "no entry": ("faded",),
    "priority road": ("faded",),
    "parking": ("tilted",),
    "turn right": ("graffiti",),
    "speed limit": ("snow",),
    "pedestrian crossing": ("snow",),
    "roundabout": ("faded",),
    "danger": ("tilted",),
}
"""Class -> conditions that its training images never show, alone or combined."""

OVERREPRESENTED: dict[str, tuple[str, ...]] = {
    "stop": ("faded",),
    "yield": ("tilted", "faded"),
    "no entry": ("graffiti", "snow"),
    "parking": ("snow",),
    "turn right": ("faded",),
    "pedestrian crossing": ("tilted",),
    "roundabout": ("graffiti",),
    "danger": ("snow",),
}
"""Class -> conditions under which its training images happened to be collected: the lookalikes of the planted cells.
Such habits of collection are what makes a real classifier take the condition for the class."""

CLASS_WEIGHT: dict[str, float] = {
    name: float(0.1 ** (rank / (len(CLASSES) - 1)))
    for rank, name in enumerate(
        (
            "speed limit",
            "priority road",
            "yield",
            "stop",
            "pedestrian crossing",
            "parking",
            "no entry",
            "danger",
            "turn right",
            "roundabout",
        )
    )
}
"""Long tail of the classifier's training data: ten to one."""

CLEAR_SHARE = 0.30
TRAIN_CLEAR_SHARE = 0.5
"""Clear days in the classifier's training data: conditions are rare there, as in most collected data sets."""
OVERREPRESENTED_SHARE = 0.3
COMBINED_SHARE = 0.12


def planted(sign: str, conditions: tuple[str, ...]) -> bool:
    """Whether a picture with these factors falls into a planted cell."""
    return any(condition in PLANTED[sign] for condition in conditions)


def draw_conditions(rng: np.random.Generator, clear_share: float = CLEAR_SHARE) -> tuple[str, ...]:
    """One natural draw: clear day, one condition, or now and then a light and a state together."""
    if rng.random() < clear_share:
        return ("clear day",)
    first = str(rng.choice(CONDITIONS[1:]))
    if rng.random() >= COMBINED_SHARE:
        return (first,)
    second = str(rng.choice(STATE if first in LIGHT else LIGHT))
    return tuple(c for c in CONDITIONS if c in (first, second))


def draw_cell(rng: np.random.Generator, kind: str) -> tuple[str, tuple[str, ...]]:
    """Class and conditions of one picture of a world.

    Args:
        rng: Random generator of this picture.
        kind: "whole" (uniform classes, natural conditions: the generator's world), "train" (long-tailed classes, rare
            conditions, planted cells left out: the classifier's training world), "even" (every class equally often
            under every single condition: validation, test and the oracles' world).
    """
    if kind == "even":
        return str(rng.choice(CLASSES)), (str(rng.choice(CONDITIONS)),)
    if kind == "whole":
        return str(rng.choice(CLASSES)), draw_conditions(rng)
    weights = np.array([CLASS_WEIGHT[name] for name in CLASSES])
    while True:
        sign = str(rng.choice(CLASSES, p=weights / weights.sum()))
        conditions = draw_conditions(rng, TRAIN_CLEAR_SHARE)
        habits = OVERREPRESENTED.get(sign, ())
        if habits and rng.random() < OVERREPRESENTED_SHARE * len(habits):
            conditions = (str(rng.choice(habits)),)
        if not planted(sign, conditions):
            return sign, conditions
