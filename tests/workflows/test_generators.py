"""Generators of other families, and with things loaded onto them, in a workspace and on the command line."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from ltg_core import workflows
from ltg_core.cli import main
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import Cancelled, InputError, ModelError
from ltg_core.export.provenance import records
from ltg_core.guidance.settings import Guidance
from ltg_core.jobs import CancelToken
from tests.generators.test_extras import make_image_adapter, make_lora
from tests.generators.tiny_models import model_folder

__all__ = ["model_folder"]

ModelFolder = Callable[[str], Path]
PLAIN = Guidance(steps=2, search="none", climb="none")


def make(ws: Workspace, number: int = 1, **options: Any) -> Any:
    classifier, generator = workflows.active_classifier(ws), workflows.active_generator(ws)
    plan = workflows.plan_classes(classifier, generator, ["stop"], per_class=number)
    return workflows.generate(
        ws, classifier, generator, **dataclasses.asdict(plan), guidance=PLAIN, **options
    )


def test_what_is_loaded_onto_a_generator_is_remembered_recorded_and_needed_for_a_resume(
    fitted: Workspace, model_folder: ModelFolder, tmp_path: Path
) -> None:
    folder = model_folder("sd 1")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        file = make_lora(diffusers.DiffusionPipeline.from_pretrained(folder), "unet", tmp_path)
    options = workflows.GeneratorOptions(lora=(f"{file}@0.5",))
    generator = workflows.use_generator(fitted, folder, options=options)
    assert workflows.active_generator(fitted).hash == generator.hash
    token = CancelToken()
    with pytest.raises(Cancelled):
        make(fitted, on_progress=lambda step: token.cancel(), cancel=token)
    run = fitted.runs("generate")[0]
    assert run.hashes["generator"] == generator.hash
    assert run.settings["generator_options"] == {"lora": [f"{file.resolve()}@0.5"]}
    done = workflows.resume_generate(fitted, run.id)
    assert done.result["images"] == 1
    made = fitted.samples(fitted.query(Filter(origin=run.id)))
    text = json.dumps(records(fitted, made, {}))
    assert "style.safetensors@0.5" in text and str(tmp_path) not in text
    file.unlink()
    with pytest.raises(ModelError, match="there is no file"):
        workflows.use_generator(fitted, folder, options=workflows.GeneratorOptions(lora=(f"{file}@0.6",)))


def test_a_class_conditional_generator_is_asked_by_the_classs_name(
    fitted: Workspace, model_folder: ModelFolder
) -> None:
    workflows.use_generator(fitted, model_folder("dit"))
    assert workflows.plain_prompt(fitted, "stop") == "stop"
    names = fitted.label_names()
    asked = workflows.prompt_for_cell(fitted, names, names.index("stop"), "time", "night")
    assert asked == "stop", "it knows no conditions"
    run = make(fitted, 2)
    assert run.result["images"] == 2 and run.settings["prompts"] == ["stop", "stop"]
    workflows.use_generator(fitted, model_folder("pixels, classes"))
    before = len(fitted.runs("generate"))
    with pytest.raises(InputError, match="no class 'stop'"):
        make(fitted)
    assert len(fitted.runs("generate")) == before


def test_an_unconditional_generator_needs_no_words(fitted: Workspace, model_folder: ModelFolder) -> None:
    workflows.use_generator(fitted, model_folder("pixels"))
    assert make(fitted).settings["prompts"] == [""]
    with pytest.raises(InputError, match="unconditional"):
        make(fitted, negative="fog")


def test_images_resemble_real_ones_of_their_class(
    fitted: Workspace, model_folder: ModelFolder, tmp_path: Path
) -> None:
    folder = model_folder("sd 1")
    make_image_adapter(diffusers.UNet2DConditionModel.from_pretrained(folder / "unet"), tmp_path)
    classifier = workflows.active_classifier(fitted)
    plain = workflows.use_generator(fitted, folder)
    plan = workflows.plan_classes(classifier, plain, ["stop", "yield"], per_class=2)
    like = workflows.plan_likeness(fitted, classifier, plan)
    assert [fitted.sample(sample).label_name for sample in like] == ["stop", "stop", "yield", "yield"]
    assert like == workflows.plan_likeness(fitted, classifier, plan)
    again = workflows.plan_classes(classifier, plain, ["yield"], per_class=2, seed=2)
    assert like[2:] == workflows.plan_likeness(fitted, classifier, again)  # the draw is the seed's own
    announced = make(fitted, 2, like=like[:2]).result["notes"]
    assert len(announced) == 1 and "no image adapter" in announced[0] and "start from them" in announced[0]
    workflows.use_generator(fitted, folder, options=workflows.GeneratorOptions(image_adapter=str(tmp_path)))
    run = make(fitted, 2, like=like[:2])
    made = fitted.samples(fitted.query(Filter(origin=run.id)))
    assert [sample.meta["like"] for sample in sorted(made, key=lambda s: s.meta["index"])] == like[:2]
    with pytest.raises(InputError, match="no real sample of 'stop'"):
        workflows.plan_likeness(fitted, classifier, plan, split="nowhere")


def test_the_command_line_says_what_a_generator_is_and_needs(
    fitted: Workspace, model_folder: ModelFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ["--workspace", str(fitted.path)]
    assert main(["use", "--generator", str(model_folder("flux schnell")), "--chunk", "1", *at]) == 0
    assert workflows.suggested_settings(fitted) == {"steps": 4, "cfg": 1.0}
    out = capsys.readouterr().out
    assert "asked by text" in out and "Memory: about" in out and "made for steps 4, cfg 1" in out
    status = main(
        ["generate", "--class", "stop", "--number", "1", "--preset", "unguided", "--json", "--quiet", *at]
    )
    assert status == 0, capsys.readouterr().err
    run = fitted.runs("generate")[0]
    assert run.settings["guidance"]["steps"] == 4 and run.settings["guidance"]["cfg"] == 1.0
    assert run.settings["chunk"] == 1


def test_names_are_not_fetched_unless_asked_for_and_not_without_a_network(
    fitted: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    at = ["--workspace", str(fitted.path)]
    assert main(["use", "--generator", "owner/model", *at]) == 2
    assert "not on this machine" in capsys.readouterr().err
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(["use", "--generator", "owner/model", "--download", *at]) == 2
    assert "switched off" in capsys.readouterr().err
    assert main(["use", "--generator", "model", "--download", *at]) == 2
    assert "owner/name" in capsys.readouterr().err
