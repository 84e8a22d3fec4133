"""``python -m benchmarks.bench_feedback``: feedback-guided synthesis as released and mended, with and without a likeness.

On the demo: on-class share by the independent oracle, how far the criterion rises over the unguided image of the same seed
and the same likeness, how good the images are beside real validation images of all classes, what they cost. Resumable;
writes ``benchmarks/results/feedback.json`` and the table of docs/feedback.md. Oracles and the planted list are read to
count, after everything was made.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.bench_demo import ASSETS, Oracles, names_of
from benchmarks.measure import RESULTS, commit, interval, machine, read_json, write_json
from ltg_core import workflows
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.demo.plan import planted
from ltg_core.demo.world import CLASSES
from ltg_core.evaluation.quality import quality
from ltg_core.guidance.engine import GenerateRequest, Target, from_uint8, generate_images
from ltg_core.guidance.settings import CRITERIA, Guidance, feedback_guided
from ltg_core.models.preprocess import Preprocess
from ltg_core.signals import SIGNALS
from ltg_core.workflows.computing import compute_outputs
from ltg_core.workflows.generating import need_reference
from ltg_core.workflows.planning import Plan, prompt_of_class
from ltg_core.workflows.store import FeatureStore

UNIT = 8
FIRST = 40_000


def arms() -> dict[str, Guidance]:
    """Guidance by name."""
    found = {}
    for how, like, by in (
        ("text alone", "", "auto"),
        ("captions", "train", "captions"),
        ("start", "train", "start"),
    ):
        feedback = dataclasses.replace(feedback_guided(like=like), like_by=by)
        found[f"unguided, {how}"] = feedback.unguided()
        found[f"mended, entropy, {how}"] = feedback
        if by != "start":
            found[f"as released, entropy, {how}"] = dataclasses.replace(
                feedback_guided(as_released=True, like=like), like_by=by
            )
    for criterion in CRITERIA:
        if criterion != "entropy":
            found[f"mended, {criterion}, captions"] = dataclasses.replace(
                feedback_guided(criterion), like_by="captions"
            )
    return found


class Bench:
    """The demo in a workspace, its head fitted as the app does."""

    def __init__(self, path: Path) -> None:
        self.ws = Workspace(path)
        if self.ws.get_state("classifier") is None:
            workflows.open_demo(self.ws)
        self.classifier = workflows.active_classifier(self.ws)
        self.generator = workflows.active_generator(self.ws)
        if workflows.reference(self.ws, self.classifier) is None:
            workflows.fit_head(self.ws, self.classifier)
        self.target = Target(self.classifier, need_reference(self.ws, self.classifier))
        self.oracles = Oracles(ASSETS / "oracles")
        real = sorted(self.ws.query(Filter(origin="real", split="val")))
        compute_outputs(self.ws, self.classifier, real)
        self.real = FeatureStore(self.ws, self.classifier).features(real).astype(float)
        self.mean, deviation = self.real.mean(axis=0), self.real.std(axis=0)
        self.deviation = np.where(deviation > 1e-6, deviation, np.inf)

    def make(self, guidance: Guidance, seed: int, number: int) -> tuple[np.ndarray, dict[str, Any]]:
        """Images of classes in turn, in units of eight as a run makes them."""
        labels = [i % len(CLASSES) for i in range(number)]
        seeds = [FIRST + 1000 * seed + i for i in range(number)]
        prompts = [prompt_of_class(self.classifier, self.generator, label, "") for label in labels]
        like = None
        if guidance.like:
            plan = Plan(prompts, labels, seeds)
            like = self.pictures(workflows.plan_likeness(self.ws, self.classifier, plan, split=guidance.like))
        made, calls, began = [], dict[str, int](), time.process_time()
        for start in range(0, number, UNIT):
            part = slice(start, start + UNIT)
            request = GenerateRequest(
                tuple(prompts[part]),
                tuple(labels[part]),
                tuple(seeds[part]),
                like=None if like is None else like[part],
            )
            result = generate_images(self.generator, self.target, guidance, request, controls=False)
            made.append(result.images)
            for name, count in result.calls.items():
                calls[name] = calls.get(name, 0) + count
        return np.concatenate(made), {"calls": calls, "cpu_seconds": time.process_time() - began}

    def pictures(self, ids: list[str]) -> torch.Tensor:
        """Real images at the generator's size."""
        side = self.generator.image_size
        fit = Preprocess(side, side, resize="crop", crop_pct=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)
        return torch.cat([fit(fit.from_pil(self.ws.image(id))[None]) for id in ids])

    def told(self, images: np.ndarray) -> dict[str, Any]:
        """What the oracles and the classifier say of the images."""
        labels = torch.arange(len(images)) % len(CLASSES)
        signs, conditions = self.oracles.read(images)
        out = self.classifier.outputs(from_uint8(images))
        levels = {}
        for name in CRITERIA:
            value = SIGNALS[name]()(out, self.target.reference, labels)
            levels[name] = self.target.reference.percentile(name, value).tolist()
        rows = range(len(images))
        return {
            "on_class": [bool(signs[i] == int(labels[i])) for i in rows],
            "planted": [planted(CLASSES[int(labels[i])], names_of(conditions[i])) for i in rows],
            "wrong": (out.logits.argmax(dim=1) != labels).tolist(),
            "conditions": sorted({seen_in(row) for row in conditions}),
            "percentile": levels,
            "features": ((out.features.numpy().astype(float) - self.mean) / self.deviation).tolist(),
        }


