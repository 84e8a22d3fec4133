"""Work on a real Ray of two processes: bit for bit what one process does, whoever is killed, and nothing is left."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ltg_core import workflows
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import Cancelled, InputError, ModelError, WorkerLost
from ltg_core.jobs import CancelToken, Progress
from ltg_core.workers import Worker
from ltg_core.workers.engine import EngineSettings, There
from ltg_core.workers.on_ray import Ray
from ltg_core.workers.ray_driver import TRIES
from ltg_core.workflows.terming import need_encoder, vectors
from tests.conftest import TinyWorld
from tests.workflows.sameness import begin, copies, files, rows

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None,
        reason="Ray is not installed: pip install -r requirements-ray.txt",
    ),
    pytest.mark.timeout(600),
]
ROOT = Path(__file__).resolve().parents[2]
MARK = "LTG_TEST_OF_RAY"
"""A variable that every process of Ray inherits from the one that started it."""


def marked(value: str) -> dict[int, str]:
    """Processes that carry the mark, with what they are."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={value}".encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # gone, or not ours
            continue
    return found


def wait_until(true: Callable[[], Any], seconds: float = 60.0) -> bool:
    """Whether it came true in time."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


@pytest.fixture(scope="module")
def ray() -> Iterator[Ray]:
    """Two workers on this machine, each with as many threads as this process."""
    os.environ[MARK] = "module"
    engine = EngineSettings("ray", workers=2, device="cpu").open()
    assert isinstance(engine, Ray)
    yield engine
    engine.close()
    del os.environ[MARK]
    assert wait_until(lambda: set(marked("module")) <= {os.getpid()}), marked("module")


@pytest.mark.slow
def test_a_generation_is_that_of_one_process_although_workers_are_killed_in_the_middle(
    fitted: Workspace, ray: Ray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, told, killed = begin(fitted, 12, unit=2), list[Progress](), list[str]()
    alone, by_ray, gate = *copies(fitted, tmp_path), tmp_path / "gate"

    def held(units: Any, here: Any, there: There[Any], cancel: CancelToken) -> Any:
        if there.make != "ltg_core.workflows.making:maker":
            return unheld(units, here, there, cancel)
        options = lambda: {**there.options(), "gate": str(gate)}  # noqa: E731
        behind = dataclasses.replace(there, make="tests.workflows.ray_desk:held", options=options)
        return unheld(units, here, behind, cancel)

    def kill(step: Progress) -> None:
        told.append(step)
        if step.done and not killed:
            killed.extend(ray.processes)
            for name in killed:  # they wait at the gate, however late this is
                os.kill(int(name.rpartition(":")[2]), signal.SIGKILL)
            gate.touch()

    unheld = ray.map
    monkeypatch.setattr(ray, "map", held)

    with alone, by_ray:
        workflows.resume_generate(alone, run)
        by_ray.engine = ray
        done = workflows.resume_generate(by_ray, run, on_progress=kill)
        assert done.state == "done" and done.result["images"] == 12
        assert killed and not ray.processes <= set(killed)
        assert rows(alone) == rows(by_ray)
        for folder in ("images", "thumbs", "arrays", f"runs/{run}"):
            assert files(alone.path / folder) == files(by_ray.path / folder), folder
        assert [step.done for step in told if step.total == 6] == list(range(7))
        assert "by 2 workers" in told[-1].message and "11 to 12 of 12" in told[-1].message
        assert told[-1].preview.shape == (2, 32, 32, 3)
        ids = [row["guided"] for row in workflows.triplets(alone, run)]
        for ws in (alone, by_ray):
            workflows.export(ws, ids, "imagefolder", tmp_path / f"{ws.path.name}-export", held_out=True)
        assert files(tmp_path / "one-export") == files(tmp_path / "two-export")
        assert (tmp_path / "two-export" / "manifest.jsonl").read_bytes().count(b"\n") == 12


def test_workers_are_counted_in_words() -> None:
    engine = EngineSettings("ray", workers=2).open()
    assert isinstance(engine, Ray) and engine.words == "Ray's workers"
    engine._size, engine._seen = 2, {"a:1", "a:2"}
    assert engine.words == "2 workers"
    engine._seen |= {"a:3"}  # so one of the first two is gone
    assert engine.words == "2 workers, 1 lost and replaced"


@pytest.mark.slow
def test_scores_features_and_vectors_are_those_of_one_process_and_unreadable_images_are_told(
    fitted: Workspace, tiny_world: TinyWorld, ray: Ray, tmp_path: Path
) -> None:
    with Workspace(tmp_path / "fresh") as fresh:
        workflows.use_classifier(
            fresh, fitted.path / f"models/{workflows.active_classifier(fitted).hash}/classifier.safetensors"
        )
        workflows.use_generator(fresh, fitted.get_state("generator")["path"])
        workflows.import_data(fresh, tiny_world.folder)
        fresh.image_path(fresh.query()[20]).write_bytes(b"no picture")
        alone, by_ray = copies(fresh, tmp_path)
    results, told = [], list[Progress]()
    with alone, by_ray:
        by_ray.engine = ray
        for ws in (alone, by_ray):
            classifier, encoder = workflows.active_classifier(ws), need_encoder(ws)
            run = workflows.score(ws, classifier, batch_size=16, on_progress=told.append)
            seen, good = vectors(ws, encoder, ws.query())
            skipped = [(id, why) for id, why in run.result["first_skipped"]]
            results.append((seen.tobytes(), good.tolist(), skipped, run.result["computed"]))
        assert results[0] == results[1] and results[0][3] == 71 and len(results[0][2]) == 1
        assert rows(alone) == rows(by_ray)
        assert files(alone.path / "arrays") == files(by_ray.path / "arrays")
    assert any("scoring images by 2 workers" in step.message for step in told)


@pytest.mark.slow
def test_errors_come_back_as_they_are_and_a_unit_that_ends_every_process_is_given_up(
    fitted: Workspace, ray: Ray
) -> None:
    here, never = CancelToken(), {"path": "nowhere", "model_hash": "0"}
    lost = There[list[Any]](
        "ltg_core.workflows.computing:classifier_there", lambda: {"classifier": never, "batch": 1}, list
    )
    with pytest.raises(InputError, match="vanished"):
        list(ray.map([[]], lambda unit: None, lost, here))
    killer = There[int]("tests.workflows.ray_desk:deadly", dict, int)
    with pytest.raises(WorkerLost, match=f"ended {TRIES} processes"):
        list(ray.map([1, 2], lambda unit: None, killer, here))
    run = begin(fitted, 2)
    fitted.engine = ray
    with fitted.database.write() as connection:
        connection.execute(
            "UPDATE runs SET hashes = json_set(hashes, '$.generator', 'other') WHERE id = ?", (run,)
        )
    with pytest.raises(ModelError, match="changed"):
        workflows.resume_generate(fitted, run)


@pytest.mark.slow
def test_stopping_ends_the_wait_at_once_and_the_next_work_begins(ray: Ray) -> None:
    slow, token = There[int]("tests.workflows.ray_desk:slow", lambda: {"seconds": 1.0}, int), CancelToken()
    seen = []
    with pytest.raises(Cancelled):
        for unit, twice in ray.map(range(100), lambda unit: 0, slow, token):
            seen.append((unit, twice))
            token.cancel()
    assert seen == [(0, 0)]
    quick = There[int]("tests.workflows.ray_desk:slow", lambda: {"seconds": 0.0}, int)
    assert list(ray.map(range(5), lambda unit: 0, quick, CancelToken())) == [(i, 2 * i) for i in range(5)]
    assert list(ray.map([], lambda unit: 0, quick, CancelToken())) == []


def addresses(pids: set[int]) -> Iterator[tuple[str, str]]:
    """Local and remote address of every TCP socket of these processes, as the kernel writes them."""
    held = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                held.add(os.readlink(link))
            except OSError:
                continue
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            part = line.split()
            if f"socket:[{part[9]}]" in held:
                yield part[1].rpartition(":")[0], part[2].rpartition(":")[0]


def test_ray_listens_to_this_machine_alone_and_speaks_to_nobody_else(ray: Ray) -> None:
    quick = There[int]("tests.workflows.ray_desk:slow", lambda: {"seconds": 0.0}, int)
    list(ray.map([1], lambda unit: 0, quick, CancelToken()))
    others = set(marked("module")) - {os.getpid()}
    found = set(addresses(others))
    own = {"0100007F", "0" * 16 + "FFFF00000100007F", "0" * 24 + "01000000"}
    assert len(others) > 2 and found, "nothing was looked at"
    for local, remote in found:
        assert local in own, f"{local} can be reached from elsewhere"
        assert remote in own | {"0" * 8, "0" * 32}, f"something speaks to {remote}"
    assert not (Path.home() / ".ray" / "auth_token").exists() or os.environ.get("RAY_AUTH_TOKEN")


def command(ws: Workspace, mark: str, *words: str) -> subprocess.Popen[str]:
    """A command of the command line with Ray, which says its steps."""
    env = {
        **os.environ,
        MARK: mark,
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
        "PYTHONWARNINGS": "ignore",
    }
    line = [sys.executable, "-m", "ltg_core", *words, "--workspace", str(ws.path), "--device", "cpu"]
    line += ["--engine", "ray", "--ray-workers", "2"]
    return subprocess.Popen(
        line, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_a_command_that_is_ended_leaves_no_process_and_what_was_finished(
    fitted: Workspace, tmp_path: Path, number: signal.Signals
) -> None:
    run = begin(fitted, 400, unit=1)
    fitted.close()
    mark = f"command-{number}-{os.getpid()}"
    made = command(fitted, mark, "generate", "--resume", run)
    with Workspace(fitted.path) as ws:
        assert wait_until(lambda: made.poll() is not None or ws.count(Filter(origin=run)) >= 4, 300)
        assert made.poll() is None, made.communicate()
        assert len(marked(mark)) > 3
        made.send_signal(number)
        said = made.communicate(timeout=280)
        assert wait_until(lambda: not marked(mark)), marked(mark)
        assert made.returncode == (130 if number == signal.SIGINT else -number), said
        if number == signal.SIGINT:
            assert f"--resume {run}" in said[1] and "are kept" in said[1]
        there = {one.id: one for one in ws.samples(ws.query(Filter(origin=run)))}
        guided = [one for one in there.values() if one.meta["role"] == "guided"]
        # Controls are written first: a kill between the two leaves one, of which the next start makes the image.
        assert guided and all(one.meta["control"] in there for one in guided), "an image without its control"


@pytest.mark.slow
def test_the_workers_of_a_page_use_what_the_operator_chose(fitted: Workspace, tmp_path: Path) -> None:
    run = begin(fitted, 4, unit=2)
    alone, by_ray = copies(fitted, tmp_path)
    with alone, by_ray:
        workflows.resume_generate(alone, run)
        chosen = dataclasses.asdict(EngineSettings("ray", workers=2, device="cpu"))
        threads = {"OMP_NUM_THREADS": str(torch.get_num_threads()), MARK: "page"}
        page = Worker("ltg_core.workflows.tasks:desk", {"engine": chosen}, environment=threads)
        told: list[Progress] = []
        try:
            given = {"workspace": str(by_ray.path), "arguments": {"run": run}}
            assert page.run("resume_generate", given, on_progress=told.append) == {"run": run}
            with pytest.raises(Exception, match="engine"):
                page.run("resume_generate", {**given, "arguments": {"run": run, "engine": "local"}})
            assert len(marked("page")) > 3, "Ray lives on for the next job"
        finally:
            page.close()
        assert "by 2 workers" in told[-1].message
        assert rows(alone) == rows(by_ray)
    assert wait_until(lambda: not marked("page")), marked("page")
