"""From a network's outputs to one logit a label: all of them, some of them, or the two sides of a single one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from ltg_core.errors import ArchitectureMismatch, ModelError
from ltg_core.types import Logits


@dataclasses.dataclass(frozen=True)
class Units:
    """What is done with a network's outputs; differentiable.

    Attributes:
        count: How many the network has.
        keep: Those that count, in the order of the labels; None for all.
        binary: One output stands for two labels: it is the log-odds of the second.
    """

    count: int
    keep: tuple[int, ...] | None = None
    binary: bool = False

    @classmethod
    def fitting(cls, count: int, labels: int, keep: Sequence[int] | None, who: str) -> Units:
        """The rule under which ``count`` outputs give one logit for each of ``labels`` labels.

        Raises:
            ArchitectureMismatch: There is none.
            ModelError: ``keep`` names outputs that are not there, or one twice.
        """
        if keep is not None:
            kept = tuple(int(k) for k in keep)
            if len(set(kept)) != len(kept) or not all(0 <= k < count for k in kept):
                raise ModelError(f"{who} has {count} outputs; those to keep are {list(kept)[:8]}")
            if len(kept) != labels:
                raise ArchitectureMismatch(
                    f"{labels} labels were given for {len(kept)} kept outputs of {who}; give one for each"
                )
            return cls(count, kept)
        if count == 1 and labels == 2:
            return cls(count, None, True)
        if count != labels:
            raise ArchitectureMismatch(
                f"{labels} labels were given, but {who} has {count} outputs; give one label for each output"
                + (" (two for a single output: absent, present)" if count == 1 else "")
            )
        return cls(count)

    @staticmethod
    def labels_for(count: int) -> int:
        """How many labels a network with so many outputs needs."""
        return 2 if count == 1 else count

    def __call__(self, logits: torch.Tensor) -> Logits:
        """(B, count) to (B, labels)."""
        if self.keep is not None:
            return logits[:, list(self.keep)]
        return torch.cat([-logits / 2, logits / 2], dim=1) if self.binary else logits
