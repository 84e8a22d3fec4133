"""``make bench-demo``: gates of the demo's models, AUROC of the signals, arms of guided generation; resumable.

Ground truth (the planted cells) and the oracles are read here and nowhere that discovers anything.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import (
    RESULTS,
    ROOT,
    aupr,
    auroc,
    call_costs,
    machine,
    read_json,
    resampled_auroc,
    write_json,
)
from ltg_core.demo.build import BuildSettings, World
from ltg_core.demo.data import Split
from ltg_core.demo.plan import PLANTED, planted
from ltg_core.demo.world import CLASSES, CONDITIONS, prompt
from ltg_core.generators.base import in_chunks
from ltg_core.generators.judge import find_judge
from ltg_core.generators.loading import load_generator
from ltg_core.guidance.engine import GenerateRequest, Target, from_uint8, generate_images
from ltg_core.guidance.settings import PRESETS, Guidance, feedback_guided
from ltg_core.guidance.validity import examine
from ltg_core.jobs import CancelToken, no_progress
from ltg_core.models.loaders import load_classifier
from ltg_core.signals.head import HeadSettings
from ltg_core.signals.reference import Reference, fit_reference, score_all
from ltg_core.types import Outputs

ASSETS = ROOT / "assets" / "demo"
BASE = Guidance(climb="none")
CLIMB_FREE = dataclasses.replace(PRESETS["explore"], search="none")
ARMS: dict[str, Guidance] = {
    "unguided": PRESETS["unguided"],
    "default (search and climb)": PRESETS["explore"],
    "search only: lookahead": BASE,
    "search only: lookahead, guide heads": dataclasses.replace(BASE, search_group="guide"),
    "search only: lookahead, no augmentations": dataclasses.replace(BASE, augment=False),
    "search only: lookahead, entropy": dataclasses.replace(BASE, signal="entropy"),
    "search only: halving": dataclasses.replace(BASE, search="halving", candidates=8),
    "search only: particles": dataclasses.replace(BASE, search="particles", candidates=4),
    "gradient only: denoiser-free": CLIMB_FREE,
    "gradient only: denoiser-free, weight 4": dataclasses.replace(CLIMB_FREE, weight=4.0, target=100.0),
    "gradient only: through the denoiser": PRESETS["gradient through the denoiser"],
    "feedback-guided, entropy": feedback_guided(like=""),
    "best of n, equal compute": dataclasses.replace(BASE, search="best of n", candidates=6),
}


MAIN = ("unguided", "default (search and climb)", "best of n, equal compute")
"""The arms that the bars compare; the others are the ablation."""


class Oracles:
    """The independent judges, for evaluation."""

    def __init__(self, folder: Path) -> None:
        self.sign = load_classifier(folder / "sign.safetensors")
        self.condition = load_classifier(folder / "condition.safetensors")

    def read(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predicted class (N,) and probability of every condition (N, 10) of uint8 images (N, H, W, 3)."""
        x = from_uint8(images)
        return (
            self.sign.outputs(x).logits.argmax(dim=1).numpy(),
            self.condition.outputs(x).logits.sigmoid().numpy(),
        )


def names_of(row: np.ndarray) -> tuple[str, ...]:
    """Conditions that an image shows: those above one half, or the most likely one."""
    found = tuple(c for c, p in zip(CONDITIONS, row, strict=True) if p > 0.5)
    return found or (CONDITIONS[int(row.argmax())],)


def gates(bench: Bench, scales: list[float], path: Path) -> None:
    """Class and condition agreement of 1,000 unguided samples, and what the plain prompt yields, at each scale."""
    cells = [(sign, condition) for sign in CLASSES for condition in CONDITIONS] * 10
    plain_labels = [i for i in range(len(CLASSES)) for _ in range(100)]
    found: dict[str, Any] = read_json(path) or {"autoencoder_psnr_db": bench.psnr()}
    for cfg in scales:
        if str(cfg) in found:
            continue
        guidance = dataclasses.replace(PRESETS["unguided"], cfg=cfg)
        named = bench.sample(
            [prompt(s, (c,)) for s, c in cells], [CLASSES.index(s) for s, _ in cells], 50_000, guidance
        )
        signs, conditions = bench.oracles.read(named)
        right = np.array([CLASSES[i] == s for i, (s, _) in zip(signs, cells, strict=True)])
        shown = np.array([c in names_of(row) for row, (_, c) in zip(conditions, cells, strict=True)])
        plain = bench.sample([prompt(CLASSES[i]) for i in plain_labels], plain_labels, 60_000, guidance)
        signs_plain, conditions_plain = bench.oracles.read(plain)
        share = dict.fromkeys(CONDITIONS, 0)
        for row in conditions_plain:
            for name in names_of(row):
                share[name] += 1
        found[str(cfg)] = {
            "class_agreement_named": float(right.mean()),
            "condition_agreement_named": float(shown.mean()),
            "condition_agreement_by_condition": {
                c: float(shown[[k == c for _, k in cells]].mean()) for c in CONDITIONS
            },
            "class_agreement_plain": float((signs_plain == np.array(plain_labels)).mean()),
            "plain_condition_share": {c: n / len(plain) for c, n in share.items()},
        }
        write_json(path, found)


