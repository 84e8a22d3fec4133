"""Choosing a classifier, a generator, data and the demo, and bringing their classes together."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from ltg_core import workflows
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import DatasetError, InputError, ModelError


def test_a_workspace_without_models_says_what_to_do(empty_workspace: Workspace):
    with pytest.raises(InputError, match="no classifier yet"):
        workflows.active_classifier(empty_workspace)
    with pytest.raises(InputError, match="no generator yet"):
        workflows.active_generator(empty_workspace)


def test_what_was_chosen_is_there_after_reopening(fitted: Workspace, classifier):
    again = Workspace(fitted.path)
    found = workflows.active_classifier(again)
    assert (found.hash, found.labels) == (classifier.hash, classifier.labels)
    assert workflows.active_generator(again).hash == workflows.active_generator(fitted).hash
    assert workflows.reference(again, found) is not None
    again.close()


def test_the_classifier_is_kept_in_the_workspace_as_safetensors_with_a_card(fitted: Workspace, classifier):
    folder = fitted.path / "models" / classifier.hash
    assert json.loads((folder / "classifier.json").read_text())["labels"] == ["stop", "yield", "parking"]
    assert load_file(folder / "classifier.safetensors").keys() == classifier.net.state_dict().keys()


def test_one_copy_serves_two_workspaces_only_where_both_call_it_the_same(
    fitted: Workspace, classifier, tmp_path: Path
):
    shutil.copytree(fitted.path, tmp_path / "same")
    shutil.copytree(fitted.path, tmp_path / "other")
    card = tmp_path / "other" / "models" / classifier.hash / "classifier.json"
    card.write_text(card.read_text().replace(classifier.name, "a name of somebody else"))
    here, same, other = (
        workflows.active_classifier(Workspace(place))
        for place in (fitted.path, tmp_path / "same", tmp_path / "other")
    )
    assert same is here and here.name == classifier.name
    assert other is not here and other.name == "a name of somebody else" and other.hash == here.hash


def test_a_classifier_whose_file_has_vanished_is_named(fitted: Workspace, classifier):
    shutil.rmtree(fitted.path / "models" / classifier.hash)
    with pytest.raises(InputError, match=r"vanished.*choose the classifier again"):
        workflows.active_classifier(fitted)


def test_a_classifier_whose_file_was_exchanged_is_refused(fitted: Workspace, classifier):
    place = fitted.path / "models" / ("0" * 16)
    shutil.copytree(fitted.path / "models" / classifier.hash, place)
    fitted.put_state("classifier", {**fitted.get_state("classifier"), "hash": "0" * 16})
    with pytest.raises(ModelError, match="another classifier"):
        workflows.active_classifier(fitted)


def test_a_generator_whose_folder_has_vanished_is_named(fitted: Workspace, tmp_path: Path):
    fitted.put_state("generator", {**fitted.get_state("generator"), "path": str(tmp_path / "gone")})
    with pytest.raises(InputError, match="gone' has vanished"):
        workflows.active_generator(fitted)


def test_a_folder_that_is_no_generator_is_refused(empty_workspace: Workspace, tmp_path: Path):
    with pytest.raises(ModelError, match=r"model_index\.json"):
        workflows.use_generator(empty_workspace, tmp_path)
    assert empty_workspace.get_state("generator") is None


def test_a_classifier_gives_the_labels_their_numbers(
    empty_workspace: Workspace, tiny_world, tiny_classifier_file: Path
):
    workflows.import_data(empty_workspace, tiny_world.folder)
    assert empty_workspace.label_names() == ["parking", "stop", "yield"]
    workflows.use_classifier(empty_workspace, tiny_classifier_file)
    assert empty_workspace.label_names() == ["stop", "yield", "parking"]
    assert {
        s.label for s in empty_workspace.samples(empty_workspace.query()) if s.label_name == "parking"
    } == {2}
    mapping = workflows.label_mapping(empty_workspace)
    assert mapping["matched"] == {"stop": 24, "yield": 24, "parking": 24}
    assert not mapping["unknown"] and not mapping["absent"]


def test_data_of_other_classes_is_refused_with_both_lists_and_nothing_is_imported(
    empty_workspace: Workspace, tiny_classifier_file: Path, tmp_path: Path
):
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "pets" / name / "1.png")
    workflows.use_classifier(empty_workspace, tiny_classifier_file)
    with pytest.raises(DatasetError, match=r"'cat', 'dog'.*'stop', 'yield', 'parking'"):
        workflows.import_data(empty_workspace, tmp_path / "pets")
    assert empty_workspace.count() == 0 and empty_workspace.runs() == []


def test_classes_that_the_classifier_does_not_know_are_kept_without_a_label(
    empty_workspace: Workspace, tiny_world, tiny_classifier_file: Path, tmp_path: Path, caplog
):
    shutil.copytree(tiny_world.folder / "test" / "stop", tmp_path / "mixed" / "stop")
    (tmp_path / "mixed" / "zebra").mkdir()
    Image.new("RGB", (32, 32), "white").save(tmp_path / "mixed" / "zebra" / "1.png")
    workflows.use_classifier(empty_workspace, tiny_classifier_file)
    report = workflows.import_data(empty_workspace, tmp_path / "mixed")
    assert report.added == 7 and report.unknown_labels == {"zebra": 1}
    (zebra,) = empty_workspace.samples(empty_workspace.query(Filter(text="zebra")))
    assert zebra.label is None and zebra.label_name == "zebra"
    assert "zebra" in caplog.text and "yield" in caplog.text
    mapping = workflows.label_mapping(empty_workspace)
    assert mapping["unknown"] == {"zebra": 1} and mapping["absent"] == ["yield", "parking"]


def _respelt(tiny_world, folder: Path) -> Path:
    """The test pictures in folders as people would name them."""
    for sign, name in (("stop", "STOP"), ("yield", "yield_"), ("parking", "Parking")):
        shutil.copytree(tiny_world.folder / "test" / sign, folder / name)
    return folder


def test_class_names_in_another_spelling_are_taken_for_the_classifiers_and_it_is_said(
    empty_workspace: Workspace, tiny_world, tiny_classifier_file: Path, tmp_path: Path
):
    workflows.use_classifier(empty_workspace, tiny_classifier_file)
    report = workflows.import_data(empty_workspace, _respelt(tiny_world, tmp_path / "set"))
    assert report.read_as == {"STOP": "stop", "yield_": "yield", "Parking": "parking"}
    assert not report.unknown_labels and "'STOP' as 'stop'" in report.summary()
    mapping = workflows.label_mapping(empty_workspace)
    assert (
        mapping["matched"] == {"stop": 6, "yield": 6, "parking": 6} and mapping["read_as"] == report.read_as
    )


def test_a_classifier_that_comes_after_the_data_takes_its_names_too(
    empty_workspace: Workspace, tiny_world, tiny_classifier_file: Path, tmp_path: Path, caplog
):
    workflows.import_data(empty_workspace, _respelt(tiny_world, tmp_path / "set"))
    classifier = workflows.use_classifier(empty_workspace, tiny_classifier_file)
    assert "'yield_' as 'yield'" in caplog.text
    assert workflows.label_mapping(empty_workspace)["read_as"]["STOP"] == "stop"
    workflows.score(empty_workspace, classifier)
    checked = workflows.check_classifier(empty_workspace, classifier)
    assert checked["n"] == 18 and checked["accuracy"] > 0.5, "names, numbers and pictures belong together"


def test_names_that_could_mean_two_classes_are_refused_with_both_lists(
    empty_workspace: Workspace, tiny_world, tiny_classifier_file: Path, tmp_path: Path
):
    shutil.copytree(tiny_world.folder / "test" / "stop", tmp_path / "set" / "Stop")
    shutil.copytree(tiny_world.folder / "val" / "stop", tmp_path / "set" / "STOP")
    workflows.use_classifier(empty_workspace, tiny_classifier_file)
    with pytest.raises(DatasetError, match=r"'STOP', 'Stop' could be 'stop'.*'stop', 'yield', 'parking'"):
        workflows.import_data(empty_workspace, tmp_path / "set")
    assert empty_workspace.count() == 0


def test_images_are_held_out_on_import_and_the_run_says_how(
    empty_workspace: Workspace, tiny_world, tiny_classifier_file: Path
):
    data = tiny_world.folder / "train"
    report = workflows.import_data(empty_workspace, data, holdout=(0.25, 0.25), seed=3)
    assert report.splits == {"train": 18, "val": 9, "test": 9} and "val 9" in report.summary()
    for label in range(3):
        assert empty_workspace.count(Filter(split="val", label=label)) == 3
    (run,) = empty_workspace.runs("hold-out")
    assert run.seed == 3 and run.settings["shares"] == {"train": 0.5, "val": 0.25, "test": 0.25}
    assert workflows.import_data(empty_workspace, data, holdout=0.25).present == 36
    assert empty_workspace.count() == 36 and empty_workspace.count(Filter(split="val")) == 9
    classifier = workflows.use_classifier(empty_workspace, tiny_classifier_file)
    fitted = workflows.fit_head(
        empty_workspace, classifier, workflows.HeadSettings(members=4, hidden=8, epochs=1)
    )
    assert fitted.result["splits"] == {"fitted_on": "train", "held_out": "val"}


def test_a_hold_out_after_the_fit_says_that_the_head_must_be_fitted_again(
    empty_workspace: Workspace, tiny_world, tiny_classifier_file: Path, caplog
):
    classifier = workflows.use_classifier(empty_workspace, tiny_classifier_file)
    workflows.import_data(empty_workspace, tiny_world.folder / "train")
    workflows.fit_head(empty_workspace, classifier, workflows.HeadSettings(members=4, hidden=8, epochs=1))
    assert "fitted again" not in caplog.text
    workflows.import_data(empty_workspace, tiny_world.folder / "train", holdout=0.25)
    assert "fitted again" in caplog.text and empty_workspace.count(Filter(split="val")) == 9


def test_labels_beyond_the_classifiers_outputs_are_kept_without_a_class_and_told(
    empty_workspace: Workspace, tiny_classifier_file: Path, tmp_path: Path, caplog
):
    rows = []
    for i in range(5):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), (40 * i, 0, 0)).save(buffer, "PNG")
        rows.append({"image": buffer.getvalue(), "label": i})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "set.parquet")
    workflows.use_classifier(empty_workspace, tiny_classifier_file)
    report = workflows.import_data(empty_workspace, tmp_path / "set.parquet")
    assert report.added == 5 and report.unknown_labels == {"3": 1, "4": 1}
    assert "2 images have classes that the classifier does not know ('3', '4')" in caplog.text
    labels = [sample.label for sample in empty_workspace.samples(empty_workspace.query())]
    assert labels == [0, 1, 2, None, None]


def test_a_hold_out_that_cannot_be_is_refused_before_anything_is_imported(
    empty_workspace: Workspace, tiny_world, tmp_path: Path, caplog
):
    data = tiny_world.folder / "train"
    for options, words in (
        ({"holdout": 1.2}, "cannot hold out 1.2"),
        ({"holdout": 0.2, "split": "test"}, "not both"),
        ({"group": "track"}, "say how many"),
        ({"holdout": 0.2, "group": "track"}, "no column 'track'.*none"),
    ):
        with pytest.raises(InputError, match=words):
            workflows.import_data(empty_workspace, data, **options)
    assert empty_workspace.count() == 0 and empty_workspace.runs() == []
    report = workflows.import_data(empty_workspace, tiny_world.folder, holdout=0.2)
    assert report.splits == {"train": 36, "val": 18, "test": 18} and not report.held_out
    assert "nothing was held out" in caplog.text


def test_a_classifier_without_class_names_takes_those_of_the_data(
    empty_workspace: Workspace, tiny_world, tiny_classifier_file: Path, tmp_path: Path
):
    weights = tmp_path / "weights.safetensors"
    shutil.copy(tiny_classifier_file, weights)
    classifier = workflows.use_classifier(empty_workspace, weights, arch="resnet14_small")
    assert classifier.labels == ("class 0", "class 1", "class 2")
    workflows.import_data(empty_workspace, tiny_world.folder, split="val")
    assert workflows.active_classifier(empty_workspace).labels == ("parking", "stop", "yield")
    assert empty_workspace.label_names() == ["parking", "stop", "yield"]


def test_a_classifier_without_class_names_refuses_another_number_of_classes(
    empty_workspace: Workspace, tiny_world, tiny_classifier_file: Path, tmp_path: Path
):
    shutil.copy(tiny_classifier_file, tmp_path / "weights.safetensors")
    workflows.use_classifier(empty_workspace, tmp_path / "weights.safetensors", arch="resnet14_small")
    shutil.copytree(tiny_world.folder / "test" / "stop", tmp_path / "one" / "stop")
    with pytest.raises(DatasetError, match="1 classes"):
        workflows.import_data(empty_workspace, tmp_path / "one")


def test_prompts_follow_the_generators_card(fitted: Workspace):
    generator = workflows.active_generator(fitted)
    assert workflows.prompt_for(generator, "stop") == "a photo of a stop sign"


@pytest.fixture
def demo(tiny_world, tiny_classifier_file: Path, tiny_generator: Path, tmp_path: Path) -> Path:
    """A demo folder as the repository ships one, in small."""
    folder = tmp_path / "demo"
    folder.mkdir()
    for file in (tiny_classifier_file, tiny_classifier_file.with_suffix(".json")):
        shutil.copy(file, folder / file.name)
    shutil.copytree(tiny_generator, folder / "generator")
    rows = []
    for i in range(36):
        buffer = io.BytesIO()
        Image.fromarray(tiny_world.images[i].permute(1, 2, 0).numpy()).save(buffer, "WEBP", lossless=True)
        name = ("stop", "yield", "parking")[int(tiny_world.targets[i])]
        rows.append(
            {
                "image": {"bytes": buffer.getvalue(), "path": f"train/{i}.webp"},
                "label": int(tiny_world.targets[i]),
                "class_name": name,
                "split": "train",
                "weather": "clear day",
            }
        )
    pq.write_table(pa.Table.from_pylist(rows), folder / "data.parquet")
    return folder


def test_the_demo_opens_ready_for_use_and_opening_it_again_changes_nothing(
    empty_workspace: Workspace, demo: Path
):
    workflows.open_demo(empty_workspace, demo)
    assert empty_workspace.count() == 36
    assert workflows.active_classifier(empty_workspace).name == "tiny signs"
    assert workflows.active_generator(empty_workspace).image_size == 32
    runs = [run.id for run in empty_workspace.runs()]
    workflows.open_demo(empty_workspace, demo)
    assert empty_workspace.count() == 36 and [run.id for run in empty_workspace.runs()] == runs


def test_the_demo_does_not_push_away_a_classifier_that_was_chosen_since(
    empty_workspace: Workspace, demo: Path, classifier
):
    workflows.open_demo(empty_workspace, demo)
    with torch.no_grad():
        other = workflows.use_classifier(
            empty_workspace,
            demo / "classifier.safetensors",
            preprocess=classifier.preprocess.from_dict(
                {**classifier.preprocess.to_dict(), "height": 48, "width": 48}
            ),
        )
    workflows.open_demo(empty_workspace, demo)
    assert workflows.active_classifier(empty_workspace).hash == other.hash != classifier.hash


def test_the_demos_reference_is_installed_where_it_fits(
    empty_workspace: Workspace, demo: Path, fitted: Workspace, classifier
):
    shutil.copy(
        fitted.path / "arrays" / f"reference-{classifier.hash}.safetensors", demo / "reference.safetensors"
    )
    workflows.open_demo(empty_workspace, demo)
    found = workflows.reference(empty_workspace, workflows.active_classifier(empty_workspace))
    assert found is not None and found.model_hash == classifier.hash


def test_a_demo_that_was_never_built_is_told(empty_workspace: Workspace, tmp_path: Path):
    with pytest.raises(InputError, match=r"data\.parquet.*demo build"):
        workflows.open_demo(empty_workspace, tmp_path / "nothing")


def test_the_command_line_makes_the_demo_as_ready_as_the_page_does(
    tmp_path: Path, demo: Path, capsys: pytest.CaptureFixture[str]
):
    from ltg_core.cli import main
    from ltg_core.jobs import CancelToken
    from ltg_core.workflows import tasks

    at = ["--workspace", str(tmp_path / "typed"), "--json", "--quiet"]
    assert main(["demo", "load", "--from", str(demo), *at]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 36
    given = ["--number", "1", "--class", "stop", "--steps", "2", "--candidates", "2"]
    assert main(["generate", *given, *at]) == 0, "nothing else is needed first"
    with Workspace(tmp_path / "paged") as paged, Workspace(tmp_path / "typed") as typed:
        tasks.do(str(paged.path), "open_demo", {"folder": str(demo)}, lambda step: None, CancelToken())
        found = []
        for ws in (paged, typed):
            model = workflows.active_classifier(ws)
            ids = ws.query(Filter(origin="real"))
            assert workflows.reference(ws, model) is not None
            found.append({ws.sample(i).source: ws.scores([i], model.hash, "epistemic")[i].value for i in ids})
        assert found[0] == found[1] and len(found[0]) == 36
