"""Kinds of classifiers: binary, greyscale, oblong, restricted, huge; checkpoints of training loops; the operator's own
function; ONNX."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ltg_core.data.workspace import Workspace
from ltg_core.errors import ArchitectureMismatch, InputError, ModelError, UnsafeFile, UnsupportedError
from ltg_core.models.architectures import build, infer_options, suggest
from ltg_core.models.classifier import Classifier
from ltg_core.models.imagenet import imagenet_names
from ltg_core.models.loaders import load_classifier, save_classifier
from ltg_core.models.preprocess import Preprocess
from ltg_core.models.weights import read_weights
from ltg_core.workflows import active_classifier, import_data, label_mapping, use_classifier

Make = Callable[..., Classifier]


def saved(net: nn.Module, path: Path) -> Path:
    torch.save(net.state_dict(), path)
    return path


def test_one_output_is_the_log_odds_of_the_second_label(tmp_path: Path, images: torch.Tensor) -> None:
    net = build("resnet20_cifar", 1)
    found = load_classifier(saved(net, tmp_path / "a.pt"), arch="resnet20_cifar", labels=["fine", "broken"])
    logits = found.logits(images)
    expected = torch.sigmoid(net.eval()(found.preprocess(images)))[:, 0]
    assert torch.allclose(logits.softmax(1)[:, 1], expected, atol=1e-6) and found.feature_layer == "linear"
    save_classifier(found, tmp_path / "b.safetensors")
    again = load_classifier(tmp_path / "b.safetensors")
    assert again.labels == ("fine", "broken") and torch.equal(again.logits(images), logits)
    assert load_classifier(tmp_path / "a.pt", arch="resnet20_cifar").labels == ("class 0", "class 1")
    with pytest.raises(ModelError, match="two: absent, present"):
        load_classifier(tmp_path / "a.pt", arch="resnet20_cifar", labels=["one"])


def test_twenty_one_thousand_classes_are_loaded_and_named(tmp_path: Path) -> None:
    found = load_classifier(saved(build("resnet14_small", 21841), tmp_path / "a.pt"), arch="resnet14_small")
    assert found.num_classes == 21841 and len(set(found.labels)) == 21841
    assert any("ImageNet" in note for note in found.notes)


def test_greyscale_and_oblong_networks_are_told_by_their_tensors(tmp_path: Path) -> None:
    import timm

    grey = timm.create_model("resnet10t", num_classes=3, in_chans=1)
    found = load_classifier(saved(grey, tmp_path / "grey.pt"), arch="timm:resnet10t")
    assert found.options == {"in_chans": 1} and found.preprocess.channels == 1
    assert found.logits(torch.rand(2, 3, 50, 40)).shape == (2, 3)
    oblong = timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=(32, 64), depth=2)
    shapes = {n: tuple(t.shape) for n, t in oblong.state_dict().items()}
    assert infer_options("timm:vit_tiny_patch16_224", shapes, (32, 64)) == {"img_size": [32, 64]}
    with pytest.raises(ModelError, match="takes no option"):
        build("timm:resnet10t", 2, {"checkpoint_path": "/etc/passwd"})


def test_a_relative_of_the_usual_networks_is_suggested_too() -> None:
    shapes = {n: tuple(t.shape) for n, t in build("timm:resnet26", 9).state_dict().items()}
    assert suggest(shapes)[0] == ("timm:resnet26", 1.0)


def test_transformers_networks_are_suggested_by_name() -> None:
    shapes = {n: tuple(t.shape) for n, t in build("transformers:resnet", 9).state_dict().items()}
    assert suggest(shapes)[0] == ("transformers:resnet", 1.0)


def test_a_restricted_classifier_gives_the_probabilities_among_those_kept(
    make: Make, images: torch.Tensor, tmp_path: Path
) -> None:
    whole = make()
    part = whole.restricted(["sort 3", "sort 1"])
    assert torch.equal(part.logits(images), whole.logits(images)[:, [3, 1]]) and part.hash != whole.hash
    assert torch.equal(part(images).features, whole(images).features)
    save_classifier(part, tmp_path / "a.safetensors")
    again = load_classifier(tmp_path / "a.safetensors")
    assert again.labels == ("sort 3", "sort 1") and again.hash == part.hash
    with pytest.raises(InputError, match="no class 'nine'"):
        whole.restricted(["nine", "sort 1"])


def test_an_imagenet_classifier_on_some_folders_says_what_it_may_predict(
    tmp_path: Path, encode: Callable[..., bytes]
) -> None:
    for number, folder in enumerate(("n01440764", "golden_retriever", "Tabby")):
        (tmp_path / "data" / folder).mkdir(parents=True)
        (tmp_path / "data" / folder / "a.png").write_bytes(encode(number))
    path = saved(build("resnet14_small", 1000), tmp_path / "a.pt")
    with Workspace(tmp_path / "ws") as ws:
        use_classifier(ws, path, arch="resnet14_small")
        report = import_data(ws, tmp_path / "data")
        assert not report.unknown_labels and len(report.read_as) == 3
        assert report.read_as["n01440764"] == imagenet_names(1000)[0] == "tench"
        assert "the other 997 can still be predicted" in label_mapping(ws)["text"]
        part = use_classifier(ws, path, arch="resnet14_small", restrict=["data"])
        assert part.labels == ("tench", "golden retriever", "tabby")
        assert "restricted to these 3 of its 1,000 outputs" in label_mapping(ws)["text"]
        assert active_classifier(ws).num_classes == 3


@pytest.fixture
def encode() -> Callable[..., bytes]:
    import io

    from PIL import Image

    def encoded(seed: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(
            buffer, "PNG"
        )
        return buffer.getvalue()

    return encoded


def test_checkpoints_of_training_loops_are_recognised_and_said(
    make: Make, tmp_path: Path, images: torch.Tensor
) -> None:
    classifier = make()
    state = classifier.net.state_dict()
    lightning = {f"model.{n}": t for n, t in state.items()}
    lightning |= {"criterion.weight": torch.ones(5), "train_acc.tp": torch.ones(5)}
    later = {n: t + 1 if t.is_floating_point() else t for n, t in state.items()}
    options = argparse.Namespace(model="resnet20_cifar")
    loops = {
        "Lightning": {
            "pytorch-lightning_version": "2.5",
            "state_dict": lightning,
            "hyper_parameters": {"lr": 0.1},
        },
        "timm": {
            "state_dict": state,
            "arch": "resnet20_cifar",
            "metric": np.float64(0.9),
            "args": options,
            "version": 2,
        },
        "torchvision": {
            "model": state,
            "optimizer": {},
            "lr_scheduler": {},
            "epoch": 3,
            "args": options,
            "model_ema": {"n_averaged": torch.tensor(3), **{f"module.{n}": t for n, t in later.items()}},
        },
    }
    for loop, content in loops.items():
        path = tmp_path / f"{loop}.pth"
        torch.save(content, path)
        given = "resnet20_cifar" if loop == "Lightning" else None
        found = load_classifier(path, arch=given, preprocess=classifier.preprocess)
        assert torch.equal(found.logits(images), classifier.logits(images))
        assert any(loop in note for note in found.notes), found.notes
        assert given or any("itself names the architecture" in note for note in found.notes)
    averaged = read_weights(tmp_path / "torchvision.pth", "model_ema")
    assert torch.equal(averaged.state["linear.bias"], state["linear.bias"] + 1)
    with pytest.raises(ModelError, match="no entry 'teacher'"):
        read_weights(tmp_path / "torchvision.pth", "teacher")


def test_an_operators_function_builds_the_network_and_nobody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_nets.py").write_text(
        "from torch import nn\n"
        "def tiny(num_classes=3):\n"
        "    body = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()]\n"
        "    return nn.Sequential(*body, nn.Linear(8, num_classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    settings = {"labels": ["a", "b"], "preprocess": Preprocess(height=16, width=16, resize="squash")}
    with Workspace(tmp_path / "ws") as ws:
        made = use_classifier(ws, None, factory="own_nets:tiny", **settings)
        x = torch.rand(2, 3, 16, 16)
        assert torch.equal(active_classifier(ws).logits(x), made.logits(x))
        file = ws.path / "models" / made.hash / "classifier.safetensors"
    with pytest.raises(UnsafeFile, match="has not allowed"):
        load_classifier(file)  # what a page would do with an uploaded card
    saved(made.net, tmp_path / "w.pt")
    again = load_classifier(
        tmp_path / "w.pt", arch="factory:own_nets:tiny", factories=["own_nets:tiny"], **settings
    )
    assert torch.equal(again.logits(x), made.logits(x))
    for name, message in (
        ("own_nets:nothing", "no 'nothing'"),
        ("nowhere:f", "cannot be imported"),
        ("os.path:join", "failed"),
    ):
        with pytest.raises(ModelError, match=message):
            load_classifier(tmp_path / "w.pt", arch=f"factory:{name}", factories=[name], **settings)


def onnx_file(
    path: Path, *, batch: int | str = "n", change: Callable[..., None] | None = None, last: str = "Gemm"
) -> Path:
    """Convolution, ReLU, average, linear layer, written by hand."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(4, 3, 3, 3)), "v": rng.normal(size=(5, 4)), "b": rng.normal(size=5)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node(
            last,
            ["f", "v", "b"] if last == "Gemm" else ["f"],
            ["y"],
            **({"transB": 1} if last == "Gemm" else {}),
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 5])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if change is not None:
        change(model)
    path.write_bytes(model.SerializeToString())
    assert isinstance(model, onnx.ModelProto)
    return path


