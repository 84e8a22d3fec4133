"""What makes a generator quicker on this machine: compiled networks, and the number of rows that suits it best."""

from __future__ import annotations

import gc
import logging
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ltg_core.errors import ModelError
from ltg_core.generators.base import Calls, Generator, Inputs
from ltg_core.models.weights import first_line

log = logging.getLogger(__name__)

SIZES = (1, 2, 4, 8, 16, 32, 64)
"""Rows of a call that are tried."""
_GAIN = 1.03  # a larger call must be so much quicker a row to be worth its memory


def compile_networks(
    generator: Generator, *, backend: str | Callable[..., Any] = "inductor", measured: bool = False
) -> str:
    """Compile denoiser and guidance decoder with torch.compile, and run each once, for the first call is the slow one.

    Compiled kernels round otherwise, so this belongs to a run's record (``GeneratorOptions.compile``). Where
    compiling fails the networks are left as they were.

    Args:
        generator: A loaded one.
        backend: Of torch.compile.
        measured: Whether to take the number of rows that suits the compiled networks best; for each that is tried they
            are compiled.

    Returns:
        How long that and the warm-up took, or why nothing was compiled; in words.

    Raises:
        ModelError: Nothing can be compiled on this machine, or there is no memory for one image; says why.
    """
    parts = _parts(generator)
    for part in parts:
        part.compile(backend=backend, dynamic=False)
    started = time.monotonic()
    try:
        with (
            warnings.catch_warnings()
        ):  # it warns of what it meets in the libraries' code; nobody here can act on that
            warnings.simplefilter("ignore")
            if measured:
                generator.chunk = best_chunk(generator)[0]
            warm_up(generator)
    except Exception as error:  # compilers fail in many ways; each is told
        for part in parts:
            part._compiled_call_impl = None
        torch._dynamo.reset()
        if isinstance(error, ModelError):
            raise
        raise ModelError(
            f"the networks of {generator.name!r} cannot be compiled here ({first_line(error)}); leave 'compile' out, "
            "or install a C++ compiler"
        ) from error
    seconds = time.monotonic() - started
    said = f"compiled in {seconds:.0f} s"
    log.info("%s: %s", generator.name, said)
    return said


def warm_up(generator: Generator) -> None:
    """One call of every kind that guidance makes, at the generator's number of rows; nothing is counted."""
    before = Calls(generator.calls)
    chunk = generator.chunk
    z, timestep, asked = _inputs(generator, chunk)
    with torch.no_grad():
        generator.predict(z, timestep, asked)
        generator.predict(torch.cat([z, z]), timestep, {n: torch.cat([v, v]) for n, v in asked.items()})
        generator.decode(z, tiny=True)
    with torch.enable_grad():
        start = z.detach().requires_grad_(True)
        torch.autograd.grad(generator.decode(start, tiny=True).sum(), start)
    _restore(generator, before)


def best_chunk(
    generator: Generator, *, sizes: tuple[int, ...] = SIZES, clock: Callable[[], float] = time.perf_counter
) -> tuple[int, dict[int, float]]:
    """The number of rows a call at which this machine makes most images a second.

    Tried from small to large, by both predictions of the denoiser; ends where a larger call is not clearly quicker a
    row, or where memory runs out.

    Returns:
        The number, and seconds a row of each that was tried.
    """
    before, seconds = Calls(generator.calls), dict[int, float]()
    for size in sizes:
        z, timestep, asked = _inputs(generator, size)
        pair = {name: torch.cat([value, value]) for name, value in asked.items()}
        try:
            seconds[size] = _once(generator, torch.cat([z, z]), timestep, pair, clock) / size
        except RuntimeError as error:
            if not _memory(error):
                raise
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            break
        smaller = [value for other, value in seconds.items() if other < size]
        if smaller and min(smaller) < _GAIN * seconds[size]:
            break
    _restore(generator, before)
    if not seconds:
        raise ModelError(
            f"the memory of {generator.device} is not enough for one image of {generator.name!r}"
        )
    best = min(seconds.values())
    return min(size for size, value in seconds.items() if value <= _GAIN * best), seconds


def _once(
    generator: Generator, z: torch.Tensor, timestep: float, asked: Inputs, clock: Callable[[], float]
) -> float:
    """Seconds of one call; the better of two after one that warms up."""
    found = []
    with torch.no_grad():
        for _ in range(3):
            started = clock()
            generator.predict(z, timestep, asked)
            if generator.device.type == "cuda":
                torch.cuda.synchronize()
            found.append(clock() - started)
    return min(found[1:])


def _inputs(generator: Generator, rows: int) -> tuple[torch.Tensor, float, Inputs]:
    what = "0" if generator.language == "classes" else ""
    return (
        generator.noise(range(rows)),
        generator.schedule(2).timesteps[0],
        generator.condition([what] * rows).asked,
    )


def _parts(generator: Generator) -> list[nn.Module]:
    """Denoiser and what decodes on the guidance path."""
    parts: list[nn.Module] = [getattr(generator, generator.denoiser_part)]
    decoder = generator.codec.guide
    return parts if decoder is None else [*parts, decoder]


def _restore(generator: Generator, calls: Calls) -> None:
    generator.calls.clear()
    generator.calls.update(calls)


def _memory(error: RuntimeError) -> bool:
    words = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "memory" in words
