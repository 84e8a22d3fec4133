"""What an attribution explains: one number per image, as a function of the image.

The number is a class logit, the difference of two, or any signal: the uncertainty itself can be explained.
"""

from __future__ import annotations

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from ltg_core.errors import InputError
from ltg_core.models.classifier import Classifier
from ltg_core.types import Images, Scores

if TYPE_CHECKING:
    from typing import Self

    from ltg_core.signals.base import Signal
    from ltg_core.signals.reference import Reference

Index: TypeAlias = "int | Sequence[int] | Tensor"
"""A class index for all images, or one per image."""

OUTPUTS = ("logit", "probability", "log_probability")
_ATTEMPTS = 50


@dataclasses.dataclass(frozen=True, eq=False)
class Target(ABC):
    """A scalar per image that depends on the image only, so that its gradient can be explained.

    Attributes:
        classifier: The frozen network; layer methods look inside it.
    """

    classifier: Classifier

    @property
    def differentiable(self) -> bool:
        """Whether gradient methods can explain it."""
        return True

    @abstractmethod
    def describe(self) -> str:
        """What is explained, in a few words for a caption."""

    @abstractmethod
    def forward(self, images: Images, *per_sample: Tensor) -> Scores:
        """The number to explain, (B,), with its graph.

        Args:
            images: (B, 3, H, W).
            per_sample: What ``prepare`` returned for these images, repeated as the images are; without it
                that is found from the images given.
        """

    def prepare(self, images: Images) -> tuple[Tensor, ...]:
        """Tensors with one entry per image that must stay with it when a method perturbs or repeats it.

        A class left open is settled here, once, on the unperturbed image: along the path from the baseline to
        the image the prediction changes, what is explained must not.
        """
        return ()

    def pinned(self, images: Images) -> Self:
        """The same target with everything left open settled for these images."""
        return self

    def on(self, classifier: Classifier) -> Self:
        """The same question to another classifier."""
        return dataclasses.replace(self, classifier=classifier)


@dataclasses.dataclass(frozen=True, eq=False)
class ClassTarget(Target):
    """The classifier's output for one class.

    Attributes:
        index: The class; None for the one predicted.
        output: "logit", "probability" or "log_probability".

    Raises:
        InputError: An unknown ``output``, or (on use) a class that does not exist.
    """

    index: Index | None = None
    output: str = "logit"

    def __post_init__(self) -> None:
        if self.output not in OUTPUTS:
            raise InputError(f"output is {self.output!r}; choose one of {list(OUTPUTS)}")

    def describe(self) -> str:
        """For example ``logit of stop``."""
        name = _class_name(self.classifier, self.index, "the predicted class")
        return f"{self.output.replace('_', ' ')} of {name}"

    def prepare(self, images: Images) -> tuple[Tensor, ...]:
        """The class of each image, (B,)."""
        if self.index is None:
            return (_top(self.classifier, images, 1)[:, 0],)
        return (per_sample_index(self.index, images, self.classifier.num_classes),)

    def pinned(self, images: Images) -> Self:
        """The same target with the predicted classes written down."""
        return dataclasses.replace(self, index=self.prepare(images)[0])

    def forward(self, images: Images, *per_sample: Tensor) -> Scores:
        """The logit, probability or log-probability of each image's class, (B,)."""
        (index,) = per_sample or self.prepare(images)
        values = self.classifier.logits(images)
        if self.output != "logit":
            values = values.log_softmax(dim=1)
        chosen = values.gather(1, index[:, None])[:, 0]
        return chosen.exp() if self.output == "probability" else chosen


@dataclasses.dataclass(frozen=True, eq=False)
class ContrastTarget(Target):
    """Why one class rather than another: logit of ``a`` minus logit of ``b``.

    Attributes:
        a: None for the predicted class.
        b: None for the strongest class other than ``a``.
    """

    a: Index | None = None
    b: Index | None = None

    def describe(self) -> str:
        """For example ``stop rather than yield``."""
        first = _class_name(self.classifier, self.a, "the predicted class")
        return f"{first} rather than {_class_name(self.classifier, self.b, 'the strongest other class')}"

    def prepare(self, images: Images) -> tuple[Tensor, ...]:
        """Both classes of each image, (B,) and (B,)."""
        classes = self.classifier.num_classes
        ranked = _top(self.classifier, images, 2) if self.a is None or self.b is None else None
        a = per_sample_index(self.a, images, classes) if self.a is not None else None
        b = per_sample_index(self.b, images, classes) if self.b is not None else None
        if ranked is not None:
            if a is None:
                a = ranked[:, 0] if b is None else torch.where(ranked[:, 0] == b, ranked[:, 1], ranked[:, 0])
            if b is None:
                b = torch.where(ranked[:, 0] == a, ranked[:, 1], ranked[:, 0])
        assert a is not None and b is not None  # every branch above has settled both
        if bool((a == b).any()):
            raise InputError("both classes of the contrast are the same; choose two different ones")
        return a, b

    def pinned(self, images: Images) -> Self:
        """The same target with both classes written down."""
        a, b = self.prepare(images)
        return dataclasses.replace(self, a=a, b=b)

    def forward(self, images: Images, *per_sample: Tensor) -> Scores:
        """The difference of the two logits, (B,)."""
        a, b = per_sample or self.prepare(images)
        logits = self.classifier.logits(images)
        return (logits.gather(1, a[:, None]) - logits.gather(1, b[:, None]))[:, 0]


