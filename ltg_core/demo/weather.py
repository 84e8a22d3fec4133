"""The conditions of the road-sign world: four kinds of light and weather, four states of the sign.

A light works on three layers: the background, each surface in front of it (sign, pole, leaves) and the
finished picture. A state works on the face of the sign or adds something in front of it. Surfaces are
premultiplied by their coverage.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ltg_core.demo.paint import (
    COLUMNS,
    ROWS,
    SIZE,
    Array,
    Mask,
    colour,
    field,
    glow,
    over,
    smoothstep,
    soften,
)
from ltg_core.demo.scenery import Backdrop

LIGHT = ("night", "fog", "rain", "low sun")
STATE = ("snow", "graffiti", "branches", "tilted", "faded")

_SPRAY = (
    (0.10, 0.10, 0.12),
    (0.10, 0.62, 0.70),
    (0.90, 0.30, 0.62),
    (0.35, 0.72, 0.18),
    (0.52, 0.22, 0.72),
    (0.96, 0.55, 0.08),
    (0.88, 0.90, 0.93),
)


@dataclass(frozen=True)
class Air:
    """A light (or ""), its strength 0..1, the centre and half-height of the sign, the side of the sun."""

    light: str
    severity: float
    x: float
    y: float
    half: float
    sun: float
    rng: np.random.Generator


def _grey(image: Array) -> Array:
    return np.asarray(image @ colour(0.30, 0.59, 0.11), dtype=np.float32)[..., None]


def _fog_colour(air: Air) -> Array:
    return colour(0.80, 0.825, 0.845) - np.float32(0.05 * air.severity)


def light_background(air: Air, scene: Backdrop) -> Array:
    """Return the background (64, 64, 3) under the light."""
    image, depth, s = scene.image, scene.depth, air.severity
    sky = smoothstep(0.86, 1.0, depth)
    if air.light == "night":
        return _night_background(air, scene, sky)
    if air.light == "fog":
        cover = 1.0 - np.exp(-(0.35 + depth) * (0.8 + 3.4 * s))
        return over(image, _fog_colour(air), cover * (0.94 + 0.06 * field(air.rng, 4)))
    if air.light == "rain":
        cloud = (0.62 - 0.20 * s) + 0.16 * field(air.rng, 3, 7) + 0.10 * ROWS / SIZE
        wet = over(image, cloud[..., None] * colour(0.95, 1.0, 1.07), sky)
        wet = wet + (_grey(wet) - wet) * (0.35 + 0.35 * s)
        wet = over(wet, colour(0.58, 0.62, 0.66), (0.15 + 0.35 * s) * depth * (1.0 - sky))
        return _reflection(air, scene, wet * (0.80 - 0.22 * s))
    if air.light == "low sun":
        return _dusk_background(air, scene, sky)
    return image


def _night_background(air: Air, scene: Backdrop, sky: Array) -> Array:
    """Darken to blue, keep lit windows, add lamps and the headlights' pool on the road."""
    s, rng = air.severity, air.rng
    ramp = (ROWS / scene.horizon).clip(0.0, 1.0)[..., None] ** 2
    heaven = colour(0.045, 0.065, 0.15) * (1.5 - 0.5 * s) + ramp * (
        colour(0.17, 0.15, 0.22) * (1.25 - 0.5 * s)
    )
    dark = scene.image * (colour(0.27, 0.31, 0.45) * (1.35 - 0.72 * s))
    lit = smoothstep(0.22, 0.42, scene.image[..., 0] - scene.image[..., 2])
    dark = over(dark, colour(0.95, 0.72, 0.36), lit * (scene.depth > 0.3) * (1.0 - sky) * 0.75)
    image = over(dark, heaven, sky)
    pool = glow(air.x, SIZE + 2.0, 15.0, 0.75) * (scene.horizon < ROWS)
    image = image + pool[..., None] * colour(0.42, 0.38, 0.28) * (1.0 - 0.35 * s)
    for x, y in scene.lamps:
        size = float(rng.uniform(1.3, 3.0))
        tone = (colour(1.0, 0.74, 0.36), colour(1.0, 0.88, 0.66), colour(0.95, 0.36, 0.22))[
            int(rng.integers(3))
        ]
        distance = np.sqrt((COLUMNS - x) ** 2 + (ROWS - y) ** 2)
        disc = 1.0 - smoothstep(size - 0.6, size + 0.6, distance)
        image = image + (disc * 0.62 + glow(x, y, size * 2.4) * 0.26)[..., None] * tone
    return np.asarray(image, dtype=np.float32)


