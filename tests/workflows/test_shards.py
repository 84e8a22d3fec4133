"""Work in shards is bit for bit that of one process, in any order, at once and on copies of a workspace."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
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
from ltg_core.errors import Cancelled, InputError, ShardMade
from ltg_core.jobs import CancelToken, Progress
from ltg_core.workers.engine import LOCAL, Shard, There
from ltg_core.workflows import balancing, terming
from ltg_core.workflows.shards import FOLDER, Sharded
from ltg_core.workflows.terming import need_encoder, vectors
from tests.conftest import TinyWorld
from tests.generators.test_extras import make_lora
from tests.generators.tiny_models import model_folder
from tests.workflows.sameness import QUICK, begin, copies, files, rows

__all__ = ["model_folder"]

ROOT = Path(__file__).resolve().parents[2]


class Bomb:
    """An object that does something when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("bombed",)


def shard(ws: Workspace, text: str, told: list[Progress] | None = None) -> Sharded:
    """The workspace's engine from now on."""
    ws.engine = engine = Sharded(
        ws, LOCAL, Shard.read(text), (lambda _: None) if told is None else told.append
    )
    return engine


def waiting(ws: Workspace) -> list[str]:
    """Results that wait for others."""
    return sorted(path.name for path in (ws.path / FOLDER).glob("*"))


@pytest.mark.parametrize("order", [(3, 1, 2), pytest.param((1, 2, 3), marks=pytest.mark.slow)], ids=str)
def test_a_generation_in_shards_is_that_of_one_process(
    fitted: Workspace, tmp_path: Path, order: tuple[int, ...]
) -> None:
    run, told = begin(fitted, 10, unit=2), list[Progress]()
    alone, parted = copies(fitted, tmp_path)
    before = rows(fitted)
    with alone, parted:
        workflows.resume_generate(alone, run)
        for number in order[:-1]:
            shard(parted, f"{number}/3", told)
            with pytest.raises(ShardMade, match=rf"shard {number}/3 is made .* {order[-1]}/3 \([12]\)"):
                workflows.resume_generate(parted, run)
            left = parted.run(run)
            assert left.state == "interrupted" and f"shard {number}/3 is made" in left.reason
            assert rows(parted) == before, "nothing but files until all are there"
        last = shard(parted, f"{order[-1]}/3")
        done = workflows.resume_generate(parted, run)
        assert done.state == "done" and done.result["images"] == 10 and len(waiting(parted)) == 5
        last.clear()
        assert not (parted.path / FOLDER).exists()
        assert rows(alone) == rows(parted)
        for folder in ("images", "thumbs", "arrays", f"runs/{run}"):
            assert files(alone.path / folder) == files(parted.path / folder), folder
        ids = [row["guided"] for row in workflows.triplets(parted, run)]
        for ws in (alone, parted):
            ws.engine = LOCAL
            workflows.export(ws, ids, "imagefolder", tmp_path / f"{ws.path.name}-export", held_out=True)
        assert files(tmp_path / "one-export") == files(tmp_path / "two-export")
        assert [(step.done, step.total) for step in told if step.message == "units of shard 1/3"] == [
            (1, 2),
            (2, 2),
        ]


