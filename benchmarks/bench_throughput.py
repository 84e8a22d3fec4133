"""``make bench-throughput``: what our own code costs beside the networks that it drives; ratios from one run, in turns.

Scoring a data set against a bare forward loop over the same loader; fitting the head on cached features; integrated gradients
against captum called by hand. CPU seconds of this process are compared, because a machine that is shared slows wall time.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.measure import RESULTS, ROOT, commit, machine, read_json, write_json
from ltg_core import workflows
from ltg_core.attribution import ATTRIBUTIONS
from ltg_core.attribution.targets import ClassTarget
from ltg_core.data.workspace import Workspace
from ltg_core.demo.world import CLASSES
from ltg_core.jobs import CancelToken
from ltg_core.models.classifier import Classifier
from ltg_core.models.preprocess import Preprocess
from ltg_core.signals.head import HeadSettings, fit_head
from ltg_core.workflows.computing import READERS, batch_size_of, fitting, for_fitted, read_batches

ASSETS = ROOT / "assets" / "demo"


def ratio(
    ours: Callable[[], Any],
    bare: Callable[[], Any],
    repeats: int,
    prepare: Callable[[], Any] = lambda: None,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, Any]:
    """Speed of ours in units of the bare one's, in CPU time: median and range over rounds in which both take turns.

    ``prepare`` goes before every round and is not counted; the first round warms up.
    """
    found, seconds = [], []
    for number in range(repeats + 1):
        prepare()
        spent = []
        for function in (bare, ours):
            started = clock()
            function()
            spent.append(clock() - started)
        if number:
            found.append(spent[0] / spent[1])
            seconds.append(spent)
    return {
        "value": statistics.median(found),
        "low": min(found),
        "high": max(found),
        "bare_seconds": statistics.median(s[0] for s in seconds),
        "our_seconds": statistics.median(s[1] for s in seconds),
    }


def pictures(folder: Path, count: int, side: int, seed: int) -> None:
    """Pictures of random structure in two classes, to be imported."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        small = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        path = folder / "train" / CLASSES[number % 2] / f"{seed}-{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC).save(path, quality=90)


