"""Layered backgrounds of the road-sign world: sky, hills, trees, houses, roads."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ltg_core.demo.paint import ROWS, SIZE, Array, Canvas, Colour, colour, field, mix, shade, smoothstep, vary

HAZE: Colour = (0.74, 0.80, 0.87)
_LEAF: tuple[Colour, ...] = ((0.22, 0.36, 0.15), (0.30, 0.42, 0.17), (0.18, 0.31, 0.18), (0.48, 0.38, 0.14))
_WALL: tuple[Colour, ...] = (
    (0.66, 0.56, 0.47),
    (0.58, 0.36, 0.29),
    (0.72, 0.70, 0.66),
    (0.48, 0.53, 0.60),
    (0.80, 0.72, 0.56),
    (0.52, 0.50, 0.49),
)
_ROOF: tuple[Colour, ...] = ((0.52, 0.25, 0.18), (0.34, 0.32, 0.34), (0.44, 0.30, 0.24))


@dataclass(frozen=True)
class Backdrop:
    """A background: colour (64, 64, 3), depth (64, 64; 0 near, 1 sky), road cover (64, 64), horizon row."""

    image: Array
    depth: Array
    lamps: tuple[tuple[float, float], ...]
    horizon: float


@dataclass(frozen=True)
class _Place:
    """What every layer needs: pen, randomness, where the horizon is, whence the light, day or night."""

    canvas: Canvas
    rng: np.random.Generator
    horizon: float
    sun: float
    night: bool

    def pick(self, colours: tuple[Colour, ...]) -> Colour:
        return vary(self.rng, colours[int(self.rng.integers(len(colours)))])


def _sky(rng: np.random.Generator, horizon: float) -> Array:
    top = colour(
        *vary(rng, ((0.27, 0.50, 0.82), (0.36, 0.58, 0.86), (0.46, 0.62, 0.80))[int(rng.integers(3))], 0.06)
    )
    low = colour(*vary(rng, (0.80, 0.87, 0.93), 0.04))
    ramp = np.clip(ROWS / horizon, 0.0, 1.0)[..., None] ** 0.9
    sky = top + (low - top) * ramp
    shapes = 0.65 * field(rng, 3, 6) + 0.35 * field(rng, 7, 12)
    cover = smoothstep(0.5, 0.78, shapes) * float(rng.uniform(0.3, 0.95))
    return np.asarray(sky + (0.97 - sky) * cover[..., None], dtype=np.float32)


def _ridge(place: _Place, base: float, height: float, bumps: float, fill: Colour, depth: float) -> None:
    """Draw a hill or mountain line as a sum of three waves."""
    phases = place.rng.uniform(0.0, 2.0 * math.pi, 3)
    points = []
    for x in range(-2, SIZE + 5, 3):
        wave = sum(
            math.sin(bumps * k * x / SIZE * 2.0 * math.pi + p) / k
            for k, p in zip((1, 2, 4), phases, strict=True)
        )
        points.append((float(x), base - height * (0.5 + 0.4 * wave)))
    place.canvas.polygon([*points, (SIZE + 4.0, SIZE), (-4.0, SIZE)], fill, depth)


def _crown(place: _Place, x: float, y: float, radius: float, fill: Colour, depth: float) -> None:
    """Draw a leafy crown: dark blobs below, lighter ones towards the light."""
    rng = place.rng
    for factor, shift, count in ((0.72, 0.0, 4), (1.0, 0.22, 4), (1.28, 0.42, 3)):
        for dx, dy in rng.uniform(-0.55, 0.55, (count, 2)):
            at_x = x + radius * (float(dx) + place.sun * shift * 0.7)
            at_y = y + radius * (float(dy) - shift)
            place.canvas.disc(at_x, at_y, radius * (0.72 - shift * 0.6), shade(fill, factor), depth)


def _tree(place: _Place, x: float, ground: float, height: float, fill: Colour, depth: float) -> None:
    trunk = mix((0.30, 0.23, 0.17), HAZE, depth * 0.4)
    place.canvas.box(x - height * 0.05, ground - height * 0.5, x + height * 0.05, ground, trunk, depth)
    _crown(place, x, ground - height * 0.66, height * 0.33, fill, depth)


def _conifer(place: _Place, x: float, ground: float, height: float, fill: Colour, depth: float) -> None:
    canvas, side = place.canvas, place.sun
    canvas.box(x - height * 0.03, ground - height * 0.2, x + height * 0.03, ground, (0.26, 0.20, 0.15), depth)
    for top, bottom, width in ((1.0, 0.55, 0.15), (0.78, 0.32, 0.21), (0.55, 0.1, 0.27)):
        peak, foot = ground - height * top, ground - height * bottom
        canvas.polygon(
            [(x, peak), (x + width * height, foot), (x - width * height, foot)], shade(fill, 0.75), depth
        )
        lit = [(x, peak), (x + side * width * height, foot), (x + side * width * height * 0.1, foot)]
        canvas.polygon(lit, shade(fill, 1.15), depth)


def _tree_line(place: _Place, base: float, height: float, depth: float, count: int = 12) -> None:
    fill = mix(place.pick(_LEAF[:3]), HAZE, depth * 0.55)
    place.canvas.box(-1, base - height * 0.5, SIZE + 1, base + 1, shade(fill, 0.85), depth)
    for x in np.linspace(-2, SIZE + 2, count):
        radius = height * float(place.rng.uniform(0.35, 0.6))
        at = float(x) + float(place.rng.uniform(-2, 2))
        place.canvas.disc(
            at, base - height * 0.5, radius, shade(fill, float(place.rng.uniform(0.85, 1.1))), depth
        )


def _ground(place: _Place, fill: Colour) -> None:
    """Fill the ground in bands, nearer ones darker and closer."""
    far = mix(fill, HAZE, 0.30)
    rows = np.linspace(0.0, 1.0, 7) ** 1.6 * (SIZE - place.horizon) + place.horizon
    for index in range(6):
        amount = index / 5
        band = mix(far, shade(fill, 0.92), amount)
        place.canvas.box(-1, float(rows[index]), SIZE + 1, SIZE + 1, band, 0.62 * (1.0 - amount) + 0.05)


def _road(place: _Place, width: float, fill: Colour = (0.40, 0.40, 0.42), lines: bool = True) -> None:
    """Draw a road that runs to a point on the horizon, with edge lines and a dashed middle line."""
    rng, horizon = place.rng, place.horizon
    end = float(rng.uniform(12, 52))
    near = float(rng.uniform(10, 54))

    def across(offset: float, t: float) -> tuple[float, float]:
        """Map an offset (-1..1 of the road) and a nearness t (0 far, 1 near) to the picture."""
        centre = end + (near - end) * t
        return centre + offset * (0.8 + width * t), horizon + (SIZE + 1 - horizon) * t

    steps = (0.0, 0.18, 0.45, 1.0)
    for first, last in pairwise(steps):
        tone = mix(mix(fill, HAZE, 0.35), fill, last)
        depth = 0.6 * (1 - last) + 0.05
        corners = [across(-1, first), across(1, first), across(1, last), across(-1, last)]
        place.canvas.polygon(corners, tone, depth)
    if not lines:
        return
    paint: Colour = (0.86, 0.86, 0.83)
    for edge in (-0.9, 0.9):
        place.canvas.polygon(
            [
                across(edge - 0.03, 0.1),
                across(edge + 0.03, 0.1),
                across(edge + 0.045, 1),
                across(edge - 0.045, 1),
            ],
            shade(paint, 0.95),
            0.2,
        )
    for start, stop in ((0.12, 0.2), (0.27, 0.42), (0.55, 0.82)):
        place.canvas.polygon(
            [across(-0.04, start), across(0.04, start), across(0.05, stop), across(-0.05, stop)],
            paint,
            0.3 * (1 - stop) + 0.05,
        )


def _building(place: _Place, left: float, width: float, top: float, depth: float) -> None:
    """Draw a block with a lit and a shaded side and rows of windows."""
    rng, canvas = place.rng, place.canvas
    wall = mix(place.pick(_WALL), HAZE, depth * 0.5)
    right, bottom = left + width, place.horizon + 1.5
    canvas.box(left, top, right, bottom, wall, depth)
    edge = width * 0.22
    if place.sun > 0:
        canvas.box(left, top, left + edge, bottom, shade(wall, 0.72), depth)
    else:
        canvas.box(right - edge, top, right, bottom, shade(wall, 0.72), depth)
    canvas.box(left - 0.4, top - 0.8, right + 0.4, top + 0.4, shade(wall, 0.82), depth)
    glass = mix((0.25, 0.31, 0.38), HAZE, depth * 0.45)
    columns = max(1, int(width / 4.2))
    step = width / columns
    for row in np.arange(top + 2.2, bottom - 3.0, 4.6):
        for column in range(columns):
            luck = float(rng.random())
            pane = glass if luck < 0.75 else mix(glass, (0.80, 0.86, 0.92), 0.5)
            if place.night and luck > 0.5:
                pane = (1.0, 0.86, 0.55)
            x = left + (column + 0.5) * step
            canvas.box(x - step * 0.25, float(row), x + step * 0.25, float(row) + 2.6, pane, depth)


def _house(place: _Place, left: float, width: float, height: float, depth: float) -> None:
    canvas, foot = place.canvas, place.horizon + 1.5
    wall, roof = mix(place.pick(_WALL), HAZE, 0.2), mix(place.pick(_ROOF), HAZE, 0.15)
    top, right = foot - height * 0.6, left + width
    canvas.box(left, top, right, foot, wall, depth)
    side = left if place.sun > 0 else right - width * 0.3
    canvas.box(side, top, side + width * 0.3, foot, shade(wall, 0.8), depth)
    canvas.polygon(
        [
            (left - 1, top),
            (left + width * 0.2, top - height * 0.42),
            (right - width * 0.2, top - height * 0.42),
            (right + 1, top),
        ],
        roof,
        depth,
    )
    canvas.box(
        right - width * 0.35,
        top - height * 0.55,
        right - width * 0.25,
        top - height * 0.3,
        shade(roof, 0.8),
        depth,
    )
    for fraction in (0.18, 0.5, 0.78):
        lit = place.rng.random() < 0.6 and place.night
        pane: Colour = (1.0, 0.84, 0.52) if lit else (0.30, 0.34, 0.40)
        x = left + fraction * width
        canvas.box(x, top + height * 0.15, x + width * 0.13, top + height * 0.38, pane, depth)


def _city(place: _Place) -> None:
    rng = place.rng
    for depth, low, high in ((0.78, 10, 26), (0.5, 18, 40)):
        x = float(rng.uniform(-8, 0))
        while x < SIZE:
            width = float(rng.uniform(9, 17))
            if depth > 0.6 or rng.random() < 0.68:
                _building(place, x, width, place.horizon - float(rng.uniform(low, high)), depth)
            x += width + float(rng.uniform(-0.5, 2))
    _ground(place, (0.50, 0.49, 0.47))
    _road(place, float(rng.uniform(26, 44)))
    if rng.random() < 0.6:
        _tree(
            place,
            float(rng.uniform(0, SIZE)),
            place.horizon + 3,
            float(rng.uniform(14, 22)),
            place.pick(_LEAF),
            0.35,
        )


def _forest(place: _Place) -> None:
    rng = place.rng
    _tree_line(place, place.horizon, 22, 0.8)
    conifers = rng.random() < 0.5
    _ground(place, place.pick(((0.34, 0.40, 0.20), (0.40, 0.40, 0.24))))
    _road(place, float(rng.uniform(20, 36)), (0.43, 0.42, 0.40), lines=bool(rng.random() < 0.5))
    for depth, count, low, high in ((0.6, 7, 24, 36), (0.4, 4, 32, 46)):
        for x in np.linspace(-3, SIZE + 3, count) + rng.uniform(-4, 4, count):
            draw = _conifer if conifers else _tree
            height = float(rng.uniform(low, high))
            fill = mix(place.pick(_LEAF), HAZE, depth * 0.3)
            draw(place, float(x), place.horizon + 3 * (1 - depth), height, fill, depth)


def _field(place: _Place) -> None:
    rng = place.rng
    _ridge(place, place.horizon + 2, float(rng.uniform(6, 13)), 0.8, mix((0.38, 0.48, 0.36), HAZE, 0.5), 0.82)
    _tree_line(place, place.horizon + 1, float(rng.uniform(3, 6)), 0.66, 16)
    crop = place.pick(((0.72, 0.63, 0.32), (0.45, 0.56, 0.24), (0.56, 0.58, 0.28), (0.58, 0.47, 0.34)))
    _ground(place, crop)
    end = float(rng.uniform(10, 54))
    for offset in np.linspace(-90, 90, 9):
        furrow = [(end + offset * 0.06, place.horizon + 1), (end + offset, SIZE), (end + offset + 9, SIZE)]
        place.canvas.polygon(furrow, shade(crop, 0.86), 0.3)
    if rng.random() < 0.7:
        _road(place, float(rng.uniform(16, 30)))
    _tree(
        place,
        float(rng.uniform(2, 62)),
        place.horizon + 2,
        float(rng.uniform(10, 20)),
        place.pick(_LEAF),
        0.5,
    )


def _suburb(place: _Place) -> None:
    rng = place.rng
    _tree_line(place, place.horizon, float(rng.uniform(8, 14)), 0.75)
    x = float(rng.uniform(-8, 2))
    while x < SIZE:
        width = float(rng.uniform(16, 24))
        _house(place, x, width, float(rng.uniform(15, 22)), 0.55)
        x += width + float(rng.uniform(2, 8))
    _ground(place, place.pick(((0.40, 0.52, 0.26), (0.46, 0.52, 0.30))))
    _road(place, float(rng.uniform(22, 38)))
    for at in rng.uniform(0, SIZE, 2):
        _tree(place, float(at), place.horizon + 3, float(rng.uniform(16, 26)), place.pick(_LEAF), 0.38)


def _mountains(place: _Place) -> None:
    rng = place.rng
    _ridge(place, place.horizon, float(rng.uniform(24, 32)), 1.0, (0.70, 0.76, 0.85), 0.88)
    _ridge(place, place.horizon + 2, float(rng.uniform(15, 21)), 1.3, (0.50, 0.58, 0.66), 0.78)
    _ridge(place, place.horizon + 2, float(rng.uniform(6, 11)), 1.6, (0.33, 0.43, 0.38), 0.66)
    _ground(place, place.pick(((0.42, 0.52, 0.26), (0.52, 0.52, 0.32))))
    _road(place, float(rng.uniform(18, 32)))
    for at in rng.uniform(0, SIZE, 3):
        _conifer(place, float(at), place.horizon + 3, float(rng.uniform(12, 24)), place.pick(_LEAF[:3]), 0.45)


def _highway(place: _Place) -> None:
    rng = place.rng
    _ridge(place, place.horizon + 2, float(rng.uniform(5, 12)), 1.0, mix((0.36, 0.46, 0.38), HAZE, 0.45), 0.8)
    _tree_line(place, place.horizon + 1, float(rng.uniform(5, 9)), 0.62, 14)
    _ground(place, place.pick(((0.46, 0.52, 0.30), (0.56, 0.52, 0.36))))
    _road(place, float(rng.uniform(44, 60)))
    rail, side = place.horizon + 3.0, 1.0 if rng.random() < 0.5 else -1.0
    start, stop = (32 - side * 8, 32 + side * 34)
    place.canvas.polygon(
        [(start, rail - 1), (stop, rail + 3), (stop, rail + 6), (start, rail)], (0.70, 0.72, 0.74), 0.3
    )


_PAINTERS: dict[str, Callable[[_Place], None]] = {
    "city": _city,
    "forest": _forest,
    "field": _field,
    "suburb": _suburb,
    "mountains": _mountains,
    "highway": _highway,
}
BACKGROUNDS: tuple[str, ...] = tuple(_PAINTERS)


def backdrop(kind: str, rng: np.random.Generator, *, sun: float, night: bool, blur: float) -> Backdrop:
    """Paint a background.

    Args:
        kind: one of `BACKGROUNDS`.
        rng: the only source of randomness.
        sun: the side the light comes from, -1 left or 1 right.
        night: lights the windows.
        blur: lens blur in pixels.
    """
    horizon = float(rng.uniform(40, 50))
    canvas = Canvas(_sky(rng, horizon))
    lamps = tuple(
        (float(x), float(y)) for x, y in zip(rng.uniform(3, 61, 6), rng.uniform(0.1, 0.95, 6), strict=True)
    )
    texture = 0.93 + 0.14 * field(rng, 9, 11)
    place = _Place(canvas, rng, horizon, sun, night)
    _PAINTERS[kind](place)
    image, depth = canvas.done(blur)
    solid = 1.0 - smoothstep(0.9, 1.0, depth)
    image = image * (1.0 + (texture - 1.0) * solid)[..., None]
    places = tuple((x, horizon - 26.0 * y * y + 2.0) for x, y in lamps)
    return Backdrop(np.asarray(image, dtype=np.float32), depth, places, horizon)