def test_shards_on_copies_of_a_workspace_speak_of_one_run(fitted: Workspace, tmp_path: Path) -> None:
    """Each begins the generation by itself; the files of one copy are carried to the other."""

    def make(ws: Workspace) -> Any:
        classifier, generator = workflows.active_classifier(ws), workflows.active_generator(ws)
        plan = workflows.plan_classes(classifier, generator, ["stop"], per_class=6)
        return workflows.generate(
            ws, classifier, generator, **dataclasses.asdict(plan), guidance=QUICK, unit=2
        )

    one, two = copies(fitted, tmp_path)
    with one, two:
        names = set()
        for ws, text in ((one, "1/2"), (two, "2/2")):
            shard(ws, text)
            with pytest.raises(ShardMade):
                make(ws)
            names.add(ws.runs("generate")[0].id)
        assert len(names) == 1 and not set(waiting(one)) & set(waiting(two))
        shutil.copytree(two.path / FOLDER, one.path / FOLDER, dirs_exist_ok=True)
        seen: list[Progress] = []
        shard(one, "1/2", seen)
        run = make(one)
        assert run.state == "done" and run.result["images"] == 6 and not seen, "nothing was made again"
        assert one.count(Filter(origin=run.id)) == 12
        assert make(one) == run, "the same order once more is the same run"
        workflows_alone = begin(fitted, 6, unit=2)
        workflows.resume_generate(fitted, workflows_alone)
        pictures = [
            [fitted.sample(row["guided"]).image_hash for row in workflows.triplets(fitted, workflows_alone)],
            [one.sample(row["guided"]).image_hash for row in workflows.triplets(one, run.id)],
        ]
        assert pictures[0] == pictures[1]


def test_shards_speak_of_one_run_wherever_the_files_of_their_generator_are(
    fitted: Workspace, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    folder, order = model_folder("sd 1"), 0
    with torch.random.fork_rng():
        torch.manual_seed(1)
        file = make_lora(diffusers.DiffusionPipeline.from_pretrained(folder), "unet", tmp_path)
    one, two = copies(fitted, tmp_path)
    with one, two:
        names = []
        for ws, text, strength in ((one, "1/2", 0.5), (two, "2/2", 0.5), (two, "2/2", 0.6)):
            order += 1
            place = tmp_path / f"machine {order}"
            place.mkdir()
            lora = (f"{shutil.copy(file, place)}@{strength}",)
            generator = workflows.use_generator(ws, folder, options=workflows.GeneratorOptions(lora=lora))
            classifier = workflows.active_classifier(ws)
            plan = workflows.plan_classes(classifier, generator, ["stop"], per_class=4)
            shard(ws, text)
            with pytest.raises(ShardMade):
                workflows.generate(
                    ws, classifier, generator, **dataclasses.asdict(plan), guidance=QUICK, unit=2
                )
            names.append(ws.runs("generate")[0].id)
        assert names[0] == names[1] != names[2]


def test_a_record_without_places_tells_tiny_decoders_apart_by_their_content(tmp_path: Path) -> None:
    def placeless(folder: str, content: bytes) -> dict[str, Any]:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "tiny.safetensors").write_bytes(content)
        options = workflows.GeneratorOptions(tiny=str(tmp_path / folder / "tiny.safetensors"), chunk=4)
        whole = workflows.GeneratorOptions(tiny=str(tmp_path / folder), chunk=4).placeless()
        return options.placeless() | {"folder": whole["tiny"].split()[1]}

    first = placeless("a", b"weights")
    assert placeless("b", b"weights") == first and first["chunk"] == 4
    other = placeless("b", b"others")
    assert other["tiny"] != first["tiny"] and other["folder"] != first["folder"]
    assert str(tmp_path) not in json.dumps(first)


def test_scores_and_vectors_in_shards_are_those_of_one_process(
    fitted: Workspace, tiny_world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terming, "batch_size_of", lambda preprocess: 16)
    with Workspace(tmp_path / "fresh") as fresh:
        weights = f"models/{workflows.active_classifier(fitted).hash}/classifier.safetensors"
        workflows.use_classifier(fresh, fitted.path / weights)
        workflows.use_generator(fresh, fitted.get_state("generator")["path"])
        workflows.import_data(fresh, tiny_world.folder)
        fresh.image_path(fresh.query()[20]).write_bytes(b"no picture")
        alone, parted = copies(fresh, tmp_path)
    with alone, parted:
        classifier, encoder = workflows.active_classifier(alone), need_encoder(alone)
        whole = workflows.score(alone, classifier, batch_size=16)
        seen, good = vectors(alone, encoder, alone.query())
        for number in (2, 1):
            shard(parted, f"{number}/3")
            with pytest.raises(ShardMade, match="are there"):
                workflows.score(parted, classifier, batch_size=16)
            assert parted.runs("score")[0].state == "interrupted"
        last = shard(parted, "3/3")
        run = workflows.score(parted, classifier, batch_size=16)
        timed = {"seconds": None}
        assert run.result | timed == whole.result | timed
        last.clear()
        shard(parted, "1/2")
        with pytest.raises(ShardMade):
            vectors(parted, encoder, parted.query())
        shard(parted, "2/2")
        got, fine = vectors(parted, encoder, parted.query())
        assert (got.tobytes(), fine.tolist()) == (seen.tobytes(), good.tolist())
        assert rows(alone) == rows(parted)
        assert files(alone.path / "arrays") == files(parted.path / "arrays")


