"""Layers worth reading are found in networks of other libraries."""

import pytest
import torch
from torch import nn

from ltg_core.models.architectures import build
from ltg_core.models.classifier import Classifier
from ltg_core.models.layers import channels_last
from ltg_core.models.preprocess import Preprocess


def classifier_of(net: nn.Module, size: int) -> Classifier:
    labels = ["a", "b", "c", "d", "e", "f", "g"]
    return Classifier(net, labels, Preprocess(height=size, width=size, resize="squash"), name="x", arch="x")


@pytest.mark.parametrize(
    ("arch", "size", "feature", "early", "gradcam"),
    [
        ("resnet14_small", 64, "linear", "layer2", "layer3"),
        ("timm:resnet18", 64, "fc", "layer3", "layer4"),
        ("torchvision:resnet18", 64, "fc", "layer3", "layer4"),
        ("torchvision:mobilenet_v3_small", 64, "classifier.3", "features.8", "features"),
        ("timm:mobilenetv3_small_100", 64, "classifier", "blocks.3", "blocks"),
        ("torchvision:squeezenet1_1", 64, "classifier.1", "features.7", "features"),
        ("torchvision:densenet121", 64, "classifier", "features.denseblock3", "features"),
        ("timm:convnext_atto", 64, "head.fc", "stages.2", "stages"),
        ("timm:test_vit", 160, "head", "blocks.3", "blocks.4"),
        ("torchvision:swin_t", 64, "head", "features.5", "permute"),
    ],
)
def test_layers_of_known_networks_are_found(
    arch: str, size: int, feature: str, early: str, gradcam: str | None
) -> None:
    found = classifier_of(build(arch, 7), size)
    assert (found.feature_layer, found.early_layer, found.gradcam_layer) == (feature, early, gradcam)
    x = torch.rand(2, 3, size, size, requires_grad=True)
    out = found.forward(x)
    assert (
        out.logits.shape == (2, 7)
        and out.features.ndim == 2
        and out.early is not None
        and out.early.ndim == 2
    )
    (gradient,) = torch.autograd.grad(out.stacked().square().sum(), x)
    assert gradient.abs().sum() > 0


def test_a_transformers_model_is_read_through_its_logits() -> None:
    from ltg_core.compat import ensure_torchvision

    ensure_torchvision()
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
        num_labels=7,
    )
    found = classifier_of(ViTForImageClassification(config), 32)
    out = found.forward(torch.rand(2, 3, 32, 32))
    assert found.feature_layer == "classifier" and found.gradcam_layer == "vit.layers.2"
    assert out.logits.shape == (2, 7) and out.features.shape == (2, 16)
    assert out.early is not None and out.early.shape == (2, 16)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((1, 32, 16, 16), False), ((1, 16, 16, 32), True), ((1, 16, 16, 16), False), ((1, 64, 8, 4), False)],
)
def test_the_axis_of_the_channels_is_told_by_the_aspect_ratio(shape: tuple[int, ...], expected: bool) -> None:
    height, width = (64, 32) if shape[-1] == 4 else (64, 64)
    assert channels_last(shape, height, width) is expected
