"""``python -m benchmarks.bench_likeness``: ways for a model without an image adapter to resemble a real image, on the demo.

Unguided, 16 steps, 32 images of classes in turn, each beside a random real training image of its class. Measured: on-class
share and shared condition by the independent oracles (of the image and of the real one), cosine of the classifier's
standardised features to those of the real image. "Embedding as a token" is what was tried and is not offered: the image's
embedding, moved by the difference of the means of texts and images, through the inverse of the text projection into
the state of the end token, replaced, or added to it and to those behind it.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.bench_demo import CLASSES, names_of
from benchmarks.bench_feedback import FIRST, Bench, pad
from benchmarks.measure import RESULTS, commit, interval, machine, write_json
from ltg_core import workflows
from ltg_core.data.records import Filter
from ltg_core.generators.base import Condition, Like
from ltg_core.generators.judge import phrases_of
from ltg_core.guidance.engine import to_uint8
from ltg_core.guidance.resembling import start_from
from ltg_core.guidance.settings import Guidance
from ltg_core.models.textimage import TextImage
from ltg_core.types import Images, Latents
from ltg_core.workflows.planning import Plan, prompt_of_class

STEPS, CFG, BELOW, MEANS = 16, 3.0, 0.7, 300


class Ways:
    """The same images in every way."""

    def __init__(self, bench: Bench, number: int) -> None:
        self.bench, self.generator = bench, bench.generator
        self.labels = [i % len(CLASSES) for i in range(number)]
        self.seeds = [FIRST + 900 + i for i in range(number)]
        self.prompts = [prompt_of_class(bench.classifier, self.generator, label, "") for label in self.labels]
        plan = Plan(self.prompts, self.labels, self.seeds)
        ids = workflows.plan_likeness(bench.ws, bench.classifier, plan)
        self.real = bench.pictures(ids)
        self.encoder = TextImage(Path(self.generator.folder) / "clip")

    def like(self, by: str, dropout: float) -> Like:
        """The real images, asked for in one way."""
        return Like(self.real, tuple(self.seeds), dropout, by)

    def condition(self, like: Like | None = None) -> Condition:
        """What the prompts ask for."""
        return self.generator.condition(self.prompts, "", CFG, BELOW, like)

    @torch.no_grad()
    def drawn(self, condition: Condition, source: Latents | None = None, strength: float = 1.0) -> Images:
        """Sampled without guidance."""
        schedule, z, first = self.generator.schedule(STEPS), self.generator.noise(self.seeds), 0
        if source is not None:
            first = min(STEPS - 1, round((1 - strength) * STEPS))
            z = schedule.add_noise(source, z, first)
        denoise = self.generator.denoiser(schedule, condition)
        schedule.begin(first)
        for index in range(first, STEPS):
            z = schedule.step(denoise(z, index).output, index, z)
        return self.generator.chunked(self.generator.decode, z).clamp(0, 1)

    @torch.no_grad()
    def token(self, whole: bool) -> Condition:
        """The embedding in the state of the end token, or added from there on."""
        plain, encoder = self.condition(), self.encoder
        words = list(dict.fromkeys(self.prompts))
        texts = [f"{p} {phrase}" for p in words for phrase in phrases_of(self.generator.folder).values()]
        every = self.bench.ws.query(Filter(origin="real", split="train"))
        some = [every[i] for i in np.random.default_rng(0).choice(len(every), MEANS, replace=False)]
        gap = encoder.texts(texts).mean(0) - encoder.images(self.bench.pictures(some)).mean(0)
        vectors = F.normalize(encoder.images(self.real) + gap, dim=1)
        projection = encoder.clip.text_projection.weight
        inverse, states = torch.linalg.pinv(projection), plain.asked["text"].clone()
        ids = encoder.tokenizer(self.prompts, padding="max_length", max_length=states.shape[1]).input_ids
        for row, tokens in enumerate(ids):
            end = tokens.index(encoder.tokenizer.eos_token_id)
            text = projection @ states[row, end]
            change = inverse @ (vectors[row] * text.norm() - text)
            states[row, end : end + 1 if whole else None] += change
        return dataclasses.replace(plain, asked={**plain.asked, "text": states})

    def told(self, images: Images) -> dict[str, Any]:
        """Figures with intervals over images."""
        made, real = self.bench.oracles.read(to_uint8(images)), self.bench.oracles.read(to_uint8(self.real))
        on = (made[0] == np.array(self.labels)).astype(float)
        same = np.array(
            [names_of(a) == names_of(b) for a, b in zip(made[1], real[1], strict=True)], dtype=float
        )
        unit = []
        for x in (images, self.real):
            features = self.bench.classifier.outputs(x).features.numpy().astype(float)
            scaled = (features - self.bench.mean) / self.bench.deviation
            unit.append(scaled / np.linalg.norm(scaled, axis=1, keepdims=True))
        cosine = (unit[0] * unit[1]).sum(axis=1)
        figures = {"on_class": on, "same_condition": same, "cosine": cosine}
        return {name: [float(v.mean()), *interval(v, np.mean)] for name, v in figures.items()}


def main() -> None:
    """All ways, one after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", type=Path, default=Path("build/feedback/workspace"))
    parser.add_argument("--out", type=Path, default=RESULTS / "likeness.json")
    parser.add_argument("--number", type=int, default=32)
    options = parser.parse_args()
    ways = Ways(Bench(options.workspace), options.number)
    found = {"text alone": ways.told(ways.drawn(ways.condition()))}
    for dropout in (0.0, Guidance().like_dropout):
        images = ways.drawn(ways.condition(ways.like("captions", dropout)))
        found[f"captions, dropout {dropout:g}"] = ways.told(images)
    for strength, dropout in ((0.6, 0.0), (0.8, 0.0), (0.8, Guidance().like_dropout), (0.9, 0.0)):
        source = start_from(ways.generator, ways.like("start", dropout))
        images = ways.drawn(ways.condition(), source, strength)
        found[f"start, {strength:.0%} re-drawn, dropout {dropout:g}"] = ways.told(images)
    found["embedding as a token, replaced"] = ways.told(ways.drawn(ways.token(True)))
    found["embedding as a token, added"] = ways.told(ways.drawn(ways.token(False)))
    first = [ways.seeds[0], ways.seeds[-1]]
    write_json(
        options.out,
        {"machine": machine(), "commit": commit(), "seeds": first, "number": options.number, "ways": found},
    )
    print("| way | on class | condition of the real image | cosine to it |\n|---|---|---|---|")
    for name, one in found.items():
        print(
            f"| {name} | {' | '.join(pad(*one[key]) for key in ('on_class', 'same_condition', 'cosine'))} |"
        )


if __name__ == "__main__":
    main()
