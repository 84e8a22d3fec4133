"""retrain and compare from a shell: JSON, text, regressions first, a Ctrl-C that loses nothing."""

from __future__ import annotations

import json
import os
import signal
import threading

import pytest

from ltg_core.cli import main
from ltg_core.data.workspace import Workspace

CHEAP = ("--epochs", "2", "--batch-size", "12", "--lr", "0.02", "--patience", "0")


def say(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    status = main([*(str(word) for word in words), "--json", "--quiet"])
    out, err = capsys.readouterr()
    assert status == 0, err
    return json.loads(out)


def test_from_a_retraining_to_a_comparison_and_a_new_classifier_in_use(
    fitted: Workspace, classifier, capsys: pytest.CaptureFixture[str]
):
    at = ("--workspace", fitted.path, "--device", "cpu")
    made = say(
        capsys, "retrain", "--loss", "ldam", "--ldam-margin", "1", "--sampler", "square-root", "--seeds", 0, 1,
        *CHEAP, *at,
    )  # fmt: skip
    run = fitted.run(made["run"])
    assert run.settings["loss"] == {"name": "ldam", "margin": 1.0, "scale": 1.0, "defer": 0.8, "beta": 0.9999}
    assert run.settings["train"]["epochs"] == 2 and len(made["seeds"]) == 2 and not made["used"]
    compared = say(capsys, "compare", made["run"], "--rounds", 100, *at)
    assert next(iter(compared)) == "regressions" and compared["base"]["classifiers"] == [classifier.hash]
    assert compared["arms"][0]["classifiers"] == [one["classifier"] for one in made["seeds"]]
    assert main(["compare", made["run"], "--rounds", "100", *map(str, at)]) == 0
    text = capsys.readouterr().out
    assert text.index("became worse") < text.index("all in all") < text.rindex("balanced accuracy")
    assert main(["retrain", "--free", "logit-adjustment", "--tau", "1", "--use", *map(str, at)]) == 0
    text = capsys.readouterr().out
    assert "strength 1; nothing was trained" in text and "fit its head" in text
    assert fitted.get_state("classifier")["hash"] != classifier.hash


def test_errors_are_one_line(fitted: Workspace, capsys: pytest.CaptureFixture[str]):
    at = ["--workspace", str(fitted.path)]
    for words, expected in (
        (["retrain", "--loss", "group-dro"], "--column"),
        (["retrain", "--from", "feedbeef"], "no classifier of this workspace is called 'feedbeef'"),
        (["retrain", "--resume", "x"], "no run 'x'"),
        (["retrain", "--run", "x"], "no run 'x'"),
        (["compare", "--no-free"], "nothing to compare"),
        (["compare", "--split", "night"], "none in night"),
    ):
        assert main(words + at) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and expected in err


def test_ctrl_c_keeps_the_checkpoint_and_says_how_to_go_on(
    fitted: Workspace, capsys: pytest.CaptureFixture[str]
):
    ended = threading.Event()

    def press() -> None:
        while not ended.wait(0.02):
            if list(fitted.path.glob("runs/retrain-*/seed-0.ckpt")):
                os.kill(os.getpid(), signal.SIGINT)
                return

    words = [
        "retrain",
        "--epochs",
        "9000",
        "--batch-size",
        "12",
        "--patience",
        "0",
        "--checkpoint-every",
        "5",
    ]
    finger = threading.Thread(target=press)
    finger.start()
    try:
        assert main([*words, "--workspace", str(fitted.path)]) == 130
    finally:
        ended.set()
        finger.join()
    out, err = capsys.readouterr()
    (run,) = fitted.runs("retrain")
    assert run.state == "cancelled" and f"--resume {run.id}" in err and out == ""
