"""Compiled networks and the number of rows that suits a machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ltg_core.errors import InputError, ModelError
from ltg_core.generators import tuning
from ltg_core.generators.base import Generator
from ltg_core.generators.loading import load_generator
from ltg_core.generators.options import BEST, GeneratorOptions

ModelFolder = Callable[[str], Path]


class Clock:
    """Time in which a call of so many rows takes what is said; two readings a call."""

    def __init__(self, generator: Generator, seconds: Callable[[int], float], most: int = 1000) -> None:
        self.rows: list[int] = []
        self._now, self._most, self._seconds = 0.0, most, seconds
        self._predict, generator.predict = generator.predict, self.predict  # type: ignore[method-assign]

    def predict(self, z: torch.Tensor, *rest: Any) -> torch.Tensor:
        rows = len(z) // 2
        if rows > self._most:
            raise torch.OutOfMemoryError("out of memory")
        self.rows.append(rows)
        self._now += self._seconds(rows)
        return z

    def __call__(self) -> float:
        return self._now


def test_the_best_batch_is_the_smallest_that_is_as_quick_a_row_as_any(model_folder: ModelFolder) -> None:
    generator = load_generator(model_folder("sd 1"))
    plain = generator.predict

    def best(seconds: Callable[[int], float], most: int = 1000) -> tuple[int, list[int]]:
        generator.predict = plain  # type: ignore[method-assign]
        clock = Clock(generator, seconds, most)
        found, spent = tuning.best_chunk(generator, clock=clock)
        assert all(spent[size] == pytest.approx(seconds(size) / size) for size in spent)
        return found, sorted(set(clock.rows))

    assert best(lambda rows: max(8.0, rows)) == (8, [1, 2, 4, 8, 16]), "a call takes 8 until it is full"
    assert best(lambda rows: float(rows)) == (1, [1, 2])
    assert best(lambda rows: 1.0) == (64, [1, 2, 4, 8, 16, 32, 64])
    assert best(lambda rows: 1.0, most=4)[0] == 4, "memory ends it"
    with pytest.raises(ModelError, match="not enough for one image"):
        best(lambda rows: 1.0, most=0)
    assert not +generator.calls


def test_the_number_that_was_found_is_what_a_record_says(
    model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ltg_core.generators.loading.best_chunk", lambda generator: (16, {}))
    generator = load_generator(model_folder("sd 1"), options=GeneratorOptions(chunk=BEST))
    assert generator.chunk == 16 and generator.options.to_dict() == {"chunk": 16}
    with pytest.raises(InputError, match="-1"):
        GeneratorOptions(chunk=-2)


@pytest.mark.slow
def test_compiled_networks_draw_the_same_and_say_how_long_the_warm_up_took(model_folder: ModelFolder) -> None:
    folder = model_folder("sd 1")
    plain, compiled = load_generator(folder), load_generator(folder)
    compiled.chunk = plain.chunk = 2
    said = tuning.compile_networks(compiled, backend="eager")
    assert said.startswith("compiled in ") and not +compiled.calls
    z, asked = plain.noise([1, 2]), plain.condition(["a", "b"]).asked
    with torch.no_grad():
        torch.testing.assert_close(compiled.predict(z, 3.0, asked), plain.predict(z, 3.0, asked))
    for one in (z.clone().requires_grad_(True), z.clone().requires_grad_(True)):
        (gradient,) = torch.autograd.grad(compiled.decode(one, tiny=True).sum(), one)
        (expected,) = torch.autograd.grad(plain.decode(one, tiny=True).sum(), one)
        torch.testing.assert_close(gradient, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_the_best_batch_of_compiled_networks_is_measured_once_they_are_compiled(
    model_folder: ModelFolder,
) -> None:
    generator = load_generator(model_folder("sd 1"))
    predict, seen = generator.predict, list[tuple[int, bool]]()

    def watched(z: torch.Tensor, *rest: Any) -> torch.Tensor:
        if len(z) > 4:
            raise torch.OutOfMemoryError("out of memory")
        seen.append((len(z) // 2, generator.unet._compiled_call_impl is not None))  # type: ignore[attr-defined]
        return predict(z, *rest)

    generator.predict = watched  # type: ignore[method-assign]
    tuning.compile_networks(generator, backend="eager", measured=True)
    assert {rows for rows, _ in seen} >= {1, 2} and all(compiled for _, compiled in seen)
    assert generator.chunk in (1, 2)


def test_what_cannot_be_compiled_is_said_and_leaves_the_networks_as_they_were(
    model_folder: ModelFolder,
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("no compiler here")

    folder = model_folder("sd 1")
    plain, tried = load_generator(folder), load_generator(folder)
    with pytest.raises(ModelError, match="cannot be compiled here"):
        tuning.compile_networks(tried, backend=broken)
    z, asked = plain.noise([1, 2]), plain.condition(["a", "b"]).asked
    with torch.no_grad():
        assert torch.equal(tried.predict(z, 3.0, asked), plain.predict(z, 3.0, asked))
