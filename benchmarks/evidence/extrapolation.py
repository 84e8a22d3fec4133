"""Category extrapolation on CIFAR-100, piece by piece: the trainings of `benchmarks.bench_extrapolation`, one file a unit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import bench_extrapolation as bench
from benchmarks.evidence.statistics import packed
from benchmarks.evidence.units import Clock, Store, Unit
from benchmarks.measure import write_json
from ltg_core.evaluation.frame import shots
from ltg_core.training.settings import TrainSettings

SHORT = {"epochs": 24, "depth": 8, "stem_stride": 2}
FULL = {"epochs": 200, "depth": 32, "stem_stride": 1}


class Extrapolation:
    """All arms of the paper's ablation with equally many auxiliary images.

    Args:
        recipe: "shortened" or "full"; two parts with results of their own.
        work: Folder of checkpoints.
        clock: Asked at every report.
    """

    def __init__(self, recipe: str, work: Path, clock: Clock) -> None:
        self.name = "extrapolation" if recipe == "shortened" else f"extrapolation-{recipe}"
        self.recipe = FULL if recipe == "full" else SHORT
        self.work, self.clock = work / self.name, clock
        self.arms = {arm.name: arm for arm in bench.ARMS}

    @cached_property
    def world(self) -> bench.World:
        """The data, decoded once."""
        return bench.load()

    def units(self, seeds: Sequence[int]) -> list[Unit]:
        """Every arm and seed, where the data are there."""
        return (
            [Unit(self.name, arm, seed) for arm in self.arms for seed in seeds] if bench.DATA.exists() else []
        )

    def training(self) -> TrainSettings:
        """The recipe of the benchmark."""
        return TrainSettings(
            scope="scratch", epochs=self.recipe["epochs"], lr=0.1, optimizer="sgd", weight_decay=2e-4, warmup=1.0,
            clip=0.0, ema=0.0, patience=0, precision="bf16", shift=4, flip=True,
        )  # fmt: skip

    def settings(self, unit: Unit) -> dict[str, Any]:
        """What decides the result."""
        arm = self.arms[unit.arm]
        return {**self.recipe, "train": self.training().to_dict(), "loss": arm.loss.NAME, **arm.loss.to_dict(),
                "auxiliary": arm.auxiliary}  # fmt: skip

    def measure(self, unit: Unit, store: Store) -> dict[str, Any]:
        """One arm, one seed."""
        world, arm = self.world, self.arms[unit.arm]
        self.work.mkdir(parents=True, exist_ok=True)
        shape = (self.recipe["depth"], self.recipe["stem_stride"])
        said = bench.one(world, arm, unit.seed, self.training(), self.work, shape, self.clock.rest)
        place = {name: i for i, name in enumerate(world.targets)}
        labels = np.array([place[name] for name in world.test.names])
        record = {"classes": list(world.targets), "train_counts": world.counts.tolist(),
                  "labels": " ".join(map(str, labels.tolist())),
                  "parts": {name: rows.tolist() for name, rows in shots(world.counts).items()}}  # fmt: skip
        write_json(store.folder / f"{self.name}.frame.json", record)
        right = np.array(said["pred"]) == labels
        return {"right": packed(right), "images": said["images"], "classes": said["classes"]}


def names() -> list[str]:
    """Of the arms."""
    return [arm.name for arm in bench.ARMS]