def _reflection(air: Air, scene: Backdrop, image: Array) -> Array:
    """Mirror what stands above the horizon into the wet ground."""
    row = int(scene.horizon)
    below = SIZE - row
    mirror = image.copy()
    taken = image[max(0, row - below) : row][::-1]
    mirror[row : row + len(taken)] = taken
    mirror = soften(soften(mirror, 0.33), 0.33)
    bands = 0.5 + 0.5 * field(air.rng, 5, 12)
    cover = smoothstep(scene.horizon, scene.horizon + 4.0, ROWS) * (0.40 + 0.35 * air.severity) * bands
    return over(image, mirror * 1.12, cover)


def _sun_place(air: Air) -> tuple[float, float]:
    """Put the sun beside the sign, partly behind its edge."""
    x = air.x + air.sun * (air.half + 5.0)
    return float(np.clip(x, 5.0, SIZE - 5.0)), air.y + air.half * 0.35


def _dusk_background(air: Air, scene: Backdrop, sky: Array) -> Array:
    s = air.severity
    x, y = _sun_place(air)
    ramp = (ROWS / scene.horizon).clip(0.0, 1.0)[..., None]
    heaven = colour(0.46, 0.54, 0.74) + (colour(1.0, 0.68, 0.34) - colour(0.46, 0.54, 0.74)) * ramp**1.2
    heaven = heaven * (0.85 + 0.3 * _grey(scene.image))
    image = scene.image * (colour(1.0 - 0.10 * s, 0.84 - 0.20 * s, 0.70 - 0.28 * s) * (0.95 - 0.28 * s))
    image = over(image, colour(0.96, 0.62, 0.32), scene.depth * (0.25 + 0.2 * s) * (1.0 - sky))
    image = over(image, heaven, sky * (0.75 + 0.25 * s))
    # long shadows run from the horizon below the sun towards the viewer
    below = smoothstep(scene.horizon, scene.horizon + 3.0, ROWS)
    fan = (COLUMNS - x) / (ROWS - scene.horizon + 8.0)
    stripes = smoothstep(0.15, 0.8, np.sin(fan * 4.0 + float(air.rng.uniform(0, 6))).astype(np.float32))
    image = image * (1.0 - 0.36 * (below * stripes))[..., None]
    image = image + (glow(x, SIZE, 9.0, 1.6) * below)[..., None] * colour(0.40, 0.24, 0.08)
    disc = 1.0 - smoothstep(3.6, 5.2, np.sqrt((COLUMNS - x) ** 2 + (ROWS - y) ** 2))
    return over(image, colour(1.0, 0.96, 0.80), disc)


def light_surface(air: Air, rgb: Array, alpha: Array, *, depth: float = 0.15, glows: bool = False) -> Array:
    """Return a premultiplied surface under the light; `glows` marks retroreflective sheeting."""
    s = air.severity
    if air.light == "night":
        if not glows:
            return np.asarray(rgb * (colour(0.30, 0.32, 0.42) * (1.2 - 0.6 * s)), dtype=np.float32)
        beam = glow(air.x, air.y + air.half * 0.5, air.half * 1.05)[..., None]
        level = (0.62 - 0.40 * s) + beam * (0.52 - 0.08 * s)
        return np.asarray(rgb * level * colour(1.0, 0.94, 0.82), dtype=np.float32)
    if air.light == "fog":
        cover = (1.0 - math.exp(-(0.10 + depth) * (0.6 + 3.0 * s))) * 0.95
        return np.asarray(rgb * (1.0 - cover) + alpha[..., None] * _fog_colour(air) * cover, dtype=np.float32)
    if air.light == "rain":
        dull = rgb + (_grey(rgb) - rgb) * (0.12 + 0.18 * s)
        return np.asarray(dull * colour(0.90, 0.94, 1.0) * (0.92 - 0.20 * s), dtype=np.float32)
    if air.light == "low sun":
        return np.asarray(rgb * colour(1.0, 0.84, 0.68) * (0.92 - 0.22 * s), dtype=np.float32)
    return rgb


