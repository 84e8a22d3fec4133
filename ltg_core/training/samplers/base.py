"""The contract of a sampler: which images an epoch shows, and in which order."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import ClassVar

import torch

from ltg_core.errors import UnsupportedError
from ltg_core.params import Params


@dataclasses.dataclass(frozen=True)
class Sampler(Params, ABC):
    """How often an image is drawn.

    Attributes:
        NAME: Registry name; the file has it with underscores.
        HELP: One sentence: what it is for.
        NEEDS: Beyond labels: "groups".
    """

    NAME: ClassVar[str]
    HELP: ClassVar[str]
    NEEDS: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def chances(self, labels: torch.Tensor, groups: torch.Tensor) -> torch.Tensor | None:
        """How likely each image is drawn, (N,) double, in any unit; None for every image once.

        Args:
            labels: (N,) int64 classes.
            groups: (N,) int64 groups, -1 for none.
        """

    def check(self, groups: torch.Tensor) -> None:
        """Whether these groups (N,) int64 are enough, before a training begins.

        Raises:
            UnsupportedError: Groups are needed and there are none.
        """
        if "groups" in self.NEEDS and not bool((groups >= 0).any()):
            raise UnsupportedError(
                f"the sampler {self.NAME!r} needs groups: name a metadata column of the training images (--column)"
            )

    def epoch(self, labels: torch.Tensor, groups: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        """Indices of one epoch, (N,) int64: a permutation, or draws with replacement.

        Raises:
            UnsupportedError: Groups are needed and there are none.
        """
        self.check(groups)
        chances = self.chances(labels, groups)
        if chances is None:
            return torch.randperm(len(labels), generator=rng)
        return torch.multinomial(chances, len(labels), replacement=True, generator=rng)


def sizes(values: torch.Tensor) -> torch.Tensor:
    """For each image the number of images with its value, (N,) double; values are 0 or above."""
    return torch.bincount(values)[values].double()
