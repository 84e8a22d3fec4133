"""The loop: rounds with a rule to stop by, taken up in the step in which they were stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ltg_core import workflows
from ltg_core.cli import main
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import Cancelled, DatasetError, InputError
from ltg_core.jobs import CancelToken, Progress
from ltg_core.workflows import tasks
from tests.conftest import draw
from tests.workflows.sameness import copies

QUICK = {
    "steps": 2,
    "search": "none",
    "climb": "denoiser-free",
    "band_start": 0.0,
    "band_end": 1.0,
    "every": 1,
}
QUICK |= {"augment": False}
TRAIN = workflows.TrainSettings(epochs=2, batch_size=12, patience=0)
SMALL = workflows.LoopSettings(rounds=3, number=4, patience=1, seeds=1, resamples=100)


GIVEN = {"settings": SMALL.to_dict(), "train": TRAIN.to_dict(), "guidance": QUICK}
BETTER = workflows.TrainSettings(epochs=60, batch_size=12, patience=0, lr=0.03)
ONE = workflows.LoopSettings(rounds=1, number=2, seeds=1, resamples=100)


def beginner(ws: Workspace, classifier: Any) -> Any:
    """The classifier with a last layer that has learned nothing: a round with ``BETTER`` helps it for sure."""
    nothing = workflows.TrainSettings(epochs=1, batch_size=12, patience=0, lr=1e-9, fresh_head=True)
    made = workflows.retrain(ws, classifier, nothing, mix=workflows.MixSettings(synthetic="none"))
    return workflows.arm_of(ws, made.id)[0]


def moved(ws: Workspace, old: str, new: str, leave: int = 0) -> None:
    """Images of one split are of another now, but for the first few."""
    ids = sorted(ws.query(Filter(split=old)))[leave:]
    with ws.database.write() as connection:
        connection.executemany("UPDATE samples SET split = ? WHERE id = ?", [(new, id) for id in ids])


def stopped(ws: Workspace, classifier: Any, settings: Any, when: Callable[[str], bool]) -> str:
    """A loop that was cancelled at the first step whose words are such; its run."""
    token = CancelToken()

    def stop(step: Progress) -> None:
        if when(step.message):
            token.cancel()

    with pytest.raises(Cancelled):
        workflows.loop(ws, classifier, settings, TRAIN, guidance=QUICK, on_progress=stop, cancel=token)
    run = ws.runs("loop")[0]
    assert run.state == "cancelled"
    return run.id


def told(ws: Workspace, run: Any) -> list[Any]:
    """What a loop did, without the names of its runs."""
    found = []
    for one in run.result["rounds"]:
        trained = [seed["classifier"] for seed in ws.run(one["retrain"]).result["seeds"]]
        pictures = [ws.query(Filter(origin=id)) for id in one["generations"]]
        samples = [[(s.label, s.meta["seed"], s.verdict) for s in ws.samples(ids)] for ids in pictures]
        found.append((one["wanted"], one["accepted"], one["change"], one["improved"], trained, samples))
    return [*found, run.result["ended"]]


@pytest.mark.parametrize(
    ("step", "kind"),
    [("round 1 of 2, training: seed 2 of 2: epoch", "retrain"), ("round 2 of 2, comparing", "compare")],
)
def test_a_loop_that_was_stopped_gives_what_one_that_was_not_gives(
    fitted: Workspace, classifier, tmp_path: Path, step: str, kind: str
) -> None:
    twice = workflows.LoopSettings(rounds=2, number=2, seeds=2, resamples=100)
    one, two = copies(fitted, tmp_path)
    with one, two:
        whole = workflows.loop(one, classifier, twice, TRAIN, guidance=QUICK)
        run = stopped(two, classifier, twice, lambda said: said.startswith(step))
        assert two.runs(kind)[0].state == "cancelled"
        state = workflows.loop_state(two, two.run(run))
        assert workflows.step_of(state["rounds"][-1]) == ("training" if kind == "retrain" else "comparing")
        assert told(two, workflows.resume_loop(two, run)) == told(one, whole)
        assert len(two.runs("retrain")) == 2, "the training that was stopped goes on"


def test_progress_is_of_the_whole_loop(fitted: Workspace, classifier, seen: Any) -> None:
    reports, tell = seen
    two = workflows.LoopSettings(rounds=2, number=2, seeds=1, resamples=100)
    workflows.loop(fitted, classifier, two, TRAIN, guidance=QUICK, on_progress=tell)
    shares = [step.done / step.total for step in reports]
    assert shares == sorted(shares) and shares[-1] > 0.9
    said = [step.message for step in reports]
    for number in (1, 2):
        for step in ("images", "training", "comparing"):
            assert any(one.startswith(f"round {number} of 2, {step}") for one in said)


def test_without_a_test_split_there_is_no_last_comparison_and_that_is_said(
    fitted: Workspace, classifier, capsys: pytest.CaptureFixture[str]
) -> None:
    first = beginner(fitted, classifier)
    moved(fitted, "test", "elsewhere")
    assert workflows.plan_loop(fitted, first, ONE, BETTER)["test"] == 0
    words = ["loop", "--workspace", str(fitted.path), "--quiet", "--from", first.hash, "--no-augment"]
    words += ["--rounds", "1", "--number", "2", "--seeds", "1", "--resamples", "100"]
    words += [
        "--train-epochs",
        "60",
        "--train-batch-size",
        "12",
        "--train-patience",
        "0",
        "--train-lr",
        ".03",
    ]
    words += [f"--{name.replace('_', '-')}={value}" for name, value in QUICK.items() if name != "augment"]
    assert main(words) == 0
    said = capsys.readouterr().out
    result = fitted.runs("loop")[0].result
    assert result["best"] and result["compare"] == "" and "no last comparison" in result["notes"][0]
    assert "no last comparison" in said and "looked at once" not in said
    assert [one.result["images"]["split"] for one in fitted.runs("compare")] == ["val"]


def test_the_best_is_compared_with_the_first_on_the_test_split(fitted: Workspace, classifier) -> None:
    first = beginner(fitted, classifier)
    run = workflows.loop(fitted, first, ONE, BETTER, guidance=QUICK)
    last = fitted.run(run.result["compare"])
    assert run.result["best"] and last.result["images"]["split"] == "test" and run.result["notes"] == []
    assert last.settings["base"] == first.hash and last.settings["arms"] == [run.result["best"]]


def test_too_few_validation_images_are_refused_before_anything_is_made(
    fitted: Workspace, classifier, capsys: pytest.CaptureFixture[str]
) -> None:
    moved(fitted, "val", "elsewhere", leave=9)
    for begin in (workflows.loop, workflows.plan_loop):
        with pytest.raises(DatasetError, match="needs 10 of them for an interval; there are only 9"):
            begin(fitted, classifier)
    assert main(["loop", "--workspace", str(fitted.path), "--quiet"]) == 2
    assert "only 9 of them" in capsys.readouterr().err
    moved(fitted, "val", "elsewhere")
    with pytest.raises(DatasetError, match="there are none"):
        workflows.loop(fitted, classifier)
    assert not fitted.runs("loop") and not fitted.runs("generate")


def test_pictures_that_cannot_be_read_do_not_count(fitted: Workspace, classifier) -> None:
    moved(fitted, "val", "elsewhere", leave=9)
    for k in range(5):
        new = fitted.add_image(draw("stop", 9000 + k), origin="real", split="val", label=0)
        fitted.image_path(new).write_bytes(b"no picture")
    assert workflows.plan_loop(fitted, classifier)["validation"] == 14
    with pytest.raises(DatasetError, match="only 9"):
        workflows.loop(fitted, classifier, SMALL, TRAIN, guidance=QUICK)
    assert not fitted.runs("generate")


def test_what_a_loop_would_do_is_said_before(fitted: Workspace, classifier) -> None:
    found = workflows.plan_loop(fitted, classifier, SMALL, TRAIN)
    assert found["images"] == found["twins"] == 12 and found["trainings"] == 3
    assert (found["real"], found["validation"], found["test"]) == (36, 18, 18)
    assert sum(found["first"]) == 4 and found["making"] is None and found["training"] is not None
    alone = workflows.LoopSettings(number=4, preset="unguided")
    assert workflows.plan_loop(fitted, classifier, alone)["twins"] == 0
    workflows.measure_cost(fitted)
    assert workflows.plan_loop(fitted, classifier, SMALL, TRAIN)["making"] > 0


def test_the_tasks_do_the_same_from_plain_values(fitted: Workspace) -> None:
    given: dict[str, Any] = {"on_progress": lambda step: None, "cancel": CancelToken()}
    one = {**GIVEN, "settings": {"rounds": 1, "number": 2, "seeds": 1, "resamples": 100}}
    assert tasks.TASKS["plan_loop"](fitted, **one, **given)["images"] == 2
    done = tasks.TASKS["loop"](fitted, **one, **given)
    assert fitted.run(done["run"]).state == "done" and set(done) == {"run", "best", "compare"}
    with pytest.raises(InputError, match="done"):
        tasks.TASKS["resume_loop"](fitted, run=done["run"], **given)
    for wrong, words in (
        ({"settings": {"rounds": 0}}, "rounds"),
        ({"settings": {"turns": 3}}, "turns"),
        ({"settings": {"preset": "counterfactual"}}, "preset"),
        ({"loss": {"name": "x"}}, "no loss 'x'"),
        ({"loss": {"gamma": 1}}, "no loss ''"),
        ({"guidance": {"candidates": -1}}, "candidates"),
        ({"mix": {"synthetic": "all"}}, "synthetic"),
        ({"classifier": "nothing"}, "no classifier"),
    ):
        with pytest.raises(InputError, match=words):
            tasks.TASKS["loop"](fitted, **{**one, **wrong}, **given)
    assert len(fitted.runs("loop")) == 1


def test_a_loop_stops_when_a_round_helps_no_more_and_goes_on_where_it_was_stopped(
    fitted: Workspace, classifier
) -> None:
    token = CancelToken()

    def stop_while_it_generates(step: Progress) -> None:
        if step.message.startswith("round 1") and fitted.runs("generate"):
            token.cancel()

    with pytest.raises(Cancelled):
        workflows.loop(
            fitted,
            classifier,
            SMALL,
            TRAIN,
            guidance=QUICK,
            on_progress=stop_while_it_generates,
            cancel=token,
        )
    (stopped,) = fitted.runs("loop")
    assert stopped.state == "cancelled" and not fitted.runs("retrain")
    begun = {run.id for run in fitted.runs("generate")}
    run = workflows.resume_loop(fitted, stopped.id)
    assert run.id == stopped.id and run.state == "done"
    rounds = run.result["rounds"]
    assert begun <= set(rounds[0]["generations"]), "what had begun is part of it"
    for one in rounds:
        assert sum(one["wanted"]) == 4
        (made,) = one["generations"]
        guided = [
            fitted.count(Filter(origin=made, label=label, meta={"role": "guided"})) for label in range(3)
        ]
        assert guided == one["wanted"], "all classes in one generation"
        accepted = [fitted.count(Filter(origin=id, verdict="accepted")) for id in one["generations"]]
        assert sum(accepted) == one["accepted"]
        assert fitted.run(one["compare"]).result["images"]["split"] == "val"
        assert one["improved"] == (one["change"]["low"] is not None and one["change"]["low"] > 0)
    assert [one["improved"] for one in rounds] == [True] * (len(rounds) - 1) + [False] or len(rounds) == 3
    assert "no improvement" in run.result["ended"] or "3 rounds" in run.result["ended"]
    assert bool(run.result["best"]) == any(one["improved"] for one in rounds)
    compared = [one.result["images"]["split"] for one in fitted.runs("compare")]
    assert compared.count("test") == (1 if run.result["best"] else 0), (
        "the test split is looked at once at most"
    )
    assert fitted.get_state("classifier")["hash"] == classifier.hash
    with pytest.raises(InputError, match="done"):
        workflows.resume_loop(fitted, run.id)


def test_the_command_says_what_every_round_gave(
    fitted: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "loop",
        "--workspace",
        str(fitted.path),
        "--quiet",
        "--rounds",
        "1",
        "--number",
        "2",
        "--seeds",
        "1",
    ]
    words += ["--resamples", "100", "--train-epochs", "1", "--train-batch-size", "12"]
    words += [f"--{name.replace('_', '-')}={value}" for name, value in QUICK.items() if name != "augment"]
    assert main([*words, "--no-augment"]) == 0
    text = capsys.readouterr().out
    assert "Balanced accuracy on real validation images" in text and "It ended: one round is done" in text
    assert main(["loop", "--workspace", str(fitted.path), "--resume", "x"]) == 2


def test_what_a_loop_needs_is_said(fitted: Workspace, empty_workspace: Workspace, classifier) -> None:
    with pytest.raises(InputError, match="not of loop"):
        workflows.resume_loop(fitted, fitted.runs("fit-head")[0].id)
    with pytest.raises(InputError, match="choose a generator"):
        workflows.loop(empty_workspace, classifier)
