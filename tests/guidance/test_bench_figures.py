"""Figures that stand in docs/performance.md: counted by formulas that others have published, and by small runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import bench_samplers, bench_throughput, guidance_page, shapes
from ltg_core.generators.base import Generator

COUNTED = {"U": 0.803, "Ub": 0.923, "D": 2.51, "Db": 2.55, "T": 0.141, "Tb": 0.141, "C": 0.0082, "Cb": 0.0082}
"""TFLOP at Stable Diffusion 1.5's size, 512 px."""


def test_ratios_are_those_of_the_cost_model_written_out() -> None:
    found = shapes.ratios(shapes.SHAPES[0], COUNTED)
    base = 50 * 2 * 0.803 + 2.51
    assert found["naive LTG"] == pytest.approx(5.2, abs=0.05)  # the published schemes, worked out elsewhere
    assert found["feedback-guided, every fifth step"] == pytest.approx(1.82, abs=0.01)
    assert found["denoiser-free, full decoder, every step"] == pytest.approx(4.1, abs=0.05)
    # the default climb: steps 12, 14, ... 36 of 50, three views of each image
    climb = 13 * (2 * 0.141 + 3 * 2 * 0.0082)
    assert found["climb of the default preset"] == pytest.approx((base + climb) / base, rel=1e-6)


def test_the_decoders_stand_at_their_true_shape() -> None:
    large = shapes.Large(shapes.SHAPES[0])
    assert sum(p.numel() for p in large.unet.parameters()) == 859_520_964  # as published
    assert sum(p.numel() for p in large.vae.parameters()) == 83_653_863
    assert large.unet.conv_in.weight.is_meta


def test_many_steps_of_any_sampler_come_nearer_than_few(generator: Generator) -> None:
    rows = bench_samplers.measured(generator, 2, tried=(4, 16), exact=("unipc", 40))
    error = {(row["sampler"], row["steps"]): row["error"] for row in rows}
    assert {name for name, _ in error} == {"dpm++", "unipc", "flow euler"}
    assert all(error[name, 16] < error[name, 4] for name in ("dpm++", "unipc", "flow euler"))


def test_scoring_a_few_pictures_takes_both_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = iter([0.0, 1.0, 2.0, 4.0, 5.0, 6.0, 7.0, 9.0])  # bare 1 s, ours 2 s
    found = bench_throughput.ratio(lambda: None, lambda: None, 1, clock=lambda: next(turns))
    assert found["value"] == found["low"] == 0.5 and (found["bare_seconds"], found["our_seconds"]) == (
        1.0,
        2.0,
    )
    small = bench_throughput._scoring_of(tmp_path, "bundled", 64, 4, 1)
    assert small["value"] > 0 and small["our_seconds"] > 0


def test_the_page_says_which_bar_is_missed_and_by_whom() -> None:
    row = {"reached": True, "cost": 4.5, "gain": 1.0, "setting": {}}
    table = {"goal": 1.0, "naive LTG": row, "ours": row | {"cost": 1.2}, "DPS": row | {"cost": 1.1}}
    first, second = guidance_page._matched_bars(table)
    assert "**0.27** (1.20 against 4.50" in first and "**missed**: DPS cost no more" in second
    table["DPS"] = row | {"reached": False, "cost": 0.5}
    assert "below all of them" in guidance_page._matched_bars(table)[1]
    table["ours"] = row | {"reached": False, "gain": 0.2}
    assert "**missed**: ours gains 0.20 at most" in guidance_page._matched_bars(table)[0]