def test_a_shard_that_is_stopped_keeps_its_units_and_goes_on(fitted: Workspace) -> None:
    run, stop = begin(fitted, 8, unit=2), CancelToken()
    engine = Sharded(fitted, LOCAL, Shard(1, 2), lambda step: stop.cancel())
    fitted.engine = engine
    with pytest.raises(Cancelled):
        workflows.resume_generate(fitted, run, cancel=stop)
    assert waiting(fitted) == [f"{run}-00000.pt"] and fitted.run(run).state == "cancelled"
    told: list[Progress] = []
    shard(fitted, "1/2", told)
    with pytest.raises(ShardMade):
        workflows.resume_generate(fitted, run)
    assert len(told) == 1 and waiting(fitted) == [f"{run}-00000.pt", f"{run}-00002.pt"]
    shard(fitted, "1/1", told)  # takes what is there and makes the rest
    assert workflows.resume_generate(fitted, run).result["images"] == 8 and len(told) == 3


@pytest.mark.parametrize("damage", ["cut", "bit", "other", "code"])
def test_a_result_that_cannot_be_read_is_made_again_and_runs_no_code(
    fitted: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.chdir(tmp_path)
    run = begin(fitted, 4, unit=2)
    shard(fitted, "2/2")
    with pytest.raises(ShardMade):
        workflows.resume_generate(fitted, run)
    path = fitted.path / FOLDER / waiting(fitted)[0]
    content = path.read_bytes()
    if damage == "code":
        torch.save(Bomb(), path)
    else:
        half = len(content) // 2
        flipped = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
        path.write_bytes({"cut": content[:half], "bit": flipped, "other": b"nothing of the kind"}[damage])
    shard(fitted, "1/2")
    with pytest.raises(InputError, match=r"was removed .* give shard 2/2 again"):
        workflows.resume_generate(fitted, run)
    assert not (tmp_path / "bombed").exists() and not path.exists()
    shard(fitted, "2/2")
    assert workflows.resume_generate(fitted, run).state == "done"


def test_who_comes_second_leaves_a_finished_run_as_it_is(fitted: Workspace, tmp_path: Path) -> None:
    run = begin(fitted, 4, unit=2)
    shard(fitted, "1/2")
    with pytest.raises(ShardMade):
        workflows.resume_generate(fitted, run)

    def others_finish(step: Progress) -> None:
        """Between the last unit of this shard and the look at what is there, and once it is being put together."""
        with Workspace(fitted.path) as other:
            engine = Sharded(other, LOCAL, Shard(1, 2))
            other.engine = engine
            assert workflows.resume_generate(other, run).state == "done"
            engine.clear()

    fitted.engine = Sharded(fitted, LOCAL, Shard(2, 2), others_finish)
    with pytest.raises(ShardMade):
        workflows.resume_generate(fitted, run)
    assert fitted.run(run).state == "done" and fitted.count(Filter(origin=run)) == 8


def test_work_after_the_last_shard_is_done_whole_and_some_work_has_no_shards(fitted: Workspace) -> None:
    engine = Sharded(fitted, LOCAL, Shard(1, 2))
    named = There[int]("nowhere:nothing", dict, int, "unit-{}".format)
    token = CancelToken()
    assert list(engine.map([], lambda unit: unit, named, token)) == []
    other = Sharded(fitted, LOCAL, Shard(2, 2))
    with pytest.raises(ShardMade) as made:
        list(other.map([5, 6, 7], lambda unit: 2 * unit, named, token))
    assert made.value.record == {"shard": "2/2", "made": 1, "there": 1, "units": 3, "left": {"1/2": 2}}
    assert list(engine.map([5, 6, 7], lambda unit: 2 * unit, named, token)) == [(5, 10), (6, 12), (7, 14)]
    assert list(engine.map([1, 2], lambda unit: -unit, named, token)) == [(1, -1), (2, -2)]
    with pytest.raises(InputError, match="cannot be done in shards"):
        list(other.map([1], lambda unit: unit, There[int]("nowhere:nothing", dict, int), token))


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "2", "a/b", "-1/4", "1/2/3", "", "1.5/2", "1/99999"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"give I/N"):
        Shard.read(text)


