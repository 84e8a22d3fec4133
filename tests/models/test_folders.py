"""Model folders of transformers and timm, and what comes in them uninvited."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ltg_core.compat import ensure_torchvision
from ltg_core.data.images import to_tensor
from ltg_core.errors import ModelError, UnsafeFile
from ltg_core.models.loaders import load_classifier, save_classifier
from ltg_core.models.preprocess import Preprocess

ensure_torchvision()
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}
NAMES = {0: "cat", 1: "dog", 2: "owl"}


def vit_folder(folder: Path, **settings: object) -> torch.nn.Module:
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(0)
    net = ViTForImageClassification(ViTConfig(**{**SIZES, "id2label": NAMES, **settings})).eval()
    net.save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return net


def test_a_transformers_folder_brings_weights_labels_and_preprocessing(tmp_path: Path) -> None:
    from PIL import Image
    from transformers import ViTImageProcessor

    net = vit_folder(tmp_path / "vit")
    found = load_classifier(tmp_path / "vit")
    assert found.labels == ("cat", "dog", "owl") and found.arch == "transformers:vit" and found.name == "vit"
    picture = Image.effect_noise((32, 32), 80).convert("RGB")
    theirs = net(**ViTImageProcessor.from_pretrained(tmp_path / "vit")(picture, return_tensors="pt")).logits
    assert torch.allclose(found.logits(to_tensor(picture)[None]), theirs, atol=1e-4)
    assert any("transformers" in note for note in found.notes)


def test_a_classifier_of_transformers_is_saved_and_comes_back_the_same(tmp_path: Path) -> None:
    vit_folder(tmp_path / "vit", hidden_act="gelu_new")
    found = load_classifier(tmp_path / "vit")
    save_classifier(found, tmp_path / "kept.safetensors")
    again = load_classifier(tmp_path / "kept.safetensors")
    x = torch.rand(2, 3, 32, 32)
    assert again.hash == found.hash and torch.equal(again.logits(x), found.logits(x))


def test_shards_are_read_and_a_shard_elsewhere_is_refused(tmp_path: Path) -> None:
    net = vit_folder(tmp_path / "vit")
    (tmp_path / "vit" / "model.safetensors").unlink()
    net.save_pretrained(tmp_path / "vit", max_shard_size="20KB")
    assert len(list((tmp_path / "vit").glob("*.safetensors"))) > 1
    assert load_classifier(tmp_path / "vit").num_classes == 3
    index = tmp_path / "vit" / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"] = dict.fromkeys(content["weight_map"], "../../elsewhere.safetensors")
    index.write_text(json.dumps(content))
    with pytest.raises(ModelError, match="not in it"):
        load_classifier(tmp_path / "vit")


def test_pickled_weights_in_a_folder_are_refused(tmp_path: Path) -> None:
    net = vit_folder(tmp_path / "vit")
    (tmp_path / "vit" / "model.safetensors").unlink()
    torch.save(net.state_dict(), tmp_path / "vit" / "pytorch_model.bin")
    with pytest.raises(UnsafeFile, match="safetensors"):
        load_classifier(tmp_path / "vit")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "homemade", "auto_map": {"AutoModel": "code.Net"}}, "never run"),
        ({"model_type": "bert"}, "no architecture"),
        ({"hidden_size": 4096, "intermediate_size": 16384}, "do not belong together"),
        ({"num_hidden_layers": 10**7}, "largest value"),
        ({"hidden_size": 10**9}, "largest value"),
        ({"num_hidden_layers": 5}, "missing"),
        ({"hidden_act": "no such thing"}, "cannot"),
        ({"id2label": {"0": "cat", "1": "dog"}}, "another shape"),
    ],
)
def test_a_configuration_that_is_none_of_these_weights_is_a_clear_error(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    vit_folder(tmp_path / "vit")
    config = tmp_path / "vit" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **change}))
    with pytest.raises(ModelError, match=message):
        load_classifier(tmp_path / "vit")


def test_code_in_a_folder_is_not_run(tmp_path: Path) -> None:
    vit_folder(tmp_path / "vit")
    (tmp_path / "vit" / "modeling.py").write_text(
        f"import os; os.mkdir({str(tmp_path / 'ran')!r})\nclass Net: pass\n"
    )
    config = tmp_path / "vit" / "config.json"
    content = {
        **json.loads(config.read_text()),
        "auto_map": {"AutoModelForImageClassification": "modeling.Net"},
    }
    config.write_text(json.dumps({**content, "attn_implementation": "somebody/kernels"}))
    assert load_classifier(tmp_path / "vit").num_classes == 3
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"model_type": 3}'])
def test_a_folder_without_a_usable_configuration_says_what_is_expected(tmp_path: Path, content: str) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        load_classifier(tmp_path)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError):
        load_classifier(tmp_path)


def test_a_timm_folder_brings_its_labels_and_preprocessing(tmp_path: Path) -> None:
    import safetensors.torch
    import timm

    net = timm.create_model("resnet10t", num_classes=2)
    safetensors.torch.save_file(net.state_dict(), tmp_path / "model.safetensors")
    cfg = {
        "input_size": [3, 96, 64],
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "interpolation": "bicubic",
        "crop_pct": 0.9,
    }
    config = {
        "architecture": "resnet10t",
        "num_classes": 2,
        "label_names": ["stop", "yield"],
        "pretrained_cfg": cfg,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = load_classifier(tmp_path)
    assert found.labels == ("stop", "yield") and found.arch == "timm:resnet10t"
    assert (found.preprocess.height, found.preprocess.width, found.preprocess.crop_pct) == (96, 64, 0.9)
    assert found.preprocess.std == (0.25, 0.25, 0.25) and found.preprocess.interpolation == "bicubic"


HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
CROP = {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}}
PLAIN = {"resize": "squash", "crop_pct": 1.0}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({**CROP, **IMAGENET, "resample": 3}, {"interpolation": "bicubic"}),
        (
            {"size": 64, "do_normalize": False},
            {"height": 64, "width": 64, **PLAIN, "mean": (0.0,) * 3, "std": (1.0,) * 3},
        ),
        (
            {"size": 64, "rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False},
            {"height": 64, "width": 64, **PLAIN, "mean": (0.5,) * 3, "std": (0.5,) * 3},
        ),
        (
            {"size": {"shortest_edge": 224}, "crop_pct": 0.875, **HALF},
            {"mean": (0.5,) * 3, "std": (0.5,) * 3},
        ),
        (
            {"size": {"shortest_edge": 384}, "crop_pct": 0.875, **HALF},
            {"height": 384, "width": 384, **PLAIN, "mean": (0.5,) * 3, "std": (0.5,) * 3},
        ),
    ],
)
def test_processors_become_the_same_steps(values: dict[str, object], expected: dict[str, object]) -> None:
    from ltg_core.models.huggingface import processor_preprocess

    found, wanted = processor_preprocess(values), Preprocess(**expected)
    assert found.mean == pytest.approx(wanted.mean) and found.std == pytest.approx(wanted.std)
    assert Preprocess.from_dict({**found.to_dict(), "mean": wanted.mean, "std": wanted.std}) == wanted
