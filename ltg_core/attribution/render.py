"""Heat as pictures: colour maps, overlays, a row of maps with a scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ltg_core.attribution.base import Heatmap
from ltg_core.errors import InputError

# Control points (position, red, green, blue) in [0, 1]; between them the colours are interpolated. Blue and orange
# stay apart for every common kind of colour blindness.
_DIVERGING = (
    (0.0, 0.06, 0.25, 0.60),
    (0.25, 0.35, 0.62, 0.88),
    (0.5, 1.0, 1.0, 1.0),
    (0.75, 0.98, 0.64, 0.26),
    (1.0, 0.70, 0.27, 0.02),
)
_SEQUENTIAL = (
    (0.0, 0.02, 0.01, 0.05),
    (0.25, 0.30, 0.08, 0.47),
    (0.5, 0.70, 0.20, 0.48),
    (0.75, 0.98, 0.52, 0.38),
    (1.0, 0.99, 0.98, 0.75),
)


def colours(values: NDArray[np.float32], *, signed: bool) -> NDArray[np.float64]:
    """Colours of normalised heat.

    Args:
        values: Any shape; -1 to 1 when signed (blue, white, orange), else 0 to 1 (dark to light).
        signed: Which of the two maps.

    Returns:
        The shape with a last axis of 3, in [0, 1].
    """
    points = np.array(_DIVERGING if signed else _SEQUENTIAL)
    wide = np.asarray(values, dtype=np.float64)
    position = np.clip((wide + 1) / 2 if signed else wide, 0.0, 1.0)
    return np.stack([np.interp(position, points[:, 0], points[:, c]) for c in (1, 2, 3)], axis=-1)


def normalised(values: NDArray[np.float32], *, signed: bool, percentile: float = 99.0) -> NDArray[np.float32]:
    """Heat divided by a high percentile of its size, lest outliers darken the rest; zero stays zero."""
    finite = np.nan_to_num(np.asarray(values, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    strength = np.abs(finite)
    scale = float(np.percentile(strength, percentile)) if strength.size else 0.0
    if scale <= 0:  # a single hot pixel lies above any percentile
        scale = float(strength.max(initial=0.0))
    if scale <= 0:
        return np.zeros_like(finite)
    return np.asarray(np.clip(finite / scale, -1.0 if signed else 0.0, 1.0), dtype=np.float32)


def overlay(
    image: NDArray[np.uint8], heat: NDArray[np.float32], alpha: float = 0.75, *, signed: bool = True
) -> Image.Image:
    """The image with heat laid over it; where there is no heat the image shows unchanged.

    Args:
        image: (H, W, 3) uint8.
        heat: (h, w); stretched to the image where it is of another size.
        alpha: Opacity of the strongest heat, 0 to 1.
        signed: Blue, white and orange around zero, or dark to light from zero.

    Raises:
        InputError: Wrong shapes or opacity.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or heat.ndim != 2:
        raise InputError(
            f"image {image.shape} {image.dtype} and heat {heat.shape}; expected (H, W, 3) uint8 and (H, W)"
        )
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha is {alpha}; give a number from 0 to 1")
    level = normalised(stretched(heat, image.shape[1], image.shape[0]), signed=signed)
    # Weak heat is transparent as well as pale: no white veil over the image, no line where the sign changes.
    opacity = alpha * np.abs(level)[..., None]
    mixed = image / 255.0 * (1 - opacity) + colours(level, signed=signed) * opacity
    return Image.fromarray((mixed * 255.0).round().astype(np.uint8), "RGB")


def heat_figure(
    image: NDArray[np.uint8], heats: Sequence[Heatmap], *, size: int = 192, alpha: float = 0.75
) -> Image.Image:
    """The image and its maps in a row, each under its method's name, with a scale below.

    Args:
        image: (H, W, 3) uint8.
        heats: Maps of this image.
        size: Width of each picture in pixels.
        alpha: As in ``overlay``.

    Raises:
        InputError: As ``overlay``; or a ``size`` below 32.
    """
    if size < 32:
        raise InputError(f"size is {size}; the smallest value is 32")
    height = max(1, round(size * image.shape[0] / image.shape[1]))
    title, bar, gap = 18, 14, 8
    sheet = Image.new(
        "RGB", ((size + gap) * (1 + len(heats)) + gap, title + height + 2 * gap + 2 * bar), "white"
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    large = Image.fromarray(image, "RGB").resize((size, height), Image.Resampling.BICUBIC)
    for column, heat in enumerate((None, *heats)):
        left = gap + column * (size + gap)
        caption = "image" if heat is None else heat.method.replace("_", " ")
        draw.text((left, 3), _fitted(draw, caption, size), fill="black", font=font)
        if heat is None:
            sheet.paste(large, (left, title))
            continue
        sheet.paste(overlay(np.asarray(large), heat.values, alpha, signed=heat.signed), (left, title))
        ramp = np.linspace(-1 if heat.signed else 0, 1, size, dtype=np.float32)[None].repeat(bar, axis=0)
        shades = (colours(ramp, signed=heat.signed) * 255).round().astype(np.uint8)
        sheet.paste(Image.fromarray(shades, "RGB"), (left, title + height + gap))
        low, high = ("lowers", "raises") if heat.signed else ("none", "strong")
        draw.text((left, title + height + gap + bar), low, fill="black", font=font)
        draw.text(
            (left + size - draw.textlength(high), title + height + gap + bar), high, fill="black", font=font
        )
    return sheet


def stretched(heat: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """Heat at another size, bilinear."""
    if heat.shape == (height, width):
        return heat
    picture = Image.fromarray(np.asarray(heat, dtype=np.float32), "F")
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)


def _fitted(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    while len(text) > 1 and draw.textlength(text) > width:
        text = text[:-1]
    return text
