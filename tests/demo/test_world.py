"""The procedural road-sign world."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from ltg_core.demo import world
from ltg_core.errors import InputError


def _scene(sign: str = "stop", *conditions: str, seed: int = 5) -> world.Scene:
    return world.sample_scene(np.random.default_rng(seed), sign, conditions or ("clear day",))


def _difference(scene: world.Scene) -> float:
    clear = replace(scene, conditions=("clear day",), severity=0.0)
    return float(np.abs(world.render(scene).astype(float) - world.render(clear).astype(float)).mean())


def test_classes_and_conditions_are_the_agreed_ten_each() -> None:
    assert len(world.CLASSES) == len(set(world.CLASSES)) == 10
    assert len(world.CONDITIONS) == len(set(world.CONDITIONS)) == 10
    assert {"clear day", *world.LIGHT, *world.STATE} == set(world.CONDITIONS) == set(world.CONDITION_PHRASES)


def test_the_same_scene_gives_the_same_bytes() -> None:
    scene = _scene("parking", "night", "snow")
    assert world.render(scene).tobytes() == world.render(scene).tobytes()
    assert scene == _scene("parking", "snow", "night")


def test_another_process_draws_the_same_bytes() -> None:
    code = (
        "import hashlib, numpy as np; from ltg_core.demo import world;"
        "s = world.sample_scene(np.random.default_rng(5), 'stop', ('rain', 'graffiti'));"
        "print(hashlib.sha256(world.render(s).tobytes()).hexdigest())"
    )
    runs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(runs) == 1


def test_another_seed_gives_another_picture() -> None:
    scene = _scene()
    assert (world.render(scene) != world.render(replace(scene, seed=scene.seed + 1))).mean() > 0.3


@pytest.mark.parametrize("sign", world.CLASSES)
def test_every_class_renders_under_every_condition(sign: str) -> None:
    for condition in world.CONDITIONS:
        image = world.render(_scene(sign, condition))
        assert image.shape == (world.SIZE, world.SIZE, 3)
        assert image.dtype == np.uint8
        assert image.std() > 8


@pytest.mark.parametrize("light", world.LIGHT)
@pytest.mark.parametrize("state", world.STATE)
def test_every_light_combines_with_every_state(light: str, state: str) -> None:
    scene = _scene("yield", state, light)
    assert scene.light == light
    assert scene.state == state
    assert world.render(scene).std() > 5


@pytest.mark.parametrize("condition", world.CONDITIONS[1:])
def test_full_severity_is_further_from_the_clear_twin_than_the_least(condition: str) -> None:
    scenes = [_scene(sign, condition, seed=seed) for seed, sign in enumerate(world.CLASSES[:6])]
    least = np.mean([_difference(replace(scene, severity=0.35)) for scene in scenes])
    full = np.mean([_difference(replace(scene, severity=1.0)) for scene in scenes])
    assert full > least > 1.0


@pytest.mark.parametrize("background", world.BACKGROUNDS)
def test_every_background_renders(background: str) -> None:
    assert world.render(replace(_scene(), background=background)).std() > 10


def test_sampled_scenes_keep_the_sign_inside_the_picture() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        scene = world.sample_scene(rng, "danger", ("fog",))
        half = scene.scale * world.SIZE / 2
        assert 0.45 <= scene.scale <= 0.80
        assert 0.35 <= scene.severity <= 1.0
        assert min(scene.x, scene.y) >= half
        assert max(scene.x, scene.y) <= world.SIZE - half


def test_only_tilted_signs_turn_far() -> None:
    rng = np.random.default_rng(0)
    tilted = [abs(world.sample_scene(rng, "stop", ("tilted",)).rotation) for _ in range(100)]
    upright = [abs(world.sample_scene(rng, "stop", ("rain",)).rotation) for _ in range(100)]
    assert min(tilted) >= 20
    assert max(tilted) <= 50
    assert max(upright) <= 6


def test_a_clear_day_has_no_severity() -> None:
    assert _scene().severity == 0.0
    assert world.sample_scene(np.random.default_rng(5), "stop", ()).conditions == ("clear day",)


def test_captions_name_the_class_and_the_conditions() -> None:
    assert world.caption(_scene("stop")) == "a photo of a stop sign on a clear day"
    assert (
        world.caption(_scene("stop", "night", "graffiti")) == "a photo of a stop sign with graffiti at night"
    )
    assert world.prompt("no entry", ("fog",)) == "a photo of a no entry sign in fog"
    assert world.prompt("yield") == "a photo of a yield sign"
    for sign in world.CLASSES:
        for condition in world.CONDITIONS:
            words = world.prompt(sign, (condition,))
            assert sign in words
            assert words.endswith(world.CONDITION_PHRASES[condition])


def test_captions_leave_the_conditions_out_as_often_as_asked() -> None:
    rng, scene = np.random.default_rng(0), _scene("danger", "rain")
    words = [world.caption(scene, rng, 0.3) for _ in range(500)]
    assert 0.22 < words.count("a photo of a danger sign") / 500 < 0.38
    assert world.caption(scene, rng, 1.0) == "a photo of a danger sign"
    with pytest.raises(InputError, match="rng"):
        world.caption(scene, None, 0.3)
    with pytest.raises(InputError, match="probability"):
        world.caption(scene, rng, 1.5)


def test_articles_follow_the_sound() -> None:
    words = ("yield", "no entry", "uneven road", "one way", "intersection", "stop")
    assert [world.article(word) for word in words] == ["a", "a", "an", "a", "an", "a"]


@pytest.mark.parametrize(
    ("sign", "conditions"),
    [
        ("traffic light", ("fog",)),
        ("stop", ("earthquake",)),
        ("stop", ("fog", "night")),
        ("stop", ("snow", "faded")),
        ("stop", ("clear day", "fog")),
    ],
)
def test_unknown_or_impossible_requests_are_refused(sign: str, conditions: tuple[str, ...]) -> None:
    with pytest.raises(InputError):
        world.sample_scene(np.random.default_rng(0), sign, conditions)
    with pytest.raises(InputError):
        world.prompt(sign, conditions)


def test_metadata_is_one_flat_record() -> None:
    record = _scene("roundabout", "fog", "tilted").metadata()
    assert record["sign"] == "roundabout"
    assert record["condition"] == "fog + tilted"
    assert all(isinstance(value, str | int | float) for value in record.values())