def test_commands_say_which_shards_there_are_and_which_have_none(
    fitted: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["score", "--shard", "3/2"])
    assert "there is no shard 3/2; give I/N" in capsys.readouterr().err
    for words, reason in (
        (["map"], "score --shard"),
        (["export"], "one manifest"),
        (["sweep", "x"], "one unit"),
    ):
        with pytest.raises(SystemExit):
            main([*words, "--shard", "1/2"])
        assert reason in " ".join(capsys.readouterr().err.split())
    at = ["--workspace", str(fitted.path), "--json", "--quiet"]
    assert main(["pool", "--text", "x", "--folder", "y", "--shard", "1/2", *at]) == 2
    assert "import it" in capsys.readouterr().err


def test_what_comes_after_the_units_is_done_by_the_last_shard_alone(
    fitted: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted: list[str] = []
    monkeypatch.setattr(balancing, "accept_believed", lambda ws, run: accepted.append(run))
    words = ["balance", "--to", "16", "--accept", "--preset", "unguided", "--steps", "2", "--device", "cpu"]
    words += ["--workspace", str(fitted.path), "--json", "--quiet", "--shard"]
    assert main([*words, "2/2"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"shard": "2/2", "made": 1, "there": 1, "units": 2, "left": {"1/2": 1}}
    assert fitted.count(Filter(origin="generated")) == 0 and not accepted
    assert main([*words, "1/2"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["images"] == 12 and accepted == [said["run"]]
    assert not (fitted.path / FOLDER).exists()


@pytest.mark.slow
def test_two_shards_at_once_on_one_workspace_from_the_command_line(
    fitted: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Processes that do not know of each other: exactly one generation comes of it, as one process makes it."""
    alone, parted = copies(fitted, tmp_path)

    def words(ws: Workspace, *more: str) -> list[str]:
        cheap = [
            "--class",
            "stop",
            "--number",
            "32",
            "--preset",
            "unguided",
            "--steps",
            "2",
            "--device",
            "cpu",
        ]
        return ["generate", *cheap, "--workspace", str(ws.path), "--json", "--quiet", *more]

    def pictures(ws: Workspace, run: str) -> list[tuple[int, str]]:
        return [(row["seed"], ws.sample(row["guided"]).image_hash) for row in workflows.triplets(ws, run)]

    env = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    line = [sys.executable, "-W", "ignore", "-m", "ltg_core"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with alone, parted:
        started = [
            subprocess.Popen([*line, *words(parted, "--shard", text)], cwd=ROOT, env=env, **pipes)
            for text in ("2/2", "1/2")
        ]
        said = [one.communicate(timeout=280) for one in started]
        assert [one.returncode for one in started] == [0, 0], said
        answers = [json.loads(out) for out, _ in said]
        (run,) = parted.runs("generate")
        assert run.state == "done" and any(answer.get("run") == run.id for answer in answers), answers
        assert main(words(parted, "--shard", "2/2")) == 0
        assert json.loads(capsys.readouterr().out)["run"] == run.id and not waiting(parted)
        assert main(words(alone)) == 0
        whole = json.loads(capsys.readouterr().out)["run"]
        assert pictures(alone, whole) == pictures(parted, run.id) and len(pictures(alone, whole)) == 32
