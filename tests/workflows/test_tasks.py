"""What a worker does for the page: the workflows themselves, with JSON in and out, stopped, killed and resumed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ltg_core import workflows
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import Cancelled, InputError, WorkerLost
from ltg_core.guidance.settings import Guidance
from ltg_core.jobs import CancelToken, Progress
from ltg_core.workers import Worker
from ltg_core.workflows import tasks

QUICK = Guidance(
    steps=2, search="none", climb="denoiser-free", band_start=0.0, band_end=1.0, every=1, augment=False
)


def wanted(number: int, steps: int = 2) -> dict[str, Any]:
    guidance = QUICK.to_dict() | {"steps": steps}
    return {"order": {"number": number, "seed": 0, "label": "stop", "guidance": guidance}}


def images(ws: Workspace, run: str) -> dict[int, str]:
    """By place in the run: the hash of the guided image's pixels."""
    found = ws.samples(ws.query(Filter(origin=run, meta={"role": "guided"})))
    return {int(sample.meta["index"]): sample.image_hash for sample in found}


def do(ws: Workspace, task: str, **arguments: Any) -> tuple[Any, list[Progress]]:
    seen: list[Progress] = []
    given = json.loads(json.dumps(arguments))
    tasks.check(task, given)
    result = tasks.do(str(ws.path), task, given, seen.append, CancelToken())
    assert json.loads(json.dumps(result)) == result, "results are JSON values"
    return result, seen


class OnOne(Worker):
    """Does every task on the workspace of its options."""

    def run(self, task: str, arguments: Any, **more: Any) -> Any:
        return super().run(task, {**self.options, "arguments": arguments}, **more)


def held(options: dict[str, Any]) -> Any:
    """The page's desk; in images 9 and 10 the process waits until the file ``gate`` is there."""
    perform, gate = tasks.desk(options), Path(options["gate"])

    def work(task: str, given: Any, on_progress: Any, cancel: CancelToken) -> Any:
        def told(step: Progress) -> None:
            on_progress(step)
            while "image 9 to 10" in step.message and not gate.exists():
                time.sleep(0.05)

        return perform(task, given, told, cancel)

    return work


@pytest.fixture
def worker(fitted: Workspace, tmp_path: Path) -> Iterator[Worker]:
    options = {"workspace": str(fitted.path), "gate": str(tmp_path / "gate")}
    made = OnOne("tests.workflows.test_tasks:held", options)
    yield made
    made.close()


def test_a_generation_by_a_task_is_that_of_the_workflow(fitted: Workspace) -> None:
    result, seen = do(fitted, "imagine", **wanted(2))
    classifier, generator = workflows.active_classifier(fitted), workflows.active_generator(fitted)
    prompt, stop = workflows.prompt_for(generator, "stop"), classifier.labels.index("stop")
    run = workflows.generate(
        fitted, classifier, generator, prompts=[prompt] * 2, labels=[stop] * 2, seeds=[0, 1], guidance=QUICK
    )
    assert images(fitted, result["run"]) == images(fitted, run.id) and len(images(fitted, run.id)) == 2
    assert next(step.run for step in seen if step.run) == result["run"]
    assert workflows.plain_prompt(fitted, "stop") == prompt


def test_maps_of_heat_are_read_from_the_workspace_by_their_question(fitted: Workspace) -> None:
    ids = fitted.query(limit=2)
    classifier = workflows.active_classifier(fitted)
    methods = ["saliency", "grad_cam"]
    answer, _ = do(fitted, "explain", ids=ids, methods=methods, classifier=classifier.hash)
    assert answer["maps"] == 4 and answer["refused"] == []
    before = len(fitted.runs("explain"))
    found = workflows.stored_matrix(fitted, ids, methods)
    made = workflows.explain(fitted, classifier, ids, methods)
    assert list(found) == [(one.sample_id, one.method) for one in made]
    assert all(np.array_equal(a.values, b.values) for a, b in zip(found.values(), made, strict=True))
    assert len(fitted.runs("explain")) == before + 1, "reading them is no run"
    assert workflows.stored_matrix(fitted, ids, ["occlusion"]) == {}


def test_the_other_tasks_say_what_they_did(
    empty_workspace: Workspace, tiny_world: Any, tiny_classifier_file: Path, tiny_generator: Path
) -> None:
    ws = empty_workspace
    said, _ = do(ws, "import_data", path=str(tiny_world.folder))
    assert "72 images added" in said
    said, seen = do(ws, "use_classifier", path=str(tiny_classifier_file), name="mine")
    assert said.startswith("mine: 3 classes") and any(step.changed for step in seen)
    assert "is ready" in do(ws, "use_generator", path=str(tiny_generator))[0]
    fitted, _ = do(ws, "fit_head", settings={"members": 4, "hidden": 8, "epochs": 2})
    scored, _ = do(ws, "score")
    assert ws.run(fitted["run"]).state == ws.run(scored["run"]).state == "done"
    drawn, _ = do(ws, "map", settings={"max_points": 60})
    assert ws.run(drawn["run"]).kind == "map" and drawn["samples"] == 60
    assert drawn["drawn"] == "60 of 72 real samples, evenly by class"
    assert do(ws, "place_on_map")[0]["samples"] == 72


def test_wrong_names_are_found_before_anything_is_queued() -> None:
    with pytest.raises(InputError, match="no task 'sing'; known: imagine"):
        tasks.check("sing", {})
    with pytest.raises(TypeError, match="colour"):
        tasks.check("map", {"colour": "red"})
    with pytest.raises(TypeError, match="run"):
        tasks.check("resume_generate", {})


def test_a_cancelled_generation_ends_at_its_next_step_and_keeps_its_process(worker: Worker) -> None:
    token, seen = CancelToken(), []

    def stop(step: Progress) -> None:
        if step.preview is not None:
            seen.append(step)
            token.cancel()

    with pytest.raises(Cancelled):
        worker.run("imagine", wanted(8, steps=400), on_progress=stop, cancel=token)
    assert seen[0].preview.shape[-1] == 3 and seen[-1].done < seen[-1].total / 2
    assert worker.pid is not None


def test_a_killed_worker_loses_no_finished_image_and_resuming_gives_the_same_ones(
    worker: Worker, fitted: Workspace, tmp_path: Path
) -> None:
    gate, killed = tmp_path / "gate", []
    gate.touch()
    whole = worker.run("imagine", wanted(10))  # in a worker too: the number of threads decides the last bits
    runs: list[str] = []

    def kill(step: Progress) -> None:
        runs.extend([step.run] if step.run else [])
        if "image 9 to 10" in step.message and not killed:  # in the second unit, where it waits
            assert worker.pid is not None
            killed.append(worker.pid)
            os.kill(worker.pid, signal.SIGKILL)

    gate.unlink()
    with pytest.raises(WorkerLost, match="what was finished is kept"):
        worker.run("imagine", wanted(10), on_progress=kill)
    assert runs[0] in fitted.find_interrupted() and fitted.run(runs[0]).state == "interrupted"
    assert len(images(fitted, runs[0])) == 8
    gate.touch()
    assert worker.run("resume_generate", {"run": runs[0]}) == {"run": runs[0]}
    assert images(fitted, runs[0]) == images(fitted, whole["run"]) and len(images(fitted, runs[0])) == 10
