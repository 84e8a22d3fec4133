"""Classes by the root of their size."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from ltg_core.training.samplers.base import Sampler, sizes


@dataclasses.dataclass(frozen=True)
class SquareRootSampler(Sampler):
    """p proportional to n_y^(-1/2), so that a class comes as often as the root of its size."""

    NAME: ClassVar[str] = "square-root"
    HELP: ClassVar[str] = (
        "Between the two: rare classes more often, without showing the same few images all day."
    )

    def chances(self, labels: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
        """By class."""
        return sizes(labels) ** -0.5
