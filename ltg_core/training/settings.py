"""How a copy of a classifier is trained, on what mixture, and in which rounds."""

from __future__ import annotations

import dataclasses
import math

from ltg_core.params import Params, param

SCOPES = ("head", "whole", "scratch")
_USUAL_LR = {"head": 3e-3, "whole": 3e-4, "scratch": 3e-3}


@dataclasses.dataclass(frozen=True)
class TrainSettings(Params):
    """Settings of one training; loss and sampler have their own."""

    scope: str = param(
        "head",
        "head: only the last layer, on features computed once; whole: all layers from where they are; scratch: all "
        "layers from random weights",
        choices=SCOPES,
    )
    epochs: int = param(30, "Epochs at most", low=1, high=10_000)
    batch_size: int = param(128, "Images a step", low=2)
    lr: float = param(
        0.0, "Peak learning rate; 0 for the usual: .003 for head and scratch, .0003 for whole", low=0.0
    )
    optimizer: str = param("adamw", "Optimiser", choices=("adamw", "sgd"))
    momentum: float = param(0.9, "Of sgd", low=0.0, high=0.999)
    weight_decay: float = param(1e-4, "Weight decay", low=0.0)
    schedule: str = param(
        "cosine",
        "cosine: falls to a hundredth; steps: a tenth after 80 % and again after 90 %; constant",
        choices=("cosine", "steps", "constant"),
    )
    warmup: float = param(0.5, "Epochs in which the learning rate rises", low=0.0)
    clip: float = param(1.0, "Largest norm of the gradient; 0 for any", low=0.0)
    ema: float = param(
        0.99, "Decay of the averaged weights, which are the result; 0 for none", low=0.0, high=0.99999
    )
    patience: int = param(
        6,
        "Epochs without improvement on real validation images before it stops; the best weights are kept. 0 runs to "
        "the end and keeps the last",
        low=0,
    )
    monitor: str = param(
        "balanced_accuracy",
        "What is watched on real validation images",
        choices=("balanced_accuracy", "accuracy", "loss"),
    )
    precision: str = param(
        "auto",
        "Mixed precision; auto: bf16 (or fp16) on a GPU, none on a CPU",
        choices=("auto", "no", "bf16", "fp16"),
    )
    fresh_head: bool = param(False, "Begin with a new last layer (classifier re-training)")
    mixup: float = param(0.0, "Alpha of MixUp; 0 for none", low=0.0, high=10.0)
    shift: int = param(0, "Random shift in pixels, each way; not for head", low=0)
    flip: bool = param(False, "Mirror half of the images; not for head, nor where left and right matter")
    exposure: float = param(0.0, "Random brightness factor 1 +- this; not for head", low=0.0, high=0.9)
    checkpoint_every: int = param(200, "Steps between checkpoints", low=1)

    @property
    def peak_lr(self) -> float:
        """The learning rate, the usual one where none was given."""
        return self.lr or _USUAL_LR[self.scope]

    @property
    def augments(self) -> bool:
        """Whether images are changed at random."""
        return bool(self.shift or self.flip or self.exposure)

    def lr_at(self, step: int, steps: int, epoch_steps: int) -> float:
        """Learning rate of a step."""
        warm = min(1.0, (step + 1) / max(1.0, self.warmup * epoch_steps))
        done = step / max(1, steps)
        if self.schedule == "cosine":
            return self.peak_lr * warm * (0.505 + 0.495 * math.cos(math.pi * done))
        if self.schedule == "steps":
            return self.peak_lr * warm * (1.0 if done < 0.8 else 0.1 if done < 0.9 else 0.01)
        return self.peak_lr * warm


@dataclasses.dataclass(frozen=True)
class MixSettings(Params):
    """Which synthetic images come to the real ones, and how much they count."""

    synthetic: str = param(
        "accepted",
        "accepted: those that a person accepted; believed: those that passed every check and were not rejected; none",
        choices=("accepted", "believed", "none"),
    )
    role: str = param(
        "guided",
        "guided: images of the blind spots; control: their unguided twins, for comparison; any: both",
        choices=("guided", "control", "any"),
    )
    limit: int = param(0, "At most so many synthetic images, always the same ones; 0 for all", low=0)
    synthetic_weight: float = param(0.5, "Weight of a synthetic image; a real one has 1", low=0.0, high=10.0)
    weight_column: str = param(
        "", "Metadata column with a number from 0 to 1 that multiplies that weight, such as judge or survival"
    )
    label_column: str = param(
        "",
        "Metadata column with the probability that a synthetic image's label is right; makes its label soft",
    )
    smoothing: float = param(
        0.0, "Share of a synthetic image's label that is spread over all classes", low=0.0, high=0.5
    )
    column: str = param("", "Metadata column of conditions: groups are the pairs of class and value")
    auxiliary: str = param(
        "neighbours",
        "neighbours: images of accepted auxiliary classes are learned from as well; random: those of the random "
        "control instead; none",
        choices=("neighbours", "random", "none"),
    )


@dataclasses.dataclass(frozen=True)
class LoopSettings(Params):
    """How often, how much, and when it ends."""

    rounds: int = param(5, "Rounds at most", low=1, high=100)
    number: int = param(24, "Guided images a round", low=1, high=10_000)
    preset: str = param(
        "hard but believable",
        "What images are looked for",
        choices=(
            "explore",
            "hard but believable",
            "search only",
            "gradient only",
            "feedback-guided",
            "unguided",
        ),
    )
    patience: int = param(
        2, "Rounds without an improvement beyond the interval after which it ends", low=1, high=100
    )
    seeds: int = param(3, "Trainings a round", low=1, high=20)
    seed: int = param(0, "Of the first image and the first training", low=0)
    resamples: int = param(2000, "Resamples of each interval", low=100, high=100_000)
