"""Every method on a trained classifier: right places, right values, nothing left behind."""

from __future__ import annotations

import threading
from typing import Any

import captum.attr
import numpy as np
import pytest
import torch
from square_world import small_net, squares, wrapped
from torch import nn

from ltg_core.attribution import (
    ATTRIBUTIONS,
    ClassTarget,
    ContrastTarget,
    GradCam,
    GradientShap,
    IntegratedGradients,
    Occlusion,
    Saliency,
    SignalTarget,
    heatmaps,
)
from ltg_core.attribution.base import baseline_images
from ltg_core.attribution.grad_cam import visible_part
from ltg_core.errors import Cancelled, InputError, UnsupportedError
from ltg_core.jobs import CancelToken, Progress
from ltg_core.models.classifier import Classifier
from ltg_core.models.preprocess import Preprocess
from ltg_core.signals.entropy import Entropy
from ltg_core.signals.epistemic import Epistemic

QUICK = {
    "integrated_gradients": {"n_steps": 12},
    "gradient_shap": {"n_samples": 12},
    "saliency": {"n_samples": 6},
    "occlusion": {},
    "grad_cam": {},
}


def quick(name: str, **more: Any) -> Any:
    return ATTRIBUTIONS[name](**QUICK[name], **more)


def test_every_registered_method_is_tried_here() -> None:
    assert set(ATTRIBUTIONS) == set(QUICK)


@pytest.mark.parametrize("name", QUICK)
def test_heat_has_one_finite_value_per_pixel(name: str, classifier: Classifier, batch: Any) -> None:
    heat = quick(name).attribute(ClassTarget(classifier), batch.images)
    assert heat.shape == (4, 24, 24)
    assert heat.dtype == torch.float32
    assert torch.isfinite(heat).all()


@pytest.mark.parametrize("name", QUICK)
def test_heat_lies_on_what_decides_the_class(name: str, classifier: Classifier, batch: Any) -> None:
    heat = quick(name).attribute(ClassTarget(classifier, batch.labels), batch.images)
    ratio = 1.4 if name == "saliency" else 2.0  # raw gradients are the least focused
    for one, mask in zip(heat, batch.masks, strict=True):
        assert one[mask].mean() > ratio * one[~mask].mean().clamp(min=0)


@pytest.mark.parametrize("name", QUICK)
def test_a_method_leaves_no_trace(name: str, classifier: Classifier, batch: Any) -> None:
    images = batch.images.clone()
    net = classifier.net
    weights = {key: value.clone() for key, value in net.state_dict().items()}
    logits = classifier.outputs(images).logits
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()

    quick(name).attribute(ClassTarget(classifier), images)

    assert all(torch.equal(value, weights[key]) for key, value in net.state_dict().items())
    assert torch.equal(classifier.outputs(images).logits, logits)
    assert not net.training
    assert all(p.grad is None and not p.requires_grad for p in net.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in net.modules())
    assert torch.equal(images, batch.images)
    assert images.grad is None and not images.requires_grad
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), numpy_state, strict=True))


@pytest.mark.parametrize("name", QUICK)
def test_a_map_does_not_depend_on_its_batch(name: str, classifier: Classifier, batch: Any) -> None:
    target = ClassTarget(classifier, output="log_probability")
    together = quick(name).attribute(target, batch.images)
    alone = torch.cat([quick(name).attribute(target, image[None]) for image in batch.images])
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("name", ["integrated_gradients", "occlusion", "grad_cam"])
def test_the_internal_batch_changes_memory_and_not_the_map(
    name: str, classifier: Classifier, batch: Any
) -> None:
    target = ClassTarget(classifier, [2, 1, 0, 1])
    wide = quick(name).attribute(target, batch.images)
    for rows in (1, 3):
        assert torch.allclose(
            quick(name, internal_batch_size=rows).attribute(target, batch.images), wide, atol=1e-5
        )


@pytest.mark.parametrize("name", QUICK)
def test_each_image_keeps_its_own_class(name: str, classifier: Classifier, batch: Any) -> None:
    indices = [0, 1, 2, 1]
    mixed = quick(name).attribute(ClassTarget(classifier, indices), batch.images)
    for row, index in enumerate(indices):
        single = quick(name).attribute(ClassTarget(classifier, index), batch.images[row : row + 1])
        assert torch.allclose(mixed[row], single[0], atol=1e-5)


