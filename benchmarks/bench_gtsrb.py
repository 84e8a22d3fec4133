"""``make bench-gtsrb``: the loop on real road signs (GTSRB), with models trained by this package's own commands.

The commands of `TRAININGS` make a small classifier, a text-to-image model and an independent judge from the training
images; tracks (frames of one sign) that are held out there give the percentiles here. Accuracy, the signals and the
fidelity of the generator are measured on the official test images, which nothing was chosen on.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.bench_cifar import SHARED, outputs, read
from benchmarks.measure import RESULTS, ROOT, aupr, auroc, interval, machine, write_json
from ltg_core.generators.base import Generator
from ltg_core.generators.judge import find_judge, prompt_of
from ltg_core.generators.loading import load_generator
from ltg_core.guidance.engine import GenerateRequest, GenerateResult, Target, from_uint8, generate_images
from ltg_core.guidance.settings import PRESETS, Guidance
from ltg_core.guidance.validity import examine
from ltg_core.models.classifier import Classifier
from ltg_core.models.loaders import load_classifier
from ltg_core.signals.head import HeadSettings
from ltg_core.signals.reference import Reference, fit_reference, score_all
from ltg_core.workflows.gathering import gather

CAPTION = "a photo of a {label} traffic sign"
TRAININGS: dict[str, str] = {
    "classifier.safetensors": "fit-classifier {data} --out {out} --arch resnet20_cifar --size 32 --group track "
    "--steps 1200 --shift 2",
    "generator": "fit-generator {data} --out {out} --size 32 --caption '" + CAPTION + "' "
    "--autoencoder-steps 1500 --autoencoder-crop 0 --autoencoder-batch-size 24 --tiny-steps 600 --tiny-batch-size 32 "
    "--text-steps 400 --text-patch 4 --denoiser-steps 2000 --denoiser-batch-size 64",
    "judge.safetensors": "fit-classifier {data} --out {out} --arch resnet20_cifar --size 32 --group track "
    "--steps 1200 --shift 3 --blur 0.3 --exposure 0.3 --seed 100",
}


def train(work: Path) -> None:
    """Run what is missing; every command goes on where it was stopped."""
    data = SHARED / "gtsrb" / "train.parquet"
    for name, command in TRAININGS.items():
        out = work / name
        if not (out / "model_index.json" if name == "generator" else out).exists():
            words = [
                word.replace("{data}", str(data)).replace("{out}", str(out)) for word in shlex.split(command)
            ]
            subprocess.run([sys.executable, "-m", "ltg_core", *words], check=True, cwd=ROOT)


def coverage(real: torch.Tensor, made: torch.Tensor, k: int = 5) -> tuple[float, float]:
    """Density and coverage of generated features among real ones (Naeem et al. 2020).

    Args:
        real: (N, D) features of real images.
        made: (M, D) features of generated images.
        k: Neighbours that define the radius of a real sample.

    Returns:
        Mean number of real neighbourhoods a generated sample lies in, over k; share of real samples whose
        neighbourhood holds a generated one.
    """
    radius = torch.cdist(real, real).topk(k + 1, largest=False).values[:, -1]
    inside = torch.cdist(real, made) <= radius[:, None]
    return float(inside.sum(dim=0).float().mean() / k), float(inside.any(dim=1).float().mean())


def reference_of(classifier: Classifier, seed: int) -> Reference:
    """Head and statistics on the training tracks, percentiles on the held-out tracks."""
    parts = []
    for held in (False, True):
        data = gather(
            SHARED / "gtsrb" / "train.parquet", 32, resize="squash", group="track", holdout=0.1, held=held
        )
        parts.append((outputs(classifier, data.images), data.targets))
    (train_out, y), (held_out, held_y) = parts
    rng = torch.Generator().manual_seed(seed)
    return fit_reference(
        train_out, y, held_out, held_y, len(classifier.labels), HeadSettings(), generator=rng
    )


def signal_lines(classifier: Classifier, references: list[Reference]) -> list[str]:
    """Accuracy on the official test images and how well every signal finds the errors."""
    test, target, _ = read(SHARED / "gtsrb" / "test.parquet")
    out = outputs(classifier, test)
    predicted = out.logits.argmax(dim=1)
    wrong = (predicted != target).numpy()
    found: dict[str, list[tuple[float, float]]] = {}
    for reference in references:
        for name, value in score_all(out, reference, predicted).items():
            found.setdefault(name, []).append((auroc(value.numpy(), wrong), aupr(value.numpy(), wrong)))
    lines = [
        f"The classifier is right on {1 - wrong.mean():.2%} of the {len(wrong):,} official test images "
        f"({int(wrong.sum())} errors).",
        "",
        "| signal | AUROC errors (lowest to highest seed) | AUPR errors |",
        "|---|---|---|",
    ]
    for name, pairs in found.items():
        a, p = np.array(pairs).T
        lines.append(f"| {name} | {a.mean():.3f} ({a.min():.3f} to {a.max():.3f}) | {p.mean():.3f} |")
    return [*lines, ""]


def sample(
    generator: Generator, target: Target, guidance: Guidance, per_class: int, seed: int, controls: bool
) -> tuple[list[GenerateResult], torch.Tensor]:
    """The same number of every class, in batches of 16."""
    names = target.classifier.labels
    labels = [i for i in range(len(names)) for _ in range(per_class)]
    results = []
    for start in range(0, len(labels), 16):
        part = labels[start : start + 16]
        prompts = tuple(CAPTION.replace("{label}", names[i]) for i in part)
        seeds = tuple(range(seed + start, seed + start + len(part)))
        request = GenerateRequest(prompts, tuple(part), seeds)
        results.append(generate_images(generator, target, guidance, request, controls=controls))
    return results, torch.tensor(labels)


def fidelity_lines(
    generator: Generator, target: Target, judge: Classifier, per_class: int, sheet: Path
) -> list[str]:
    """Unguided samples: agreement of the independent judge, density and coverage against real test images."""
    test, y, _ = read(SHARED / "gtsrb" / "test.parquet")
    results, labels = sample(generator, target, PRESETS["unguided"], per_class, 70_000, False)
    images = np.concatenate([r.images for r in results])
    save_sheet(images, per_class, sheet)
    made = judge.outputs(from_uint8(images), batch_size=256)
    agree = (made.logits.argmax(dim=1) == labels).numpy().astype(float)
    rng = np.random.default_rng(0)
    rows = np.concatenate(
        [
            rng.choice((y == c).nonzero()[:, 0].numpy(), 2 * per_class)
            for c in range(len(target.classifier.labels))
        ]
    )
    order = rng.permutation(len(rows))
    first, second = rows[order[: len(rows) // 2]], rows[order[len(rows) // 2 :]]
    real, other = (outputs(judge, test[torch.from_numpy(np.sort(r))]) for r in (first, second))
    low, high = interval(agree, lambda v: float(v.mean()))
    ours, best = coverage(real.features, made.features), coverage(real.features, other.features)
    accuracy = float((outputs(judge, test).logits.argmax(dim=1) == y).float().mean())
    return [
        f"Unguided samples, {per_class} a class ({len(images)}): the independent judge ({accuracy:.1%} on the official "
        f"test images) sees the intended class in **{agree.mean():.1%}** [{low:.1%}, {high:.1%}]. Against as many real test "
        f"images, in the judge's features (k = 5): density **{ours[0]:.2f}**, coverage **{ours[1]:.2f}**; a second set of "
        f"real test images reaches {best[0]:.2f} and {best[1]:.2f}.",
        "",
    ]


def guided_lines(
    generator: Generator, target: Target, judge: Classifier, per_class: int, seeds: int, sheet: Path
) -> list[str]:
    """Guided images of the default preset against their controls."""
    table = []
    for seed in range(seeds):
        results, labels = sample(
            generator, target, PRESETS["explore"], per_class, 1_000_000 * (seed + 1), True
        )
        for at, result in enumerate(results):
            own = labels[16 * at : 16 * at + len(result.images)]
            assert result.controls is not None and result.percentile_control is not None
            for kind, images, percentile in (
                (0, result.controls, result.percentile_control),
                (1, result.images, result.percentile),
            ):
                x = from_uint8(images)
                agrees = judge.outputs(x).logits.argmax(dim=1) == own
                wrong = target.classifier.outputs(x).logits.argmax(dim=1) != own
                found = examine(generator, target, "epistemic", images, own)
                table += [
                    (kind, seed, float(agrees[i]), float(wrong[i]), found[i].believed, float(percentile[i]))
                    for i in range(len(x))
                ]
        if seed == 0:
            save_sheet(np.concatenate([r.images for r in results]), per_class, sheet)
    rows = np.array(table, dtype=float)
    lines = [
        f"Guided images of the default preset, {per_class} a class, {seeds} seeds, beside their unguided controls; truth is "
        "the independent judge.",
        "",
        "| | percentile of the signal | judge agrees | believed | errors of the classifier among believed and agreed |",
        "|---|---|---|---|---|",
    ]
    for kind, name in ((0, "unguided"), (1, "guided")):
        own = rows[rows[:, 0] == kind]
        kept = own[(own[:, 4] == 1) & (own[:, 2] == 1)]
        low, high = interval(kept[:, 3], lambda v: float(v.mean()))
        lines.append(
            f"| {name} | {own[:, 5].mean():.0f} | {own[:, 2].mean():.1%} | {own[:, 4].mean():.1%} | "
            f"{kept[:, 3].mean():.1%} [{low:.1%}, {high:.1%}] of {len(kept)} |"
        )
    return [*lines, ""]


def save_sheet(images: np.ndarray, columns: int, path: Path) -> None:
    """A contact sheet, one class a row; for the eye only, it stays in the ignored output folder."""
    rows = len(images) // columns
    grid = images[: rows * columns].reshape(rows, columns, *images.shape[1:]).swapaxes(1, 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = images.shape[1:3]
    Image.fromarray(grid.reshape(rows * height, columns * width, 3)).save(path)


def main() -> None:
    """Train what is missing, measure, write the section of the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "gtsrb")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--per-class", type=int, default=4, help="guided images a class and seed")
    options = parser.parse_args()
    if not (SHARED / "gtsrb").exists():
        raise SystemExit(f"the data are not there ({SHARED.name}/gtsrb); see the README for what is needed")
    train(options.work)
    classifier = load_classifier(options.work / "classifier.safetensors")
    judge = load_classifier(options.work / "judge.safetensors")
    generator = load_generator(options.work / "generator")
    references = [reference_of(classifier, seed) for seed in range(options.seeds)]
    own_judge = find_judge(options.work / "generator", classifier.labels)
    assert prompt_of(options.work / "generator") == CAPTION
    target = Target(classifier, references[0], own_judge)
    out = RESULTS
    lines = [
        "## Real road signs: GTSRB, everything trained by the package's commands",
        "",
        f"`make bench-gtsrb`, {options.seeds} seeds, {machine()}. Tracks of one sign never lie on both sides of a split.",
        "",
        *signal_lines(classifier, references),
        *fidelity_lines(generator, target, judge, 12, out / "gtsrb" / "unguided.png"),
        *guided_lines(
            generator, target, judge, options.per_class, options.seeds, out / "gtsrb" / "guided.png"
        ),
    ]
    (out / "gtsrb.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_json(out / "gtsrb" / "trainings.json", TRAININGS)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
