"""The contract of a signal: classifier outputs in, one number per sample out; higher is rarer or harder."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch

from ltg_core.errors import InputError, UnsupportedError
from ltg_core.params import Params
from ltg_core.types import Labels, Outputs, Scores

if TYPE_CHECKING:
    from ltg_core.signals.reference import Reference

GROUPS = ("all", "guide", "audit")
"""Groups of the head's members: guidance climbs "guide", acceptance reads "audit", scores use "all"."""


@dataclasses.dataclass(frozen=True)
class Signal(Params, ABC):
    """One measure of how rare or hard a sample is for a frozen classifier.

    Attributes:
        NAME: Registry name; also the name of the file.
        HELP: One sentence in plain words.
        NEEDS: What must be there: "logits", "label", "head", "gaussian", "leverage".
        DIFFERENTIABLE: Whether a gradient with respect to the outputs exists almost everywhere.
        LABEL_OPTIONAL: With "label" in NEEDS: whether the predicted class stands in where no label is given.
    """

    NAME: ClassVar[str]
    HELP: ClassVar[str]
    NEEDS: ClassVar[frozenset[str]]
    DIFFERENTIABLE: ClassVar[bool] = True
    LABEL_OPTIONAL: ClassVar[bool] = False

    @abstractmethod
    def __call__(
        self, out: Outputs, ref: Reference | None, labels: Labels | None = None, group: str = "all"
    ) -> Scores:
        """Score a batch.

        Args:
            out: The classifier's outputs; the graph is kept where they have one.
            ref: What was fitted on real data of the same classifier; may be None for signals of logits alone.
            labels: (B,) the given or intended class of each sample.
            group: Members of the epistemic head that are read: "all", "guide" or "audit".

        Returns:
            (B,) float32 or better; higher is rarer or harder.

        Raises:
            UnsupportedError: Something in NEEDS is missing; the message says how to get it.
        """

    def available(self, ref: Reference | None, labels: Labels | None = None) -> bool:
        """Whether all that this signal needs is there."""
        if ref is None and self.NEEDS & {"head", "gaussian", "leverage"}:
            return False
        return labels is not None or "label" not in self.NEEDS or self.LABEL_OPTIONAL


def full(values: torch.Tensor) -> torch.Tensor:
    """At least float32: sums of small probabilities and their gradients underflow in half precision."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def need_reference(signal: Signal, ref: Reference | None) -> Reference:
    """The reference, or an error that says how to fit one.

    Raises:
        UnsupportedError: There is none.
    """
    if ref is None:
        raise UnsupportedError(
            f"the signal {signal.NAME!r} needs real data to compare with; fit the head of this "
            "classifier first (fit-head), or choose entropy, margin or energy, which need only the logits"
        )
    return ref


def check_labels(out: Outputs, labels: Labels) -> Labels:
    """Labels as int64 on the device of the outputs.

    Raises:
        InputError: A wrong number of labels, or one outside the classifier's classes.
    """
    rows, classes = out.logits.shape
    if tuple(labels.shape) != (rows,):
        raise InputError(f"{rows} samples need labels of shape ({rows},); got {tuple(labels.shape)}")
    labels = labels.to(device=out.logits.device, dtype=torch.long)
    if rows and (int(labels.min()) < 0 or int(labels.max()) >= classes):
        raise InputError(
            f"labels must be 0 to {classes - 1}; got {int(labels.min())} to {int(labels.max())}. "
            "Score unlabelled samples without labels"
        )
    return labels


def need_labels(signal: Signal, out: Outputs, labels: Labels | None) -> Labels:
    """The labels, checked, or an error that says what to do without them.

    Raises:
        UnsupportedError: There are none.
        InputError: They do not fit the outputs.
    """
    if labels is None:
        raise UnsupportedError(
            f"the signal {signal.NAME!r} compares with a given class and there are no labels; give labels, "
            "or choose a signal that needs none, such as entropy or epistemic"
        )
    return check_labels(out, labels)