@pytest.mark.parametrize("name", QUICK)
def test_the_uncertainty_itself_can_be_explained(
    name: str, classifier: Classifier, reference: Any, batch: Any
) -> None:
    heat = quick(name).attribute(SignalTarget(classifier, Epistemic(), reference), batch.images)
    assert torch.isfinite(heat).all() and heat.abs().sum() > 0


def test_integrated_gradients_equal_captum_called_by_hand(classifier: Classifier, batch: Any) -> None:
    ours = IntegratedGradients(n_steps=16, baseline="black").attribute(
        ClassTarget(classifier, batch.labels), batch.images
    )
    theirs = captum.attr.IntegratedGradients(classifier.logits).attribute(
        batch.images, baselines=0.0, target=batch.labels, n_steps=16
    )
    assert torch.allclose(ours, theirs.sum(1), atol=1e-5)


@pytest.mark.parametrize("baseline", ["mean", "black", "white", "grey", "blur"])
def test_integrated_gradients_add_up_to_the_difference(
    baseline: str, classifier: Classifier, reference: Any, batch: Any
) -> None:
    empty = baseline_images(baseline, batch.images, classifier.preprocess)
    for target in (
        ClassTarget(classifier, batch.labels),
        ContrastTarget(classifier, 0, 2),
        SignalTarget(classifier, Entropy()),
        SignalTarget(classifier, Epistemic(), reference),
    ):
        heat = IntegratedGradients(n_steps=200, baseline=baseline).attribute(target, batch.images)
        with torch.no_grad():
            gap = target.forward(batch.images) - target.forward(empty)
        assert torch.allclose(heat.sum((1, 2)), gap, atol=0.02 * (1 + float(gap.abs().max())))


def test_gradient_shap_equals_captum_called_by_hand_with_the_same_seed(
    classifier: Classifier, batch: Any
) -> None:
    image, label, background = batch.images[:1], batch.labels[:1], squares(6, seed=9).images
    ours = GradientShap(n_samples=8, stdev=0.1, seed=5).attribute(
        ClassTarget(classifier, label), image, background=background
    )
    with torch.random.fork_rng():
        kept = np.random.get_state()
        torch.manual_seed(5)
        np.random.seed(5)
        theirs = captum.attr.GradientShap(classifier.logits).attribute(
            image.clone().requires_grad_(), background, n_samples=8, stdevs=0.1, target=label
        )
        np.random.set_state(kept)
    assert torch.allclose(ours, theirs.detach().sum(1), atol=1e-5)


