"""The ten sign faces and their placement in the picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ltg_core.demo.paint import SIZE, SUPERSAMPLE, Array, Points

_TEXTURE = 160
_EXTENT = 1.06
_PIXELS = _TEXTURE * 2

RED, BLUE, WHITE = (196, 22, 32), (20, 78, 172), (244, 244, 240)
BLACK, YELLOW = (24, 24, 26), (250, 190, 20)
Ink = tuple[int, int, int]

SPEEDS = ("30", "50", "60", "70", "80", "100")


class _Face:
    """A pen in units of the sign's half-height: x and y from -1 to 1, y down."""

    def __init__(self) -> None:
        self.image = Image.new("RGBA", (_PIXELS, _PIXELS), (0, 0, 0, 0))
        self._pen = ImageDraw.Draw(self.image)

    @staticmethod
    def _at(value: float) -> float:
        return (value + _EXTENT) / (2.0 * _EXTENT) * _PIXELS

    def disc(self, radius: float, ink: Ink, x: float = 0.0, y: float = 0.0) -> None:
        at = self._at
        self._pen.ellipse([at(x - radius), at(y - radius), at(x + radius), at(y + radius)], fill=ink)

    def polygon(self, points: Points, ink: Ink, round_: float = 0.0) -> None:
        """Fill a polygon, grown outwards by `round_` with round corners."""
        pixels = [(self._at(x), self._at(y)) for x, y in points]
        self._pen.polygon(pixels, fill=ink)
        if round_ > 0.0:
            width = round(2.0 * round_ / (2.0 * _EXTENT) * _PIXELS)
            self._pen.line([*pixels, pixels[0]], fill=ink, width=width)
            for x, y in points:
                self.disc(round_, ink, x, y)

    def stroke(self, points: Points, width: float, ink: Ink) -> None:
        pixels = [(self._at(x), self._at(y)) for x, y in points]
        self._pen.line(pixels, fill=ink, width=round(width / (2.0 * _EXTENT) * _PIXELS), joint="curve")
        for x, y in points:
            self.disc(width / 2.0, ink, x, y)

    def text(self, words: str, width: float, height: float, weight: float, ink: Ink, y: float = 0.0) -> None:
        """Write bold text stretched to exactly `width` x `height`, centred at (0, y)."""
        font = ImageFont.load_default(size=120)
        stencil = Image.new("L", (160 * len(words), 260), 0)
        ImageDraw.Draw(stencil).text((40, 50), words, fill=255, font=font, stroke_width=round(weight))
        box = stencil.getbbox()
        if box is None:
            return
        size = round(width / (2 * _EXTENT) * _PIXELS), round(height / (2 * _EXTENT) * _PIXELS)
        stencil = stencil.crop(box).resize(size, Image.Resampling.LANCZOS)
        corner = round(self._at(0.0) - size[0] / 2), round(self._at(y) - size[1] / 2)
        self.image.paste((*ink, 255), (corner[0], corner[1]), stencil)


def _circle_points(count: int, radius: float, start: float) -> list[tuple[float, float]]:
    angles = [math.radians(start + 360.0 * i / count) for i in range(count)]
    return [(radius * math.cos(a), radius * math.sin(a)) for a in angles]


def _square(half: float) -> list[tuple[float, float]]:
    return [(-half, -half), (half, -half), (half, half), (-half, half)]


def _triangle(face: _Face, up: bool) -> None:
    """Draw the white triangle with its wide red border, point up or down."""
    sign = 1.0 if up else -1.0
    for size, ink, corner in ((0.92, WHITE, 0.11), (0.88, RED, 0.10), (0.575, WHITE, 0.05)):
        height = 0.22 * sign
        points = [
            (x, y * sign + height)
            for x, y in ((0.0, -size * 1.15), (size, size * 0.58), (-size, size * 0.58))
        ]
        face.polygon(points, ink, corner)


