"""Heat as layers for a page."""

from __future__ import annotations

import numpy as np
import pytest

from ltg_core.attribution.layers import heat_layer, outline_layer
from ltg_core.errors import InputError


def blob() -> np.ndarray:
    """A raised square on the left and a lowered one on the right."""
    heat = np.zeros((40, 60), dtype=np.float32)
    heat[10:22, 8:20], heat[10:22, 40:52] = 1.0, -1.0
    return heat


def test_no_heat_is_transparent_and_hot_places_show_their_sign() -> None:
    layer = heat_layer(blob(), signed=True, side=120)
    assert layer.size == (120, 80) and layer.mode == "RGBA"
    pixels = np.asarray(layer).astype(int)
    assert pixels[60, 60, 3] == 0
    raised, lowered = pixels[32, 28], pixels[32, 92]
    assert raised[3] > 240 and raised[0] > raised[2] + 50, "orange raises"
    assert lowered[3] > 240 and lowered[2] > lowered[0] + 50, "blue lowers"


def test_an_outline_runs_around_the_hottest_places_and_leaves_their_inside_free() -> None:
    pixels = np.asarray(outline_layer(blob(), signed=True, side=240)).astype(int)
    inside = pixels[60:70, 52:60]
    assert (inside[..., 3] == 0).all()
    around = pixels[36:92, 28:84]
    drawn = around[around[..., 3] == 255]
    assert len(drawn) > 50 and (drawn[:, 0] > drawn[:, 2]).all()
    other = pixels[36:92, 156:212]
    drawn = other[other[..., 3] == 255]
    assert len(drawn) > 50 and (drawn[:, 2] > drawn[:, 0]).all()


def test_flat_heat_has_no_outline_and_an_unsigned_map_has_one_colour() -> None:
    assert (np.asarray(outline_layer(np.zeros((20, 20), np.float32), signed=True))[..., 3] == 0).all()
    pixels = np.asarray(outline_layer(np.abs(blob()), signed=False, side=240))
    drawn = pixels[pixels[..., 3] == 255]
    assert len(np.unique(drawn, axis=0)) == 1


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(InputError, match="expected"):
        heat_layer(np.zeros((3, 4, 5), np.float32), signed=True)
    with pytest.raises(InputError, match="share"):
        outline_layer(blob(), signed=True, share=1.5)
