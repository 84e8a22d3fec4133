"""The command line: every workflow, text and JSON, one clear line for an error, and a Ctrl-C that loses
nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ltg_core.cli import COMMANDS, build_parser, main
from ltg_core.cli.console import table
from ltg_core.cli.flags import add_params, given_params, params_from
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.guidance.settings import PRESETS, Guidance
from ltg_core.models.preprocess import Preprocess
from ltg_core.params import specs

CHEAP = ("--steps", "2", "--preset", "unguided")


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]):
    """Run a command that must succeed; returns its JSON."""

    def run(*words: str | Path) -> Any:
        status = main([*(str(word) for word in words), "--json", "--quiet"])
        out, err = capsys.readouterr()
        assert status == 0, err
        return json.loads(out)

    return run


@pytest.fixture
def fail(capsys: pytest.CaptureFixture[str]):
    """Run a command that must fail in words; returns its one line."""

    def run(*words: str | Path) -> str:
        assert main([str(word) for word in words]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and "Traceback" not in err
        return err

    return run


def test_help_is_quick_because_nothing_heavy_is_imported():
    code = (
        "import sys\nfrom ltg_core.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch', 'numpy', 'diffusers', 'gradio', 'app', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        assert command.name in done.stdout


def test_a_worker_starts_without_the_libraries_that_only_drawing_needs():
    code = (
        "import sys, ltg_core.workflows.tasks\n"
        "print(sorted({'diffusers', 'transformers', 'torchvision', 'timm', 'captum', 'accelerate'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0 and command in capsys.readouterr().out


def test_every_setting_of_guidance_is_a_flag_and_changes_only_itself():
    parser = build_parser()
    help_text = parser.parse_args(["generate"])
    assert params_from(help_text, Guidance, PRESETS["explore"]) == PRESETS["explore"]
    for spec in specs(Guidance):
        flag = "--" + spec.name.replace("_", "-")
        if spec.kind is bool:
            words, value = [("--no-" + flag[2:]) if spec.default else flag], not spec.default
        else:
            value = next((c for c in spec.choices if c != spec.default), spec.default)
            words = [flag, str(value)]
        args = parser.parse_args(["generate", *words])
        assert given_params(args, Guidance) == {spec.name: value}


def test_flags_of_numbers_in_a_list_become_tuples():
    parser = argparse.ArgumentParser()
    add_params(parser, Preprocess)
    args = parser.parse_args(["--mean", "0.5,0.4,0.3", "--resize", "squash"])
    made = params_from(args, Preprocess, Preprocess(height=32, width=32))
    assert (made.mean, made.resize, made.height) == ((0.5, 0.4, 0.3), "squash", 32)


def test_from_a_folder_and_a_weight_file_to_an_export(
    tiny_world, tiny_classifier_file: Path, tiny_generator: Path, tmp_path: Path, say
):
    at = ("--workspace", tmp_path / "ws")
    assert say("import", tiny_world.folder, *at)["added"] == 72
    used = say("use", "--classifier", tiny_classifier_file, "--generator", tiny_generator, *at)
    assert used["mapping"]["matched"] == {"stop": 24, "yield": 24, "parking": 24}
    assert used["generator"]["size"] == 32
    assert say("score", *at)["computed"] == 72
    fitted = say("fit-head", "--members", "4", "--hidden", "8", "--epochs", "2", *at)
    assert fitted["fitted_on"] == 36 and fitted["held_out"] == 18
    checked = say("check", "--split", "test", *at)
    assert checked["n"] == 18 and len(checked["confusion"]) == 3 and checked["discovery"]
    ranked = say("rank", "--split", "train", "--top", "5", *at)
    values = [row["value"] for row in ranked]
    assert len(values) == 5 and values == sorted(values, reverse=True) and Path(ranked[0]["path"]).is_file()
    made = say("generate", "--class", "stop", "--number", "2", *CHEAP, *at)
    assert made["images"] == 2 and all(Path(row["path"]).is_file() for row in made["images_made"])
    swept = say("sweep", made["images_made"][0]["guided"], "--weights", "0", "2", *at)
    assert [row["weight"] for row in swept["images_made"]] == [0.0, 2.0]
    asked = ("--method", "saliency", "--target", "signal:epistemic", "--out", tmp_path / "heat")
    maps = say("explain", ranked[0]["id"], *asked, *at)
    assert maps[0]["target"] == "signal epistemic" and Path(maps[0]["path"]).is_file()
    assert say("curate", "--accept", *[row["id"] for row in ranked], *at)["samples"] == 5
    assert say("curate", "--undo", *at)["done"] and say("curate", "--redo", *at)["done"]
    assert say("curate", "--reject", "--run", made["run"], *at)["samples"] == 2
    exported = say("export", "--out", tmp_path / "set", "--zip", *at)
    assert exported["samples"] == 5 and (tmp_path / "set.zip").is_file()
    kinds = {run["kind"] for run in say("runs", *at)}
    assert kinds == {"import", "score", "fit-head", "generate", "explain", "export"}
    assert say("runs", made["run"], *at)["settings"]["guidance"]["steps"] == 2


def test_images_are_held_out_by_a_column_from_the_command_line(tiny_world, tmp_path: Path, say, fail):
    rows = [
        {"path": str(file.relative_to(tiny_world.folder)), "class_name": file.parent.name, "film": i // 3}
        for i, file in enumerate(sorted(tiny_world.folder.glob("train/*/*.png")))
    ]
    table = tmp_path / "copy" / "list.jsonl"
    shutil.copytree(tiny_world.folder, table.parent)
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    at = ("--workspace", tmp_path / "ws")
    assert "'film'" in fail("import", table, "--holdout", "0.25", "--group", "movie", *at)
    assert "cannot hold out" in fail("import", table, "--holdout", "0.5,0.5", *at)
    done = say("import", table, "--holdout", "0.25", "--group", "film", *at)
    assert done["splits"] == {"train": 27, "val": 9} and "12 values of 'film'" in done["held_out"]
    counted = say("coverage", "--column", "film", "--number", "100", *at)
    assert counted["column"] == "film" and sum(cell["real"] for cell in counted["cells"]) == 36
    assert "film" in fail("coverage", "--column", "movie", *at)
    with pytest.raises(SystemExit):
        main(["import", str(table), "--holdout", "much"])


def test_without_a_held_out_split_check_says_what_is_missing(
    tiny_world, tiny_classifier_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    at = ["--workspace", str(tmp_path / "ws")]
    for words in (
        ["import", str(tiny_world.folder / "test")],
        ["use", "--classifier", str(tiny_classifier_file)],
    ):
        assert main([*words, *at]) == 0
    assert main(["score", *at]) == 0 and main(["check", *at]) == 0
    assert "Not measured, which signal finds the errors" in capsys.readouterr().out


def test_text_is_for_people(fitted: Workspace, capsys: pytest.CaptureFixture[str]):
    at = ["--workspace", str(fitted.path)]
    for words, expected in (
        (["check", "--confusion"], "AUROC"),
        (["rank", "--top", "2", "--signal", "entropy"], "percentile"),
        (["runs"], "fit-head"),
        (["score"], "72 samples"),
    ):
        assert main(words + at) == 0
        assert expected in capsys.readouterr().out
    assert table([["a", "1"], ["bb", "10"]], ["name", "n"]).splitlines() == [
        "name   n",
        "a      1",
        "bb    10",
    ]


def test_errors_are_one_line_and_status_2(fitted: Workspace, tmp_path: Path, fail):
    at = ("--workspace", fitted.path)
    (tmp_path / "empty").mkdir()
    assert "no workspace" in fail("score", "--workspace", tmp_path / "nowhere")
    assert "empty" in fail("import", tmp_path / "empty", *at)
    assert "no class 'bus'" in fail("generate", "--class", "bus", *at)
    assert "no scores of 'luck'" in fail("rank", "--signal", "luck", *at)
    assert "largest value is 1000" in fail("generate", "--steps", "5000", *at)
    assert "which samples?" in fail("explain", *at)
    assert "give --classifier" in fail("use", *at)
    assert "no sample is accepted" in fail("export", *at)
    assert "no run 'x'" in fail("runs", "x", *at)
    weights = tmp_path / "weights.safetensors"
    shutil.copy(next((fitted.path / "models").glob("*/classifier.safetensors")), weights)
    assert "2 labels" in fail(
        "use", "--classifier", weights, "--arch", "resnet14_small", "--labels", "a,b", *at
    )


def test_wrong_use_is_status_2(capsys: pytest.CaptureFixture[str]):
    for words in ([], ["nonsense"], ["score", "--nonsense"], ["generate", "--steps", "many"]):
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_class_names_come_from_a_list_or_a_file(tiny_classifier_file: Path, tmp_path: Path, say, classifier):
    weights = tmp_path / "weights.safetensors"
    shutil.copy(tiny_classifier_file, weights)
    (tmp_path / "names.txt").write_text("stop\nyield\nparking\n", encoding="utf-8")
    (tmp_path / "names.json").write_text('["stop", "yield", "parking"]', encoding="utf-8")
    for names in ("stop,yield,parking", tmp_path / "names.txt", tmp_path / "names.json"):
        card = ("--arch", "resnet14_small", "--labels", names, "--height", "32", "--width", "32")
        used = say("use", "--classifier", weights, *card, "--workspace", tmp_path / "ws")
        assert used["classifier"]["labels"] == ["stop", "yield", "parking"]
        assert used["classifier"]["preprocess"]["height"] == 32


@pytest.mark.parametrize("how", (signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)))
def test_ctrl_c_and_sigterm_stop_at_the_next_step_keep_the_images_and_say_how_to_go_on(
    fitted: Workspace, how: signal.Signals
):
    words = ["generate", "--class", "stop", "--number", "2000", *CHEAP, "--workspace", str(fitted.path)]
    command = [sys.executable, "-W", "ignore", "-m", "ltg_core", *words]
    root = Path(__file__).resolve().parents[1]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        while not fitted.count(Filter(origin="generated")):
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            signal.sigtimedwait([], 0.05)
        os.kill(process.pid, how)
        out, err = process.communicate(timeout=280)
    finally:
        process.kill()
    assert process.returncode == 130 and out == "" and "Traceback" not in err
    (run,) = fitted.runs("generate")
    made = run.result["images"]
    assert run.state == "cancelled" and made >= 8 and f"{made:,}".replace(",", "") in err
    assert f"--resume {run.id}" in err
    assert len(fitted.query(Filter(origin=run.id))) == made


def test_with_ltg_log_json_everything_on_stderr_is_one_object_a_line(tmp_path: Path, tiny_world: Any):
    def run(*words: str) -> list[dict[str, str]]:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "ltg_core", *words, "--workspace", str(tmp_path / "ws")],
            cwd=Path(__file__).resolve().parents[1],
            env={**os.environ, "LTG_LOG": "json"},
            capture_output=True,
            text=True,
            check=False,
        )
        return [json.loads(line) for line in done.stderr.splitlines()]

    assert all(one["process"] == "command" for one in run("import", str(tiny_world.folder)))
    (error,) = [one for one in run("score") if one["level"] == "error"]
    assert (
        error["message"].startswith("error: no classifier yet") and error["logger"] == "ltg_core.cli.console"
    )
