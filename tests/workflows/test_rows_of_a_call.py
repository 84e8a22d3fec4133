"""How many rows a network call has: a run's own matter, which no other run finds changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ltg_core import workflows
from ltg_core.data.workspace import Workspace
from ltg_core.errors import Cancelled
from ltg_core.generators.options import BEST, GeneratorOptions
from ltg_core.jobs import CancelToken, Progress
from tests.generators.tiny_models import model_folder
from tests.workflows.test_generating import PLAIN, make, pictures

__all__ = ["model_folder"]


def rows_of_units(ws: Workspace, run_id: str) -> list[tuple[int, int]]:
    """Rows of a call, and how many notes, of each unit."""
    records = [json.loads(path.read_text()) for path in sorted(ws.run_folder(run_id).glob("unit-*.json"))]
    return [(record["chunk"], len(record["notes"])) for record in records]


def test_a_run_after_one_that_ran_out_of_memory_is_that_of_a_fresh_process(
    fitted: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = workflows.active_generator(fitted)
    own, predict, token = generator.chunk, generator.predict, CancelToken()
    fresh = make(fitted, 2, PLAIN)

    def limited(z: torch.Tensor, *rest: Any) -> torch.Tensor:
        if len(z) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return predict(z, *rest)

    def stop(step: Progress) -> None:
        if "17 to 18" in step.message:
            token.cancel()

    monkeypatch.setattr(generator, "predict", limited)
    with pytest.raises(Cancelled):
        make(fitted, 18, PLAIN, on_progress=stop, cancel=token)
    monkeypatch.undo()
    tight = fitted.runs("generate")[0]
    assert tight.settings["chunk"] == own and generator.chunk == own
    assert rows_of_units(fitted, tight.id) == [(2, 2), (2, 0)], (
        "what was found is kept for the run's next unit"
    )
    after = make(fitted, 2, PLAIN)
    assert after.settings == fresh.settings and rows_of_units(fitted, after.id) == [(own, 0)]
    assert pictures(fitted, after.id) == pictures(fitted, fresh.id)
    workflows.resume_generate(fitted, tight.id)
    assert rows_of_units(fitted, tight.id)[2] == (2, 0), "a resumed run goes on as it was stopped"
    assert generator.chunk == own


def test_a_measured_number_is_remembered_as_it_was_measured(
    fitted: Workspace, model_folder: Callable[[str], Path]
) -> None:
    """Each process would find its own, and shards would speak of different runs."""
    generator = workflows.use_generator(fitted, model_folder("sd 1"), options=GeneratorOptions(chunk=BEST))
    remembered = {"chunk": generator.chunk}
    assert generator.chunk >= 1 and workflows.generator_options(fitted) == remembered
    assert workflows.active_generator(fitted) is generator, "it is not loaded twice"
    record = fitted.get_state("generator")
    fitted.put_state("generator", record | {"options": {"chunk": BEST}})  # as earlier versions wrote it
    assert workflows.active_generator(fitted) is generator
    assert workflows.generator_options(fitted) == remembered
