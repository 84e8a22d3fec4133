"""Is guidance adversarial? What is believed, what survives mild changes, and what other networks see of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import norm

from benchmarks.evidence import arms
from benchmarks.evidence.arms import Arm
from benchmarks.evidence.signs import Signs
from benchmarks.evidence.units import Clock, Store, Unit, slug
from ltg_core.demo.build import ARCH
from ltg_core.demo.world import CLASSES
from ltg_core.guidance.engine import Target, from_uint8
from ltg_core.guidance.settings import PRESETS
from ltg_core.guidance.validity import altered, signal_of
from ltg_core.models.classifier import Classifier
from ltg_core.models.fit import ClassifierSettings, fit_classifier
from ltg_core.models.loaders import load_classifier, save_classifier
from ltg_core.types import Images, Labels

SIGNAL = "epistemic"
GRADIENT = Arm("gradient only, weight 4", guidance=PRESETS["gradient only"])
"""Guidance without a search, never stopped: the likeliest to be adversarial; a hard case beside the default."""
CHECKED: tuple[Arm, ...] = (arms.arm("+ LTG epistemic"), GRADIENT, arms.arm("+ best of N, equal compute"))
OTHERS: dict[str, tuple[str, int, int]] = {
    "another seed": (ARCH, 1, 32),
    "another architecture": ("timm:mobilenetv3_small_100", 1, 64),
}
"""Network → architecture, seed, side of its input; trained with the demo's own recipe."""


def network(signs: Signs, name: str, clock: Clock) -> Classifier:
    """Another network of the demo's training world, trained once."""
    arch, seed, size = OTHERS[name]
    steps = signs.sizes.network_steps
    path = signs.work / "networks" / f"{slug(name)}-{steps}.safetensors"
    if path.exists():
        return load_classifier(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    split = signs.whole_train
    made = fit_classifier(
        torch.from_numpy(split.images),
        torch.from_numpy(split.signs),
        CLASSES,
        arch,
        ClassifierSettings(steps=steps, seed=seed, shift=2, size=size),
        path.with_suffix(".ckpt"),
        name=name,
        on_progress=lambda _: clock.rest(),
    )
    save_classifier(made, path, {"what": f"{name}, for the check whether guidance is adversarial"})
    return made


def level(percentiles: np.ndarray) -> np.ndarray:
    """Standard score of a percentile, cut off at a quarter per cent on either side."""
    found: np.ndarray = norm.ppf(np.clip(percentiles / 100, 0.0025, 0.9975))
    return found


def percentiles(target: Target, x: Images, labels: Labels) -> np.ndarray:
    """(N,) of the signal among held-out real pictures of this network, audit heads."""
    values = signal_of(target, SIGNAL, x, labels)
    return target.reference.percentile(SIGNAL, values, "audit").double().numpy()


class Adversarial:
    """Guided images beside the unguided ones of the same seeds."""

    name = "adversarial"

    def __init__(self, signs: Signs, clock: Clock) -> None:
        self.signs, self.clock = signs, clock
        self.arms = {arm.name: arm for arm in CHECKED}
        self.targets: dict[str, tuple[Target, float]] = {}

    def units(self, seeds: Sequence[int]) -> list[Unit]:
        """Every checked arm and seed."""
        return [Unit(self.name, arm, seed) for arm in self.arms for seed in seeds]

    def settings(self, unit: Unit) -> dict[str, Any]:
        """What decides the result."""
        guidance = self.arms[unit.arm].guidance
        assert guidance is not None
        return {
            "guidance": arms.small(guidance, self.signs).to_dict(),
            "networks": OTHERS,
            "sizes": dataclasses.asdict(self.signs.sizes),
        }

    def target(self, name: str) -> tuple[Target, float]:
        """Another network with its own head, and its accuracy on the test pictures."""
        if name not in self.targets:
            from benchmarks.evidence.learning import right

            made = network(self.signs, name, self.clock)
            self.targets[name] = self.signs.target_of(made), float(right(made, self.signs.test).mean())
        return self.targets[name]

    def measure(self, unit: Unit, store: Store) -> dict[str, Any]:
        """One arm, one seed."""
        signs, count = self.signs, self.signs.sizes.checked
        pool = arms.pool_of(signs, self.arms[unit.arm], unit.seed, self.clock)
        plain = arms.pool_of(signs, arms.arm("+ unguided"), unit.seed, self.clock)
        rows, before = (one.first(count // pool.classes) for one in (pool, plain))
        labels = torch.from_numpy(pool.rows("label")[rows].astype(np.int64))
        assert (plain.rows("label")[before] == labels.numpy()).all()
        assert (plain.rows("attempt")[before] == pool.rows("attempt")[rows]).all()
        guided, control = from_uint8(pool.rows("images")[rows]), from_uint8(plain.rows("images")[before])
        own = percentiles(signs.target, guided, labels), percentiles(signs.target, control, labels)
        found: dict[str, Any] = {
            "images": len(rows),
            "believed": [int(v) for v in pool.rows("believed")[rows]],
            "own": _pair(*own),
            "kept": {},
            "others": {},
        }
        raw = signal_of(signs.target, SIGNAL, guided, labels)
        floor = min(0.0, signs.target.reference.value_at(SIGNAL, 1.0, "audit"))
        changed_control = altered(signs.generator, control)
        for name, changed in altered(signs.generator, guided).items():
            after = signal_of(signs.target, SIGNAL, changed, labels)
            share = ((after - floor) / (raw - floor).clamp(min=1e-9)).clamp(0, 1)
            pair = (percentiles(signs.target, x, labels) for x in (changed, changed_control[name]))
            found["kept"][name] = {"share": [round(float(v), 3) for v in share], **_pair(*pair)}
        for name in OTHERS:
            target, accuracy = self.target(name)
            pair = (percentiles(target, x, labels) for x in (guided, control))
            wrong = [
                round(float((target.classifier.outputs(x).logits.argmax(dim=1) != labels).double().mean()), 4)
                for x in (guided, control)
            ]
            found["others"][name] = {
                "accuracy": round(accuracy, 4), "errors_guided": wrong[0], "errors_control": wrong[1], **_pair(*pair)
            }  # fmt: skip
        return found


def _pair(guided: np.ndarray, control: np.ndarray) -> dict[str, list[float]]:
    return {"guided": [round(float(v), 1) for v in guided], "control": [round(float(v), 1) for v in control]}


def ratio(
    top: np.ndarray, bottom: np.ndarray, rounds: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Ratio of the means of two columns of the same pairs, with its 95 % bootstrap interval over pairs."""
    draws = np.random.default_rng(seed).integers(len(top), size=(rounds, len(top)))
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = top[draws].mean(axis=1) / bottom[draws].mean(axis=1)
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return float(top.mean() / bottom.mean()), float(low), float(high)
