"""The loop: rounds with a rule to stop by, taken up in the step in which they were stopped."""

from __future__ import annotations

import pytest

from ltg_core import workflows
from ltg_core.cli import main
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import Cancelled, InputError
from ltg_core.jobs import CancelToken, Progress

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
        made = [fitted.count(Filter(origin=id, meta={"role": "guided"})) for id in one["generations"]]
        assert made == [count for count in one["wanted"] if count]
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
    assert "Balanced accuracy on real validation images" in text and "It ended: 1 rounds are done" in text
    assert main(["loop", "--workspace", str(fitted.path), "--resume", "x"]) == 2


def test_what_a_loop_needs_is_said(fitted: Workspace, empty_workspace: Workspace, classifier) -> None:
    with pytest.raises(InputError, match="not of loop"):
        workflows.resume_loop(fitted, fitted.runs("fit-head")[0].id)
    with pytest.raises(InputError, match="choose a generator"):
        workflows.loop(empty_workspace, classifier)