def seen_in(row: Any) -> str:
    """The conditions that the oracle sees, in words."""
    return " + ".join(sorted(names_of(row))) or "none"


def summary(
    bench: Bench, runs: list[dict[str, Any]], controls: list[dict[str, Any]], criterion: str
) -> dict[str, Any]:
    """An arm over its seeds: shares with intervals over images, quality of all images together, cost of one."""

    def column(name: str) -> np.ndarray:
        return np.concatenate([np.array(run[name], dtype=float) for run in runs])

    on = column("on_class")
    level = np.concatenate([run["percentile"][criterion] for run in runs])
    before = np.concatenate([run["percentile"][criterion] for run in controls])
    both = (on > 0) & np.concatenate([np.array(run["on_class"], dtype=bool) for run in controls])
    gain = level - before
    features = np.concatenate([np.array(run["features"]) for run in runs])
    real = (bench.real - bench.mean) / bench.deviation
    images = len(on)
    calls = {name: sum(run["calls"].get(name, 0) for run in runs) / images for name in runs[0]["calls"]}
    return {
        "images": images,
        "on_class": [float(on.mean()), *interval(on, np.mean)],
        "wrong_of_on_class": float(column("wrong")[on > 0].mean()),
        "planted_of_on_class": float(column("planted")[on > 0].mean()),
        "gain": [float(gain.mean()), *interval(gain, np.mean)],
        "gain_on_class": float(gain[both].mean()),
        "quality": quality(real, features).record(),
        "calls_an_image": calls,
        "cpu_seconds_an_image": sum(run["cpu_seconds"] for run in runs) / images,
    }


def main() -> None:
    """Make what is missing, then write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", type=Path, default=Path("build/feedback/workspace"))
    parser.add_argument("--work", type=Path, default=Path("build/feedback/arms"), help="images that are made")
    parser.add_argument("--out", type=Path, default=RESULTS / "feedback.json")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--number", type=int, default=32, help="images an arm and seed")
    parser.add_argument("--arms", nargs="*", default=list(arms()))
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="stop after so many; the next call goes on"
    )
    options = parser.parse_args()
    began, bench = time.monotonic(), Bench(options.workspace)
    for seed, name in [(seed, name) for seed in options.seeds for name in options.arms]:
        path = options.work / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}.json"
        wanted = {"guidance": arms()[name].to_dict(), "number": options.number}
        if (read_json(path) or {}).get("settings") == wanted:
            continue
        if options.minutes and time.monotonic() - began > 60 * options.minutes:
            print("stopped; the same command goes on from here")
            return
        images, cost = bench.make(arms()[name], seed, options.number)
        write_json(path, {"settings": wanted, **cost, **bench.told(images)})
        print(f"{name}, seed {seed}: {cost['cpu_seconds']:.0f} s", flush=True)
    found = {}
    for name in options.arms:
        guided, how = arms()[name], name.rsplit(", ", 1)[1]
        runs, controls = (
            [
                read_json(options.work / f"{one.replace(', ', '-').replace(' ', '-')}-{s}.json")
                for s in options.seeds
            ]
            for one in (name, f"unguided, {how}")
        )
        if all(controls):
            found[name] = summary(bench, runs, controls, guided.criterion)  # type: ignore[arg-type]
    write_json(
        options.out,
        {
            "machine": machine(),
            "commit": commit(),
            "seeds": options.seeds,
            "number": options.number,
            "real": len(bench.real),
            "arms": found,
        },
    )
    print("\n".join(table(found)))


def pad(value: float, low: float, high: float) -> str:
    """A figure with its interval."""
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def table(found: dict[str, Any]) -> list[str]:
    """Rows of Markdown."""
    lines = [
        "| arm | on class | signal gain, percentiles | of on-class: wrong | planted | precision | recall | density | coverage "
        "| Vendi | KID | CPU s an image |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, one in found.items():
        q, (gain, least, most) = one["quality"], one["gain"]
        rise = "–" if name.startswith("unguided") else f"{gain:+.1f} ({least:+.1f} to {most:+.1f})"
        shares = " | ".join(f"{q[key]:.2f}" for key in ("precision", "recall", "density", "coverage"))
        lines.append(
            f"| {name} | {pad(*one['on_class'])} | {rise} | {one['wrong_of_on_class']:.2f} "
            f"| {one['planted_of_on_class']:.2f} | {shares} | {q['vendi']:.1f} | {q['kid']:.2f} "
            f"| {one['cpu_seconds_an_image']:.2f} |"
        )
    return lines


if __name__ == "__main__":
    main()
