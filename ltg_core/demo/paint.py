"""Drawing helpers of the road-sign world: supersampled canvases, smooth noise, soft filters.

All coordinates are pixels of the final image (0..64, y down); all float images are in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

SIZE = 64
SUPERSAMPLE = 3

# float32 throughout; the alias is wider because NumPy's stubs widen float32 with Python floats
Array = NDArray[np.floating[Any]]
Colour = tuple[float, float, float]
Points = Sequence[tuple[float, float]]

_axis = (np.arange(SIZE, dtype=np.float32) + 0.5).astype(np.float32)
COLUMNS: Array = np.broadcast_to(_axis[None, :], (SIZE, SIZE))
ROWS: Array = np.broadcast_to(_axis[:, None], (SIZE, SIZE))


def stream(seed: int, purpose: int) -> np.random.Generator:
    """Return an independent generator, so that one part of a picture never shifts another's draws."""
    return np.random.default_rng([seed, purpose])


def colour(red: float, green: float, blue: float) -> Array:
    """Return a colour as a float32 vector."""
    return np.array([red, green, blue], dtype=np.float32)


def mix(first: Colour, second: Colour, amount: float) -> Colour:
    """Blend two colours; `amount` 0 gives the first."""
    a, b, c = (x + (y - x) * amount for x, y in zip(first, second, strict=True))
    return a, b, c


def shade(base: Colour, factor: float) -> Colour:
    """Multiply a colour and clip it to [0, 1]."""
    a, b, c = (min(1.0, max(0.0, x * factor)) for x in base)
    return a, b, c


def vary(rng: np.random.Generator, base: Colour, amount: float = 0.08) -> Colour:
    """Return the colour with a random brightness and a slight random tint."""
    tint = rng.normal(0.0, amount * 0.3, 3)
    gain = 1.0 + float(rng.uniform(-amount, amount))
    a, b, c = (min(1.0, max(0.0, (x + float(t)) * gain)) for x, t in zip(base, tint, strict=True))
    return a, b, c


def field(rng: np.random.Generator, columns: int, rows: int | None = None) -> Array:
    """Return smooth noise in [0, 1], (64, 64); `columns` x `rows` is the number of cells."""
    cells = rng.random((rows or columns, columns), dtype=np.float32)
    image = Image.fromarray(cells).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(image, dtype=np.float32), 0.0, 1.0)


