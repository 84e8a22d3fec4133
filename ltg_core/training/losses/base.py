"""The contract of a loss: logits and (soft) labels in, one number an image out, weighted and averaged."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch

from ltg_core.errors import UnsupportedError
from ltg_core.params import Params

State = dict[str, torch.Tensor]
"""What a loss remembers from step to step; part of every checkpoint."""


@dataclasses.dataclass(frozen=True)
class About:
    """What a loss may know about the training set.

    Attributes:
        counts: (C,) images of each class: the sum of their weights, soft labels shared out.
        groups: (G,) images of each group, empty where there are none.
        parents: (C,) for an auxiliary class the target class that it stands beside, -1 for a target class; (C, P)
            where it stands beside up to P of them, filled up with -1; empty where no class is auxiliary.
    """

    counts: torch.Tensor
    groups: torch.Tensor = dataclasses.field(default_factory=lambda: torch.zeros(0))
    parents: torch.Tensor = dataclasses.field(default_factory=lambda: torch.zeros(0, dtype=torch.long))

    def to(self, device: torch.device | str) -> About:
        """The same on another device."""
        return About(self.counts.to(device), self.groups.to(device), self.parents.to(device))

    @property
    def log_prior(self) -> torch.Tensor:
        """(C,) log of the share of each class; a class without images counts as one image."""
        counts = self.counts.float().clamp_min(1.0)
        return (counts / counts.sum()).log()


class Batch(NamedTuple):
    """One step's images as a loss sees them.

    Attributes:
        logits: (B, C) with their graph.
        targets: (B, C) labels, each row sums to 1.
        weights: (B,) weight of each image, 1 for a usual one.
        groups: (B,) group of each image, -1 for none.
        progress: Share of the training that is done, in [0, 1).
    """

    logits: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    groups: torch.Tensor
    progress: float = 0.0


@dataclasses.dataclass(frozen=True)
class Loss(Params, ABC):
    """What is minimised.

    Attributes:
        NAME: Registry name; the file has it with underscores.
        HELP: One sentence: what it is for.
        SOURCE: Where the formula is from.
        NEEDS: Beyond labels: "groups" or "auxiliary" classes.
    """

    NAME: ClassVar[str]
    HELP: ClassVar[str]
    SOURCE: ClassVar[str]
    NEEDS: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def each(
        self, logits: torch.Tensor, targets: torch.Tensor, about: About, progress: float
    ) -> torch.Tensor:
        """Loss of each image, (B,) float32; arguments as in `Batch`."""

    def state(self, about: About) -> State:
        """What is remembered before the first step."""
        return {}

    def __call__(self, batch: Batch, about: About, state: State) -> torch.Tensor:
        """The scalar to minimise: the mean over the batch of weight times loss.

        Divided by the number of images and not by the sum of weights, so that an image counts as much in whatever
        company it is drawn. ``state`` may be changed in place.
        """
        return (batch.weights * self.each(batch.logits, batch.targets, about, batch.progress)).mean()

    def check(self, about: About) -> None:
        """Whether the training set has what this loss needs.

        Raises:
            UnsupportedError: It does not; the message says how to get it.
        """
        if "groups" in self.NEEDS and len(about.groups) < 2:
            raise UnsupportedError(
                f"the loss {self.NAME!r} needs groups: name a metadata column (--column) that has at least two values "
                "among the training images"
            )
        if "auxiliary" in self.NEEDS and not bool((about.parents >= 0).any()):
            raise UnsupportedError(
                f"the loss {self.NAME!r} needs auxiliary classes: training images whose metadata 'auxiliary_of' names "
                "a class of the classifier and whose own class is another; without any, balanced-softmax is the same"
            )


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """-sum_k t_k log softmax(z)_k, (B,) in float32 or better; logits may be -inf where the target is 0."""
    log_p = (logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits).log_softmax(dim=1)
    return -torch.where(targets > 0, targets * log_p, torch.zeros_like(log_p)).sum(dim=1)


def effective_weights(counts: torch.Tensor, beta: float) -> torch.Tensor:
    """(1 - beta) / (1 - beta^n_c) a class (Cui et al. 2019, equation 6), scaled to sum to the number of classes.

    A class without images counts as one image. Computed in double precision: for beta = .9999 the denominator of
    single precision keeps three digits.
    """
    n = counts.double().clamp_min(1.0)
    weights = (1 - beta) / (1 - beta**n)
    return (weights * (len(counts) / weights.sum())).float()