def _stop(face: _Face, variant: int) -> None:
    face.polygon(_circle_points(8, 1.05, 22.5), WHITE)
    face.polygon(_circle_points(8, 0.97, 22.5), RED)
    face.text("STOP", 1.52, 0.70, 7, WHITE)


def _yield(face: _Face, variant: int) -> None:
    _triangle(face, up=False)


def _no_entry(face: _Face, variant: int) -> None:
    face.disc(1.0, WHITE)
    face.disc(0.94, RED)
    face.polygon([(-0.66, -0.16), (0.66, -0.16), (0.66, 0.16), (-0.66, 0.16)], WHITE, 0.03)


def _priority_road(face: _Face, variant: int) -> None:
    face.polygon([(0, -0.96), (0.96, 0), (0, 0.96), (-0.96, 0)], BLACK, 0.06)
    face.polygon([(0, -0.93), (0.93, 0), (0, 0.93), (-0.93, 0)], WHITE, 0.06)
    face.polygon([(0, -0.63), (0.63, 0), (0, 0.63), (-0.63, 0)], BLACK, 0.05)
    face.polygon([(0, -0.60), (0.60, 0), (0, 0.60), (-0.60, 0)], YELLOW, 0.05)


def _parking(face: _Face, variant: int) -> None:
    face.polygon(_square(0.80), WHITE, 0.10)
    face.polygon(_square(0.74), BLUE, 0.09)
    face.polygon([(-0.36, -0.60), (-0.10, -0.60), (-0.10, 0.62), (-0.36, 0.62)], WHITE)
    face.disc(0.40, WHITE, 0.10, -0.20)
    face.polygon([(-0.30, -0.60), (0.10, -0.60), (0.10, 0.20), (-0.30, 0.20)], WHITE)
    face.disc(0.165, BLUE, 0.08, -0.20)
    face.polygon([(-0.10, -0.365), (0.08, -0.365), (0.08, -0.035), (-0.10, -0.035)], BLUE)


def _turn_right(face: _Face, variant: int) -> None:
    face.disc(1.0, WHITE)
    face.disc(0.94, BLUE)
    face.polygon([(-0.66, -0.15), (0.10, -0.15), (0.10, 0.15), (-0.66, 0.15)], WHITE)
    face.polygon([(0.04, -0.50), (0.72, 0.0), (0.04, 0.50)], WHITE, 0.02)


def _speed_limit(face: _Face, variant: int) -> None:
    words = SPEEDS[variant % len(SPEEDS)]
    face.disc(1.0, WHITE)
    face.disc(0.97, RED)
    face.disc(0.73, WHITE)
    face.text(words, 0.98 if len(words) == 2 else 1.20, 0.72, 6, BLACK)


def _pedestrian_crossing(face: _Face, variant: int) -> None:
    face.polygon(_square(0.80), WHITE, 0.10)
    face.polygon(_square(0.74), BLUE, 0.09)
    face.polygon([(0.0, -0.72), (0.74, 0.60), (-0.74, 0.60)], WHITE, 0.03)
    face.disc(0.115, BLACK, 0.02, -0.33)
    face.stroke([(0.0, -0.16), (-0.01, 0.12)], 0.22, BLACK)
    face.stroke([(-0.01, 0.14), (0.20, 0.46)], 0.13, BLACK)
    face.stroke([(-0.03, 0.14), (-0.20, 0.46)], 0.13, BLACK)
    face.stroke([(0.02, -0.14), (0.22, 0.05)], 0.09, BLACK)
    face.stroke([(-0.02, -0.14), (-0.20, 0.07)], 0.09, BLACK)
    for x in (-0.50, -0.17, 0.17, 0.50):
        face.polygon([(x - 0.09, 0.55), (x + 0.09, 0.55), (x + 0.10, 0.62), (x - 0.10, 0.62)], BLACK)


