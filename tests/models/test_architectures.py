"""Networks by name, and names by tensors."""

import pytest
import torch

from ltg_core.errors import ModelError
from ltg_core.models import architectures, own
from ltg_core.models.architectures import (
    build,
    canonical,
    default_preprocess,
    infer_num_classes,
    shapes_of,
    suggest,
)


@pytest.mark.parametrize(("arch", "parameters"), [("resnet20_cifar", 269_722), ("resnet32_cifar", 464_154)])
def test_the_cifar_networks_have_the_published_number_of_parameters(arch: str, parameters: int) -> None:
    # He et al. 2015, table 6: 0.27 M and 0.46 M
    assert sum(p.numel() for p in build(arch, 10).parameters()) == parameters


@pytest.mark.parametrize("own", architectures.OWN, ids=lambda own: own.name)
def test_own_networks_run_at_their_size(own: architectures.OwnArchitecture) -> None:
    net = build(own.name, 3).eval()
    assert net(torch.rand(2, 3, own.size, own.size)).shape == (2, 3)
    assert default_preprocess(own.name).height == own.size


def test_a_shortcut_pads_channels_on_both_sides() -> None:
    block = own.BasicBlock(4, 8, 2).eval()
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.rand(1, 4, 6, 6)
    y = block(x)
    assert torch.equal(y[:, 2:6], x[:, :, ::2, ::2])
    assert y[:, :2].abs().sum() == 0 and y[:, 6:].abs().sum() == 0


def test_bare_names_are_looked_up_here_then_in_timm_then_in_torchvision() -> None:
    assert canonical("resnet20_cifar") == "resnet20_cifar"
    assert canonical("resnet18") == "timm:resnet18"
    assert canonical("vit_b_16") == "torchvision:vit_b_16"


@pytest.mark.parametrize(
    "arch",
    [
        "hf-hub:someone/something",
        "hf_hub:someone/something",
        "timm:hf-hub:someone/something",
        "local-dir:folder",
        "timm:local-dir:folder",
        "../weights",
        "timm:a/b",
        "",
        "timm:",
    ],
)
def test_names_that_point_outside_are_refused(arch: str) -> None:
    with pytest.raises(ModelError, match="refused"):
        build(arch, 3)


def test_a_detector_is_no_classifier() -> None:
    with pytest.raises(ModelError, match="no architecture"):
        build("torchvision:fasterrcnn_resnet50_fpn", 3)


def test_an_unknown_name_suggests_near_ones() -> None:
    with pytest.raises(ModelError, match="timm:resnet18"):
        build("timm:resnet_18", 3)
    with pytest.raises(ModelError, match="resnet20_cifar"):
        build("resnet20_cifra", 3)


def test_zero_classes_cannot_be_built() -> None:
    with pytest.raises(ModelError, match="0 classes"):
        build("resnet20_cifar", 0)


@pytest.mark.parametrize(
    "arch", ["resnet20_cifar", "timm:resnet18", "torchvision:vgg16", "torchvision:swin_t"]
)
def test_tensors_suggest_their_architecture_and_number_of_classes(arch: str) -> None:
    shapes = shapes_of(arch, 7)
    best = suggest(shapes)
    assert best[0] == (arch, 1.0)
    assert all(score < 0.9 for _, score in best[1:])
    assert infer_num_classes(arch, shapes) == 7


def test_tensors_of_nothing_known_suggest_nothing() -> None:
    assert suggest({"a": (1, 2), "b": (3,)}) == []


def test_a_head_that_is_absent_gives_no_number_of_classes() -> None:
    assert infer_num_classes("resnet20_cifar", {"conv1.weight": (16, 3, 3, 3)}) is None


def test_usual_preprocessing_comes_with_the_name() -> None:
    timm, torchvision = default_preprocess("timm:resnet18"), default_preprocess("torchvision:resnet18")
    assert (timm.height, timm.interpolation, timm.crop_pct) == (224, "bicubic", 0.95)
    assert (torchvision.height, torchvision.interpolation, torchvision.crop_pct) == (224, "bilinear", 0.875)
    assert default_preprocess("timm:vit_tiny_patch16_224").mean == (0.5, 0.5, 0.5)
