"""Every sampler: its chances by hand, its draws against torch's own weighted sampler."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.data import WeightedRandomSampler

import ltg_core.training.samplers
from ltg_core.errors import UnsupportedError
from ltg_core.training.samplers import SAMPLERS

LABELS = torch.tensor([0] * 16 + [1] * 4 + [2])
GROUPS = torch.tensor([0] * 12 + [1] * 8 + [-1])


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def share_of_classes(name: str) -> list[float]:
    chances = SAMPLERS[name]().chances(LABELS, GROUPS)
    assert chances is not None
    by_class = torch.zeros(3, dtype=torch.double).index_add_(0, LABELS, chances / chances.sum())
    return [round(value, 6) for value in by_class.tolist()]


def test_chances_are_those_of_the_formulas() -> None:
    assert share_of_classes("class-balanced") == [pytest.approx(1 / 3, abs=1e-6)] * 3
    # roots of 16, 4, 1
    assert share_of_classes("square-root") == [pytest.approx(v / 7, abs=1e-6) for v in (4, 2, 1)]
    chances = SAMPLERS["group-balanced"]().chances(LABELS, GROUPS)
    assert chances is not None
    for group in (-1, 0, 1):
        assert (chances[group == GROUPS].sum() / chances.sum()).item() == pytest.approx(1 / 3)


@pytest.mark.parametrize("name", [n for n in SAMPLERS if n != "instance"])
def test_draws_are_those_of_the_weighted_sampler_of_torch(name: str) -> None:
    sampler = SAMPLERS[name]()
    chances = sampler.chances(LABELS, GROUPS)
    assert chances is not None
    theirs = list(WeightedRandomSampler(chances, len(LABELS), replacement=True, generator=rng()))
    assert sampler.epoch(LABELS, GROUPS, rng()).tolist() == theirs


def test_the_instance_sampler_shows_every_image_once_in_another_order() -> None:
    order = SAMPLERS["instance"]().epoch(LABELS, GROUPS, rng()).tolist()
    assert sorted(order) == list(range(21)) and order != list(range(21))


def test_groups_are_asked_for_in_words() -> None:
    with pytest.raises(UnsupportedError, match="--column"):
        SAMPLERS["group-balanced"]().epoch(LABELS, torch.full_like(LABELS, -1), rng())


def test_every_sampler_stands_in_a_file_of_its_name() -> None:
    folder = Path(ltg_core.training.samplers.__file__).parent
    names = {p.stem.replace("_", "-") for p in folder.glob("[a-z]*.py")} - {"base"}
    assert names == set(SAMPLERS) and all(s.HELP.endswith(".") for _, s in SAMPLERS.items())
