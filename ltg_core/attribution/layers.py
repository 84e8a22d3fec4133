"""Heat as layers that a page lays over the picture and fades by itself: filled, and as an outline."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ltg_core.attribution.render import colours, normalised, stretched
from ltg_core.errors import InputError

SIDE = 288
"""Longer side of a layer in pixels: sharp where one map fills a column, small enough to send forty."""
OUTLINED = 0.15
"""Share of the picture that an outline surrounds: its hottest pixels."""
_PALEST = 0.4  # of the way from white to the full colour
_FAINT = 0.1  # of the strongest heat; what is weaker is not outlined although it is among the hottest pixels


def heat_layer(heat: NDArray[np.float32], *, signed: bool, side: int = SIDE) -> Image.Image:
    """Heat as an RGBA picture; weak heat is transparent, so that the picture below stays visible.

    Args:
        heat: (H, W).
        signed: Blue below zero and orange above it, or dark to light from zero.
        side: Longer side of the result.

    Raises:
        InputError: ``heat`` has another shape.
    """
    level = _level(heat, signed, side)
    strength = np.abs(level)
    # Never white: a pale veil would leave a dark line wherever the sign changes.
    shade = np.sign(level) * (_PALEST + (1 - _PALEST) * strength) if signed else level
    pixels = np.dstack([colours(shade.astype(np.float32), signed=signed), strength**0.8])
    return Image.fromarray((pixels * 255).round().clip(0, 255).astype(np.uint8), "RGBA")


def outline_layer(
    heat: NDArray[np.float32], *, signed: bool, share: float = OUTLINED, side: int = SIDE
) -> Image.Image:
    """Lines around the hottest pixels, of the colour of their sign, with a white edge to be seen on any picture.

    Args:
        heat: (H, W).
        signed: As for ``heat_layer``.
        share: How much of the picture is surrounded, 0 to 1.
        side: Longer side of the result.

    Raises:
        InputError: ``heat`` has another shape, or ``share`` is out of bounds.
    """
    if not 0 < share < 1:
        raise InputError(f"share is {share}; give a number between 0 and 1")
    level = _level(heat, signed, side)
    smooth = _blurred(level, side / 60)
    strength = np.abs(smooth)
    hot = strength > max(float(np.quantile(strength, 1 - share)), _FAINT * float(strength.max(initial=0.0)))
    made = np.zeros((*level.shape, 4), dtype=np.uint8)
    for sign in (-1, 1) if signed else (1,):
        line, edge = _lines(hot & (np.sign(smooth) == sign))
        made[edge & (made[..., 3] == 0)] = (255, 255, 255, 220)
        colour = colours(np.array([0.9 * sign if signed else 0.75], dtype=np.float32), signed=signed)[0]
        made[line] = (*(colour * 255).round().astype(int).tolist(), 255)
    return Image.fromarray(made, "RGBA")


def _level(heat: NDArray[np.float32], signed: bool, side: int) -> NDArray[np.float32]:
    """Normalised heat at the size of the layer."""
    if heat.ndim != 2 or 0 in heat.shape:
        raise InputError(f"heat has shape {heat.shape}; expected (H, W)")
    height, width = heat.shape
    factor = side / max(height, width)
    wide, high = max(1, round(width * factor)), max(1, round(height * factor))
    return stretched(normalised(heat, signed=signed), wide, high)


def _blurred(level: NDArray[np.float32], radius: float) -> NDArray[np.float32]:
    """Smoothed, lest single pixels are surrounded."""
    signs = []
    for part in (np.clip(level, 0, 1), np.clip(-level, 0, 1)):  # PIL blurs bytes, not signed numbers
        picture = Image.fromarray((part * 255).round().astype(np.uint8), "L")
        signs.append(np.asarray(picture.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32) / 255)
    return np.asarray(signs[0] - signs[1], dtype=np.float32)


def _lines(inside: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The inner rim of a region, and a wider one around it."""
    mask = Image.fromarray(inside.astype(np.uint8) * 255, "L")
    core = np.asarray(mask.filter(ImageFilter.MinFilter(5))) > 0
    around = np.asarray(mask.filter(ImageFilter.MaxFilter(3))) > 0
    deep = np.asarray(mask.filter(ImageFilter.MinFilter(7))) > 0
    line = inside & ~core
    return line, (around & ~deep) & ~line
