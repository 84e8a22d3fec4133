"""``make bench-cifar``: the loop on CIFAR-10 with a classifier that somebody else trained.

Accuracy on the 10,000 test images; AUROC and AUPR of every signal at finding the errors, with the head fitted on
45,000 training images and its percentiles on the other 5,000. Nothing is chosen on the test images.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

from benchmarks.measure import RESULTS, ROOT, aupr, auroc, machine
from ltg_core.models.classifier import Classifier
from ltg_core.models.loaders import load_classifier
from ltg_core.models.preprocess import Preprocess
from ltg_core.signals.head import HeadSettings
from ltg_core.signals.reference import fit_reference, score_all
from ltg_core.types import Outputs

SHARED = ROOT.parent / "shared" / "data"


def read(path: Path) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """uint8 images (N, 3, 32, 32), labels, class names."""
    table = pq.read_table(path, columns=["image", "label", "class_name"])
    images = [
        np.asarray(Image.open(io.BytesIO(row["bytes"])).convert("RGB")) for row in table["image"].to_pylist()
    ]
    labels = table["label"].to_numpy()
    names = dict(zip(labels.tolist(), table["class_name"].to_pylist(), strict=True))
    tensor = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return tensor, torch.from_numpy(labels.copy()), [names[i] for i in sorted(names)]


def outputs(classifier: Classifier, images: torch.Tensor) -> Outputs:
    """Of many uint8 images, in parts."""
    parts = [classifier.outputs(part.float() / 255, batch_size=256) for part in images.split(5000)]
    early = None if parts[0].early is None else torch.cat([p.early for p in parts if p.early is not None])
    return Outputs(torch.cat([p.logits for p in parts]), torch.cat([p.features for p in parts]), early)


def rows_of(
    depth: str, file: str, data: dict[str, tuple[torch.Tensor, torch.Tensor]], names: list[str], seeds: int
) -> list[str]:
    """Accuracy and the table of one network."""
    preprocess = Preprocess(height=32, width=32, resize="squash")
    path = SHARED / "weights" / "resnet_cifar10" / file
    classifier = load_classifier(path, arch=f"resnet{depth}_cifar", labels=names, preprocess=preprocess)
    train, test = outputs(classifier, data["train"][0]), outputs(classifier, data["test"][0])
    y, target = data["train"][1], data["test"][1]
    predicted = test.logits.argmax(dim=1)
    wrong = (predicted != target).numpy()
    cut = 45_000

    def part(out: Outputs, rows: slice) -> Outputs:
        return Outputs(out.logits[rows], out.features[rows], None if out.early is None else out.early[rows])

    found: dict[str, list[tuple[float, float]]] = {}
    for seed in range(seeds):
        reference = fit_reference(
            part(train, slice(cut)),
            y[:cut],
            part(train, slice(cut, None)),
            y[cut:],
            10,
            HeadSettings(),
            generator=torch.Generator().manual_seed(seed),
        )
        for name, value in score_all(test, reference, predicted).items():
            found.setdefault(name, []).append((auroc(value.numpy(), wrong), aupr(value.numpy(), wrong)))
    lines = [
        f"ResNet-{depth}: {1 - wrong.mean():.2%} of {len(wrong)} test images right ({int(wrong.sum())} errors).",
        "",
    ]
    lines += ["| signal | AUROC errors (lowest to highest seed) | AUPR errors |", "|---|---|---|"]
    for name, pairs in found.items():
        a, p = np.array(pairs).T
        lines.append(f"| {name} | {a.mean():.3f} ({a.min():.3f} to {a.max():.3f}) | {p.mean():.3f} |")
    return [*lines, ""]


def main() -> None:
    """Measure and write the section of the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    if not SHARED.exists():
        raise SystemExit(f"the data are not there ({SHARED.name}); see the README for what is needed")
    train, y, names = read(SHARED / "cifar10" / "train.parquet")
    test, target, _ = read(SHARED / "cifar10" / "test.parquet")
    data = {"train": (train, y), "test": (test, target)}
    lines = [
        "## Real images: CIFAR-10, classifiers trained by others",
        "",
        f"`make bench-cifar`, {options.seeds} seeds of the head, {machine()}.",
        "",
    ]
    for depth, file in (("20", "resnet20-12fca82f.th"), ("56", "resnet56-4bfd9763.th")):
        lines += rows_of(depth, file, data, names, options.seeds)
    path = RESULTS / "cifar10.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
