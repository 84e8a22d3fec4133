"""Category extrapolation in a workspace: weak classes, proposals, a person's decisions, images, retraining."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ltg_core import workflows
from ltg_core.cli import main
from ltg_core.curation import auxiliary, journal, verdicts
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import EndpointError, InputError
from ltg_core.extension.space import prototype, units
from ltg_core.jobs import CancelToken
from ltg_core.llm import Endpoint
from ltg_core.training.losses import LOSSES
from ltg_core.workflows.retrain_rows import MixSettings, choose
from tests.conftest import TinyWorld, draw
from tests.extension.test_proposals_and_space import tiny_wordnet
from tests.speaker import speaking

WIDE = workflows.Band(low=-1.0, high=0.9999, others=False)


def add(ws: Workspace, classifier, parent: str, *names: str) -> list[int]:
    return [workflows.add_by_hand(ws, classifier, parent, name) for name in names]


def status(ws: Workspace) -> dict[str, str]:
    return {one.name: one.status for one in auxiliary.every(ws)}


def rows(ws: Workspace, classifier, **mix: Any):
    return choose(
        ws, classifier, MixSettings(**mix), (), {}, on_progress=lambda p: None, cancel=CancelToken()
    )


def folder_of(place: Path, **classes: int) -> Path:
    """Class folders of drawn signs that nobody has seen."""
    for start, (name, count) in enumerate(classes.items()):
        (place / name).mkdir(parents=True)
        for i in range(count):
            draw("priority road", 7000 + 100 * start + i).save(place / name / f"{i}.png")
    return place


def test_weak_is_what_has_few_training_images_or_a_low_recall_on_validation(
    fitted: Workspace, classifier
) -> None:
    few = workflows.WeakRule(fewer=12, recall=0.0)
    assert not any(one.why for one in workflows.weakness(fitted, classifier, few))
    lost = fitted.query(Filter(split="train", label=1))[:3]
    verdicts.set_verdict(fitted, lost, "rejected")
    first, *others = workflows.weakness(fitted, classifier, few)
    assert (first.name, first.train, first.why) == ("yield", 9, "9 training images")
    assert not any(one.why for one in others)
    # recall is that of the validation images alone: predictions for the test images change nothing
    held, test = (fitted.query(Filter(split=split, label=2)) for split in ("val", "test"))
    rule = workflows.WeakRule(fewer=0, recall=0.6)
    fitted.set_predictions(classifier.hash, dict.fromkeys(held, (2, 0.9)) | dict.fromkeys(test, (0, 0.9)))
    assert (
        next(one for one in workflows.weakness(fitted, classifier, rule) if one.name == "parking").recall
        == 1.0
    )
    fitted.set_predictions(classifier.hash, dict.fromkeys(held[:3], (0, 0.9)))
    found = next(one for one in workflows.weakness(fitted, classifier, rule) if one.name == "parking")
    assert (found.recall, found.why) == (0.5, "50% of 6 validation images recognised")
    with pytest.raises(InputError, match="no class is weak"):
        workflows.propose(fitted, classifier, "wordnet", rule=workflows.WeakRule(fewer=0, recall=0.0))


def test_proposals_of_wordnet_are_decided_renamed_and_taken_back(
    fitted: Workspace, classifier, tmp_path: Path
) -> None:
    names = tiny_wordnet(tmp_path)
    text = (names / "index.noun").read_text().replace("lion n", "stop n", 1)
    (names / "index.noun").write_text(text)
    found = workflows.propose(fitted, classifier, "wordnet", ["stop", "yield"], folder=names)
    assert status(fitted) == {"leopard": "proposed", "kitty": "proposed"} and len(found["added"]) == 2
    assert "'stop' was read as: a lion" in found["notes"] and "no noun 'yield'" in found["notes"][1]
    assert fitted.run(found["run"]).state == "done"
    key, other = found["added"]
    assert "leopard" in auxiliary.decide(fitted, [key], "accepted")
    auxiliary.decide(fitted, [other], "rejected")
    workflows.rename_auxiliary(fitted, classifier, key, "spotted  cat")
    assert status(fitted) == {"spotted cat": "accepted", "kitty": "rejected"}
    assert "spotted" not in journal.undo(fitted) or status(fitted)["leopard"] == "accepted"
    assert status(fitted) == {"leopard": "accepted", "kitty": "rejected"}
    journal.undo(fitted)
    journal.undo(fitted)
    assert set(status(fitted).values()) == {"proposed"}
    journal.redo(fitted)
    assert status(fitted) == {"leopard": "accepted", "kitty": "proposed"}
    again = workflows.propose(fitted, classifier, "wordnet", ["stop"], folder=names)
    assert again["added"] == [] and ["stop", "kitty", "it stands beside 'stop' already"] in again["dropped"]
    for name, why in (
        ("stops", "classifier itself"),
        ("kitty", "number"),
        ("<b>x</b>", "signs"),
        ("", "no name"),
    ):
        with pytest.raises(InputError, match=why):
            workflows.rename_auxiliary(fitted, classifier, key, name)
    with pytest.raises(InputError, match=r"cannot stand beside 'yield'.*stands beside 'stop'"):
        add(fitted, classifier, "yield", "Leopard")
    with pytest.raises(InputError, match="no auxiliary class number 99"):
        auxiliary.decide(fitted, [99], "accepted")


def test_a_language_model_is_asked_and_never_believed(fitted: Workspace, classifier, monkeypatch) -> None:
    def answer(asked: dict[str, Any], n: int) -> Any:
        names = [
            "Yield",
            "octagon plate",
            "octagon plates",
            "<img src=x>",
            *(f"sign {i}" for i in range(10_000)),
        ]
        entries = [{"name": name, "relation": "same shape", "difference": "no letters"} for name in names]
        return json.dumps({"classes": entries})

    def endpoint(url: str, **changes: Any) -> Endpoint:
        return Endpoint(url, "some-model", **({"pause": 0.01, "retries": 0, "timeout": 5.0} | changes))

    with speaking(answer) as server:
        found = workflows.propose(fitted, classifier, "llm", ["stop"], most=3, endpoint=endpoint(server.url))
    assert list(status(fitted)) == ["octagon plate", "sign 0", "sign 1"]
    assert ["stop", "Yield", "it is a class of the classifier itself"] in found["dropped"]
    assert found["notes"] == [
        "9,998 more were proposed for 'stop', and left out: 3 for each class are enough"
    ]
    assert len(found["dropped"]) == 3 and fitted.run(found["run"]).settings["model"] == "some-model"
    for said, why in (
        ("I would suggest a hexagon.", "not JSON"),
        ('{"classes": [{"relation": ""}]}', "lacks 'name'"),
    ):
        with speaking(lambda asked, n, said=said: said) as server, pytest.raises(EndpointError, match=why):
            workflows.propose(fitted, classifier, "llm", ["stop"], endpoint=endpoint(server.url))
    with speaking(lambda asked, n: None) as server, pytest.raises(EndpointError, match="within"):
        workflows.propose(fitted, classifier, "llm", ["stop"], endpoint=endpoint(server.url, timeout=0.2))
    assert len(status(fitted)) == 3 and [run.state for run in fitted.runs("propose")] == ["failed"] * 3 + [
        "done"
    ]
    monkeypatch.delenv("LTG_LLM_BASE_URL", raising=False)
    with pytest.raises(InputError, match="LTG_LLM_BASE_URL"):
        workflows.propose(fitted, classifier, "llm", ["stop"])


def test_prose_about_one_class_does_not_end_the_proposals_for_the_others(
    fitted: Workspace, classifier
) -> None:
    def answer(asked: dict[str, Any], n: int) -> Any:
        if n in (2, 3):  # what is said about the second class, and said again
            return "I would suggest a hexagon."
        return json.dumps({"classes": [{"name": f"plate {n}", "relation": "", "difference": ""}]})

    with speaking(answer) as server:
        asked = Endpoint(server.url, "some-model", pause=0.01, retries=0)
        found = workflows.propose(fitted, classifier, "llm", list(classifier.labels), endpoint=asked)
    assert status(fitted) == {"plate 1": "proposed", "plate 4": "proposed"}
    (note,) = found["notes"]
    assert note.startswith(f"nothing beside {classifier.labels[1]!r}: ") and "not JSON" in note
    assert fitted.run(found["run"]).state == "done"


def test_images_of_a_folder_pass_the_band_and_no_copy_of_held_out_ones_does(
    fitted: Workspace, classifier, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    hexagon, _ = add(fitted, classifier, "stop", "hexagon", "plate")
    place = folder_of(tmp_path / "more", Hexagons=4, tree=2)
    Image.open(tiny_world.folder / "val" / "stop" / "00.png").save(place / "Hexagons" / "leak.png")
    Image.open(place / "Hexagons" / "0.png").save(place / "Hexagons" / "twin.png")
    (place / "Hexagons" / "broken.png").write_bytes(b"not an image")
    found = workflows.add_images(fitted, classifier, folder=place, band=WIDE)
    assert found["added"] == 4 and "plate" in found["notes"][0]
    assert found["classes"][0]["left_out"] == {
        "it cannot be read": 1,
        "it is a copy, or nearly one, of a held-out image": 1,
        "it is the same picture as another": 1,
    }
    samples = fitted.samples(fitted.query(Filter(meta={"auxiliary_of": "stop"})))
    assert {(s.split, s.label, s.meta["auxiliary"], s.caption) for s in samples} == {
        ("auxiliary", None, hexagon, "hexagon")
    }
    cosines = [s.meta["cosine"] for s in samples]
    assert workflows.label_mapping(fitted)["unknown"] == {}  # they are no unknown class of the data
    again = workflows.add_images(fitted, classifier, folder=place, band=WIDE)
    assert again["added"] == 0 and again["classes"][0]["left_out"]["it is the same picture as another"] == 5
    # the band: nothing above the highest, nothing below the lowest cosine
    for band, why in (
        (workflows.Band(low=max(cosines) + 1e-3, high=1.0, others=False), "too far"),
        (workflows.Band(low=-1.0, high=min(cosines) - 1e-3, others=False), "too like"),
    ):
        (key,) = add(fitted, classifier, "stop", f"hexagons {why}")
        out = folder_of(tmp_path / why, **{f"hexagons {why}": 2})
        (one,) = workflows.add_images(fitted, classifier, folder=out, keys=[key], band=band)["classes"]
        assert one["added"] == 0 and all(why in reason for reason in one["left_out"])
    with pytest.raises(InputError, match="has no class of the names"):
        workflows.add_images(fitted, classifier, folder=tiny_world.folder, band=WIDE)
    auxiliary.decide(fitted, [hexagon], "rejected")
    with pytest.raises(InputError, match=f"number {hexagon} is not accepted"):
        workflows.add_images(fitted, classifier, folder=place, keys=[hexagon])


def test_retraining_learns_from_accepted_classes_under_their_present_names_or_from_the_random_control(
    fitted: Workspace, classifier, tmp_path: Path
) -> None:
    hexagon, plate = add(fitted, classifier, "stop", "hexagon", "plate")
    place = folder_of(tmp_path / "more", hexagon=3, plate=2)
    workflows.add_images(fitted, classifier, folder=place, band=WIDE)
    pool = tmp_path / "pool"
    pool.mkdir()
    for i in range(9):
        draw("yield", 9000 + i).save(pool / f"{i}.png")
    workflows.import_data(fitted, pool, split="pool")
    control = workflows.random_control(fitted, classifier, seed=1)
    assert control["added"] == 5 and workflows.random_control(fitted, classifier)["added"] == 0
    workflows.rename_auxiliary(fitted, classifier, hexagon, "six corners")
    near = rows(fitted, classifier)
    assert near.auxiliary == [("plate", 0), ("six corners", 0)] and near.kinds.count("auxiliary") == 5
    far = rows(fitted, classifier, auxiliary="random")
    assert far.auxiliary == [(f"random {hexagon}", 0), (f"random {plate}", 0)]
    assert far.kinds.count("auxiliary") == 5 and not set(near.ids[-5:]) & set(far.ids[-5:])
    assert {fitted.sample(id).split for id in far.ids[-5:]} == {"pool"}
    assert rows(fitted, classifier, auxiliary="none").auxiliary == []
    auxiliary.decide(fitted, [plate], "rejected")
    assert rows(fitted, classifier).auxiliary == [("six corners", 0)]
    run = workflows.retrain(
        fitted,
        classifier,
        workflows.TrainSettings(scope="whole", epochs=1, batch_size=12, patience=0),
        loss=LOSSES["neighbour-silencing"](silence=0.0),
    )
    assert run.result["data"]["auxiliary_classes"] == ["six corners"]
    made = workflows.stored_classifier(fitted, run.result["best"])
    assert made.labels == classifier.labels  # masked: nobody is answered "six corners"
    plain, more = (
        {one.name: one for one in workflows.granularity(fitted, classifier, ["stop"], extended=extended)}[
            "stop"
        ]
        for extended in (False, True)
    )
    assert len(plain.near) == 2 and {name for name, _ in more.near} == {"yield", "parking", "six corners"}


def test_clusters_of_a_pool_become_classes_and_a_deleted_image_is_no_trouble(
    fitted: Workspace, classifier, tmp_path: Path
) -> None:
    pool = folder_of(tmp_path / "pool", things=8) / "things"
    workflows.import_data(fitted, pool, split="pool")
    found = workflows.propose(fitted, classifier, "clusters", ["stop"], most=2, band=WIDE)
    assert found["added"]
    members = {one.key: one.about["members"] for one in auxiliary.every(fitted)}
    kept = sum(map(len, members.values()))
    assert 4 <= kept <= 8
    auxiliary.decide(fitted, found["added"], "accepted")
    gone = members[found["added"][0]][0]
    with fitted.database.write() as connection:
        connection.execute("DELETE FROM samples WHERE id = ?", (gone,))
    added = workflows.add_images(fitted, classifier, pool="pool", band=WIDE)
    assert added["added"] == kept - 1
    assert len(fitted.query(Filter(split="pool", meta={"auxiliary_of": "stop"}))) == kept - 1
    with pytest.raises(InputError, match="stands beside no class yet"):
        workflows.propose(fitted, classifier, "clusters", ["yield"], pool="elsewhere")
    with pytest.raises(InputError, match="kept for measuring"):
        workflows.propose(fitted, classifier, "clusters", ["yield"], pool="val")


def test_images_that_are_as_like_another_class_as_its_own_are_left_out(
    fitted: Workspace, classifier, tmp_path: Path
) -> None:
    own = fitted.query(Filter(split="train", label=1))
    x = units(workflows.features(fitted, classifier, own))
    best = own[int(np.argmax(x @ prototype(x)))]
    place = tmp_path / "more" / "triangle"
    place.mkdir(parents=True)
    fitted.image(best).save(place / "0.png")
    add(fitted, classifier, "stop", "triangle")
    every = workflows.Band(low=-1.0, high=1.0)
    (one,) = workflows.add_images(fitted, classifier, folder=place.parent, band=every)["classes"]
    assert one["left_out"] == {"it is as like the class 'yield' as images of that class are": 1}
    add(fitted, classifier, "yield", "three corners")
    place.rename(place.parent / "three corners")
    found = workflows.add_images(fitted, classifier, folder=place.parent, band=every)
    assert found["added"] == 1  # of its own parent it may be as like as it wants, up to the band


def test_generated_images_are_believed_within_the_band_and_learned_from(
    fitted: Workspace, classifier
) -> None:
    add(fitted, classifier, "stop", "hexagon")
    found = workflows.add_images(fitted, classifier, generate=2, band=WIDE, seed=5)
    assert found["added"] == 2
    made = fitted.samples(fitted.query(Filter(origin=found["run"])))
    assert [(s.meta["seed"], s.belief, s.label) for s in made] == [
        (5, "believed", None),
        (6, "believed", None),
    ]
    assert made[0].meta["prompt"] == "a photo of a hexagon sign"
    assert np.asarray(fitted.image(made[0].id)).std() > 0
    assert rows(fitted, classifier).auxiliary == [("hexagon", 0)]
    assert rows(fitted, classifier).kinds.count("auxiliary") == 2


def test_everything_works_from_the_command_line(
    fitted: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def say(*words: object) -> Any:
        status = main(["extend", *(str(word) for word in words), "--workspace", str(fitted.path), "--json"])
        out, err = capsys.readouterr()
        assert status == 0, err
        return json.loads(out)

    key = say("add", "stop", "hexagon")["key"]
    say("rename", key, "six corners")
    place = folder_of(tmp_path / "more", hexagon=2)
    assert say("images", "--folder", place, "--low", -1, "--no-others", "--quiet")["added"] == 2
    assert [(one["name"], one["images"]) for one in say("list")] == [("six corners", 2)]
    assert say("granularity", "--class", "stop", "--extended", "--quiet")[0]["name"] == "stop"
    say("reject", key)
    assert main(["extend", "list", "--workspace", str(fitted.path)]) == 0
    assert "rejected" in capsys.readouterr().out
    names = tiny_wordnet(tmp_path)
    found = say("propose", "--class", "parking", "--wordnet", names, "--quiet")
    assert found["added"] == [] and "no noun 'parking'" in found["notes"][0]
    assert main(["extend", "accept", "9", "--workspace", str(fitted.path)]) == 2
    assert "no auxiliary class number 9" in capsys.readouterr().err
