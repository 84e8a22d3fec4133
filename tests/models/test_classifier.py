"""The frozen classifier answers differentiably, and nothing that is asked leaves a trace in it."""

import threading
from collections.abc import Callable

import pytest
import torch
from torch import nn

from ltg_core.errors import ArchitectureMismatch, InputError, ModelError, UnsupportedError
from ltg_core.models.classifier import Classifier, weights_hash
from ltg_core.models.preprocess import Preprocess

Make = Callable[..., Classifier]


def small(net: nn.Module, classes: int = 3, size: int = 16, **layers: str) -> Classifier:
    preprocess = Preprocess(height=size, width=size, resize="squash")
    return Classifier(net, [str(i) for i in range(classes)], preprocess, name="small", arch="own", **layers)


def hooks(net: nn.Module) -> int:
    return sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in net.modules()
    )


def test_the_parts_of_a_residual_network_are_found(make: Make, images: torch.Tensor) -> None:
    classifier = make()
    out = classifier.forward(images)
    layers = (classifier.feature_layer, classifier.early_layer, classifier.gradcam_layer)
    assert layers == ("linear", "layer2", "layer3")
    assert (out.logits.shape, out.features.shape) == ((4, 5), (4, 64))
    assert out.early is not None and out.early.shape == (4, 32)
    assert out.stacked().shape == (4, 96)


def test_features_are_the_input_of_the_last_layer_and_logits_its_output(
    make: Make, images: torch.Tensor
) -> None:
    classifier = make()
    out = classifier.forward(images)
    assert torch.equal(classifier.layer("linear")(out.features), out.logits)
    assert torch.equal(classifier.net(classifier.preprocess(images)), out.logits)
    assert torch.equal(classifier.logits(images), out.logits)


def test_the_earlier_layer_is_the_average_of_its_map(make: Make, images: torch.Tensor) -> None:
    classifier = make()
    x = classifier.preprocess(images)
    net = classifier.net
    stage = net.layer2(net.layer1(torch.relu(net.bn1(net.conv1(x)))))  # type: ignore[operator]
    assert torch.allclose(classifier.forward(images).early, stage.mean(dim=(2, 3)))  # type: ignore[arg-type]


@pytest.mark.parametrize("part", ["logits", "features", "early"])
def test_every_output_is_differentiable_with_respect_to_the_images(
    make: Make, images: torch.Tensor, part: str
) -> None:
    x = images.clone().requires_grad_()
    value = getattr(make().forward(x), part).square().sum()
    (gradient,) = torch.autograd.grad(value, x)
    assert gradient.shape == x.shape and gradient.abs().sum() > 0


def test_the_gradient_is_that_of_finite_differences(make: Make, images: torch.Tensor) -> None:
    classifier = make()
    classifier.net.double()
    direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = images.double().requires_grad_()
    (gradient,) = torch.autograd.grad(classifier.forward(x).features.sum(), x)
    with torch.no_grad():
        ahead, behind = (classifier.forward(x + s * 1e-8 * direction).features.sum() for s in (1, -1))
    assert torch.isclose((gradient * direction).sum(), (ahead - behind) / 2e-8, rtol=1e-3)


def test_no_call_changes_the_classifier(make: Make, images: torch.Tensor) -> None:
    classifier = make()
    before = weights_hash(classifier.net.state_dict())
    modes = [m.training for m in classifier.net.modules()]
    count = hooks(classifier.net)
    x = images.clone().requires_grad_()
    out = classifier.forward(x)
    (out.logits.sum() + out.features.sum()).backward()
    classifier.logits(images)
    classifier.outputs(images, batch_size=3)
    classifier.info()
    assert weights_hash(classifier.net.state_dict()) == before
    assert [m.training for m in classifier.net.modules()] == modes and not any(modes)
    assert hooks(classifier.net) == count == 0
    assert all(p.grad is None and not p.requires_grad for p in classifier.net.parameters())


def test_hooks_are_removed_when_the_network_fails(make: Make, images: torch.Tensor) -> None:
    classifier = make()
    broken = classifier.net.layer3.register_forward_hook(lambda *_: 1 / 0)  # type: ignore[union-attr,operator]
    with pytest.raises(ZeroDivisionError):
        classifier.forward(images)
    broken.remove()
    assert hooks(classifier.net) == 0
    classifier.forward(images)