@dataclasses.dataclass(frozen=True, eq=False)
class SignalTarget(Target):
    """A signal, for example the epistemic uncertainty: which pixels make the classifier unsure.

    Attributes:
        signal: Any signal; gradient methods need a differentiable one.
        ref: What the signal was fitted on; None for signals of the logits alone.
        labels: The intended classes, for signals that need them; some take the predicted class instead.
        group: Which members of the epistemic head are read: "all", "guide" or "audit".

    Raises:
        InputError: On use: the signal needs labels and none were given.
    """

    signal: Signal
    ref: Reference | None = None
    labels: Index | None = None
    group: str = "all"

    @property
    def differentiable(self) -> bool:
        """As the signal declares."""
        return self.signal.DIFFERENTIABLE

    def describe(self) -> str:
        """For example ``signal epistemic``."""
        return f"signal {self.signal.NAME}" + ("" if self.group == "all" else f" ({self.group} heads)")

    def prepare(self, images: Images) -> tuple[Tensor, ...]:
        """The intended class of each image, (B,), where the signal needs it."""
        if self.labels is not None:
            return (per_sample_index(self.labels, images, self.classifier.num_classes),)
        if "label" in self.signal.NEEDS and self.signal.LABEL_OPTIONAL:
            return (_top(self.classifier, images, 1)[:, 0],)
        if "label" in self.signal.NEEDS:
            raise InputError(
                f"the signal {self.signal.NAME} needs the intended class of each image; give labels"
            )
        return ()

    def pinned(self, images: Images) -> Self:
        """The same target with one label per image."""
        settled = self.prepare(images)
        return dataclasses.replace(self, labels=settled[0]) if settled else self

    def forward(self, images: Images, *per_sample: Tensor) -> Scores:
        """The signal of each image, (B,)."""
        settled = per_sample or self.prepare(images)
        outputs = self.classifier.forward(images)
        return self.signal(outputs, self.ref, settled[0] if settled else None, self.group)


def per_sample_index(index: Index, images: Images, classes: int) -> Tensor:
    """One class index per image, (B,) int64 on the images' device.

    Raises:
        InputError: The number of indices differs from the number of images, or a class does not exist.
    """
    found = torch.as_tensor(index, dtype=torch.int64, device=images.device)
    if found.ndim == 0:
        found = found.expand(len(images))
    if found.shape != (len(images),):
        raise InputError(
            f"{found.numel()} class indices were given for {len(images)} images; give one, or one each"
        )
    if len(found) and (int(found.min()) < 0 or int(found.max()) >= classes):
        raise InputError(
            f"class index {found.tolist()} is out of range; the classifier has classes 0 to {classes - 1}"
        )
    return found


def twin(classifier: Classifier, *, share: bool) -> Classifier:
    """A second classifier with modules of its own, so that hooks on it cannot meet another thread's calls.

    Args:
        classifier: The one to copy.
        share: Whether the twin uses the tensors of the original (no memory; never write to them) or copies.
    """
    net = classifier.net
    memo = {id(t): t for t in (*net.parameters(), *net.buffers())} if share else {}
    other = copy.copy(classifier)
    for attempt in range(_ATTEMPTS):
        try:
            other.net = copy.deepcopy(net, dict(memo))
            break
        except RuntimeError:  # another thread's call put its hooks on, or took them off, meanwhile
            if attempt == _ATTEMPTS - 1:
                raise
    return other


def _top(classifier: Classifier, images: Images, count: int) -> Tensor:
    """The ``count`` strongest classes of each image, (B, count)."""
    if classifier.num_classes < count:
        raise InputError("the classifier has a single class; there is no other to compare it with")
    return classifier.outputs(images.detach()).logits.topk(count, dim=1).indices.to(images.device)


def _class_name(classifier: Classifier, index: Index | None, unset: str) -> str:
    if index is None:
        return unset
    found = sorted({int(i) for i in torch.as_tensor(index).reshape(-1).tolist()})
    if len(found) == 1 and 0 <= found[0] < len(classifier.labels):
        return str(classifier.labels[found[0]])
    return "each image's class"