def test_an_onnx_file_becomes_a_differentiable_classifier_that_can_be_saved(tmp_path: Path) -> None:
    pytest.importorskip("onnx2torch")
    found = load_classifier(onnx_file(tmp_path / "net.onnx"), labels=list("abcde"))
    assert (found.preprocess.height, found.preprocess.width) == (16, 16) and found(
        torch.rand(1, 3, 16, 16)
    ).features.shape == (1, 4)
    assert any("experimental" in note for note in found.notes) and any(
        "prepared" in note for note in found.notes
    )
    save_classifier(found, tmp_path / "kept.safetensors")
    again = load_classifier(tmp_path / "kept.safetensors")
    x = torch.rand(2, 3, 16, 16)
    assert again.hash == found.hash and torch.equal(again.logits(x), found.logits(x))
    (tmp_path / "kept.onnx").write_bytes(b"another")
    with pytest.raises(ModelError, match="not the file"):
        load_classifier(tmp_path / "kept.safetensors")


def test_onnx_files_without_gradients_or_with_other_files_are_refused_with_the_reason(tmp_path: Path) -> None:
    pytest.importorskip("onnx2torch")
    from onnx import TensorProto

    def outside(model) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "/etc/passwd"

    def unknown(model) -> None:
        model.graph.node[1].op_type = "LpNormalization"

    def flat(model) -> None:
        model.graph.node[1].op_type = "Sign"

    for change, error, message in (
        (outside, UnsafeFile, "another file"),
        (unknown, UnsupportedError, "gradients"),
        (flat, UnsupportedError, "gradient"),
    ):
        with pytest.raises(error, match=message):
            load_classifier(onnx_file(tmp_path / "net.onnx", change=change))
    (tmp_path / "net.onnx").write_bytes(b"\x08\x01 not a model")
    with pytest.raises(ModelError, match=r"damaged|no ONNX|takes"):
        load_classifier(tmp_path / "net.onnx")


def test_labels_and_outputs_that_differ_name_both(make: Make) -> None:
    classifier = make()
    with pytest.raises(ArchitectureMismatch, match=r"4 labels.*5 outputs"):
        Classifier(classifier.net, list("abcd"), classifier.preprocess, name="x", arch="x")
