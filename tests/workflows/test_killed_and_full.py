"""Fitting and importing while the process is killed or the disk is full: nothing is lost, the rest is the same."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ltg_core import workflows
from ltg_core.data.workspace import Workspace
from ltg_core.errors import Cancelled, ModelError, WorkspaceError
from ltg_core.jobs import CancelToken, Progress
from ltg_core.models.fit import ClassifierSettings
from ltg_core.workflows.training import fit_generator, fit_small_classifier

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ClassifierSettings(steps=150, batch_size=8, warmup=1, checkpoint_every=5)

# Each prints a line as soon as its work is under way, and waits to be killed.
_CLASSIFIER = """
import sys, time
from ltg_core.fitting import Trainer
from ltg_core.models.fit import ClassifierSettings
from ltg_core.workflows.training import fit_small_classifier

save = Trainer.save
def told(trainer):
    save(trainer)
    print("under way", flush=True)
    time.sleep(600)
Trainer.save = told
settings = ClassifierSettings(steps=150, batch_size=8, warmup=1, checkpoint_every=5)
fit_small_classifier(sys.argv[1], sys.argv[2], "resnet14_small", settings, side=16, holdout=0.2)
"""
_GENERATOR = """
import sys, time
from ltg_core.fitting import Trainer
from tests.workflows.test_killed_and_full import generator_settings
from ltg_core.workflows.training import fit_generator

save = Trainer.save
def told(trainer):
    save(trainer)
    if "denoiser" in trainer.checkpoint.name and trainer.step < trainer.settings.steps:
        print("under way", flush=True)
        time.sleep(600)
Trainer.save = told
fit_generator(sys.argv[1], sys.argv[2], generator_settings(), side=32, limit=12)
"""
_HEAD = """
import sys, time
from ltg_core import workflows
from ltg_core.data.workspace import Workspace

ws = Workspace(sys.argv[1])
told = lambda step: (print("under way", flush=True), time.sleep(600)) if "epistemic" in step.message else None
settings = workflows.HeadSettings(members=64, hidden=1024, epochs=1000, batch_size=8)
workflows.fit_head(ws, workflows.active_classifier(ws), settings, seed=9, on_progress=told)
"""
_IMPORT = """
import sys, time
from ltg_core import workflows
from ltg_core.data.workspace import Workspace

ws = Workspace(sys.argv[1])
told = lambda step: (print("under way", flush=True), time.sleep(600)) if step.done > 300 else None
workflows.import_data(ws, sys.argv[2], holdout=0.2, group="track", on_progress=told)
"""


def generator_settings():
    """A generator of a few steps a stage."""
    from ltg_core.fitting import FitSettings
    from ltg_core.generators.fit.assemble import GeneratorSettings
    from ltg_core.generators.fit.autoencoder import AutoencoderSettings
    from ltg_core.generators.fit.denoiser import DenoiserSettings
    from ltg_core.generators.fit.textimage import TextSettings

    return GeneratorSettings(
        autoencoder=AutoencoderSettings(steps=1, batch_size=2, width=8, warmup=1),
        tiny=FitSettings(steps=1, batch_size=2, warmup=1),
        text=TextSettings(steps=1, batch_size=4, width=32, layers=1, warmup=1),
        denoiser=DenoiserSettings(steps=4, batch_size=2, width=32, warmup=1, checkpoint_every=2),
    )


def killed(code: str, *arguments: object) -> None:
    """Run a script and end it with SIGKILL once it says that it is under way."""
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # their number decides the last bits
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **threads}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "under way\n"
        assert process.poll() is None, "the work ended before it was killed"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextlib.contextmanager
def no_room(limit: int) -> Iterator[None]:
    """Files above so many bytes cannot be written: the writers of Python, torch and safetensors fail as on a full
    disk.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_killed_classifier_training_goes_on_to_the_same_weights(tiny_world, tmp_path: Path):
    killed(_CLASSIFIER, tiny_world.folder, tmp_path / "net.safetensors")
    assert not (tmp_path / "net.safetensors").exists()
    state = torch.load(tmp_path / "net.work" / "classifier.ckpt", weights_only=True)
    assert 0 < state["step"] < 150 and state["step"] % 5 == 0
    for name in ("net", "whole"):
        out = tmp_path / f"{name}.safetensors"
        fit_small_classifier(tiny_world.folder, out, "resnet14_small", SETTINGS, side=16, holdout=0.2)
    resumed, whole = load_file(tmp_path / "net.safetensors"), load_file(tmp_path / "whole.safetensors")
    assert resumed.keys() == whole.keys() and all(torch.equal(resumed[n], whole[n]) for n in whole)


