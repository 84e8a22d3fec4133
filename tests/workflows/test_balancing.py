"""Plans that balance classes and groups, the run that carries them out, and what a retraining makes of it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ltg_core import workflows
from ltg_core.cli import main
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.export.guard import check
from ltg_core.guidance.settings import Guidance
from ltg_core.models.classifier import Classifier
from ltg_core.workflows.balancing import shared_out
from tests.conftest import draw

ROW = ("stop", "stop", "stop", "yield", "yield", "parking")
SKY = ("day", "day", "night", "day", "day", "night")
QUICK = Guidance(steps=2, search="none", climb="none", like="train", strength=0.5)


@pytest.fixture
def uneven(fitted: Workspace, tmp_path: Path) -> Workspace:
    """``fitted`` with a column "sky" on six more training pictures: 15, 14 and 13 of the classes."""
    folder = tmp_path / "more"
    folder.mkdir()
    rows = []
    for i, (sign, sky) in enumerate(zip(ROW, SKY, strict=True)):
        draw(sign, 7000 + i).save(folder / f"{i}.png")
        rows.append(json.dumps({"file_name": f"{i}.png", "label": sign, "split": "train", "sky": sky}))
    (folder / "metadata.jsonl").write_text("\n".join(rows))
    workflows.import_data(fitted, folder)
    workflows.score(fitted, workflows.active_classifier(fitted))
    return fitted


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.integers(0, 100))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_limited_number_is_shared_out_in_proportion(missing: list[int], number: int) -> None:
    found = shared_out(missing, number)
    assert sum(found) == min(number, sum(missing))
    assert all(0 <= got <= part for got, part in zip(found, missing, strict=True))
    if 0 < number < sum(missing):
        exact = [number * part / sum(missing) for part in missing]
        assert all(abs(got - want) < 1 for got, want in zip(found, exact, strict=True))


def test_classes_are_filled_up_to_the_largest_and_groups_to_a_number(uneven: Workspace) -> None:
    labels = uneven.label_names()
    plan = workflows.plan_balance(uneven, labels)
    assert plan.goal == 15 and plan.number == 3
    assert [(n.name, n.real, n.missing) for n in plan.needs] == [
        ("parking", 13, 2),
        ("yield", 14, 1),
        ("stop", 15, 0),
    ]
    ordered = workflows.intended(uneven, workflows.Order(number=3, balance=True), labels)
    assert [labels[k] for k in ordered] == ["parking", "parking", "yield"]
    with pytest.raises(InputError, match="only 3 images are missing until every class has 15"):
        workflows.intended(uneven, workflows.Order(number=4, balance=True), labels)
    groups = workflows.plan_balance(uneven, labels, workflows.BalanceSettings(column="sky", to=3))
    missing = {(n.name, n.value): n.missing for n in groups.needs}
    assert missing == {
        ("stop", "day"): 1,
        ("stop", "night"): 2,
        ("yield", "day"): 1,
        ("yield", "night"): 3,
        ("parking", "day"): 3,
        ("parking", "night"): 2,
    }
    assert any("2 groups have no real" in note for note in groups.notes)
    few = workflows.plan_balance(uneven, labels, workflows.BalanceSettings(column="sky", to=3, number=4))
    assert few.number == 4 and all(n.wanted <= n.missing for n in few.needs)
    with pytest.raises(InputError, match="no metadata column 'weather'"):
        workflows.plan_balance(uneven, labels, workflows.BalanceSettings(column="weather"))


def test_an_order_fills_up_groups_and_says_of_each_image_which(uneven: Workspace) -> None:
    labels = uneven.label_names()
    guidance = dataclasses.replace(QUICK, like="").to_dict()
    order = workflows.Order(number=12, balance=True, groups="sky", to=3, guidance=guidance)
    plan = workflows.plan_balance(uneven, labels, workflows.BalanceSettings(column="sky", to=3))
    wanted = {(n.label, n.value): n.missing for n in plan.needs if n.missing}
    run = workflows.imagine(uneven, workflows.Order.from_dict(order.to_dict()).to_dict())
    found: dict[tuple[int | None, str], int] = {}
    for sample in uneven.samples(uneven.query(Filter(origin=run.id))):
        key = (sample.label, sample.meta["sky"])
        found[key] = found.get(key, 0) + 1
    assert found == wanted and sum(found.values()) == 12
    assert run.settings["aims"][0] == {"sky": plan.needs[0].value}
    with pytest.raises(InputError, match="only 12 images are missing until every class × sky has 3"):
        workflows.intended(uneven, dataclasses.replace(order, number=13), labels)
    with pytest.raises(InputError, match="without one they mean nothing"):
        workflows.Order(groups="sky")
    with pytest.raises(InputError, match="leave class and sources away"):
        workflows.Order(groups="sky", balance=True, label="stop")


def test_a_plan_is_one_run_whose_images_belong_to_their_groups(uneven: Workspace) -> None:
    classifier, generator = workflows.active_classifier(uneven), workflows.active_generator(uneven)
    settings = workflows.BalanceSettings(column="sky", to=2)
    plan = workflows.plan_balance(uneven, classifier.labels, settings)
    run = workflows.fill(uneven, classifier, generator, plan, QUICK, preset="feedback-guided")
    made = uneven.samples(uneven.query(Filter(origin=run.id)))
    wanted = {(n.label, n.value): n.wanted for n in plan.needs if n.wanted}
    found: dict[tuple[int | None, str], int] = {}
    for sample in made:
        key = (sample.label, sample.meta["sky"])
        found[key] = found.get(key, 0) + 1
        like = uneven.sample(sample.meta["like"])
        assert like.label == sample.label and like.split == "train"
        if (like.label, sample.meta["sky"]) in {(0, "night"), (2, "night")}:
            assert like.meta["sky"] == sample.meta["sky"]  # of its own group, where there is any
    assert found == wanted and run.settings["purpose"]["balance"]["goal"] == 2
    for sample in made:
        assert sample.caption.startswith("a photo of a ")
    swept = workflows.sweep_order(uneven, made[0].id)
    assert swept.aim == {
        "sky": made[0].meta["sky"]
    }  # the same image at other weights belongs to the same group
    workflows.accept_believed(uneven, run.id)
    accepted = uneven.count(Filter(origin=run.id, verdict="accepted"))
    again = workflows.plan_balance(uneven, classifier.labels, settings)
    assert plan.number - again.number == accepted  # what is accepted counts as there


def test_the_command_makes_accepts_and_says_how_to_go_on(
    fitted: Workspace, classifier: Classifier, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ["--workspace", str(fitted.path), "--quiet"]
    assert main(["balance", "--to", "14", "--dry-run", *at]) == 0
    assert "6 to be made" in capsys.readouterr().out and not fitted.runs("generate")
    quick = ["--steps", "2", "--every", "1", "--like-dropout", "0.5", "--strength", "0.5"]
    assert main(["balance", "--to", "14", "--number", "3", "--accept", *quick, *at, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    run = fitted.run(data["run"])
    assert data["plan"]["goal"] == 14 and len(run.settings["seeds"]) == 3
    assert run.settings["preset"] == "feedback-guided" and run.settings["guidance"]["climb"] == "feedback"
    assert len(run.settings["like"]) == 3 and run.hashes["classifier"] == classifier.hash
    assert any("no image adapter" in note for note in run.result["notes"])
    assert main(["balance", "--to", "12", *at]) == 2
    assert "nothing is missing" in capsys.readouterr().err


def test_what_resembles_a_held_out_image_is_kept_out_of_training(fitted: Workspace) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    from ltg_core.data.records import NewSample

    held = fitted.query(Filter(origin="real", split="test"))[0]
    kept = fitted.query(Filter(origin="real", split="train"))[0]
    ids = fitted.add_images(
        [
            NewSample(
                image=np.asarray(Image.fromarray(pixels).rotate(90 * k)),
                origin="x",
                split="generated",
                label=0,
                label_name="stop",
                source=f"x/{k}",
                meta={"role": "guided", "like": like},
            )
            for k, like in enumerate((held, kept))
        ]
    )
    good, left_out = check(fitted, ids, needs_label=True)
    assert good == [ids[1]] and "held-out split 'test'" in left_out[0][1]