def finish(air: Air, image: Array) -> Array:
    """Add what lies between the lens and the scene: streaks, drops, flare, haze."""
    s = air.severity
    if air.light == "rain":
        return _rainfall(air, image)
    if air.light == "low sun":
        x, y = _sun_place(air)
        veil = glow(x, y, 24.0) * (0.22 + 0.34 * s) + glow(x, y, 8.5) * 0.55
        image = 1.0 - (1.0 - np.clip(image, 0, 1)) * (
            1.0 - np.clip(veil[..., None] * colour(1.0, 0.80, 0.48), 0, 1)
        )
        for step, size, strength in ((0.75, 2.6, 0.10), (1.35, 4.2, 0.12), (1.8, 2.2, 0.14)):
            ghost_x, ghost_y = x + (32 - x) * step * 1.2, y + (36 - y) * step * 1.2 + 4 * step
            ring = 1.0 - smoothstep(
                size - 1, size + 1, np.sqrt((COLUMNS - ghost_x) ** 2 + (ROWS - ghost_y) ** 2)
            )
            image = image + ring[..., None] * colour(1.0, 0.62, 0.30) * strength * s
        return np.asarray(image, dtype=np.float32)
    if air.light == "fog":
        return over(image, _fog_colour(air), (0.10 + 0.16 * s) * field(air.rng, 3, 4))
    return image


def _rainfall(air: Air, image: Array) -> Array:
    s, rng = air.severity, air.rng
    streaks = Mask()
    slant = float(rng.uniform(-0.28, 0.28))
    for _ in range(round(12 + 26 * s)):
        x, y, length = float(rng.uniform(-4, 68)), float(rng.uniform(-8, 62)), float(rng.uniform(6, 13))
        streaks.stroke([(x, y), (x + slant * length, y + length)], 1.6, float(rng.uniform(0.4, 0.9)))
    image = over(image, colour(0.86, 0.90, 0.94), streaks.done(0.5) * (0.34 + 0.30 * s))
    for _ in range(round(2 + 5 * s)):
        x, y, r = float(rng.uniform(3, 61)), float(rng.uniform(3, 61)), float(rng.uniform(1.6, 2.9))
        distance = np.sqrt((COLUMNS - x) ** 2 + ((ROWS - y) / 1.15) ** 2)
        body = 1.0 - smoothstep(r - 0.7, r + 0.7, distance)
        lens = 0.45 + 0.42 * np.clip((ROWS - y) / r, -1.0, 1.0)
        image = over(image, lens[..., None] * colour(0.94, 1.0, 1.06), body * 0.55)
    return image


# ---- states of the sign ----


def faded(face: Array, alpha: Array, severity: float, rng: np.random.Generator) -> Array:
    """Bleach a premultiplied face, with rust at the edges and peeled patches."""
    a = alpha[..., None]
    grey = _grey(face)
    pale = grey + (face - grey) * (0.76 - 0.34 * severity)
    lift = 0.30 + 0.18 * severity
    pale = pale + (a * colour(0.84, 0.83, 0.78) - pale) * lift
    uneven = field(rng, 5)
    pale = pale + (a * colour(0.88, 0.87, 0.82) - pale) * (0.30 * severity * uneven)[..., None]
    edge = np.clip(alpha - soften(soften(soften(alpha, 0.33), 0.33), 0.33), 0.0, 1.0) * 2.2
    rust = smoothstep(0.66, 0.86, field(rng, 7)) * (0.25 + 0.40 * severity)
    rust = np.clip(rust + edge * smoothstep(0.45, 0.7, field(rng, 6)), 0.0, 0.65)
    pale = pale + (a * colour(0.50, 0.33, 0.20) - pale) * (rust * 0.8)[..., None]
    return np.asarray(pale, dtype=np.float32)


