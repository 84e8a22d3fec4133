"""Random changes of images and mixtures of them."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from ltg_core.training.changing import augment, mix, stream
from ltg_core.training.settings import TrainSettings
from ltg_core.training.watching import watched


def test_a_shift_is_a_window_of_the_padded_image_and_a_mirror_image_is_one():
    x = torch.rand(6, 3, 5, 7, generator=stream(0, "x", 0))
    moved = augment(x, TrainSettings(shift=2), stream(0, "a", 0))
    padded = F.pad(x, (2,) * 4, mode="replicate")
    places = []
    for one, wide in zip(moved, padded, strict=True):
        found = [
            (r, c) for r in range(5) for c in range(5) if torch.equal(one, wide[:, r : r + 5, c : c + 7])
        ]
        assert len(found) == 1
        places += found
    assert len(set(places)) > 1
    turned = augment(x, TrainSettings(flip=True), stream(0, "b", 0))
    kinds = [torch.equal(a, b) for a, b in zip(turned, x, strict=True)]
    assert set(kinds) == {True, False}
    assert all(k or torch.equal(a, b.flip(2)) for k, a, b in zip(kinds, turned, x, strict=True))
    bright = augment(x, TrainSettings(exposure=0.5), stream(0, "c", 0))
    assert bright.min() >= 0 and bright.max() <= 1 and not torch.equal(bright, x)
    assert torch.equal(augment(x, TrainSettings(), stream(0, "d", 0)), x)


def test_a_mixture_keeps_image_label_and_weight_together():
    # each image is its own label and weight, so they must stay equal
    values = torch.arange(8.0)
    x, t, w = mix(values[:, None, None, None], values[:, None], values, 1.0, stream(0, "m", 0))
    assert torch.equal(x.flatten(), t.flatten()) and torch.equal(x.flatten(), w)
    assert not torch.equal(w, values) and w.min() >= 0 and w.max() <= 7
    assert mix(values, values, values, 0.0, stream(0, "m", 0))[0] is values


def test_streams_belong_to_purpose_and_step_alone():
    draws = [
        torch.rand(1, generator=stream(*key)).item()
        for key in ((0, "a", 0), (0, "a", 1), (0, "b", 0), (1, "a", 0))
    ]
    assert len(set(draws)) == 4 and torch.rand(1, generator=stream(0, "a", 1)).item() == draws[1]


def test_what_is_watched_agrees_with_scikit_learn_and_leaves_auxiliary_outputs_and_absent_classes_out():
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss

    logits = 2 * torch.randn(60, 5, generator=stream(0, "z", 0))
    labels = torch.randint(3, (60,), generator=stream(0, "y", 0))  # none of class 3; output 4 is auxiliary
    found = watched(logits, labels, 4)
    said = logits[:, :4].argmax(1)
    assert abs(found["accuracy"] - accuracy_score(labels, said)) < 1e-6
    keep = (
        said != 3
    )  # scikit-learn warns of classes that are predicted and absent; their recall is not in the mean
    assert keep.sum() < 60
    import numpy as np

    recalls = [np.mean((said == labels)[labels == k].numpy()) for k in range(3)]
    assert abs(found["balanced_accuracy"] - np.mean(recalls)) < 1e-6
    three = watched(logits[:, :3], labels, 3)
    assert abs(three["balanced_accuracy"] - balanced_accuracy_score(labels, logits[:, :3].argmax(1))) < 1e-6
    assert abs(three["loss"] - log_loss(labels, logits[:, :3].softmax(1).numpy(), labels=[0, 1, 2])) < 1e-5
