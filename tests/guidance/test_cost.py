"""The count before the start against what a generation counts while it runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ltg_core.generators.base import Calls, Generator
from ltg_core.generators.loading import load_generator
from ltg_core.guidance.cost import batch_cost, padded
from ltg_core.guidance.engine import GenerateRequest, Target, generate_images
from ltg_core.guidance.settings import PRESETS, Guidance
from ltg_core.guidance.timing import schedule_shares, shares_of
from ltg_core.jobs import Progress
from tests.generators.tiny_models import asks, model_folder

__all__ = ["model_folder"]

SMALL = {"steps": 5, "candidates": 4, "draft_steps": 2, "survivors": 2, "like": ""}
MODES = {
    **PRESETS,
    "halving": Guidance(search="halving", augment=False),
    "particles": Guidance(search="particles"),
    "best of n": Guidance(search="best of n", climb="none"),
    "the scale at all steps": Guidance(cfg_below=1.0, climb="full"),
    "without text guidance": Guidance(cfg=1.0, every=1, band_end=1.0),
    "one survivor": Guidance(survivors=1),
}


def small(guidance: Guidance) -> Guidance:
    kept = {"survivors": 1} if guidance.survivors == 1 else {}
    return dataclasses.replace(guidance, **(SMALL | kept))


@pytest.mark.parametrize("from_source", (False, True))
@pytest.mark.parametrize("name", list(MODES))
def test_the_count_before_the_start_is_the_count_at_the_end(
    name: str, from_source: bool, generator: Generator, target: Target, request_of_three: GenerateRequest
) -> None:
    guidance, reports = small(MODES[name]), []
    sources = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1)) if from_source else None
    request = dataclasses.replace(request_of_three, sources=sources)
    made = generate_images(generator, target, guidance, request, on_progress=reports.append)
    shares = schedule_shares(generator)
    expected = batch_cost(guidance, 3, judge=target.judge is not None, from_source=from_source, shares=shares)
    assert +Calls(made.calls) == +expected.calls
    assert +Calls(made.calls_control) == +expected.calls_control
    steps = [report for report in reports if report.message not in made.notes]
    assert len(steps) == expected.steps == steps[-1].total == steps[-1].done


@pytest.mark.parametrize(("tiny", "decoder"), ((True, "T"), (False, "D")))
def test_feedback_counts_what_it_calls_and_the_way_back(tiny: bool, decoder: str) -> None:
    """By hand, for 3 images in calls of 8: 10 steps of two predictions, every fifth with a gradient."""
    guidance = Guidance(
        steps=10, search="none", climb="feedback", every=5, band_start=0.0, band_end=1.0, cfg_below=1.0
    )
    found = batch_cost(guidance, 3, tiny=tiny)
    assert found.calls_control == Calls(U=10 * 2 * 8, D=8)
    back = {
        "U": 8 * 2,
        "C": 8 * 2,
        decoder: 8 * 2,
    }  # the conditional prediction alone, no augmentations, no judge
    expected = Calls(U=10 * 2 * 8, D=8) + Calls(back) + Calls({f"{name}b": n for name, n in back.items()})
    assert +found.calls == expected


@pytest.mark.parametrize("way", ("feedback", "denoiser-free", "full"))
def test_without_a_tiny_decoder_its_gradients_are_the_full_ones(
    way: str, target: Target, model_folder: Callable[[str], Path]
) -> None:
    generator = load_generator(model_folder("sd 1"))
    guidance = Guidance(steps=4, search="none", climb=way, every=2, band_start=0.0, weight=2.0, omega=0.2)
    request = GenerateRequest(tuple(asks(generator, 3)), (0, 1, 2), (11, 12, 13))
    made = generate_images(generator, target, guidance, request)
    shares = schedule_shares(generator)
    expected = batch_cost(guidance, 3, judge=target.judge is not None, tiny=False, shares=shares)
    assert +Calls(made.calls) == +expected.calls and made.calls["Db"] > 0 and "Tb" not in made.calls


def test_without_controls_and_without_a_judge_there_is_less_to_count(
    generator: Generator, target: Target, request_of_three: GenerateRequest
) -> None:
    alone = dataclasses.replace(target, judge=None)
    made = generate_images(generator, alone, small(PRESETS["explore"]), request_of_three, controls=False)
    expected = batch_cost(
        small(PRESETS["explore"]), 3, controls=False, judge=False, shares=schedule_shares(generator)
    )
    assert +Calls(made.calls) == +expected.calls and not made.calls_control and "J" not in made.calls
    assert expected.total == expected.calls


def test_rows_are_counted_in_whole_chunks() -> None:
    assert [padded(n) for n in (1, 8, 9)] == [8, 8, 16]
    eight, one = batch_cost(Guidance(), 8), batch_cost(Guidance(), 1)
    assert eight.calls_control == one.calls_control and eight.calls["U"] > one.calls["U"]


def test_a_run_is_looked_at_every_few_steps_and_looking_changes_nothing(
    generator: Generator, target: Target, request_of_three: GenerateRequest
) -> None:
    guidance, reports = small(PRESETS["explore"]), list[Progress]()
    seen = generate_images(generator, target, guidance, request_of_three, on_progress=reports.append)
    unseen = generate_images(generator, target, guidance, request_of_three)
    assert (seen.images == unseen.images).all() and seen.calls == unseen.calls and not unseen.looks
    steps = {
        stage: [e["step"] for e in seen.looks if e["stage"] == stage]
        for stage in ("control", "draft", "guided")
    }
    assert steps == {"control": [1, 2, 4, 5], "draft": [1, 2], "guided": [1, 2, 4, 5]}
    assert all(len(entry["level"]) == 3 for entry in seen.looks)
    assert [r.message for r in reports][:2] == [
        "unguided controls, step 1 of 5",
        "unguided controls, step 2 of 5",
    ]
    assert "second look at the best drafts, step 4 of 4" in {r.message for r in reports}
    last = next(e for e in reversed(seen.looks) if e["stage"] == "control")
    assert len(last["level"]) == 3 and all(report.preview is not None for report in reports)


def test_a_sweep_of_the_weight_shares_its_search_and_differs_in_nothing_else(
    generator: Generator, target: Target
) -> None:
    guidance = dataclasses.replace(
        small(PRESETS["explore"]), target=100.0, every=1, band_start=0.0, band_end=1.0
    )
    weights = (0.0, 1.0, 4.0)
    prompt = "a photo of a stop sign"
    rows = GenerateRequest((prompt,) * 6, (0,) * 6, (5, 5, 5, 6, 6, 6), weights=weights * 2)
    swept = generate_images(generator, target, guidance, rows)
    assert swept.chosen[:3] == [swept.chosen[0]] * 3
    expected = batch_cost(
        guidance, 6, judge=target.judge is not None, seeds=2, shares=schedule_shares(generator)
    )
    assert +Calls(swept.calls) == +expected.calls
    for place, weight in enumerate(weights):
        alone = generate_images(
            generator,
            target,
            dataclasses.replace(guidance, weight=weight),
            GenerateRequest((prompt,), (0,), (5,)),
        )
        assert (swept.images[place] == alone.images[0]).all()
    assert (swept.images[0] != swept.images[2]).any()


@pytest.mark.parametrize("steps", (3, 6, 8, 16, 25))
@pytest.mark.parametrize("draft", (False, True))
def test_the_noise_of_any_schedule_lies_on_the_measured_curve(
    generator: Generator, steps: int, draft: bool
) -> None:
    exact = schedule_shares(generator)
    known = shares_of(exact(60, False), exact(60, True))
    assert known(steps, draft) == pytest.approx(exact(steps, draft), abs=0.01)
