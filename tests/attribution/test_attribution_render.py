"""Pictures of heat."""

from __future__ import annotations

import numpy as np
import pytest

from ltg_core.attribution.base import Heatmap
from ltg_core.attribution.render import colours, heat_figure, normalised, overlay
from ltg_core.errors import InputError


def grey(height: int = 20, width: int = 30) -> np.ndarray:
    return np.full((height, width, 3), 128, dtype=np.uint8)


def test_positive_heat_is_orange_and_negative_blue() -> None:
    heat = np.zeros((20, 30), dtype=np.float32)
    heat[5:10, 5:10], heat[5:10, 20:25] = 2.0, -2.0
    pixels = np.asarray(overlay(grey(), heat)).astype(int)
    assert pixels[7, 7, 0] > pixels[7, 7, 2] + 50
    assert pixels[7, 22, 2] > pixels[7, 22, 0] + 50
    assert (pixels[15, 15] == 128).all()


def test_unsigned_heat_gets_lighter() -> None:
    light = colours(np.linspace(0, 1, 50, dtype=np.float32), signed=False).sum(axis=1)
    assert (np.diff(light) > 0).all()


def test_the_middle_of_the_signed_colours_is_white() -> None:
    assert np.allclose(colours(np.zeros(1, dtype=np.float32), signed=True), 1.0)


def test_no_heat_shows_the_image() -> None:
    for heat in (np.zeros((20, 30)), np.full((20, 30), np.nan)):
        assert (np.asarray(overlay(grey(), heat.astype(np.float32))) == 128).all()
    assert (np.asarray(overlay(grey(), np.ones((20, 30), np.float32), alpha=0.0)) == 128).all()


def test_an_outlier_does_not_darken_the_rest() -> None:
    heat = np.full((20, 30), 1.0, dtype=np.float32)
    heat[0, 0] = 1000.0
    assert normalised(heat, signed=True).min() == 1.0


def test_a_single_hot_pixel_is_seen() -> None:
    heat = np.zeros((20, 30), dtype=np.float32)
    heat[3, 3] = 0.5
    assert normalised(heat, signed=True)[3, 3] == 1.0


def test_coarse_heat_is_stretched_to_the_image() -> None:
    heat = np.array([[1.0, 0.0], [0.0, 0.0]], dtype=np.float32)
    assert overlay(grey(), heat).size == (30, 20)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(InputError, match="expected"):
        overlay(grey().astype(np.float32), np.zeros((20, 30), np.float32))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="alpha"):
        overlay(grey(), np.zeros((20, 30), np.float32), alpha=2.0)
    with pytest.raises(InputError, match="size"):
        heat_figure(grey(), [], size=3)


def test_a_figure_shows_the_image_and_every_map() -> None:
    rng = np.random.default_rng(0)
    heats = [
        Heatmap("id", name, "logit of a", rng.normal(size=(20, 30)).astype(np.float32), signed)
        for name, signed in (("integrated_gradients", True), ("saliency", False))
    ]
    figure = heat_figure(grey(), heats, size=90)
    assert figure.mode == "RGB"
    assert figure.width > 3 * 90 and figure.height > 60