@pytest.mark.slow
def test_a_killed_generator_training_goes_on_to_the_same_weights(tiny_world, tmp_path: Path):
    killed(_GENERATOR, tiny_world.folder, tmp_path / "net")
    assert not (tmp_path / "net").exists()
    stages: list[str] = []
    for name in ("net", "whole"):
        fit_generator(
            tiny_world.folder,
            tmp_path / name,
            generator_settings(),
            side=32,
            limit=12,
            on_progress=lambda step: stages.append(step.message),
        )
        if name == "net":
            assert not any("autoencoder" in stage for stage in stages), "finished stages are not repeated"
    files = sorted(
        path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.safetensors")
    )
    assert len(files) >= 4
    for file in files:
        assert (tmp_path / "net" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file


def test_a_killed_fit_of_the_head_leaves_the_earlier_one_and_can_be_repeated(fitted: Workspace, classifier):
    file = fitted.path / "arrays" / f"reference-{classifier.hash}.safetensors"
    before = file.read_bytes()
    killed(_HEAD, fitted.path)
    with Workspace(fitted.path) as ws:
        (run,) = ws.interrupted
        assert ws.run(run).kind == "fit-head" and ws.run(run).state == "interrupted"
        assert file.read_bytes() == before and workflows.reference(ws, classifier) is not None
        settings = workflows.HeadSettings(members=4, hidden=8, epochs=3)
        assert workflows.fit_head(ws, classifier, settings).state == "done"
        assert file.read_bytes() == before, "the same settings and seed give the same head"


def test_a_killed_import_keeps_what_it_read_and_is_completed_by_the_same_call(
    empty_workspace: Workspace, tmp_path: Path
):
    import numpy as np
    from PIL import Image

    rng, rows = np.random.default_rng(0), []
    (tmp_path / "set").mkdir()
    for i in range(1200):
        Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(tmp_path / "set" / f"{i}.png")
        rows.append({"path": f"{i}.png", "class_name": "ab"[i % 2], "track": i // 10})
    table = tmp_path / "set" / "list.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    killed(_IMPORT, empty_workspace.path, table)
    with Workspace(empty_workspace.path) as ws:
        (run,) = ws.interrupted
        there = ws.count()
        assert ws.run(run).kind == "import" and 256 <= there < 1200
        assert all(sample.split == "" for sample in ws.samples(ws.query()))
        for one in ws.query():
            assert ws.image(one).size == (4, 4)
        report = workflows.import_data(ws, table, holdout=0.2, group="track")
        assert (report.added, report.present) == (1200 - there, there)
        assert report.splits == {"train": 960, "val": 240}


def test_a_full_disk_ends_a_training_in_words_and_keeps_the_last_checkpoint(tiny_world, tmp_path: Path):
    order = (tiny_world.folder, tmp_path / "net.safetensors", "resnet14_small", SETTINGS)
    token = CancelToken()

    def stop(step: Progress) -> None:
        if "loss" in step.message:
            token.cancel()

    with pytest.raises(Cancelled):
        fit_small_classifier(*order, side=16, on_progress=stop, cancel=token)
    work = tmp_path / "net.work"
    before = (work / "classifier.ckpt").read_bytes()
    with (
        no_room(len(before) // 2),
        pytest.raises(WorkspaceError, match=r"is full.*everything before it is kept"),
    ):
        fit_small_classifier(*order, side=16)
    assert (work / "classifier.ckpt").read_bytes() == before
    assert sorted(path.name for path in work.iterdir()) == ["classifier.ckpt", "data.json"]
    assert not (tmp_path / "net.safetensors").exists()
    (work / "classifier.ckpt").write_bytes(before[: len(before) // 2])
    with pytest.raises(ModelError, match=r"classifier\.ckpt' is damaged; delete it"):
        fit_small_classifier(*order, side=16)


def test_a_full_disk_keeps_the_earlier_head_and_the_earlier_classifier(
    fitted: Workspace, classifier, tiny_classifier_file: Path, tmp_path: Path
):
    file = fitted.path / "arrays" / f"reference-{classifier.hash}.safetensors"
    before = file.read_bytes()
    settings = workflows.HeadSettings(members=64, hidden=512, epochs=1)  # larger than the database
    with no_room(2_000_000), pytest.raises(WorkspaceError, match="is full"):
        workflows.fit_head(fitted, classifier, settings)
    assert fitted.runs("fit-head")[0].state == "failed" and file.read_bytes() == before
    assert workflows.reference(fitted, classifier) is not None
    other = _other(tiny_classifier_file, tmp_path / "other.safetensors")
    with no_room(10_000), pytest.raises(WorkspaceError, match="is full"):
        workflows.use_classifier(fitted, other)
    assert workflows.active_classifier(fitted).hash == classifier.hash
    assert not [path for path in fitted.path.rglob("*") if path.name.startswith(".")], "nothing half-written"


def _other(file: Path, out: Path):
    """The same network with other weights."""
    from ltg_core.models.loaders import load_classifier, save_classifier

    classifier = load_classifier(file)
    with torch.no_grad():
        for parameter in classifier.net.parameters():
            parameter.mul_(1.5)
    save_classifier(classifier, out)
    return load_classifier(out)
