"""The density of real samples behind a map."""

from __future__ import annotations

import numpy as np
import pytest

from ltg_core.embedding.density import density
from ltg_core.errors import InputError


def cloud(count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(3.0, 1.0, count), rng.normal(-5.0, 2.0, count)


def at(grid, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    column = np.abs(grid.x[:, None] - x).argmin(axis=0)
    row = np.abs(grid.y[:, None] - y).argmin(axis=0)
    return grid.level[row, column]


@pytest.mark.parametrize("share", (0.2, 0.5, 0.8, 0.95))
def test_a_line_surrounds_the_share_of_samples_that_it_stands_for(share: float) -> None:
    x, y = cloud()
    grid = density(x, y)
    assert grid is not None
    inside = (at(grid, x, y) >= 1 - share).mean()
    assert inside == pytest.approx(share, abs=0.05)


def test_the_densest_place_is_where_the_samples_are_and_the_edge_is_empty() -> None:
    x, y = cloud()
    grid = density(x, y)
    assert grid is not None and grid.level.shape == (len(grid.y), len(grid.x))
    row, column = np.unravel_index(grid.level.argmax(), grid.level.shape)
    assert abs(grid.x[column] - 3) < 0.7 and abs(grid.y[row] + 5) < 1.4
    edge = np.concatenate([grid.level[0], grid.level[-1], grid.level[:, 0], grid.level[:, -1]])
    assert edge.max() < 0.05, "the outermost line closes inside the picture"


def test_two_clouds_are_told_apart_along_the_right_axes() -> None:
    x = np.array([0.0] * 50 + [10.0] * 50)
    grid = density(x, x * 2)
    assert grid is not None
    assert (at(grid, np.array([0.0, 10.0]), np.array([0.0, 20.0])) > 0.3).all()
    assert (at(grid, np.array([0.0, 10.0]), np.array([20.0, 0.0])) < 0.01).all()


def test_a_handful_of_samples_has_no_density_and_equal_ones_have_a_finite_one() -> None:
    assert density(np.zeros(4), np.zeros(4)) is None
    grid = density(np.zeros(9), np.zeros(9))
    assert grid is not None and np.isfinite(grid.level).all()
    with pytest.raises(InputError, match="equal length"):
        density(np.zeros(5), np.zeros(6))