def scoring(repeats: int, count: int, names: tuple[str, ...] = ("bundled", "resnet18")) -> dict[str, Any]:
    """All signals, stored in the workspace, against the network alone over the same loader.

    The bundled classifier is the hardest case (13 MFLOP an image of 64 pixels); a ResNet-18 at 224 pixels is a usual one.
    """
    found = {}
    for name in names:
        side, number = (64, count) if name == "bundled" else (224, max(8, count // 16))
        with tempfile.TemporaryDirectory() as text:
            found[name] = _scoring_of(Path(text), name, side, number, repeats) | {"images": number}
            print(name, found[name], flush=True)
    return found


def _scoring_of(folder: Path, name: str, side: int, number: int, repeats: int) -> dict[str, Any]:
    pictures(folder / "first", 64, side, 1)
    pictures(folder / "more", number, side, 2)
    with Workspace(folder / "before") as ws:
        classifier = _classifier(ws, name)
        workflows.import_data(ws, folder / "first")
        workflows.fit_head(ws, classifier, HeadSettings(epochs=2))
        fitted = {sample for part in ws.iterate(None) for sample in part}
        workflows.import_data(ws, folder / "more")
        ids = [sample for part in ws.iterate(None) for sample in part if sample not in fitted]
    batch, now = batch_size_of(classifier.preprocess), folder / "now"

    def prepare() -> None:
        shutil.rmtree(now, ignore_errors=True)
        shutil.copytree(folder / "before", now)

    def bare() -> None:
        asked, reader = for_fitted(classifier), fitting(classifier.preprocess)
        with Workspace(now) as ws, ThreadPoolExecutor(READERS) as pool, torch.no_grad():
            for _, images, _ in read_batches(ws, ids, batch, reader, pool, CancelToken()):
                asked.net(asked.preprocess(images))

    def ours() -> None:
        with Workspace(now) as ws:
            workflows.score(ws, classifier)

    return ratio(ours, bare, repeats, prepare)


def _classifier(ws: Workspace, name: str) -> Classifier:
    if name == "bundled":
        return workflows.use_classifier(ws, ASSETS / "classifier.safetensors")
    from torchvision.models import resnet18

    torch.manual_seed(0)
    path = ws.path / "net.pt"
    torch.save(resnet18(num_classes=len(CLASSES)).state_dict(), path)
    shape = Preprocess(height=224, width=224)
    return workflows.use_classifier(ws, path, arch="torchvision:resnet18", labels=CLASSES, preprocess=shape)


def head(samples: int, width: int, members: int) -> dict[str, Any]:
    """Seconds that the head takes to fit on features of so many samples."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(100, (samples,), generator=rng)
    centres = torch.randn(100, width, generator=rng)
    features = centres[labels] + 2 * torch.randn(samples, width, generator=rng)
    logits = features @ centres.T / width**0.5
    started, cpu = time.perf_counter(), time.process_time()
    fit_head(
        features,
        labels,
        100,
        HeadSettings(members=members),
        generator=torch.Generator().manual_seed(1),
        base_logits=logits,
    )
    spent = {"value": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}
    return spent | {"samples": samples, "width": width, "members": members, "classes": 100}


def integrated_gradients(repeats: int, images: int) -> dict[str, Any]:
    """The heat of some images against captum with the same number of steps and of images at once."""
    from captum.attr import IntegratedGradients
    from torchvision.models import resnet18

    torch.manual_seed(0)
    net = resnet18(num_classes=10).eval().requires_grad_(False)
    classifier = Classifier(
        net,
        [str(i) for i in range(10)],
        Preprocess(height=64, width=64),
        name="resnet18",
        arch="torchvision:resnet18",
    )
    x = torch.rand(images, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    method = ATTRIBUTIONS["integrated_gradients"]()

    def ours() -> None:
        method.attribute(ClassTarget(classifier), x)

    def bare() -> None:
        top = classifier.logits(x).argmax(dim=1)
        mean = torch.tensor(classifier.preprocess.mean).view(1, 3, 1, 1).expand_as(x)
        IntegratedGradients(lambda v: net(classifier.preprocess(v))).attribute(
            x,
            baselines=mean,
            target=top,
            n_steps=method.n_steps,
            internal_batch_size=images,
        )

    return ratio(ours, bare, repeats) | {"images": images, "steps": method.n_steps}


def main() -> None:
    """Measure and write ``benchmarks/results/throughput.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--images", type=int, default=2000, help="images to score")
    parser.add_argument("--samples", type=int, default=50_000, help="features for the head")
    parser.add_argument(
        "--parts", nargs="*", default=["scoring", "head", "gradients"], help="others are kept"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "throughput.json")
    options = parser.parse_args()
    known = read_json(options.out) or {}
    then = {name: known[name] for name in ("commit", "load") if name in known}
    found: dict[str, Any] = {name: then | row for name, row in known.items() if isinstance(row, dict)}

    def keep(rows: dict[str, dict[str, Any]]) -> None:
        """Write at once: a run that is stopped keeps what it measured, and every row says when that was."""
        load = [round(v, 1) for v in os.getloadavg()]
        found.update({name: row | {"commit": commit(), "load": load} for name, row in rows.items()})
        write_json(options.out, {"machine": machine(), **found})

    if "scoring" in options.parts:
        for name in ("bundled", "resnet18"):
            keep({f"scoring, {name}": scoring(options.repeats, options.images, (name,))[name]})
    if "head" in options.parts:
        keep({"head, seconds": head(options.samples, 512, 10)})
    if "gradients" in options.parts:
        keep({"integrated gradients": integrated_gradients(options.repeats, 64)})
    for name, row in found.items():
        print(
            name, {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}
        )


if __name__ == "__main__":
    main()
