"""The other modes of the comparison: what they become at zero strength, what they cost, what is made of the figures."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import bench_guidance, compare, guidance_report
from benchmarks.grounds import Ground
from benchmarks.peers import PEERS, Problem, gradients
from benchmarks.peers.problem import SOLVER
from ltg_core.generators.base import Calls, Generator
from ltg_core.guidance.engine import GenerateRequest, Target, from_uint8, generate_images, to_uint8
from ltg_core.guidance.settings import Guidance

BASE = Guidance(steps=4, candidates=3, draft_steps=2, survivors=1)
PROMPTS = tuple(f"a photo of a {name} sign" for name in ("stop", "yield", "parking"))
NOTHING: dict[str, dict[str, Any]] = {
    "naive LTG": {"weight": 0.0},
    "feedback-guided": {"omega": 0.0},
    "MPGD": {"weight": 0.0},
    "AdamMPGD": {"weight": 0.0},
    "DPS": {"zeta": 0.0},
    "LGD-MC": {"zeta": 0.0, "samples": 2},
    "TFG": {"rho": 0.0, "mu": 0.0},
    "successive halving": {"n": 1},
    "best of N": {"n": 1},
}


@pytest.fixture
def problem(generator: Generator, target: Target) -> Problem:
    return Problem(generator, target, BASE, PROMPTS, (0, 1, 2), (11, 12, 13))


def images(problem: Problem, mode: str, **setting: Any) -> np.ndarray:
    made = PEERS[mode](problem, **setting)
    return to_uint8(made.images if made.images is not None else problem.decode(made.latents))


@pytest.fixture
def plain(generator: Generator, target: Target) -> np.ndarray:
    unguided = dataclasses.replace(BASE, search="none", climb="none", sampler=SOLVER)
    return generate_images(
        generator, target, unguided, GenerateRequest(PROMPTS, (0, 1, 2), (11, 12, 13))
    ).images


def test_the_sampler_that_is_written_out_is_the_librarys(problem: Problem, plain: np.ndarray) -> None:
    assert np.abs(images(problem, "unguided").astype(int) - plain.astype(int)).max() <= 1


@pytest.mark.parametrize("mode", list(NOTHING))
def test_a_mode_without_strength_is_the_unguided_sampler(
    mode: str, problem: Problem, plain: np.ndarray
) -> None:
    assert np.abs(images(problem, mode, **NOTHING[mode]).astype(int) - plain.astype(int)).max() <= 1


def test_the_gradient_at_the_estimate_is_that_of_finite_differences(problem: Problem) -> None:
    z = problem.noise()
    with torch.no_grad():
        clean = problem.clean(z, 2)
    gradient = gradients.at(clean, problem.value)
    _, through = gradients.through(problem, z, 2, problem.value)
    assert gradient.shape == clean.shape == through.shape and (through != gradient).any()
    direction = gradients.unit(gradient)
    step = 1e-3
    with torch.no_grad():
        slope = (problem.value(clean + step * direction) - problem.value(clean - step * direction)) / (
            2 * step
        )
    torch.testing.assert_close(slope, (gradient * direction).sum(dim=(1, 2, 3)), rtol=0.1, atol=1e-3)


def test_naive_guidance_costs_what_its_formula_says(problem: Problem, generator: Generator) -> None:
    generator.calls.clear()
    images(problem, "naive LTG", weight=1.0)
    naive = Calls(generator.calls)
    generator.calls.clear()
    images(problem, "unguided")
    plain, steps = Calls(generator.calls), len(problem)
    assert naive["U"] == naive["Ub"] == plain["U"] and "T" not in naive
    assert naive["D"] == (steps + 1) * plain["D"] and naive["Db"] == 3 * steps


def test_particles_of_one_past_part_again_and_the_best_candidate_is_kept(problem: Problem) -> None:
    made = PEERS["Feynman-Kac steering"](problem, n=3, scale=2.0)
    assert len(made.latents) == 3 and torch.isfinite(made.latents).all()
    again = Problem(problem.generator, problem.target, BASE, PROMPTS, (0, 1, 2), (11, 12, 13))
    best = PEERS["best of N"](again, n=3)
    assert best.images is not None
    rest = Problem(problem.generator, problem.target, BASE, PROMPTS, (0, 1, 2), (11, 12, 13))
    z = rest.noise(rest.repeated(3))
    for index in range(len(rest)):
        with torch.no_grad():
            z = rest.step(z, rest.clean(z, index), index)
    value = rest.score(rest.decode(z), group="audit").view(3, 3)
    torch.testing.assert_close(
        again.score(best.images, group="audit"), value.max(dim=1).values, atol=1e-3, rtol=1e-3
    )


@pytest.fixture
def ground(generator: Generator, target: Target) -> Ground:
    def judged(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        out = target.classifier.outputs(from_uint8(found))
        return out.logits.argmax(dim=1).numpy(), out.features.numpy()

    real = np.random.default_rng(0).normal(size=(50, target.reference.head.in_features))
    costs = dict.fromkeys(("U", "Ub", "D", "Db", "T", "Tb", "C", "Cb", "J", "Jb"), 1.0)
    some = judged(np.zeros((1, 32, 32, 3), np.uint8))[1].shape[1]
    return Ground("tiny", generator, target, target.reference, PROMPTS, real[:, :some], judged, None, costs)


@pytest.mark.slow
def test_a_quick_run_of_every_mode_is_resumed_and_becomes_a_page(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {mode: many[:1] for mode, many in bench_guidance.SETTINGS.items()}
    folder = tmp_path / "guidance" / "demo"
    assert bench_guidance.sweep(ground, folder, settings, [1], 6, BASE, stop_at=0.0) == len(settings)
    assert bench_guidance.sweep(ground, folder, settings, [1], 6, BASE) == 0
    monkeypatch.setattr(bench_guidance, "run", lambda *_: pytest.fail("it is done"))
    assert bench_guidance.sweep(ground, folder, settings, [1], 6, BASE) == 0
    record = {"commit": "abc", "machine": "none", "costs": ground.costs}
    (tmp_path / "guidance" / "demo-costs.json").write_text(json.dumps(record), encoding="utf-8")
    guidance_report.main(["--results", str(tmp_path), "--page", str(tmp_path / "page.md")])
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert all(f"| {mode} |" in text for mode in settings) and "<svg" in (tmp_path / "page.svg").read_text()
    arms = {
        arm["mode"]: arm for arm in json.loads((tmp_path / "guidance" / "summary.json").read_text())["arms"]
    }
    assert arms["unguided"]["cost"] == 1.0 and arms["unguided"]["gain"] == 0.0
    assert arms["naive LTG"]["cost"] > 1 and set(arms) == set(PEERS) | {"ours"}


def test_costs_are_matched_at_the_naive_gain_among_settings_that_stay_on_class() -> None:
    def arm(mode: str, gain: float, cost: float, on: float = 1.0) -> dict[str, Any]:
        return {
            "mode": mode,
            "gain": gain,
            "cost": cost,
            "on_class": on,
            "on_class_unguided": 1.0,
            "setting": {},
        }

    found = [
        arm("naive LTG", 1.0, 5.0),
        arm("naive LTG", 3.0, 5.0, on=0.9),
        arm("ours", 0.9, 1.1),
        arm("ours", 1.2, 1.5),
        arm("ours", 2.0, 1.2, on=0.5),
        arm("DPS", 0.7, 4.0),
        arm("TFG", 5.0, 1.0, on=0.1),
    ]
    table = guidance_report.matched(found)
    assert guidance_report.cheapest(found, 0.5) == {"naive LTG": 5.0, "ours": 1.1, "DPS": 4.0, "TFG": None}
    assert guidance_report.cheapest(found, 1.1) == {"naive LTG": None, "ours": 1.5, "DPS": None, "TFG": None}
    assert table["goal"] == 1.0 and table["ours"]["cost"] == 1.5 and table["naive LTG"]["cost"] == 5.0
    assert not table["DPS"]["reached"] and table["DPS"]["gain"] == 0.7 and table["TFG"]["cost"] is None


def test_results_are_compared_with_the_last_commit_that_has_others(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        own = ["-c", "user.name=n", "-c", "user.email=e@e", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *own, *words], cwd=tmp_path, check=True, capture_output=True)

    def write(cost: float, speed: float) -> None:
        text = json.dumps({"ours": {"cost": cost, "speed": speed}})
        (tmp_path / "results" / "a.json").write_text(text, encoding="utf-8")

    (tmp_path / "results").mkdir()
    figures = (
        compare.Figure("a.json", ("ours", "cost"), "lower", 0.1),
        compare.Figure("a.json", ("ours", "speed"), "higher", 0.1),
        compare.Figure("b.json", ("ours",), "lower", 0.1),
    )

    def verdicts(since: str = "") -> list[str]:
        changes = compare.compare(since, tmp_path / "results", tmp_path, figures)
        return [change.line().split("|")[-2].strip() for change in changes]

    git("init", "-q")
    write(1.0, 10.0)
    assert verdicts() == ["new", "new", "not measured"]
    git("add", "-A")
    git("commit", "-qm", "first")
    assert verdicts() == ["new", "new", "not measured"], "the same content is no earlier result"
    write(1.05, 8.0)
    assert verdicts() == ["ok", "REGRESSION", "not measured"]
    git("add", "-A")
    git("commit", "-qm", "second")
    assert verdicts() == ["ok", "REGRESSION", "not measured"]
    write(1.2, 9.0)
    assert verdicts() == ["REGRESSION", "ok", "not measured"] and verdicts("HEAD~1") == [
        "REGRESSION",
        "ok",
        "not measured",
    ]
    assert (tmp_path / "results" / "a.json").unlink() is None and verdicts()[0] == "MISSING"
    assert compare.compare("", tmp_path / "results", tmp_path, figures)[0].worse, "what is gone is no success"


def test_a_figure_is_found_below_keys_and_in_lists_of_records() -> None:
    content = {"rows": [{"what": "a click", "median": 2}, {"what": "another", "median": 3.5}], "text": "5"}
    assert compare.found(content, ("rows", "another", "median")) == 3.5
    assert (
        compare.found(content, ("rows", "nothing", "median")) is None
        and compare.found(content, ("text",)) is None
    )