def graffiti(face: Array, alpha: Array, air: Air) -> Array:
    """Spray two or three fat strokes with drips over a premultiplied face."""
    rng, s, half = air.rng, air.severity, air.half
    order = rng.permutation(len(_SPRAY))
    for index in range(2 if s < 0.6 else 3):
        mask = Mask()
        height = (-0.45, 0.35, -0.05)[index] + float(rng.uniform(-0.15, 0.15))
        phase, bend = float(rng.uniform(0, 6.3)), float(rng.uniform(0.18, 0.36))
        turns, lean = float(rng.uniform(2.2, 4.6)), float(rng.uniform(-0.35, 0.35))
        path = []
        for t in np.linspace(-0.85, 0.85, 12):
            wave = bend * math.sin(turns * t + phase) + lean * t
            path.append((air.x + half * float(t), air.y + half * (height + wave)))
        width = half * (0.16 + 0.07 * s)
        mask.stroke(path, width)
        for at in rng.integers(2, 10, 2):
            x, y = path[int(at)]
            mask.stroke([(x, y), (x, y + half * float(rng.uniform(0.25, 0.55)))], max(1.5, width * 0.35))
        tone = np.array(_SPRAY[int(order[index])], dtype=np.float32)
        cover = mask.done(0.55) * (0.80 + 0.14 * s)
        face = over(face, alpha[..., None] * tone, cover)
    return face


def snowed(face: Array, alpha: Array, air: Air) -> Array:
    """Cover the top 30 to 55 percent of a premultiplied face with a soft snow cap."""
    rng, s = air.rng, air.severity
    inside = alpha > 0.5
    rows = np.flatnonzero(inside.any(axis=1))
    top, bottom = float(rows[0]), float(rows[-1] + 1)
    share = 0.27 + 0.22 * s
    line = top + (bottom - top) * share + (field(rng, 5)[:1] - 0.5) * air.half * 0.42
    cover = 1.0 - smoothstep(-1.1, 1.1, ROWS - line)
    frost = (
        smoothstep(0.55, 0.8, field(rng, 9))
        * (0.25 + 0.3 * s)
        * (1.0 - smoothstep(0.0, air.half, ROWS - line))
    )
    rim = np.clip(1.0 - np.abs(ROWS - line + 0.6) / 1.8, 0.0, 1.0)
    white = (0.955 - 0.14 * rim + 0.03 * field(rng, 6))[..., None] * colour(0.98, 0.99, 1.02)
    weight = np.maximum(cover, frost)[..., None]
    return np.asarray(face + (alpha[..., None] * white - face) * weight, dtype=np.float32)


def snow_ground(air: Air, scene: Backdrop) -> Backdrop:
    """Whiten the ground, dust what stands on it, and pale the sky."""
    s = air.severity
    ground = smoothstep(scene.horizon - 1.0, scene.horizon + 3.0, ROWS)
    patches = smoothstep(0.15, 0.55, field(air.rng, 6, 9) + 0.35 * s)
    white = (0.86 + 0.08 * field(air.rng, 4, 8))[..., None] * colour(0.97, 0.99, 1.03)
    cover = np.maximum(ground * patches * (0.70 + 0.25 * s), (1.0 - ground) * (0.25 + 0.22 * s))
    return Backdrop(over(scene.image, white, cover), scene.depth, scene.lamps, scene.horizon)