@pytest.mark.parametrize("name", ["gradient_shap", "saliency"])
def test_seeds_decide_the_draws(name: str, classifier: Classifier, batch: Any) -> None:
    target = ClassTarget(classifier)
    first, again, other = (quick(name, seed=seed).attribute(target, batch.images) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_background_images_of_another_size_are_refused(classifier: Classifier, batch: Any) -> None:
    with pytest.raises(InputError, match="background"):
        GradientShap(n_samples=2).attribute(
            ClassTarget(classifier), batch.images, background=torch.zeros(2, 3, 8, 8)
        )


def test_occlusion_equals_captum_called_by_hand(classifier: Classifier, batch: Any) -> None:
    method = Occlusion(window=0.25, stride=0.5, baseline="grey")
    assert method.patch(24, 24) == (6, 3)
    ours = method.attribute(ClassTarget(classifier, batch.labels), batch.images)
    theirs = captum.attr.Occlusion(classifier.logits).attribute(
        batch.images, (3, 6, 6), strides=(3, 3, 3), baselines=0.5, target=batch.labels
    )
    assert torch.allclose(ours, theirs[:, 0], atol=1e-5)


def test_occlusion_of_the_whole_image_is_the_whole_drop(classifier: Classifier, batch: Any) -> None:
    target = ClassTarget(classifier, batch.labels)
    heat = Occlusion(window=1.0, stride=1.0, baseline="mean").attribute(target, batch.images)
    with torch.no_grad():
        drop = target.forward(batch.images) - target.forward(torch.full_like(batch.images, 0.3))
    assert torch.allclose(heat, drop[:, None, None].expand_as(heat), atol=1e-5)


def test_saliency_is_the_gradient(classifier: Classifier, batch: Any) -> None:
    images = batch.images.clone().requires_grad_()
    chosen = classifier.logits(images).gather(1, batch.labels[:, None]).sum()
    (gradient,) = torch.autograd.grad(chosen, images)
    target = ClassTarget(classifier, batch.labels)
    assert torch.allclose(
        Saliency(direction=True).attribute(target, batch.images), gradient.sum(1), atol=1e-6
    )
    assert torch.allclose(Saliency().attribute(target, batch.images), gradient.abs().sum(1), atol=1e-6)


def test_grad_cam_equals_its_formula(classifier: Classifier, batch: Any) -> None:
    assert classifier.gradcam_layer is not None
    front = classifier.net[: int(classifier.gradcam_layer) + 1]
    back = classifier.net[int(classifier.gradcam_layer) + 1 :]
    maps = front((batch.images - 0.3) / 0.25).requires_grad_()
    (gradient,) = torch.autograd.grad(back(maps).gather(1, batch.labels[:, None]).sum(), maps)
    coarse = (maps * gradient.mean((2, 3), keepdim=True)).sum(1, keepdim=True).detach()
    heat = GradCam().attribute(ClassTarget(classifier, batch.labels), batch.images)
    expected = torch.nn.functional.interpolate(coarse, (24, 24), mode="bilinear")[:, 0]
    assert torch.allclose(heat, expected, atol=1e-5)
    positive = GradCam(positive_only=True).attribute(ClassTarget(classifier, batch.labels), batch.images)
    assert positive.min() >= 0


def test_grad_cam_without_a_spatial_layer_offers_another_method(batch: Any) -> None:
    flat = wrapped(nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 24, 8), nn.ReLU(), nn.Linear(8, 3)))
    with pytest.raises(UnsupportedError, match="integrated_gradients"):
        GradCam().attribute(ClassTarget(flat), batch.images)


def test_grad_cam_on_a_layer_without_spatial_axes_offers_another_method(
    classifier: Classifier, batch: Any
) -> None:
    with pytest.raises(UnsupportedError, match="no spatial axes"):
        GradCam(layer="7").attribute(ClassTarget(classifier), batch.images)
    with pytest.raises(UnsupportedError, match="no spatial layer 'nowhere'"):
        GradCam(layer="nowhere").attribute(ClassTarget(classifier), batch.images)


