"""Dual conditioning: the class by words, and a likeness to a real image by the best way that a generator has.

Through an image adapter it is the field's standard (IP-Adapter); the two other ways are ours and are announced.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ltg_core.errors import InputError
from ltg_core.generators.base import Generator, Like
from ltg_core.generators.likeness import dropped
from ltg_core.guidance.settings import Guidance
from ltg_core.types import Images, Latents


def way(generator: Generator, guidance: Guidance, *, from_source: bool) -> str:
    """How images will resemble real ones: "adapter", "captions" or "start".

    Args:
        generator: What it can.
        guidance: ``like_by`` is what is wanted.
        from_source: Whether the images start from real samples already.

    Raises:
        UnsupportedError: The generator cannot do it in the wanted way.
        InputError: A start from the image to resemble, where there is another start.
    """
    by = generator.likeness_by(guidance.like_by)
    if by == "start" and from_source:
        raise InputError(
            "images cannot start from one real sample and resemble another by a start from it; load an image "
            "adapter, or leave one of the two out"
        )
    return by


def resembled(
    generator: Generator,
    guidance: Guidance,
    images: Images | None,
    seeds: tuple[int, ...],
    *,
    from_source: bool,
    say: Callable[[str], None],
) -> Like | None:
    """What is to be resembled, and how; None for nothing.

    Args:
        generator: See ``way``.
        guidance: Likewise.
        images: (B, 3, H, W) real images, or None.
        seeds: One an image.
        from_source: See ``way``.
        say: Told when it is not the published way.

    Raises:
        InputError: The settings ask for a likeness and there are no images.
    """
    if images is None:
        if guidance.like:
            raise InputError(
                f"the settings ask for a likeness to real images of the split {guidance.like!r}, and none were given; "
                "give one an image, or empty the setting 'like'"
            )
        return None
    by = way(generator, guidance, from_source=from_source)
    how = {
        "captions": "as mixtures of the captions that it knows",
        "start": f"by a start from them, {guidance.strength:.0%} of the schedule re-drawn",
    }
    if guidance.like_by == "auto" and by in how:
        say(f"{generator.name} has no image adapter, so it resembles real images {how[by]}")
    return Like(images, seeds, guidance.like_dropout, by)


def start_from(generator: Generator, like: Like) -> Latents | None:
    """Latents to start from, a share of their values left out by each image's own random numbers; None for all."""
    if like.dropout >= 1:
        return None
    latents = generator.encode(like.images)
    kept = [dropped(latents.shape[1:], seed, like.dropout) for seed in like.seeds]
    return latents * torch.stack(kept).to(latents)
