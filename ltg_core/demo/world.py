"""A procedural world of road signs: ten classes under ten conditions, drawn from a handful of known factors.

Everything in a picture follows from its `Scene`, so that equal scenes give equal bytes and a condition can be
added to an otherwise unchanged scene ("twins").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltg_core.demo import weather
from ltg_core.demo.paint import COLUMNS, ROWS, SIZE, Array, Mask, colour, field, glow, over, soften, stream
from ltg_core.demo.scenery import BACKGROUNDS, backdrop
from ltg_core.demo.signs import place
from ltg_core.demo.weather import LIGHT, STATE, Air
from ltg_core.errors import InputError

__all__ = [
    "BACKGROUNDS",
    "CLASSES",
    "CONDITIONS",
    "CONDITION_PHRASES",
    "LIGHT",
    "SIZE",
    "STATE",
    "Scene",
    "article",
    "caption",
    "prompt",
    "render",
    "sample_scene",
]

CLASSES: tuple[str, ...] = (
    "stop",
    "yield",
    "no entry",
    "priority road",
    "parking",
    "turn right",
    "speed limit",
    "pedestrian crossing",
    "roundabout",
    "danger",
)
CONDITIONS: tuple[str, ...] = (
    "clear day",
    "night",
    "fog",
    "rain",
    "snow",
    "graffiti",
    "branches",
    "tilted",
    "faded",
    "low sun",
)
CONDITION_PHRASES: dict[str, str] = {
    "clear day": "on a clear day",
    "night": "at night",
    "fog": "in fog",
    "rain": "in the rain",
    "snow": "covered in snow",
    "graffiti": "with graffiti",
    "branches": "behind branches",
    "tilted": "that is tilted",
    "faded": "that is faded",
    "low sun": "in low sun",
}
MIN_SEVERITY = 0.35

_VIGNETTE = (1.0 - 0.17 * (((COLUMNS - 32.0) ** 2 + (ROWS - 32.0) ** 2) / np.float32(2048.0)) ** 1.5)[
    ..., None
]
_BACKDROP, _SIGN, _LIGHT, _STATE, _CAMERA, _FINISH, _LEAVES = range(7)


@dataclass(frozen=True)
class Scene:
    """The factors of one picture.

    Attributes:
        sign: one of `CLASSES`.
        conditions: `("clear day",)`, or one of `LIGHT` and/or one of `STATE`, in the order of `CONDITIONS`.
        severity: strength of the conditions, 0.35 to 1; 0 on a clear day.
        background: one of `BACKGROUNDS`.
        scale: height of the sign over the height of the picture.
        x: centre of the sign in pixels.
        y: centre of the sign in pixels, downwards.
        angle: rotation of an untilted sign in degrees, clockwise; its sign gives the direction of a tilt.
        squeeze: width over height of the face, below 1 for a plate seen from the side.
        sun: side the light comes from, -1 left or 1 right.
        warmth: colour of the daylight, -1 cool to 1 warm.
        brightness: exposure factor.
        noise: standard deviation of the sensor noise, in units of full scale.
        seed: everything else: the shapes of the background, of the strokes, of the noise.
    """

    sign: str
    conditions: tuple[str, ...]
    severity: float
    background: str
    scale: float
    x: float
    y: float
    angle: float
    seed: int
    squeeze: float = 1.0
    sun: float = 1.0
    warmth: float = 0.0
    brightness: float = 1.0
    noise: float = 0.006

    @property
    def light(self) -> str:
        """The light or weather, or an empty string."""
        return next((name for name in self.conditions if name in LIGHT), "")

    @property
    def state(self) -> str:
        """The state of the sign, or an empty string."""
        return next((name for name in self.conditions if name in STATE), "")

    @property
    def rotation(self) -> float:
        """The rotation of the face in degrees, clockwise: beyond +-20 when tilted."""
        if self.state != "tilted":
            return self.angle
        return self.angle * 0.3 + math.copysign(12.0 + 36.0 * self.severity, self.angle)

    def metadata(self) -> dict[str, str | float | int]:
        """Return the factors as one flat record, for a table."""
        return {
            "sign": self.sign,
            "condition": " + ".join(self.conditions),
            "light": self.light or "clear day",
            "state": self.state or "clean",
            "severity": round(self.severity, 3),
            "background": self.background,
            "scale": round(self.scale, 3),
            "x": round(self.x, 2),
            "y": round(self.y, 2),
            "rotation": round(self.rotation, 2),
            "brightness": round(self.brightness, 3),
            "noise": round(self.noise, 4),
            "seed": self.seed,
        }


def _check_sign(sign: str) -> None:
    if sign not in CLASSES:
        raise InputError(f"Unknown sign {sign!r}. Choose one of: {', '.join(CLASSES)}.")


def _ordered(conditions: Sequence[str]) -> tuple[str, ...]:
    """Validate a combination of conditions and return it in the order of `CONDITIONS`."""
    for name in conditions:
        if name not in CONDITIONS:
            raise InputError(f"Unknown condition {name!r}. Choose one of: {', '.join(CONDITIONS)}.")
    lights, states = [c for c in conditions if c in LIGHT], [c for c in conditions if c in STATE]
    alone = "clear day" not in conditions or tuple(conditions) == ("clear day",)
    if isinstance(conditions, str) or len(lights) > 1 or len(states) > 1 or not alone:
        raise InputError(
            f"Conditions {tuple(conditions)!r} cannot be combined. Give ('clear day',), or at most one of"
            f" {', '.join(LIGHT)} with at most one of {', '.join(STATE)}."
        )
    return tuple(name for name in CONDITIONS if name in conditions)


def sample_scene(rng: np.random.Generator, sign: str, conditions: tuple[str, ...]) -> Scene:
    """Draw the remaining factors of a picture.

    Args:
        rng: source of randomness; always advanced by the same number of draws.
        sign: one of `CLASSES`.
        conditions: see `Scene`; in any order; empty means a clear day.

    Raises:
        InputError: the sign or a condition is unknown, or the conditions cannot be combined.
    """
    _check_sign(sign)
    chosen = _ordered(conditions) or ("clear day",)
    severity = float(rng.uniform(MIN_SEVERITY, 1.0))
    scale = float(rng.uniform(0.45, 0.80))
    half = scale * SIZE / 2.0
    x = float(rng.uniform(max(half + 1.5, 24.0), min(SIZE - half - 1.5, 40.0)))
    low, high = half + 1.5, min(SIZE - half - 3.0, 37.0)
    y = float(rng.uniform(low, high)) if high > low else (low + high) / 2.0
    return Scene(
        sign=sign,
        conditions=chosen,
        severity=0.0 if chosen == ("clear day",) else severity,
        background=BACKGROUNDS[int(rng.integers(len(BACKGROUNDS)))],
        scale=scale,
        x=x,
        y=y,
        angle=float(rng.uniform(-6.0, 6.0)),
        seed=int(rng.integers(2**31)),
        squeeze=float(rng.uniform(0.88, 1.0)),
        sun=1.0 if rng.random() < 0.5 else -1.0,
        warmth=float(rng.uniform(-1.0, 1.0)),
        brightness=float(rng.uniform(0.90, 1.08)),
        noise=float(rng.uniform(0.003, 0.010)),
    )


def _metal(scene: Scene, air: Air, image: Array, rng: np.random.Generator) -> Array:
    """Add the pole, bent when the sign is tilted, and sometimes a second small plate below."""
    half, lean = air.half, math.tan(math.radians(max(-22.0, min(22.0, scene.rotation * 0.4))))
    foot = (scene.x - lean * (SIZE + 2 - scene.y), SIZE + 2.0)
    head = (scene.x + lean * half * 0.8, scene.y - half * 0.8)
    width = half * float(rng.uniform(0.11, 0.16)) + 0.7
    pole, gleam = Mask(), Mask()
    pole.stroke([head, foot], width)
    shift = scene.sun * width * 0.2
    gleam.stroke([(head[0] + shift, head[1]), (foot[0] + shift, foot[1])], width * 0.35)
    cover, light = pole.done(), gleam.done(0.4)
    grey = np.float32(rng.uniform(0.34, 0.50))
    surface = over(
        np.asarray(cover[..., None] * grey * colour(0.98, 1.0, 1.03), dtype=np.float32),
        colour(0.80, 0.81, 0.83),
        light * cover,
    )
    # the plate throws its shadow on the upper end of the pole
    surface = (
        surface * (0.72 + 0.28 * np.clip((ROWS - scene.y - half * 0.9) / (half * 0.3), 0.0, 1.0))[..., None]
    )
    image = image * (1.0 - cover[..., None]) + weather.light_surface(air, surface, cover)
    if rng.random() < 0.2 and scene.y + half < SIZE - 7:
        image = _second_plate(scene, air, image, lean)
    return np.asarray(image, dtype=np.float32)


def _second_plate(scene: Scene, air: Air, image: Array, lean: float) -> Array:
    half, top = air.half, scene.y + air.half * 1.06
    middle = scene.x - lean * (top + 4 - scene.y)

    def box(margin: float) -> list[tuple[float, float]]:
        left, right = middle - half * 0.62 + margin, middle + half * 0.62 - margin
        return [
            (left, top + margin),
            (right, top + margin),
            (right, top + half * 0.52 - margin),
            (left, top + half * 0.52 - margin),
        ]

    rim, inner = Mask(), Mask()
    rim.polygon(box(0.0))
    inner.polygon(box(0.8))
    bar = top + half * 0.26
    inner.stroke([(middle - half * 0.34, bar), (middle + half * 0.34, bar)], 1.3, 0.35)
    cover = rim.done()
    level = cover * np.float32(0.16) + inner.done() * np.float32(0.70)
    surface = np.asarray(level[..., None] * colour(1.0, 1.0, 0.98), dtype=np.float32)
    lit = weather.light_surface(air, surface, cover, glows=True)
    return np.asarray(image * (1.0 - cover[..., None]) + lit, dtype=np.float32)


def _plate(scene: Scene, air: Air, image: Array, rng: np.random.Generator) -> Array:
    """Add the face of the sign with its edge, shading and sheen."""
    variant = int(rng.integers(60))
    face, alpha = place(
        scene.sign,
        variant,
        x=scene.x,
        y=scene.y,
        half=air.half,
        degrees=scene.rotation,
        squeeze=scene.squeeze,
    )
    face = face * (1.0 + rng.normal(0.0, 0.02, 3)).astype(np.float32)
    u, v = (COLUMNS - scene.x) / air.half, (ROWS - scene.y) / air.half
    across = u * scene.sun - v * 0.8
    shading = 0.93 + 0.085 * np.clip(across, -1.3, 1.3)
    shading = shading * (0.97 + 0.05 * field(rng, 5))
    face = np.asarray(face * shading[..., None], dtype=np.float32)
    if scene.state == "faded":
        face = weather.faded(face, alpha, scene.severity, air.rng)
    elif scene.state == "graffiti":
        face = weather.graffiti(face, alpha, air)
    elif scene.state == "snow":
        face = weather.snowed(face, alpha, air)
    sheen = np.exp(-((across - float(rng.uniform(-0.4, 0.9))) ** 2) / 0.05) * float(rng.uniform(0.02, 0.12))
    face = face + (alpha * sheen)[..., None] * (1.0 - face)
    # the thickness of the plate shows on the side away from the light
    away = -int(scene.sun)
    edge = np.maximum(np.roll(alpha, away, axis=1), np.roll(alpha, 1, axis=0)) * np.float32(0.85)
    rim = weather.light_surface(
        air, np.asarray(edge[..., None] * colour(0.26, 0.27, 0.29), dtype=np.float32), edge
    )
    image = image * (1.0 - edge[..., None]) + rim
    lit = weather.light_surface(air, np.asarray(face, dtype=np.float32), alpha, glows=True)
    image = np.asarray(image * (1.0 - alpha[..., None]) + lit, dtype=np.float32)
    if scene.state == "snow":
        cap = weather.snow_cap(air, alpha)
        snow = np.asarray(cap[..., None] * colour(0.95, 0.97, 1.0), dtype=np.float32)
        lit = weather.light_surface(air, snow, cap, glows=True)
        image = np.asarray(image * (1.0 - cap[..., None]) + lit, dtype=np.float32)
    return image


def _camera(scene: Scene, image: Array, rng: np.random.Generator) -> Array:
    """Expose, tint, blur a little, darken the corners and add mild sensor noise."""
    warm = 0.035 * scene.warmth
    image = image * (colour(1.0 + warm, 1.0, 1.0 - warm) * np.float32(scene.brightness))
    image = soften(image, float(rng.uniform(0.02, 0.09)))
    image = image * _VIGNETTE
    grain = rng.standard_normal((SIZE, SIZE, 3), dtype=np.float32) * np.float32(scene.noise)
    return np.asarray(image + grain, dtype=np.float32)


def render(scene: Scene) -> NDArray[np.uint8]:
    """Draw a scene.

    Returns:
        uint8 image (64, 64, 3). The same scene gives the same bytes in every process.
    """
    _check_sign(scene.sign)
    _ordered(scene.conditions)

    def air(purpose: int) -> Air:
        return Air(
            scene.light,
            scene.severity,
            scene.x,
            scene.y,
            scene.scale * SIZE / 2.0,
            scene.sun,
            stream(scene.seed, purpose),
        )

    rng = stream(scene.seed, _SIGN)
    scenery = backdrop(
        scene.background, stream(scene.seed, _BACKDROP), sun=scene.sun, night=scene.light == "night", blur=0.7
    )
    state = air(_STATE)
    if scene.state == "snow":
        scenery = weather.snow_ground(state, scenery)
    image = weather.light_background(air(_LIGHT), scenery)
    # a soft dark halo of contact keeps pale signs apart from pale skies
    image = image * (1.0 - 0.10 * glow(scene.x, scene.y, scene.scale * SIZE * 0.42))[..., None]
    image = _metal(scene, state, np.asarray(image, dtype=np.float32), rng)
    image = _plate(scene, state, image, rng)
    if scene.state == "branches":
        image = weather.branches(air(_LEAVES), image)
    if scene.state == "snow":
        image = weather.snowflakes(air(_LEAVES), image)
    image = weather.finish(air(_FINISH), image)
    image = _camera(scene, image, stream(scene.seed, _CAMERA))
    return np.asarray(np.clip(image, 0.0, 1.0) * 255.0 + 0.5, dtype=np.uint8)


def article(sign: str) -> str:
    """Return "a" or "an" for a word, by its sound: "a one-way street", "an uneven road"."""
    word = sign.strip().lower()
    if word.startswith(("one", "uni", "use", "eu")) and not word.startswith("unin"):
        return "a"
    return "an" if word[:1] in {"a", "e", "i", "o", "u"} else "a"


def prompt(sign: str, conditions: tuple[str, ...] = ()) -> str:
    """Return the words for a sign and its conditions, the state of the sign before the light.

    Raises:
        InputError: the sign or a condition is unknown, or the conditions cannot be combined.
    """
    _check_sign(sign)
    chosen = _ordered(conditions)
    ordered = [c for c in chosen if c in STATE] + [c for c in chosen if c not in STATE]
    return " ".join([f"a photo of {article(sign)} {sign} sign", *(CONDITION_PHRASES[c] for c in ordered)])


def caption(scene: Scene, rng: np.random.Generator | None = None, drop_condition: float = 0.0) -> str:
    """Return the caption of a scene.

    Args:
        scene: what the picture shows.
        rng: needed when `drop_condition` is above 0.
        drop_condition: probability in [0, 1] of leaving the conditions out.

    Raises:
        InputError: the probability is outside [0, 1], or above 0 without `rng`.
    """
    if not 0.0 <= drop_condition <= 1.0:
        raise InputError(f"drop_condition is {drop_condition}; give a probability from 0 to 1.")
    if drop_condition > 0.0 and rng is None:
        raise InputError("drop_condition needs a random generator: pass rng=numpy.random.default_rng(seed).")
    dropped = rng is not None and drop_condition > 0.0 and rng.random() < drop_condition
    return prompt(scene.sign, () if dropped else scene.conditions)