def _roundabout(face: _Face, variant: int) -> None:
    face.disc(1.0, WHITE)
    face.disc(0.94, BLUE)
    for start in (20.0, 140.0, 260.0):
        arc = [math.radians(start + step) for step in range(0, 71, 7)]
        face.stroke([(0.54 * math.cos(a), 0.54 * math.sin(a)) for a in arc], 0.19, WHITE)
        tip, base = math.radians(start + 106.0), math.radians(start + 64.0)
        head = [(0.56 * math.cos(tip), 0.56 * math.sin(tip))]
        head += [(r * math.cos(base), r * math.sin(base)) for r in (0.82, 0.26)]
        face.polygon(head, WHITE)


def _danger(face: _Face, variant: int) -> None:
    _triangle(face, up=True)
    face.polygon([(-0.12, -0.36), (0.12, -0.36), (0.075, 0.20), (-0.075, 0.20)], BLACK, 0.02)
    face.disc(0.115, BLACK, 0.0, 0.40)


_PAINTERS: dict[str, Callable[[_Face, int], None]] = {
    "stop": _stop,
    "yield": _yield,
    "no entry": _no_entry,
    "priority road": _priority_road,
    "parking": _parking,
    "turn right": _turn_right,
    "speed limit": _speed_limit,
    "pedestrian crossing": _pedestrian_crossing,
    "roundabout": _roundabout,
    "danger": _danger,
}


@lru_cache(maxsize=64)
def _texture(sign: str, variant: int) -> Image.Image:
    """Return the face, premultiplied, so that resampling leaves no dark fringe."""
    face = _Face()
    _PAINTERS[sign](face, variant)
    return face.image.convert("RGBa").reduce(2)


def place(
    sign: str, variant: int, *, x: float, y: float, half: float, degrees: float, squeeze: float
) -> tuple[Array, Array]:
    """Draw a sign face into the picture.

    Args:
        sign: one of the ten class names.
        variant: chooses the number on a speed limit.
        x: centre in pixels.
        y: centre in pixels.
        half: half-height in pixels.
        degrees: rotation, clockwise.
        squeeze: width over height, below 1 for a plate seen from the side.

    Returns:
        Premultiplied colour (64, 64, 3) and coverage (64, 64), both in [0, 1].
    """
    variant = variant % len(SPEEDS) if sign == "speed limit" else 0
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    gain = _TEXTURE / (2.0 * _EXTENT * half)
    # x_in = gain * R(-angle) * S(1/squeeze) * (pixel - centre) + middle of the texture
    a, b = gain * cos / squeeze / SUPERSAMPLE, gain * sin / SUPERSAMPLE
    d, e = -gain * sin / squeeze / SUPERSAMPLE, gain * cos / SUPERSAMPLE
    # only the box around the sign is resampled: a third of the picture on average
    reach = half * (1.0 + 0.45 * abs(math.sin(2.0 * math.radians(degrees)))) * _EXTENT + 1.0
    x0, x1 = max(0, math.floor(x - reach)), min(SIZE, math.ceil(x + reach))
    y0, y1 = max(0, math.floor(y - reach)), min(SIZE, math.ceil(y + reach))
    left, top = (x - x0) * SUPERSAMPLE, (y - y0) * SUPERSAMPLE
    middle = _TEXTURE / 2.0
    picture = _texture(sign, variant).transform(
        ((x1 - x0) * SUPERSAMPLE, (y1 - y0) * SUPERSAMPLE),
        Image.Transform.AFFINE,
        (a, b, middle - a * left - b * top, d, e, middle - d * left - e * top),
        Image.Resampling.BILINEAR,
    )
    pixels = np.zeros((SIZE, SIZE, 4), dtype=np.float32)
    pixels[y0:y1, x0:x1] = np.asarray(picture.reduce(SUPERSAMPLE), dtype=np.float32) / np.float32(255.0)
    return pixels[..., :3], pixels[..., 3]
