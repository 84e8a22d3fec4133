"""Weight files of others and our own: read, matched, refused with reasons, never executed."""

import io
import json
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch

from ltg_core.data.images import read_image, to_tensor
from ltg_core.errors import ArchitectureMismatch, InputError, ModelError, UnsafeFile, UnsupportedError
from ltg_core.models.architectures import build
from ltg_core.models.classifier import Classifier
from ltg_core.models.loaders import LOADERS, load_classifier, read_state, save_classifier
from ltg_core.models.preprocess import Preprocess

Make = Callable[..., Classifier]


class Hostile:
    """Writes a marker file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def same_answers(a: Classifier, b: Classifier, images: torch.Tensor) -> bool:
    return torch.equal(a.outputs(images).logits, b.outputs(images).logits)


def test_a_saved_classifier_comes_back_the_same(make: Make, images: torch.Tensor, tmp_path: Path) -> None:
    classifier = make()
    save_classifier(classifier, tmp_path / "deep" / "a.safetensors", {"trained_on": "noise", "seed": 7})
    again = load_classifier(tmp_path / "deep" / "a.safetensors")
    assert same_answers(classifier, again, images)
    assert {**again.info()} == classifier.info() and again.hash == classifier.hash
    card = json.loads((tmp_path / "deep" / "a.json").read_text())
    assert card["trained_on"] == "noise" and card["arch"] == "resnet20_cifar"
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["a.json", "a.safetensors"]


def test_loading_draws_nothing_from_the_callers_random_numbers(make: Make, tmp_path: Path) -> None:
    save_classifier(make(), tmp_path / "a.safetensors")
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    load_classifier(tmp_path / "a.safetensors")
    assert torch.equal(torch.rand(3), expected)


def test_a_failed_save_leaves_the_old_files(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_classifier(make(), path)
    before = path.read_bytes(), path.with_suffix(".json").read_bytes()
    with pytest.raises(TypeError):
        save_classifier(make(classes=3), path, {"not": "json", "value": object()})
    assert (path.read_bytes(), path.with_suffix(".json").read_bytes()) == before
    assert len(list(tmp_path.iterdir())) == 2


def test_a_network_that_could_not_be_read_again_is_not_saved(make: Make, tmp_path: Path) -> None:
    classifier = make()
    classifier.arch = "homemade"
    with pytest.raises(UnsupportedError, match="homemade"):
        save_classifier(classifier, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="safetensors"):
        save_classifier(make(), tmp_path / "a.pt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state", "ema"])
@pytest.mark.parametrize("prefix", ["module.", "model.", "backbone.", "module.model."])
def test_wrapped_state_dicts_are_unwrapped_and_it_is_said(
    make: Make, images: torch.Tensor, tmp_path: Path, key: str, prefix: str
) -> None:
    classifier = make()
    state = {prefix + n: t for n, t in classifier.net.state_dict().items()}
    torch.save({key: state, "epoch": 3, "best": 0.5}, tmp_path / "a.pth")
    found, notes = read_state(tmp_path / "a.pth")
    assert set(found) == set(classifier.net.state_dict())
    assert any(key in note for note in notes) and any(prefix.split(".")[0] in note for note in notes)
    again = load_classifier(
        tmp_path / "a.pth", arch="resnet20_cifar", labels=classifier.labels, preprocess=classifier.preprocess
    )
    assert same_answers(classifier, again, images)


def test_entries_that_are_no_tensors_are_left_out_and_named(make: Make, tmp_path: Path) -> None:
    torch.save({**make().net.state_dict(), "epoch": 3}, tmp_path / "a.pt")
    state, notes = read_state(tmp_path / "a.pt")
    assert "epoch" not in state and any("epoch" in note for note in notes)


def test_half_precision_files_are_computed_in_full(make: Make, tmp_path: Path) -> None:
    state = {n: t.half() if t.is_floating_point() else t for n, t in make().net.state_dict().items()}
    torch.save(state, tmp_path / "a.bin")
    assert load_classifier(tmp_path / "a.bin", arch="resnet20_cifar").dtype == torch.float32


def test_labels_and_preprocessing_have_defaults(make: Make, tmp_path: Path) -> None:
    torch.save(make().net.state_dict(), tmp_path / "some model.ckpt")
    classifier = load_classifier(tmp_path / "some model.ckpt", arch="resnet20_cifar")
    assert classifier.labels == ("class 0", "class 1", "class 2", "class 3", "class 4")
    assert classifier.preprocess == Preprocess(height=32, width=32, resize="squash")
    assert classifier.name == "some model"


def test_what_is_given_overrides_the_card(make: Make, tmp_path: Path) -> None:
    save_classifier(make(), tmp_path / "a.safetensors")
    given = Preprocess(height=40, width=40)
    classifier = load_classifier(tmp_path / "a.safetensors", labels="abcde", preprocess=given, name="mine")
    assert (
        classifier.labels == tuple("abcde") and classifier.preprocess == given and classifier.name == "mine"
    )


def test_a_wrong_number_of_labels_names_both_numbers(make: Make, tmp_path: Path) -> None:
    save_classifier(make(), tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match=r"3 labels.*5 outputs"):
        load_classifier(tmp_path / "a.safetensors", labels=["a", "b", "c"])


def test_weights_of_another_network_name_the_layers_and_the_better_name(tmp_path: Path) -> None:
    torch.save(build("timm:resnet18", 6).state_dict(), tmp_path / "a.pt")
    with pytest.raises(ArchitectureMismatch) as caught:
        load_classifier(tmp_path / "a.pt", arch="resnet20_cifar")
    text = str(caught.value)
    assert "13 layers are missing (layer1.2.conv1, layer1.2.bn1" in text
    assert "are unexpected (layer2.0.downsample.0" in text
    assert "conv1.weight is 64×3×7×7 instead of 16×3×3×3" in text
    assert "timm:resnet18 (100%)" in text


def test_a_deeper_network_of_the_same_family_is_told_apart(make: Make, tmp_path: Path) -> None:
    torch.save(make().net.state_dict(), tmp_path / "a.pt")
    with pytest.raises(ArchitectureMismatch, match=r"layer1\.3\.conv1.*resnet20_cifar \(100%\)"):
        load_classifier(tmp_path / "a.pt", arch="resnet32_cifar")


def test_an_unknown_architecture_is_asked_for_with_suggestions(make: Make, tmp_path: Path) -> None:
    torch.save(make().net.state_dict(), tmp_path / "a.pt")
    with pytest.raises(ModelError, match=r"a\.json.*resnet20_cifar \(100%\)"):
        load_classifier(tmp_path / "a.pt")
    safetensors.torch.save_file({"x": torch.ones(2)}, tmp_path / "b.safetensors")
    with pytest.raises(ModelError, match="No architecture"):
        load_classifier(tmp_path / "b.safetensors")


@pytest.mark.parametrize("old", [False, True])
def test_a_pickle_with_code_is_refused_and_nothing_ran(tmp_path: Path, old: bool) -> None:
    marker = tmp_path / "ran"
    content = {"state_dict": {"linear.weight": Hostile(marker)}}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=not old)
    with pytest.raises(UnsafeFile, match="mkdir"):
        load_classifier(tmp_path / "a.pth", arch="resnet20_cifar")
    assert not marker.exists()
    torch.load(tmp_path / "a.pth", weights_only=False)  # the proof that the file was dangerous
    assert marker.exists()


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_bare_pickle_with_code_is_refused_and_nothing_ran(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "ran"
    (tmp_path / "a.pt").write_bytes(pickle.dumps(Hostile(marker), protocol=protocol))
    with pytest.raises(UnsafeFile, match="mkdir"):
        load_classifier(tmp_path / "a.pt", arch="resnet20_cifar")
    assert not marker.exists()


def test_whole_modules_and_programs_are_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(UnsafeFile, match=r"torch\.nn.*state_dict"):
        read_state(tmp_path / "module.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the end of TorchScript
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "program.pt")
    with pytest.raises(UnsafeFile, match="TorchScript"):
        read_state(tmp_path / "program.pt")


def test_an_archive_that_unpacks_to_far_more_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"")
        archive.writestr("a/data/0", bytes(20_000_000))
    with pytest.raises(UnsafeFile, match="unpacks"):
        read_state(tmp_path / "a.pt")


def test_a_view_that_claims_more_numbers_than_there_are_is_refused(tmp_path: Path) -> None:
    torch.save({"linear.weight": torch.zeros(1).expand(10**9, 64)}, tmp_path / "a.pt")
    with pytest.raises(UnsafeFile, match="claims"):
        load_classifier(tmp_path / "a.pt", arch="resnet20_cifar")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".th", ".bin", ".ckpt", ".safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"hello world\n", bytes(range(256)) * 4, b"version https://git-lfs.github.com/spec/v1\n"]
)
def test_damaged_files_are_clear_errors(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=path.name):
        load_classifier(path, arch="resnet20_cifar")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.99])
def test_files_that_were_cut_off_are_clear_errors(
    make: Make, tmp_path: Path, suffix: str, share: float
) -> None:
    path = tmp_path / f"a{suffix}"
    state = make().net.state_dict()
    if suffix == ".pt":
        torch.save(state, path)
    else:
        safetensors.torch.save_file(state, path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ModelError, match="a"):
        load_classifier(path, arch="resnet20_cifar")


def test_missing_files_folders_and_other_kinds_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no file"):
        read_state(tmp_path / "a.pt")
    with pytest.raises(ModelError, match="no file"):
        read_state(tmp_path)
    (tmp_path / "a.onnx").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"\.safetensors.*\.pth"):
        read_state(tmp_path / "a.onnx")


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, {"state_dict": {}}, {"state_dict": {"a": 1}}, [1, 2]])
def test_a_file_without_tensors_says_what_it_holds(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ModelError, match="holds"):
        read_state(tmp_path / "a.pt")


def test_sparse_tensors_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.eye(3).to_sparse()}, tmp_path / "a.pt")
    with pytest.raises(ModelError, match="sparse"):
        read_state(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "JSON"),
        ("[]", "list"),
        ('{"arch": 3}', "arch"),
        ('{"arch": "resnet20_cifar", "preprocess": {"depth": 3}}', "preprocessing"),
        ('{"arch": "resnet20_cifar", "labels": "abcde"}', "labels"),
        ('{"arch": "hf-hub:a/b"}', "refused"),
        ('{"arch": "resnet20_cifar", "weights": "0"}', "other weights"),
        ('{"arch": "resnet20_cifar", "feature_layer": "nowhere"}', "nowhere"),
    ],
)
def test_a_wrong_card_is_a_clear_error(make: Make, tmp_path: Path, content: str, message: str) -> None:
    save_classifier(make(), tmp_path / "a.safetensors")
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ModelError, match=message):
        load_classifier(tmp_path / "a.safetensors")


def test_every_reader_says_which_files_it_reads() -> None:
    suffixes = [suffix for _, reader in LOADERS.items() for suffix in reader.SUFFIXES]
    assert len(suffixes) == len(set(suffixes)) and ".safetensors" in suffixes and ".th" in suffixes


def test_a_resnet_trained_by_others_reaches_its_accuracy(shared_data: Path) -> None:
    path = shared_data / "weights" / "resnet_cifar10" / "resnet20-12fca82f.th"
    table = pq.read_table(shared_data / "cifar10" / "test.parquet", columns=["image", "label", "class_name"])
    rows = table.slice(0, 500).to_pylist()
    names = sorted(set(table["class_name"].to_pylist()))
    classifier = load_classifier(path, arch="resnet20_cifar", labels=names)
    images = torch.stack(
        [to_tensor(read_image(io.BytesIO(row["image"]["bytes"]).getvalue())) for row in rows]
    )
    labels = torch.tensor([row["label"] for row in rows])
    accuracy = (classifier.outputs(images).logits.argmax(1) == labels).float().mean()
    assert accuracy > 0.88
    assert [names[i] for i in labels[:20]] == [row["class_name"] for row in rows[:20]]
