"""What is explained: classes, contrasts and signals, per sample."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ltg_core.attribution import ClassTarget, ContrastTarget, SignalTarget
from ltg_core.errors import InputError
from ltg_core.models.classifier import Classifier
from ltg_core.signals import SIGNALS
from ltg_core.signals.epistemic import Epistemic
from ltg_core.signals.loss import Loss


def test_without_an_index_the_predicted_class_is_explained(classifier: Classifier, batch: Any) -> None:
    logits = classifier.outputs(batch.images).logits
    assert torch.allclose(ClassTarget(classifier).forward(batch.images), logits.max(1).values)


def test_outputs_are_logit_probability_and_log_probability(classifier: Classifier, batch: Any) -> None:
    logits = classifier.outputs(batch.images).logits
    for output, values in (
        ("logit", logits),
        ("probability", logits.softmax(1)),
        ("log_probability", logits.log_softmax(1)),
    ):
        found = ClassTarget(classifier, 2, output).forward(batch.images)
        assert torch.allclose(found, values[:, 2], atol=1e-6)
    with pytest.raises(InputError, match="choose one of"):
        ClassTarget(classifier, 2, "odds")


def test_a_contrast_is_the_difference_of_two_logits(classifier: Classifier, batch: Any) -> None:
    logits = classifier.outputs(batch.images).logits
    assert torch.allclose(
        ContrastTarget(classifier, 0, 2).forward(batch.images), logits[:, 0] - logits[:, 2], atol=1e-6
    )
    best = logits.topk(2, 1).values
    assert torch.allclose(
        ContrastTarget(classifier).forward(batch.images), best[:, 0] - best[:, 1], atol=1e-6
    )


def test_an_open_side_of_a_contrast_is_never_the_given_class(classifier: Classifier, batch: Any) -> None:
    predicted = classifier.outputs(batch.images).logits.argmax(1)
    for target in (ContrastTarget(classifier, a=predicted), ContrastTarget(classifier, b=predicted)):
        a, b = target.prepare(batch.images)
        assert (a != b).all()
    with pytest.raises(InputError, match="two different"):
        ContrastTarget(classifier, 1, 1).prepare(batch.images)


def test_a_pinned_target_asks_the_same_question_of_other_images(classifier: Classifier, batch: Any) -> None:
    pinned = ClassTarget(classifier).pinned(batch.images)
    other = torch.flip(batch.images, dims=(0,))
    expected = classifier.outputs(other).logits.gather(1, batch.labels[:, None])[:, 0]
    assert torch.allclose(pinned.forward(other), expected, atol=1e-6)
    a, b = ContrastTarget(classifier).prepare(batch.images)
    again = ContrastTarget(classifier).pinned(batch.images).prepare(other)
    assert torch.equal(again[0], a) and torch.equal(again[1], b)


def test_wrong_indices_are_refused(classifier: Classifier, batch: Any) -> None:
    with pytest.raises(InputError, match="2 class indices were given for 4 images"):
        ClassTarget(classifier, [0, 1]).prepare(batch.images)
    with pytest.raises(InputError, match="classes 0 to 2"):
        ClassTarget(classifier, 3).prepare(batch.images)


@pytest.mark.parametrize("name", list(SIGNALS))
def test_every_signal_is_explained_by_its_gradient(
    name: str, classifier: Classifier, reference: Any, batch: Any
) -> None:
    target = SignalTarget(classifier, SIGNALS[name](), reference, batch.labels)
    images = batch.images.clone().requires_grad_()
    values = target.forward(images, *target.prepare(images))
    assert values.shape == (4,)
    if target.differentiable:
        (gradient,) = torch.autograd.grad(values.sum(), images)
        assert torch.isfinite(gradient).all() and gradient.abs().sum() > 0


def test_a_signal_that_needs_labels_says_so(classifier: Classifier, batch: Any) -> None:
    with pytest.raises(InputError, match="give labels"):
        SignalTarget(classifier, Loss()).prepare(batch.images)


def test_a_signal_that_can_do_without_labels_gets_the_predicted_class(
    classifier: Classifier, reference: Any, batch: Any
) -> None:
    target = SignalTarget(classifier, SIGNALS["hardness"](), reference)
    predicted = classifier.outputs(batch.images).logits.argmax(1)
    assert torch.equal(target.prepare(batch.images)[0], predicted)


def test_descriptions_name_the_class_and_the_signal(classifier: Classifier) -> None:
    assert ClassTarget(classifier, 1, "log_probability").describe() == "log probability of green"
    assert ClassTarget(classifier).describe() == "logit of the predicted class"
    assert ClassTarget(classifier, [0, 1]).describe() == "logit of each image's class"
    assert ContrastTarget(classifier, 0).describe() == "red rather than the strongest other class"
    assert SignalTarget(classifier, Epistemic(), group="audit").describe() == "signal epistemic (audit heads)"
