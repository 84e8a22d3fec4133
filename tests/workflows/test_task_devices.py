"""Every task that computes does it where the desk says, and none has a word about it in its arguments."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ltg_core import workflows
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.guidance.settings import Guidance
from ltg_core.jobs import CancelToken
from ltg_core.models.classifier import Classifier
from ltg_core.workflows import tasks
from ltg_core.workflows.recording import recorded
from ltg_core.workflows.retrain_rows import MixSettings, choose
from tests.conftest import draw
from tests.lazy import second_device

NOTHING_COMPUTED = {"export", "plan_export"}
NEEDS_MORE = {"open_demo", "place_on_map"}  # the demo, and a map
QUICK = Guidance(steps=2, search="none", climb="none")
ORDER = {"number": 1, "seed": 0, "label": "stop", "guidance": QUICK.to_dict()}


LOOP = {"rounds": 1, "number": 1, "seeds": 1, "resamples": 100}


def looping(ws: Workspace, classifier: Classifier) -> dict[str, Any]:
    """The record of a loop that has not done anything yet."""
    return {
        "classifier": classifier.hash, "loop": workflows.LoopSettings.from_dict(LOOP).to_dict(),
        "train": workflows.TrainSettings(epochs=1).to_dict(), "loss": {"name": "balanced-softmax"},
        "mix": MixSettings().to_dict(), "guidance": QUICK.to_dict(),
    }  # fmt: skip


def _folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def do(ws: Workspace, task: str, given: dict[str, Any], device: str) -> Any:
    given = json.loads(json.dumps(given))
    tasks.check(task, given)
    return tasks.do(str(ws.path), task, given, lambda step: None, CancelToken(), device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there a task succeeds")
def test_every_task_that_computes_does_it_where_the_desk_says(
    fitted: Workspace,
    classifier: Classifier,
    tiny_classifier_file: Path,
    tiny_generator: Path,
    tmp_path: Path,
) -> None:
    hash = classifier.hash
    told: dict[str, Any] = {"on_progress": lambda step: None, "cancel": CancelToken()}
    begun = {"generator": str(tiny_generator), "classifier": hash}
    with recorded(fitted, "generate", begun, hashes={"classifier": hash}) as generation:
        pass
    with recorded(fitted, "retrain", begun, hashes={"classifier": hash}) as training:
        training.result |= {"best": hash, "seeds": [{"classifier": hash}]}
    with recorded(fitted, "loop", looping(fitted, classifier), hashes={"classifier": hash}) as rounds:
        pass
    rows = choose(fitted, classifier, MixSettings(), (), {}, **told)
    (fitted.run_folder(training.run.id) / "rows.json").write_text(rows.to_json())
    made, trained = generation.run.id, training.run.id
    held = fitted.query(Filter(split="test"))
    weights, extra = str(tiny_classifier_file), str(tmp_path / "extra")
    draw("stop", 9).save(_folder(tmp_path / "extra" / "stop") / "1.png")
    cell = workflows.save_slice(fitted, "stops at night", Filter(label=0, meta={"condition": "night"}))
    asked: dict[str, dict[str, Any]] = {
        "imagine": {"order": ORDER},
        "measure_cost": {},
        "resume_generate": {"run": made},
        "explain": {"ids": held[:1], "methods": ["saliency"]},
        "map": {},
        "place_on_map": {},
        "fit_head": {},
        "score": {},
        "use_classifier": {"path": weights},
        "use_generator": {"path": str(tiny_generator)},
        "import_data": {"path": extra},
        "open_own": {"model": weights},
        "bring_classifier": {"weights": weights},
        "bring_data": {"path": extra},
        "bring_head": {},
        "revise_classifier": {"labels": ["a", "b", "c"]},
        "map_labels": {"chosen": {"stop": ""}},
        "alternatives": {},
        "tell": {},
        "find_slices": {"outcome": "errors"},
        "check_cause": {"slice": cell},
        "check_causes": {"slices": [cell]},
        "find_habits": {},
        "retrain": {},
        "plan_retrain": {},
        "without_training": {"method": "temperature"},
        "compare": {"arms": [trained]},
        "resume_retrain": {"run": trained},
        "loop": {"settings": LOOP},
        "plan_loop": {"settings": LOOP},
        "resume_loop": {"run": rounds.run.id},
        "adopt": {"ref": trained},
        "extend_propose": {"source": "clusters"},
        "extend_images": {"generate": 1},
        "extend_random": {},
        "extend_granularity": {},
    }
    forgot = []
    for task in set(tasks.TASKS) - NOTHING_COMPUTED - NEEDS_MORE:
        try:
            do(fitted, task, asked[task], "cuda")
        except Exception as error:  # noqa: BLE001  (torch says it in several ways)
            if "cuda" in str(error).lower():
                continue
            forgot.append((task, repr(error)))
        else:
            forgot.append((task, "done without a GPU"))
    assert not forgot


@pytest.mark.slow
def test_tasks_do_their_work_on_another_device(fitted: Workspace, classifier: Classifier) -> None:
    held = fitted.query(Filter(split="test"))
    before = fitted.scores(held, classifier.hash, "epistemic")
    with fitted.database.write() as connection:
        connection.execute("DELETE FROM scores")
    with second_device() as device:
        for task, given in (
            ("score", {}),
            ("imagine", {"order": ORDER | {"guidance": {**Guidance(steps=2).to_dict(), "like": ""}}}),
            ("explain", {"ids": held[:2], "methods": ["saliency", "grad_cam"]}),
            ("find_slices", {"outcome": "errors", "words": {"source": "vocabulary", "own": "at night"}}),
        ):
            try:
                do(fitted, task, given, device)
            except Exception as error:
                raise AssertionError(task) from error
    assert fitted.count(Filter(origin="generated")) == 2
    after = fitted.scores(held, classifier.hash, "epistemic")
    assert after.keys() == before.keys() and len(after) == 18
    assert max(abs(after[id].value - before[id].value) for id in held) < 1e-3


def test_no_task_takes_a_device_from_the_page() -> None:
    for name, task in tasks.TASKS.items():
        assert "device" not in inspect.signature(task).parameters, name


def test_the_desk_says_its_device_and_refuses_one_that_is_not_there() -> None:
    told = tasks.desk({"device": "cpu"})("device", {}, lambda step: None, CancelToken())
    assert told == {"name": "cpu", "words": "chosen with --device cpu"}
    with pytest.raises(InputError, match=r"there is no GPU 99|cannot be used"):
        tasks.desk({"device": "cuda:99"})