def test_hooks_of_others_keep_working(make: Make, images: torch.Tensor) -> None:
    classifier = make()
    seen: list[int] = []
    handle = classifier.layer("layer3").register_forward_hook(lambda *_: seen.append(1))
    classifier.forward(images)
    assert seen == [1] and hooks(classifier.net) == 1
    handle.remove()


def test_threads_get_their_own_answers(make: Make, images: torch.Tensor) -> None:
    classifier = make()
    twin = Classifier(  # another object around the same network, so that their hooks meet
        classifier.net, classifier.labels, classifier.preprocess, name="twin", arch=classifier.arch
    )
    expected = [classifier.outputs(image[None]) for image in images]
    wrong: list[str] = []

    def ask(index: int, asked: Classifier) -> None:
        for _ in range(10):
            out = asked.forward(images[index][None])
            same = torch.allclose(out.features, expected[index].features, atol=1e-5)
            if not same or out.early is None or out.early.shape != (1, 32):
                wrong.append(f"thread {index}")

    threads = [threading.Thread(target=ask, args=(i, (classifier, twin)[i % 2])) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and hooks(classifier.net) == 0


def test_batches_do_not_change_the_answers(make: Make, images: torch.Tensor) -> None:
    classifier = make()
    whole, parts = classifier.forward(images), classifier.outputs(images, batch_size=3)
    assert torch.allclose(whole.logits, parts.logits, atol=1e-5)
    assert torch.allclose(whole.stacked(), parts.stacked(), atol=1e-5)
    assert not parts.logits.requires_grad


def test_no_images_give_empty_answers_of_the_right_width(make: Make) -> None:
    out = make().outputs(torch.zeros(0, 3, 32, 32))
    assert (out.logits.shape, out.stacked().shape) == ((0, 5), (0, 96))


class Hungry(nn.Module):
    """A real network that runs out of memory above a number of images, as an accelerator does."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit, self.sizes = limit, []  # type: ignore[var-annotated]
        self.body = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(x))
        if len(x) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        result: torch.Tensor = self.body(x)
        return result


def test_batches_shrink_when_memory_runs_out() -> None:
    net = Hungry(limit=3)
    classifier = small(net)
    net.sizes.clear()
    images = torch.rand(10, 3, 16, 16)
    out = classifier.outputs(images, batch_size=8)
    assert net.sizes == [8, 4, 2, 2, 2, 2, 2]
    net.limit = 99
    assert torch.allclose(out.logits, classifier.outputs(images).logits, atol=1e-6)


def test_an_image_too_large_for_memory_is_an_error() -> None:
    net = Hungry(limit=1)
    classifier = small(net)
    net.limit = 0
    with pytest.raises(ModelError, match="does not fit into memory"):
        classifier.outputs(torch.rand(4, 3, 16, 16))


def test_other_errors_are_not_taken_for_a_lack_of_memory(make: Make, images: torch.Tensor) -> None:
    with pytest.raises(InputError, match="batch_size"):
        make().outputs(images, batch_size=0)
    with pytest.raises(InputError, match="expected"):
        make().outputs(images[:, :2])


def test_a_wrong_number_of_labels_names_both_numbers(make: Make) -> None:
    with pytest.raises(ArchitectureMismatch, match=r"3 labels.*5 outputs"):
        Classifier(
            make().net, ["a", "b", "c"], Preprocess(height=32, width=32), name="x", arch="resnet20_cifar"
        )


def test_a_network_in_training_mode_is_not_asked(make: Make, images: torch.Tensor) -> None:
    classifier = make()
    classifier.net.train()
    with pytest.raises(ModelError, match="training mode"):
        classifier.forward(images)


def test_a_size_that_the_network_cannot_take_is_an_error() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3))
    with pytest.raises(ModelError, match="8×8"):
        small(net, size=8)


def test_a_pooled_1x1_convolution_is_a_head() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(8, 3, 1),
        nn.Flatten(),
    )
    classifier = small(net)
    assert classifier.feature_layer == "3"
    assert classifier.forward(torch.rand(2, 3, 16, 16)).features.shape == (2, 8)


def test_a_1x1_convolution_over_positions_is_a_head_and_its_averaged_input_the_features() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier = small(net)
    x = torch.rand(2, 3, 16, 16)
    out = classifier.forward(x)
    assert classifier.feature_layer == "1"
    map_before = classifier.net[0](classifier.preprocess(x))
    assert torch.allclose(out.features, map_before.mean(dim=(2, 3)), atol=1e-6)
    head = classifier.net[1]
    assert torch.allclose(out.logits, out.features @ head.weight[:, :, 0, 0].T + head.bias, atol=1e-5)
    assert any("averaged" in note and "7×7" in note for note in classifier.notes)
    assert len(classifier.restricted(classifier.labels[:2]).notes) == len(classifier.notes) + 1


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (
            nn.Sequential(nn.Conv2d(3, 3, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            "3×3 positions at once",
        ),
        (
            nn.Sequential(
                nn.Conv2d(3, 3, 1),
                nn.BatchNorm2d(3),
                nn.Conv2d(3, 5, 3),
                nn.Flatten(),
                nn.AdaptiveAvgPool1d(3),
            ),
            "followed by other layers",
        ),
    ],
)
def test_a_convolution_that_is_no_head_must_be_named(net: nn.Module, reason: str) -> None:
    with pytest.raises(UnsupportedError, match=reason):
        small(net)
    classifier = small(net, feature_layer="0")
    assert classifier.forward(torch.rand(2, 3, 16, 16)).features.shape == (2, 3)


def test_a_network_without_a_linear_layer_says_so() -> None:
    with pytest.raises(UnsupportedError, match="3 outputs"):
        small(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))


def test_a_network_of_linear_layers_has_no_earlier_map() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(768, 6), nn.ReLU(), nn.Linear(6, 3))
    classifier = small(net)
    assert (classifier.feature_layer, classifier.early_layer, classifier.gradcam_layer) == ("3", None, None)
    out = classifier.forward(torch.rand(2, 3, 16, 16))
    assert out.early is None and out.stacked().shape == (2, 6)


def test_an_earlier_map_is_read_before_it_is_overwritten_in_place() -> None:
    conv = nn.Conv2d(3, 8, 3)
    net = nn.Sequential(conv, nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(8 * 14 * 14, 3))
    classifier = small(net, early_layer="0")
    images = torch.rand(2, 3, 16, 16)
    plain = conv(classifier.preprocess(images)).mean(dim=(2, 3))
    assert torch.allclose(classifier.forward(images).early, plain, atol=1e-6)  # type: ignore[arg-type]


def test_a_named_layer_that_does_not_exist_is_an_error_with_neighbours(make: Make) -> None:
    classifier = make()
    with pytest.raises(ModelError, match=r"layer9.*layer"):
        Classifier(
            classifier.net, classifier.labels, classifier.preprocess, name="x", arch="y", early_layer="layer9"
        )
    with pytest.raises(ModelError, match="no layer"):
        classifier.layer("nowhere")


def test_the_hash_changes_with_everything_that_changes_an_answer(make: Make) -> None:
    classifier = make()
    assert classifier.hash == make().hash and len(classifier.hash) == 16
    other = Classifier(
        make().net, classifier.labels, Preprocess(height=32, width=32), name="other", arch=classifier.arch
    )
    assert other.hash != classifier.hash
    net = make().net
    with torch.no_grad():
        next(net.parameters()).view(-1)[0] += 1e-3
    changed = Classifier(net, classifier.labels, classifier.preprocess, name="small", arch=classifier.arch)
    assert changed.hash != classifier.hash


def test_the_same_device_needs_no_copy(make: Make) -> None:
    classifier = make()
    assert classifier.to("cpu") is classifier


@pytest.mark.parametrize("device", ["cuda:99", "nowhere"])
def test_a_device_that_is_not_there_is_a_clear_error(make: Make, device: str) -> None:
    with pytest.raises(UnsupportedError, match=f"{device}.*use 'cpu'"):
        make().to(device)


def test_the_information_for_a_record_is_plain(make: Make) -> None:
    info = make().info()
    assert info["labels"] == ["sort 0", "sort 1", "sort 2", "sort 3", "sort 4"]
    assert info["preprocess"]["height"] == 32 and info["dtype"] == "float32" and info["parameters"] > 200_000


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_copy_on_an_accelerator_agrees_and_leaves_the_original(make: Make, images: torch.Tensor) -> None:
    classifier = make()
    there = classifier.to("cuda")
    assert classifier.device.type == "cpu" and next(classifier.net.parameters()).device.type == "cpu"
    assert there.hash == classifier.hash
    assert torch.allclose(there.outputs(images).logits, classifier.outputs(images).logits, atol=1e-2)
