"""The copy that learns: from a frozen classifier to a network that may change, and back to a new classifier."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ltg_core.errors import ModelError, UnsupportedError
from ltg_core.models import architectures, layers
from ltg_core.models.classifier import Classifier
from ltg_core.models.units import Units
from ltg_core.training.settings import TrainSettings
from ltg_core.types import Images, Logits

_ELSEWHERE = ("factory:", "onnx")  # networks that cannot be built by name


class Student(nn.Module):
    """What is trained: images, or features where only the head is, to one logit for each class.

    Args:
        net: The network, or its last layer.
        units: From its outputs to classes.
        prepare: From images in [0, 1] to the network's input; None where features come in.
    """

    def __init__(self, net: nn.Module, units: Units, prepare: Any) -> None:
        super().__init__()
        self.net, self.units, self.prepare = net, units, prepare

    def forward(self, batch: Images | torch.Tensor) -> Logits:
        """(B, ...) to (B, classes, auxiliary ones last)."""
        out = layers.first_tensor(self.net(batch if self.prepare is None else self.prepare(batch)))
        if out is None:
            raise ModelError("the network gave no tensor")
        return self.units(out)


class Teacher:
    """Makes students of one classifier and classifiers of what they have learned; the classifier stays as it is.

    Args:
        classifier: The frozen one.
        settings: Scope and whether the head is new.
        auxiliary: Names of classes that are trained beside the classifier's own and not kept.
        seed: Of new weights.

    Raises:
        UnsupportedError: This classifier cannot be trained in this way; the message offers another.
    """

    def __init__(
        self, classifier: Classifier, settings: TrainSettings, auxiliary: Sequence[str] = (), seed: int = 0
    ) -> None:
        self.classifier, self.settings, self.auxiliary = classifier, settings, tuple(auxiliary)
        self.seed = seed
        if auxiliary and classifier.units.binary:
            raise UnsupportedError(
                f"{classifier.name} has one output for two classes; auxiliary classes need an output a class"
            )
        built = settings.scope == "scratch" or bool(auxiliary)
        if built and classifier.arch.startswith(_ELSEWHERE):
            raise UnsupportedError(
                f"{classifier.name} is not built by the name of an architecture, so it can be neither trained from "
                "scratch nor widened by auxiliary classes; choose the scope 'whole' or 'head' without any"
            )
        if settings.scope == "head":
            self._check_head()

    @property
    def units(self) -> Units:
        """From the student's outputs to classes, auxiliary ones last."""
        old = self.classifier.units
        if not self.auxiliary:
            return old
        first = range(old.count) if old.keep is None else old.keep
        count = old.count + len(self.auxiliary)
        return Units(count, (*first, *range(old.count, count)))

    def student(self) -> Student:
        """A network that may change, with weights of its own."""
        net = self._network()
        if self.settings.fresh_head and self.settings.scope != "scratch":
            self._renew(self._head_of(net))
        if self.settings.scope == "head":
            return Student(self._head_of(net).requires_grad_(True), self.units, None)
        return Student(net.requires_grad_(True), self.units, self.classifier.preprocess)

    def finished(self, state: Mapping[str, torch.Tensor], name: str, notes: Sequence[str] = ()) -> Classifier:
        """A new frozen classifier with what a student has learned; it answers for the classifier's own classes."""
        old, units = self.classifier, self.units
        net = self._network()
        learned = {key.removeprefix("net."): value.detach().cpu().clone() for key, value in state.items()}
        place = self._head_of(net) if self.settings.scope == "head" else net
        place.load_state_dict(learned)
        own = None if units.keep is None else units.keep[: old.num_classes]
        return Classifier(
            net,
            old.labels,
            old.preprocess,
            name=name,
            arch=old.arch,
            feature_layer=old.feature_layer,
            early_layer=old.early_layer,
            options=old.options,
            keep=own,
            notes=notes,
        )

    def _network(self) -> nn.Module:
        """All layers, on the CPU: copied, widened, or new."""
        old = self.classifier
        if self.settings.scope != "scratch" and not self.auxiliary:
            return copy.deepcopy(old.net).cpu()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            net = architectures.build(old.arch, self.units.count, old.options)
        if self.settings.scope != "scratch":
            _copy_widened(old.net.state_dict(), net, old)
        return net

    def _head_of(self, net: nn.Module) -> nn.Linear:
        head = net.get_submodule(self.classifier.feature_layer)
        if not isinstance(head, nn.Linear):
            raise UnsupportedError(
                f"the last layer of {self.classifier.name} ({self.classifier.feature_layer}) is no linear layer, so it "
                "cannot be trained or renewed alone; choose the scope 'whole' without a new head"
            )
        return head

    def _renew(self, head: nn.Linear) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            head.reset_parameters()

    @torch.no_grad()
    def _check_head(self) -> None:
        """Whether the last linear layer on the features is all that makes the logits."""
        old = self.classifier
        head = self._head_of(old.net)
        grey = torch.linspace(0, 1, 2)[:, None, None, None].expand(
            2, 3, old.preprocess.height, old.preprocess.width
        )
        out = old.outputs(grey, 2)
        again = old.units(head(out.features.to(old.device, old.dtype))).to(out.logits)
        if again.shape != out.logits.shape or not torch.allclose(again, out.logits, rtol=1e-3, atol=1e-3):
            raise UnsupportedError(
                f"the logits of {old.name} are not its last linear layer on its features, so the head cannot be "
                "trained alone; choose the scope 'whole'"
            )


def _copy_widened(state: Mapping[str, torch.Tensor], net: nn.Module, old: Classifier) -> None:
    """Weights of a network into one with more outputs; the rows that are more keep their random values."""
    new = net.state_dict()
    for name, value in state.items():
        target = new.get(name)
        value = value.detach().cpu()
        if target is not None and target.shape == value.shape:
            new[name] = value
        elif target is not None and target.shape[1:] == value.shape[1:] and len(value) == old.units.count:
            new[name] = torch.cat([value, target[len(value) :]])
        else:
            raise UnsupportedError(
                f"{old.name} cannot be widened by auxiliary classes: its tensor {name} has no place"
            )
    net.load_state_dict(new)