def snowflakes(air: Air, image: Array) -> Array:
    """Let soft flakes fall in front of everything."""
    rng, flakes, near = air.rng, Mask(), Mask()
    for x, y, r in rng.uniform((0, 0, 0.75), (SIZE, SIZE, 1.15), (round(14 + 26 * air.severity), 3)):
        flakes.disc(float(x), float(y), float(r))
    for x, y, r in rng.uniform((0, 0, 1.3), (SIZE, SIZE, 2.0), (round(2 + 4 * air.severity), 3)):
        near.disc(float(x), float(y), float(r), 0.7)
    level = 0.62 if air.light == "night" else 0.98
    white = colour(0.98, 0.99, 1.0) * np.float32(level)
    return over(over(image, white, flakes.done(0.4) * 0.9), white, near.done(0.9))


def snow_cap(air: Air, alpha: Array) -> Array:
    """Return the coverage (64, 64) of the snow that lies on top of the plate."""
    lifted = np.zeros_like(alpha)
    for shift in (1, 2):
        lifted[:-shift] = np.maximum(lifted[:-shift], alpha[shift:])
    thick = smoothstep(0.25, 0.55, field(air.rng, 8)[:1] + 0.2)
    top_half = 1.0 - smoothstep(air.y - air.half * 0.35, air.y, ROWS)
    return np.asarray(np.clip(lifted - alpha, 0.0, 1.0) * thick * top_half, dtype=np.float32)


def branches(air: Air, image: Array) -> Array:
    """Hang out-of-focus leafy twigs in front of the sign, hiding 25 to 50 percent of it."""
    rng, s, half = air.rng, air.severity, air.half
    side = 1.0 if rng.random() < 0.5 else -1.0
    layers = [Mask() for _ in range(4)]  # wood, dark, middle and light leaves
    for index in range(2 + round(2.4 * s)):
        reach = (0.15, -0.25, 0.35, -0.1)[index] + float(rng.uniform(-0.15, 0.15))
        start = (
            air.x + side * (half + 12.0),
            air.y + half * (-1.25 + 0.62 * index) + float(rng.uniform(-3, 3)),
        )
        end = (air.x - side * half * reach, start[1] + half * float(rng.uniform(0.1, 0.7)))
        sag = float(rng.uniform(-0.2, 0.2)) * half
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 - sag)
        layers[0].stroke([start, middle, end], 1.6)
        for t in rng.uniform(0.05, 1.0, 7 + round(4 * s)):
            u = float(t)
            x = (1 - u) ** 2 * start[0] + 2 * u * (1 - u) * middle[0] + u * u * end[0]
            y = (1 - u) ** 2 * start[1] + 2 * u * (1 - u) * middle[1] + u * u * end[1]
            _leaf(layers[1 + int(rng.integers(3))], rng, x, y, half * float(rng.uniform(0.20, 0.30)))
    autumn = rng.random() < 0.2
    tone = np.array((0.55, 0.34, 0.10) if autumn else (0.24, 0.40, 0.12), dtype=np.float32)
    blur = float(rng.uniform(0.5, 0.85))
    tones = (colour(0.24, 0.18, 0.13), tone * np.float32(0.62), tone, tone * np.float32(1.45))
    for mask, leaf_colour in zip(layers, tones, strict=True):
        cover = mask.done(blur)
        lit = light_surface(
            air, np.asarray(cover[..., None] * leaf_colour, dtype=np.float32), cover, depth=0.06
        )
        image = np.asarray(image * (1.0 - cover[..., None]) + lit, dtype=np.float32)
    return image


def _leaf(mask: Mask, rng: np.random.Generator, x: float, y: float, size: float) -> None:
    """Draw a pointed leaf hanging from (x, y)."""
    angle = float(rng.uniform(0.15, 0.85)) * math.pi
    x += float(rng.uniform(-1.5, 1.5))
    ahead, across = (math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))
    outline = (
        (0.0, 0.0),
        (0.35, 0.30),
        (0.85, 0.34),
        (1.4, 0.18),
        (1.9, 0.0),
        (1.4, -0.18),
        (0.85, -0.34),
        (0.35, -0.30),
    )
    scale = max(2.0, size)
    mask.polygon(
        [
            (x + scale * (u * ahead[0] + v * across[0]), y + scale * (u * ahead[1] + v * across[1]))
            for u, v in outline
        ]
    )