class Bench:
    """The demo's models, loaded once."""

    def __init__(self, work: Path) -> None:
        self.generator = load_generator(ASSETS / "generator")
        self.classifier = load_classifier(ASSETS / "classifier.safetensors")
        judge = find_judge(ASSETS / "generator", self.classifier.labels)
        self.oracles = Oracles(ASSETS / "oracles")
        self.world = World(work / "images", BuildSettings(), no_progress, CancelToken())
        self.target = Target(self.classifier, self.reference(), judge)

    def reference(self, head_seed: int = 0) -> Reference:
        """Head and statistics fitted as the app does: on the bundled training pictures, percentiles on validation."""
        settings = BuildSettings()
        train, val = self.world.train(), self.world.val()
        n, m = settings.bundled_train, settings.bundled_val
        return fit_reference(
            self.outputs(train.images[:n]),
            torch.from_numpy(train.signs[:n]),
            self.outputs(val.images[:m]),
            torch.from_numpy(val.signs[:m]),
            len(CLASSES),
            HeadSettings(),
            generator=torch.Generator().manual_seed(head_seed),
            model_hash=self.classifier.hash,
        )

    def outputs(self, images: np.ndarray) -> Outputs:
        """Of uint8 images (N, 3, H, W)."""
        return self.classifier.outputs(torch.from_numpy(images).float() / 255, batch_size=256)

    def sample(
        self, prompts: list[str], labels: list[int], first_seed: int, guidance: Guidance
    ) -> np.ndarray:
        """Unguided images."""
        parts = []
        for start in range(0, len(prompts), 64):
            rows = slice(start, start + 64)
            request = GenerateRequest(
                tuple(prompts[rows]),
                tuple(labels[rows]),
                tuple(range(first_seed + start, first_seed + start + len(prompts[rows]))),
            )
            parts.append(generate_images(self.generator, self.target, guidance, request).images)
        return np.concatenate(parts)

    def psnr(self) -> float:
        """Autoencoder on test pictures, dB."""
        x = torch.from_numpy(self.world.test().images[:500]).float() / 255
        with torch.no_grad():
            y = in_chunks(self.generator.decode, self.generator.encode(x)).clamp(0, 1)
        return float((-10 * torch.log10((x - y).square().mean(dim=(1, 2, 3)))).mean())

    def scores(
        self, split: Split, reference: Reference
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """All signals on a split, whether the classifier errs, whether the cell is planted."""
        out = self.outputs(split.images)
        predicted = out.logits.argmax(dim=1)
        values = score_all(out, reference, predicted)
        wrong = predicted.numpy() != split.signs
        hidden = np.array(
            [planted(CLASSES[s], c) for s, c in zip(split.signs, split.conditions, strict=True)]
        )
        return {name: v.numpy() for name, v in values.items()}, wrong, hidden


def ranking(
    runs: list[dict[str, np.ndarray]], wrong: np.ndarray, hidden: np.ndarray, draws: int = 500
) -> dict[str, Any]:
    """AUROC and AUPR of every signal, mean over heads; intervals by bootstrap over images, paired with entropy's.

    Args:
        runs: One for every seed of the head: signal -> (N,) scores.
        wrong: (N,) whether the classifier errs.
        hidden: (N,) whether the cell is planted.
        draws: Of the bootstrap.
    """
    count, rng = len(wrong), np.random.default_rng(0)
    weights = np.stack(
        [
            np.ones(count),
            *[np.bincount(rng.integers(count, size=count), minlength=count) for _ in range(draws)],
        ]
    )
    drawn = {
        name: np.stack(
            [
                np.mean([resampled_auroc(run[name], truth, weights) for run in runs], axis=0)
                for truth in (hidden, wrong)
            ],
            axis=1,
        )
        for name in runs[0]
    }

    def figure(values: np.ndarray) -> list[float]:
        low, high = np.percentile(values[1:], [2.5, 97.5])
        return [float(values[0]), float(low), float(high)]

    found = {}
    for name, values in drawn.items():
        against = values - drawn["entropy"]
        found[name] = {
            "auroc_planted": figure(values[:, 0]),
            "auroc_errors": figure(values[:, 1]),
            "planted_minus_entropy": figure(against[:, 0]),
            "errors_minus_entropy": figure(against[:, 1]),
            "aupr_planted": float(np.mean([aupr(run[name], hidden) for run in runs])),
            "aupr_errors": float(np.mean([aupr(run[name], wrong) for run in runs])),
            "by_head": [[auroc(run[name], hidden), auroc(run[name], wrong)] for run in runs],
        }
    return found


def signals(bench: Bench, split: Split, heads: list[int]) -> dict[str, Any]:
    """AUROC and AUPR of every signal at finding planted cells and errors; the head is fitted with every seed."""
    scored = [bench.scores(split, bench.reference(seed)) for seed in heads]
    wrong, hidden = scored[0][1:]
    rows = ranking([values for values, _, _ in scored], wrong, hidden)
    cells = {}
    for sign, names in PLANTED.items():
        for name in names:
            mask = np.array(
                [CLASSES[s] == sign and name in c for s, c in zip(split.signs, split.conditions, strict=True)]
            )
            cells[f"{sign} / {name}"] = {"n": int(mask.sum()), "accuracy": float(1 - wrong[mask].mean())}
    return {
        "n": len(wrong),
        "heads": heads,
        "accuracy_seen": float(1 - wrong[~hidden].mean()),
        "accuracy_unseen": float(1 - wrong[hidden].mean()),
        "cells": cells,
        "signals": rows,
    }


def run_arm(bench: Bench, guidance: Guidance, seed: int, per_class: int) -> dict[str, Any]:
    """One arm, one seed: every class equally often, prompt without a condition."""
    labels = [i for i in range(len(CLASSES)) for _ in range(per_class)]
    seeds = [1_000_000 * (seed + 1) + i for i in range(len(labels))]
    rows: list[dict[str, Any]] = []
    calls: dict[str, int] = {}
    started = time.process_time()
    for start in range(0, len(labels), 16):
        part = slice(start, start + 16)
        request = GenerateRequest(
            tuple(prompt(CLASSES[i]) for i in labels[part]), tuple(labels[part]), tuple(seeds[part])
        )
        result = generate_images(bench.generator, bench.target, guidance, request, controls=False)
        for name, n in result.calls.items():
            calls[name] = calls.get(name, 0) + n
        found = examine(
            bench.generator, bench.target, guidance.signal, result.images, torch.tensor(labels[part])
        )
        signs, conditions = bench.oracles.read(result.images)
        predicted = bench.classifier.outputs(from_uint8(result.images)).logits.argmax(dim=1).numpy()
        for i, label in enumerate(labels[part]):
            rows.append(
                {
                    "label": label,
                    "on_class": bool(signs[i] == label),
                    "planted": planted(CLASSES[label], names_of(conditions[i])),
                    "condition": CONDITIONS[int(conditions[i].argmax())],
                    "wrong": bool(predicted[i] != label),
                    "believed": found[i].believed,
                    "survival": found[i].survival,
                    "percentile": float(result.percentile[i]),
                }
            )
    return {"rows": rows, "calls": calls, "cpu_seconds": time.process_time() - started}


def done(stored: dict[str, Any], settings: dict[str, Any]) -> bool:
    """Whether a figure was measured with these settings; one that came later began at the value that changes nothing."""
    return {**stored, "guidance": {**Guidance().to_dict(), **stored["guidance"]}} == settings


def main() -> None:
    """Run what is missing and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS / "demo")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "demo")
    parser.add_argument("--seeds", type=int, nargs="*", default=[3, 4, 5])
    parser.add_argument("--heads", type=int, nargs="*", default=[0, 1, 2], help="seeds of the epistemic head")
    parser.add_argument("--per-class", type=int, default=8, help="images a class and seed of the main arms")
    parser.add_argument("--ablation", type=int, default=5, help="the same of the other arms")
    parser.add_argument(
        "--scales", type=float, nargs="*", default=[PRESETS["unguided"].cfg, 2.0], help="of the gates"
    )
    parser.add_argument("--arms", nargs="*", default=list(ARMS))
    parser.add_argument("--parts", nargs="*", default=["gates", "signals", "arms"])
    options = parser.parse_args()
    bench = Bench(options.work)
    record = {"machine": machine(), "costs": call_costs(bench.generator, bench.target)}
    write_json(options.out / "machine.json", record)
    if "signals" in options.parts:
        write_json(options.out / "signals.json", signals(bench, bench.world.test(), options.heads))
    if "gates" in options.parts:
        gates(bench, options.scales, options.out / "gates.json")
    if "arms" not in options.parts:
        return
    wanted = sorted(options.arms, key=lambda name: name not in MAIN)
    for name, seed in [(name, seed) for name in wanted for seed in options.seeds]:
        per_class = options.per_class if name in MAIN else options.ablation
        path = options.out / "arms" / f"{name.replace(' ', '-').replace(':', '')}-{seed}.json"
        stored = read_json(path)
        settings = {"guidance": ARMS[name].to_dict(), "per_class": per_class}
        if stored is not None and done(stored["settings"], settings):
            continue
        result = run_arm(bench, ARMS[name], seed, per_class)
        write_json(path, {"arm": name, "seed": seed, "settings": settings, "machine": machine(), **result})
        on = [r for r in result["rows"] if r["on_class"]]
        share = sum(r["planted"] for r in on) / max(1, len(on))
        print(
            f"{name} seed {seed}: planted {share:.3f} on-class {len(on) / len(result['rows']):.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
