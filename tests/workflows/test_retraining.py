"""Retraining in a workspace: the right images, the same weights after a stop, and a loop that can start again."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from ltg_core import workflows
from ltg_core.data.processes import _own
from ltg_core.data.records import Filter, NewSample
from ltg_core.data.workspace import Workspace
from ltg_core.errors import Cancelled, DatasetError, InputError, UnsupportedError
from ltg_core.jobs import CancelToken, Progress
from ltg_core.models.loaders import load_classifier
from ltg_core.training.losses import LOSSES
from ltg_core.training.samplers import SAMPLERS
from ltg_core.training.settings import MixSettings
from ltg_core.workflows.retrain_inputs import Pictures
from ltg_core.workflows.retrain_rows import choose

HEAD = workflows.TrainSettings(epochs=4, batch_size=12, patience=0, lr=0.01)
WHOLE = dataclasses.replace(HEAD, scope="whole", epochs=2, shift=1, lr=0.002)


def add(ws: Workspace, label: int, number: int, **given: object) -> list[str]:
    """Generated images of one class, without a generator."""
    rng = np.random.default_rng(label)
    run = ws.start_run("generate", {}, 0, {}, None)
    ws.finish_run(run.id, "done")
    meta = {"role": "guided", "judge": 0.8} | dict(given.pop("meta", {}))  # type: ignore[call-overload]
    name = given.pop("label_name", ws.label_names()[label])
    return ws.add_images(
        [
            NewSample(
                rng.integers(0, 255, (32, 32, 3), dtype=np.uint8),
                origin=run.id,
                split="generated",
                label=label,
                label_name=name,  # type: ignore[arg-type]
                source=f"{run.id}/{k}",
                meta=meta,
                **{"belief": "believed"} | given,  # type: ignore[arg-type]
            )
            for k in range(number)
        ]
    )


def accept(ws: Workspace, ids: list[str]) -> None:
    from ltg_core.curation import verdicts

    verdicts.set_verdict(ws, ids, "accepted")


def rows(ws: Workspace, classifier, **mix: object):
    told = {"on_progress": lambda p: None, "cancel": CancelToken()}
    return choose(ws, classifier, MixSettings(**mix), (), {}, **told)  # type: ignore[arg-type]


def files_of(ws: Workspace, model_hash: str) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (ws.models_folder / model_hash).iterdir()}


def test_a_new_classifier_appears_with_its_provenance_and_the_old_one_is_not_touched(
    fitted: Workspace, classifier
):
    accept(fitted, made := add(fitted, 1, 3))
    before = files_of(fitted, classifier.hash)
    weights = {name: value.clone() for name, value in classifier.net.state_dict().items()}
    run = workflows.retrain(
        fitted, classifier, HEAD, loss=LOSSES["balanced-softmax"](), seeds=(0, 1), name="repaired"
    )
    assert run.state == "done" and [one["seed"] for one in run.result["seeds"]] == [0, 1]
    hashes = [one["classifier"] for one in run.result["seeds"]]
    assert len({*hashes, classifier.hash}) == 3 and run.result["best"] in hashes
    data = run.result["data"]
    assert (data["real"], data["synthetic"], data["validation"]) == (36, 3, 18)
    assert data["real_by_class"] == [12, 12, 12]
    file = fitted.models_folder / hashes[0] / "classifier.safetensors"
    again = load_classifier(file)
    assert again.hash == hashes[0] and again.labels == classifier.labels
    card = json.loads(file.with_suffix(".json").read_text())
    assert card["run"] == run.id and card["trained_from"]["hash"] == classifier.hash
    assert card["trained_on"] == "36 real, 3 synthetic, 0 auxiliary images"
    assert card["settings"]["loss"]["name"] == "balanced-softmax" and card["name"] == "repaired, seed 0"
    listed = json.loads((fitted.run_folder(run.id) / "rows.json").read_text())
    assert set(made) <= set(listed["ids"]) and not list(fitted.run_folder(run.id).glob("*.ckpt"))
    assert files_of(fitted, classifier.hash) == before
    assert all(torch.equal(weights[name], value) for name, value in classifier.net.state_dict().items())
    assert workflows.active_classifier(fitted).hash == classifier.hash


def test_the_loop_starts_again_with_the_new_classifier_and_its_head(fitted: Workspace, classifier):
    run = workflows.retrain(fitted, classifier, HEAD)
    new = workflows.adopt(fitted, run.id)
    assert workflows.active_classifier(fitted).hash == new.hash == run.result["best"]
    card = json.loads((fitted.models_folder / new.hash / "classifier.json").read_text())
    assert card["run"] == run.id  # adopting keeps how it came to be
    fit = workflows.fit_head(fitted, new, workflows.HeadSettings(members=4, hidden=8, epochs=2))
    assert fit.result["fitted_on"] == 36 and workflows.score(fitted, new).result["scored"] == 18
    assert len(fitted.scores(fitted.query(), new.hash, "epistemic")) == 72
    assert workflows.check_classifier(fitted, new, "val")["accuracy"] == pytest.approx(
        run.result["seeds"][0]["validation"]["accuracy"], abs=1e-5
    )
    second = workflows.retrain(fitted, new, HEAD)
    assert second.result["best"] not in (new.hash, classifier.hash)


def test_the_figures_before_are_those_of_the_classifier_on_the_validation_images(
    fitted: Workspace, classifier
):
    checked = workflows.check_classifier(fitted, classifier, "val")
    for settings in (HEAD, WHOLE):
        before = workflows.retrain(fitted, classifier, settings).result["seeds"][0]["before"]
        assert before["accuracy"] == pytest.approx(checked["accuracy"], abs=1e-5)
        assert before["ece"] == pytest.approx(checked["ece"], abs=2e-3)


@pytest.mark.parametrize("settings", [HEAD, WHOLE], ids=["head", "whole"])
def test_stopped_it_goes_on_to_the_same_weights_with_the_images_that_it_began_with(
    fitted: Workspace, classifier, settings
):
    accept(fitted, made := add(fitted, 0, 2))
    options = {"sampler": SAMPLERS["class-balanced"](), "seeds": (3, 4)}
    whole = workflows.retrain(fitted, classifier, settings, **options)
    token = CancelToken()

    def stop(p: Progress) -> None:
        if "seed 2 of 2: epoch 2" in p.message:
            token.cancel()

    with pytest.raises(Cancelled):
        workflows.retrain(fitted, classifier, settings, on_progress=stop, cancel=token, **options)
    broken = fitted.runs("retrain")[0]
    assert broken.state == "cancelled" and len(broken.result["seeds"]) == 1
    from ltg_core.curation import verdicts

    verdicts.set_verdict(fitted, made, "rejected")  # would be left out of a new training
    again = workflows.resume_retrain(fitted, broken.id)
    assert [one["classifier"] for one in again.result["seeds"]] == [
        one["classifier"] for one in whole.result["seeds"]
    ]
    with pytest.raises(InputError, match="nothing to resume"):
        workflows.resume_retrain(fitted, broken.id)


def stopped(ws: Workspace, classifier) -> str:
    """A training that was cancelled in its second epoch."""
    token = CancelToken()
    with pytest.raises(Cancelled):
        workflows.retrain(
            ws, classifier, HEAD, cancel=token,
            on_progress=lambda p: token.cancel() if "epoch 2" in p.message else None,
        )  # fmt: skip
    return ws.runs("retrain")[0].id


def test_stopped_it_does_not_go_on_without_an_image_that_it_had_chosen(fitted: Workspace, classifier):
    run = stopped(fitted, classifier)
    with fitted.database.write() as connection:
        gone = fitted.query(Filter(split="train"))[3]
        connection.execute("DELETE FROM samples WHERE id = ?", (gone,))
    with pytest.raises(InputError, match=r"1 of the 54 images .* have been removed since.*start it again"):
        workflows.resume_retrain(fitted, run)


def test_what_another_process_works_at_is_left_to_it(fitted: Workspace, classifier):
    run = stopped(fitted, classifier)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        with fitted.database.write() as connection:
            connection.execute(
                "UPDATE runs SET state = 'running', owner = ? WHERE id = ?", (_own(other.pid), run)
            )
        with pytest.raises(InputError, match=f"another process works at {run} .process {other.pid}"):
            workflows.resume_retrain(fitted, run)
        other.communicate(b"\n")
    assert workflows.resume_retrain(fitted, run).state == "done"


def test_held_out_images_and_what_was_made_from_them_are_never_learned_from(fitted: Workspace, classifier):
    test = fitted.query(Filter(split="test"))
    copy = fitted.image(test[0])
    fitted.add_image(
        copy, origin="real", split="train", label=0, label_name="stop", source="a copy of a test image"
    )
    accept(fitted, add(fitted, 1, 1, meta={"source": test[1]}))
    accept(fitted, add(fitted, 2, 1, meta={"source": "no-such-sample"}))
    found = rows(fitted, classifier)
    assert len(found.ids) == 36 and set(found.kinds) == {"real"}
    assert len(found.left_out) == 2 and any("not in this workspace" in reason for reason in found.left_out)
    assert set(found.held) == set(fitted.query(Filter(split="val")))
    assert not {*found.ids, *found.held} & set(test)


def test_rejected_images_are_left_out_and_believed_accepted_control_and_limit_do_what_they_say(
    fitted: Workspace, classifier
):
    from ltg_core.curation import verdicts

    believed, doubted = add(fitted, 0, 4), add(fitted, 1, 2, belief="quarantined")
    control = add(fitted, 2, 2, meta={"role": "control"})
    accept(fitted, [believed[0], doubted[0]])
    verdicts.set_verdict(fitted, [believed[1], fitted.query(Filter(split="train"))[0]], "rejected")

    def made(**mix: object) -> set[str]:
        found = rows(fitted, classifier, **mix)
        assert found.kinds.count("real") == 35
        return {id for id, kind in zip(found.ids, found.kinds, strict=True) if kind == "synthetic"}

    assert made() == {believed[0], doubted[0]}
    assert made(synthetic="believed") == {believed[0], *believed[2:]}
    assert made(synthetic="believed", role="control") == set(control)
    assert made(synthetic="none") == set()
    few = made(synthetic="believed", role="any", limit=2)
    assert len(few) == 2 and few == made(synthetic="believed", role="any", limit=2)


def test_weights_soft_labels_and_groups_come_from_settings_and_metadata(fitted: Workspace, classifier):
    accept(fitted, made := add(fitted, 1, 1, meta={"sky": "dark"}))
    mix = {"synthetic_weight": 0.5, "weight_column": "judge", "label_column": "judge", "column": "sky"}
    real = fitted.query(Filter(split="train"))
    fitted.merge_meta({real[0]: {"sky": "dark"}, real[1]: {"sky": "light"}})
    found = rows(fitted, classifier, **mix)
    assert (
        found.ids[-1] == made[0]
        and found.weights[-1] == pytest.approx(0.4)
        and set(found.weights[:-1]) == {1.0}
    )
    assert found.targets(3)[-1].tolist() == pytest.approx([0.1, 0.8, 0.1])
    assert found.group_names == sorted(
        {
            "yield, sky dark",
            f"{classifier.labels[fitted.sample(real[0]).label]}, sky dark",
            f"{classifier.labels[fitted.sample(real[1]).label]}, sky light",
        }
    )
    assert found.groups[-1] == found.group_names.index("yield, sky dark") and found.groups.count(-1) == 34
    about = found.about(3)
    assert about.counts.tolist() == pytest.approx([12.04, 12.32, 12.04])
    assert about.groups.sum() == 3
    smooth = rows(fitted, classifier, smoothing=0.3)
    assert smooth.targets(3)[-1].tolist() == pytest.approx([0.1, 0.8, 0.1])
    told = {"on_progress": lambda p: None, "cancel": CancelToken()}
    given = choose(fitted, classifier, MixSettings(), (), {made[0]: [0.2, 0.5, 0.3]}, **told)
    assert given.targets(3)[-1].tolist() == pytest.approx([0.2, 0.5, 0.3])
    with pytest.raises(InputError, match="sum to 1"):
        choose(fitted, classifier, MixSettings(), (), {made[0]: [0.2, 0.5]}, **told)
    assert type(found).from_json(found.to_json()) == found


def test_auxiliary_classes_are_learned_beside_the_others_and_answered_with_by_nobody(
    fitted: Workspace, classifier
):
    rng = np.random.default_rng(9)
    beside = [
        fitted.add_image(
            rng.integers(0, 255, (32, 32, 3), dtype=np.uint8),
            origin="real",
            split="train",
            label_name="hexagon",
            source=f"hexagon {k}",
            meta={"auxiliary_of": "stop"},
        )
        for k in range(4)
    ]
    found = rows(fitted, classifier)
    assert found.auxiliary == [("hexagon", 0)] and found.ids[-4:] == beside and found.labels[-4:] == [3] * 4
    assert found.about(3).parents.tolist() == [-1, -1, -1, 0]
    run = workflows.retrain(
        fitted, classifier, HEAD, loss=LOSSES["neighbour-silencing"](), mix=MixSettings(synthetic="none")
    )
    assert run.result["data"]["auxiliary"] == 4
    made = workflows.adopt(fitted, run.id)
    assert made.num_classes == 3 and made.units.count == 4 and made.labels == classifier.labels
    fitted.merge_meta({beside[0]: {"auxiliary_of": "yield"}})
    with pytest.raises(InputError, match="beside two classes"):
        rows(fitted, classifier)


def test_pictures_are_read_once_or_again_for_every_batch_and_broken_ones_are_said(
    fitted: Workspace, classifier
):
    ids = fitted.query(Filter(split="train"))[:6]
    told = {"on_progress": lambda p: None, "cancel": CancelToken()}
    kept = Pictures(fitted, ids, classifier.preprocess, **told)
    again = Pictures(fitted, ids, classifier.preprocess, in_memory=0, **told)
    some = torch.tensor([4, 0])
    assert torch.equal(kept(some), again(some)) and kept(some).shape == (2, 3, 32, 32)
    expected = torch.stack([fitted.tensor([ids[k]])[0] for k in (4, 0)])
    torch.testing.assert_close(kept(some), expected, atol=0.5 / 255, rtol=0)
    fitted.image_path(ids[2]).write_bytes(b"broken")
    assert list(Pictures(fitted, ids, classifier.preprocess, **told).broken) == [ids[2]]
    run = workflows.retrain(fitted, classifier, WHOLE)
    assert run.result["data"]["real"] == 35 and run.result["data"]["left_out"] == {"it cannot be read": 1}


def test_what_cannot_be_done_is_said_before_anything_is_trained(
    fitted: Workspace, classifier, empty_workspace: Workspace
):
    with pytest.raises(UnsupportedError, match="--column"):
        workflows.retrain(fitted, classifier, HEAD, loss=LOSSES["group-dro"]())
    assert fitted.runs("retrain")[0].state == "failed"
    read: list[str] = []
    with pytest.raises(UnsupportedError, match=r"sampler 'group-balanced' needs groups.*--column"):
        workflows.retrain(
            fitted, classifier, WHOLE, sampler=SAMPLERS["group-balanced"](),
            on_progress=lambda p: read.append(p.message),
        )  # fmt: skip
    assert not any("reading pictures" in said for said in read), "said before any picture is read"
    planned = workflows.plan_retrain(fitted, classifier, HEAD, sampler=SAMPLERS["group-balanced"]())
    assert "needs groups" in planned["problem"]
    with pytest.raises(InputError, match="each once"):
        workflows.retrain(fitted, classifier, HEAD, seeds=(1, 1))
    with pytest.raises(DatasetError, match="labelled real images"):
        workflows.retrain(empty_workspace, classifier, HEAD)
    with pytest.raises(InputError, match="retrain run"):
        workflows.adopt(fitted, "feedbeef")


def test_a_worker_retrains_with_json_values_and_puts_the_result_to_use(fitted: Workspace, classifier):
    from ltg_core.workflows import tasks

    def do(task: str, **arguments: object):
        given = json.loads(json.dumps(arguments))
        tasks.check(task, given)
        return tasks.do(str(fitted.path), task, given, lambda p: None, CancelToken())

    asked = {"name": "ldam", "margin": 1.0}
    done = do("retrain", train=HEAD.to_dict(), loss=asked, sampler={"name": "square-root"}, seeds=[2])
    run = fitted.run(done["run"])
    assert run.settings["loss"]["margin"] == 1.0 and run.settings["sampler"] == {"name": "square-root"}
    assert "in use" in do("adopt", ref=run.id)
    assert workflows.active_classifier(fitted).hash == done["best"]
    assert len(fitted.predictions(fitted.query(), done["best"])) == 72