def smoothstep(low: float, high: float, value: Array) -> Array:
    """Return the usual 3t^2 - 2t^3 ramp between `low` and `high`."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), dtype=np.float32)


def glow(x: float, y: float, radius: float, stretch: float = 1.0) -> Array:
    """Return a Gaussian spot (64, 64) with peak 1; `stretch` > 1 makes it taller."""
    distance = (COLUMNS - x) ** 2 + ((ROWS - y) / stretch) ** 2
    return np.asarray(np.exp(-distance / (2.0 * radius * radius)), dtype=np.float32)


def soften(image: Array, amount: float) -> Array:
    """Blur by one binomial-like pass; `amount` in [0, 0.33] is the weight of each neighbour."""
    padded = np.pad(image, ((1, 1), (1, 1)) + ((0, 0),) * (image.ndim - 2), mode="edge")
    rows = padded[1:-1] * (1.0 - 2.0 * amount) + (padded[:-2] + padded[2:]) * amount
    out = rows[:, 1:-1] * (1.0 - 2.0 * amount) + (rows[:, :-2] + rows[:, 2:]) * amount
    return np.asarray(out, dtype=np.float32)


def over(below: Array, colour_: Array, alpha: Array) -> Array:
    """Composite a colour (3,) or an image (64, 64, 3) over an image with a mask (64, 64)."""
    weight = alpha[..., None]
    return np.asarray(below + (colour_ - below) * weight, dtype=np.float32)


def _scaled(points: Points) -> list[tuple[float, float]]:
    return [(x * SUPERSAMPLE, y * SUPERSAMPLE) for x, y in points]


class Mask:
    """A coverage mask drawn three times larger and averaged down."""

    def __init__(self) -> None:
        self._image = Image.new("L", (SIZE * SUPERSAMPLE, SIZE * SUPERSAMPLE), 0)
        self._draw = ImageDraw.Draw(self._image)

    def polygon(self, points: Points, value: float = 1.0) -> None:
        """Fill a polygon."""
        self._draw.polygon(_scaled(points), fill=round(value * 255))

    def disc(self, x: float, y: float, radius: float, value: float = 1.0, tall: float = 1.0) -> None:
        """Fill an ellipse of the given half-width; `tall` is its height over its width."""
        box = _scaled([(x - radius, y - radius * tall), (x + radius, y + radius * tall)])
        self._draw.ellipse([*box[0], *box[1]], fill=round(value * 255))

    def stroke(self, points: Points, width: float, value: float = 1.0) -> None:
        """Draw a polyline with round joints and ends."""
        fill = round(value * 255)
        self._draw.line(_scaled(points), fill=fill, width=max(1, round(width * SUPERSAMPLE)), joint="curve")
        for x, y in (points[0], points[-1]):
            self.disc(x, y, width / 2.0, value)

    def done(self, blur: float = 0.0) -> Array:
        """Return the mask (64, 64) in [0, 1], blurred by `blur` pixels."""
        small = self._image.reduce(SUPERSAMPLE)
        if blur > 0.0:
            small = small.filter(ImageFilter.GaussianBlur(blur))
        return np.asarray(small, dtype=np.float32) / np.float32(255.0)


class Canvas:
    """A colour picture with a depth (0 near, 1 sky) per pixel, drawn three times larger."""

    def __init__(self, sky: Array) -> None:
        side = SIZE * SUPERSAMPLE
        start = Image.fromarray((np.clip(sky, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8))
        self._colour = start.resize((side, side), Image.Resampling.BILINEAR)
        self._depth = Image.new("L", (side, side), 255)
        self._pens = ImageDraw.Draw(self._colour), ImageDraw.Draw(self._depth)

    @staticmethod
    def _fills(fill: Colour, depth: float) -> tuple[tuple[int, int, int], int]:
        red, green, blue = (round(255 * channel) for channel in fill)
        return (red, green, blue), round(255 * depth)

    def polygon(self, points: Points, fill: Colour, depth: float) -> None:
        """Fill a polygon."""
        corners = [c * SUPERSAMPLE for point in points for c in point]
        ink, far = self._fills(fill, depth)
        self._pens[0].polygon(corners, fill=ink)
        self._pens[1].polygon(corners, fill=far)

    def box(self, left: float, top: float, right: float, bottom: float, fill: Colour, depth: float) -> None:
        """Fill an upright rectangle."""
        if right < 0 or left > SIZE:
            return
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], fill, depth)

    def disc(self, x: float, y: float, radius: float, fill: Colour, depth: float, tall: float = 1.0) -> None:
        """Fill an ellipse."""
        box = _scaled([(x - radius, y - radius * tall), (x + radius, y + radius * tall)])
        ink, far = self._fills(fill, depth)
        self._pens[0].ellipse([*box[0], *box[1]], fill=ink)
        self._pens[1].ellipse([*box[0], *box[1]], fill=far)

    def done(self, blur: float) -> tuple[Array, Array]:
        """Return colour (64, 64, 3) and depth (64, 64), blurred as by a lens focused on the sign."""
        small = self._colour.reduce(SUPERSAMPLE).filter(ImageFilter.GaussianBlur(blur))
        depth = self._depth.reduce(SUPERSAMPLE).filter(ImageFilter.GaussianBlur(blur))
        scale = np.float32(1.0 / 255.0)
        return np.asarray(small, dtype=np.float32) * scale, np.asarray(depth, dtype=np.float32) * scale