def test_grad_cam_leaves_what_is_cropped_away_cold() -> None:
    preprocess = Preprocess(
        height=24, width=24, resize="crop", crop_pct=0.5, mean=(0.3,) * 3, std=(0.25,) * 3
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        cropped = Classifier(small_net(), ("red", "green", "blue"), preprocess, name="cropped", arch="test")
    heat = GradCam().attribute(ClassTarget(cropped, 0), squares(2, seed=1).images.repeat(1, 1, 2, 3))
    top, bottom, left, right = visible_part(preprocess, 48, 72)
    assert (top, bottom, left, right) == (12, 36, 24, 48)
    seen = torch.zeros(48, 72, dtype=torch.bool)
    seen[top:bottom, left:right] = True
    assert (heat[:, ~seen] == 0).all()
    assert heat[:, seen].abs().sum() > 0


@pytest.mark.parametrize("resize", ["squash", "none"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
def test_without_a_crop_the_whole_image_is_visible(resize: str, interpolation: str) -> None:
    size = 16 if resize == "none" else 40
    for height, width in ((16, 16), (size, size + (0 if resize == "none" else 7))):
        preprocess = Preprocess(height=16, width=16, resize=resize, interpolation=interpolation)
        assert visible_part(preprocess, height, width) == (0, height, 0, width)


class Hungry(nn.Module):
    """Asks the allocator for more than there is as soon as a batch is larger than it likes."""

    def __init__(self, inner: nn.Module, most: int) -> None:
        super().__init__()
        self.inner, self.most = inner, most

    def forward(self, x: torch.Tensor) -> Any:
        if len(x) > self.most:
            torch.empty(2**60, dtype=torch.uint8)
        return self.inner(x)


@pytest.mark.parametrize("name", ["integrated_gradients", "occlusion", "grad_cam"])
def test_lack_of_memory_shrinks_the_batch_and_is_announced(
    name: str, classifier: Classifier, batch: Any
) -> None:
    notes: list[str] = []
    hungry = wrapped(Hungry(classifier.net, 2))
    heat = quick(name, internal_batch_size=16).attribute(
        ClassTarget(hungry, batch.labels), batch.images, notes=notes
    )
    plain = quick(name).attribute(ClassTarget(classifier, batch.labels), batch.images)
    assert torch.allclose(heat, plain, atol=1e-5)
    assert notes == ["memory ran out with 16 images at once; finished with 2 at once"]


def test_an_image_that_never_fits_is_a_clear_error(classifier: Classifier, batch: Any) -> None:
    hungry = wrapped(Hungry(classifier.net, 1))
    hungry.net.most = 0
    with pytest.raises(InputError, match="does not fit into memory"):
        Saliency().attribute(ClassTarget(hungry, 0), batch.images)


def test_other_errors_are_not_taken_for_a_lack_of_memory(classifier: Classifier, batch: Any) -> None:
    with pytest.raises(InputError, match="the classifier expects"):
        Saliency().attribute(ClassTarget(classifier, 0), torch.zeros(1, 3, 8, 8))


def test_a_signal_without_gradient_is_left_to_occlusion(classifier: Classifier, batch: Any) -> None:
    class Rounded(Entropy):
        NAME = "rounded"
        DIFFERENTIABLE = False

        def __call__(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            return (super().__call__(*args, **kwargs) * 1000).round()

    target = SignalTarget(classifier, Rounded())
    for name, method in ATTRIBUTIONS.items():
        if method.GRADIENT:
            with pytest.raises(UnsupportedError, match="use occlusion"):
                quick(name).attribute(target, batch.images)
    assert torch.isfinite(Occlusion().attribute(target, batch.images)).all()


@pytest.mark.parametrize("name", QUICK)
def test_cancelling_stops_and_leaves_no_hook(name: str, classifier: Classifier, batch: Any) -> None:
    token = CancelToken()
    method = quick(name, internal_batch_size=2)
    seen: list[Progress] = []

    def stop(progress: Progress) -> None:
        seen.append(progress)
        token.cancel()

    with pytest.raises(Cancelled):
        method.attribute(ClassTarget(classifier), batch.images, on_progress=stop, cancel=token)
    assert len(seen) == 1
    assert not any(m._forward_hooks for m in classifier.net.modules())


def test_wrong_shapes_are_refused(classifier: Classifier) -> None:
    for images in (torch.zeros(3, 24, 24), torch.zeros(0, 3, 24, 24), torch.zeros(1, 1, 24, 24)):
        with pytest.raises(InputError, match="expected"):
            Saliency().attribute(ClassTarget(classifier), images)
    with pytest.raises(InputError, match="floats"):
        Saliency().attribute(ClassTarget(classifier), torch.zeros(1, 3, 24, 24, dtype=torch.uint8))


def test_undefined_heat_is_announced(classifier: Classifier, batch: Any) -> None:
    class Root(Entropy):
        def __call__(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            return (super().__call__(*args, **kwargs) * 0).sqrt()

    notes: list[str] = []
    heat = Saliency().attribute(SignalTarget(classifier, Root()), batch.images, notes=notes)
    assert (heat == 0).all()
    assert "4 of 4 maps have undefined values" in notes[0]


def test_grad_cam_is_not_disturbed_by_other_threads(classifier: Classifier, batch: Any) -> None:
    target = ClassTarget(classifier, batch.labels)
    expected = GradCam().attribute(target, batch.images)
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            classifier.forward(batch.images[:1])

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        found = [GradCam().attribute(target, batch.images) for _ in range(20)]
    finally:
        ended.set()
        thread.join()
    assert all(torch.allclose(heat, expected, atol=1e-6) for heat in found)


def test_heatmaps_carry_their_sample_and_their_words(classifier: Classifier, batch: Any) -> None:
    made = heatmaps(Saliency(), ClassTarget(classifier, 1), batch.images, ["w", "x", "y", "z"])
    assert [one.sample_id for one in made] == ["w", "x", "y", "z"]
    assert {(one.method, one.target, one.signed) for one in made} == {("saliency", "logit of green", False)}
    assert all(one.values.shape == (24, 24) and one.values.dtype == np.float32 for one in made)
    with pytest.raises(InputError, match="3 sample ids"):
        heatmaps(Saliency(), ClassTarget(classifier, 1), batch.images, ["w", "x", "y"])
