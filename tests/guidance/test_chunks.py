"""Gradients are taken chunk by chunk: what a graph holds does not grow with the batch, and no image changes."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from ltg_core.generators.base import Generator, Inputs
from ltg_core.generators.loading import load_generator
from ltg_core.guidance.engine import GenerateRequest, Target, generate_images
from ltg_core.guidance.settings import Guidance, feedback_guided
from tests.generators.tiny_models import asks, model_folder

__all__ = ["model_folder"]

_FEEDBACK = dataclasses.replace(feedback_guided("hardness"), steps=4, every=2, omega=0.2, like="")
WAYS = {
    "through the denoiser": Guidance(
        steps=4, search="none", climb="full", weight=2.0, target=100.0, band_start=0.25, band_end=0.5, every=1
    ),
    "feedback": _FEEDBACK,
    "feedback, norms of the batch": dataclasses.replace(_FEEDBACK, released="coupled"),
}


class Held:
    """Counts the bytes that graphs keep, now and at most."""

    def __init__(self) -> None:
        self.bytes = self.most = 0

    def __enter__(self) -> Held:
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._keep, lambda kept: kept[0])
        self._hooks.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._hooks.__exit__()

    def _keep(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        class Kept(list[torch.Tensor]):  # a list that can be watched
            pass

        kept, size = Kept([tensor.detach()]), tensor.numel() * tensor.element_size()
        self.bytes += size
        self.most = max(self.most, self.bytes)
        weakref.finalize(kept, self._gone, size)
        return kept

    def _gone(self, size: int) -> None:
        self.bytes -= size


@pytest.fixture
def small_calls(model_folder: Callable[[str], Path]) -> Iterator[Generator]:
    """A generator that takes one image at a time."""
    generator = load_generator(model_folder("sd 1"))
    generator.chunk = 1
    yield generator


def request(generator: Generator, count: int) -> GenerateRequest:
    prompts = (asks(generator, 3) * 2)[:count]
    return GenerateRequest(tuple(prompts), tuple(range(3)) * (count // 3) or (0,), tuple(range(count)))


@pytest.mark.parametrize("way", list(WAYS))
def test_a_graph_holds_one_chunk_whatever_the_batch(way: str, small_calls: Generator, target: Target) -> None:
    held = {}
    for count in (1, 6):
        with Held() as seen:
            generate_images(small_calls, target, WAYS[way], request(small_calls, count), controls=False)
        held[count] = seen.most
    assert 0 < held[6] < 1.1 * held[1]


@pytest.mark.parametrize("way", ["through the denoiser", "feedback"])
def test_an_image_of_a_batch_larger_than_a_chunk_is_the_image_alone(
    way: str, small_calls: Generator, target: Target
) -> None:
    small_calls.chunk = 2
    three = request(small_calls, 3)
    made = generate_images(small_calls, target, WAYS[way], three, controls=False)
    for place in range(3):
        one = GenerateRequest(three.prompts[place : place + 1], (three.labels[place],), (three.seeds[place],))
        alone = generate_images(small_calls, target, WAYS[way], one, controls=False)
        np.testing.assert_array_equal(alone.images[0], made.images[place])


def test_norms_of_the_batch_are_those_of_all_its_chunks(small_calls: Generator, target: Target) -> None:
    """Not those of a chunk: smaller calls change the rounding alone."""
    guidance, pictures = WAYS["feedback, norms of the batch"], {}
    for chunk in (1, 8):
        small_calls.chunk = chunk
        made = generate_images(small_calls, target, guidance, request(small_calls, 3), controls=False)
        pictures[chunk] = made.images.astype(int)
    assert np.abs(pictures[1] - pictures[8]).max() <= 1


def test_where_one_image_fits_through_the_denoiser_the_run_finds_its_way_there(
    model_folder: Callable[[str], Path], target: Target
) -> None:
    """Memory for the graph of one image alone: what was held for all of them never became less."""
    generator, held = load_generator(model_folder("sd 1")), Held()
    predict = generator.predict

    def limited(z: torch.Tensor, timestep: float, inputs: Inputs) -> torch.Tensor:
        if torch.is_grad_enabled() and (len(z) > 2 or held.bytes > 0):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return predict(z, timestep, inputs)

    generator.predict = limited  # type: ignore[method-assign]
    with held:
        made = generate_images(
            generator, target, WAYS["through the denoiser"], request(generator, 3), controls=False
        )
    assert made.chunk == 1 and made.trace
