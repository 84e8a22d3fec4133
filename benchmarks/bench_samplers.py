"""How near each sampler and number of steps comes to the exact solution, on the demo's model: part of ``make bench-guidance``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from benchmarks.grounds import ASSETS
from benchmarks.measure import RESULTS, commit, machine, write_json
from ltg_core.demo.world import CLASSES, prompt
from ltg_core.generators.base import Calls, Generator
from ltg_core.generators.loading import load_generator
from ltg_core.generators.samplers import PACES, SAMPLERS
from ltg_core.guidance.settings import Guidance

EXACT = ("unipc", 100)
TRIED = (8, 10, 16, 20, 40)
ELSEWHERE = 0.1
"""Mean square distance from which an image shows something else: near a fork of its path few steps take the other way."""


def latents(
    generator: Generator, sampler: str, steps: int, images: int, seed: int
) -> tuple[torch.Tensor, float]:
    """Finished latents of plain prompts without guidance, and denoiser calls an image."""
    guidance = Guidance()
    prompts = [prompt(CLASSES[i % len(CLASSES)]) for i in range(images)]
    condition = generator.condition(prompts, "", guidance.cfg, guidance.cfg_below)
    before = Calls(generator.calls)
    schedule = generator.schedule(steps, sampler)
    denoise = generator.denoiser(schedule, condition)
    z = generator.noise(range(seed, seed + images)) * schedule.start_scale
    with torch.no_grad():
        for index in range(len(schedule)):
            z = schedule.step(denoise(z, index).output, index, z)
    return z, (generator.calls - before)["U"] / images


def measured(
    generator: Generator, images: int, tried: tuple[int, ...] = TRIED, exact: tuple[str, int] = EXACT
) -> list[dict[str, Any]]:
    """Square distance of the latents to those of many steps, for every sampler that fits: median, and how many are far away."""
    truth, _ = latents(generator, *exact, images, 40_000_000)
    rows = []
    for sampler in (name for name in SAMPLERS if name in generator.samplers and name != "default"):
        for steps in tried:
            z, calls = latents(generator, sampler, steps, images, 40_000_000)
            errors = (z - truth).square().flatten(1).mean(dim=1)
            paces = [name for name, pace in PACES.items() if pace == (sampler, steps)]
            rows.append(
                {
                    "sampler": sampler,
                    "steps": steps,
                    "pace": " ".join(paces),
                    "calls": calls,
                    "error": float(errors.median()),
                    "elsewhere": int((errors > ELSEWHERE).sum()),
                }
            )
            print(rows[-1], flush=True)
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Measure and write ``benchmarks/results/guidance/samplers.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--generator", type=Path, default=ASSETS / "generator")
    options = parser.parse_args(arguments)
    rows = measured(load_generator(options.generator), options.images)
    found = {
        "commit": commit(),
        "machine": machine(),
        "images": options.images,
        "exact": list(EXACT),
        "rows": rows,
    }
    write_json(RESULTS / "guidance" / "samplers.json", found)


if __name__ == "__main__":
    main()
