"""Every image once an epoch."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from ltg_core.training.samplers.base import Sampler


@dataclasses.dataclass(frozen=True)
class InstanceSampler(Sampler):
    """A permutation an epoch."""

    NAME: ClassVar[str] = "instance"
    HELP: ClassVar[str] = "Every image once an epoch, classes as frequent as they are."

    def chances(self, labels: torch.Tensor, groups: torch.Tensor) -> torch.Tensor | None:
        """None: nothing is drawn by chance."""
        return None
