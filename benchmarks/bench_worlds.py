"""``make bench-worlds``: do the signals find unseen cells in worlds that no setting was chosen for?

The demo's plan with its state conditions exchanged in a circle gives three further worlds with other blind spots, each
with a classifier of its own (trained here, resumable). Head and statistics are fitted as the app does.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from benchmarks.bench_demo import ranking
from benchmarks.measure import RESULTS, ROOT, commit, machine, write_json
from ltg_core.demo import plan
from ltg_core.demo.build import ARCH, BuildSettings
from ltg_core.demo.data import Split, scene_of
from ltg_core.demo.world import CLASSES, render
from ltg_core.models.classifier import Classifier
from ltg_core.models.fit import ClassifierSettings, fit_classifier
from ltg_core.signals.head import HeadSettings
from ltg_core.signals.reference import fit_reference, score_all
from ltg_core.types import Outputs

RING = ("snow", "graffiti", "tilted", "faded")
WORLDS = (1, 2, 3)


def exchange(world: int) -> None:
    """Turn the plan of this process into that of another world: every state condition is the next but ``world``."""
    turn = {name: RING[(place + world) % len(RING)] for place, name in enumerate(RING)}
    for cells in (plan.PLANTED, plan.OVERREPRESENTED):
        cells.update({sign: tuple(turn.get(c, c) for c in names) for sign, names in cells.items()})


def rendered(kind: str, count: int, seed: int, path: Path) -> Split:
    """A split of the world of this process; in this process, for another one would read the demo's own plan."""
    scenes = [scene_of(kind, seed, i) for i in range(count)]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.stack([render(scene).transpose(2, 0, 1) for scene in scenes]))
    signs = np.array([CLASSES.index(scene.sign) for scene in scenes])
    return Split(np.load(path), signs, [s.conditions for s in scenes], [s.metadata() for s in scenes])


def measure(world: int, work: Path, heads: list[int]) -> dict[str, object]:
    """Train the world's classifier and rank its test pictures by every signal."""
    sizes = BuildSettings()
    exchange(world)
    train = rendered("train", sizes.train_images, 100 + world, work / f"train-{world}.npy")
    val = rendered("even", sizes.val_images, 140, work / "val.npy")
    test = rendered("even", sizes.test_images, 150, work / "test.npy")
    options = ClassifierSettings(steps=sizes.classifier_steps, seed=world, shift=2, size=32)
    images, signs = torch.from_numpy(train.images), torch.from_numpy(train.signs)
    classifier = fit_classifier(images, signs, CLASSES, ARCH, options, work / f"classifier-{world}.ckpt")
    out = outputs(classifier, test)
    predicted = out.logits.argmax(dim=1)
    wrong = predicted.numpy() != test.signs
    hidden = np.array([plan.planted(CLASSES[s], c) for s, c in zip(test.signs, test.conditions, strict=True)])
    runs = []
    n, m = sizes.bundled_train, sizes.bundled_val
    seen, held = outputs(classifier, train, n), outputs(classifier, val, m)
    for seed in heads:
        reference = fit_reference(
            seen,
            signs[:n],
            held,
            torch.from_numpy(val.signs[:m]),
            len(CLASSES),
            HeadSettings(),
            generator=torch.Generator().manual_seed(seed),
        )
        runs.append({name: v.numpy() for name, v in score_all(out, reference, predicted).items()})
    return {
        "world": world,
        "heads": heads,
        "machine": machine(),
        "commit": commit(),
        "accuracy_seen": float(1 - wrong[~hidden].mean()),
        "accuracy_unseen": float(1 - wrong[hidden].mean()),
        "signals": ranking(runs, wrong, hidden),
    }


def outputs(classifier: Classifier, split: Split, count: int | None = None) -> Outputs:
    """Of the first pictures of a split."""
    return classifier.outputs(torch.from_numpy(split.images[:count]).float() / 255, batch_size=256)


def section(found: list[dict[str, object]]) -> list[str]:
    """The part of the report."""
    lines = [
        "## The signals in three further worlds",
        "",
        f"`make bench-worlds`, {found[0]['machine']}. The demo's plan with its conditions exchanged, 3,000 test pictures each, heads of seeds "
        f"{', '.join(map(str, found[0]['heads']))}; difference of AUROC to entropy's, paired.",
        "",
        "| world | accuracy seen / unseen | signal | AUROC unseen cells | minus entropy's | AUROC errors | minus entropy's |",
        "|---|---|---|---|---|---|---|",
    ]
    for world in found:
        for name in ("epistemic", "entropy", "density", "relative_mahalanobis"):
            row = world["signals"][name]
            p, e = row["auroc_planted"], row["auroc_errors"]
            dp, de = row["planted_minus_entropy"], row["errors_minus_entropy"]
            lines.append(
                f"| {world['world']} | {world['accuracy_seen']:.1%} / {world['accuracy_unseen']:.1%} | {name} | {p[0]:.3f} [{p[1]:.3f}, {p[2]:.3f}] | "
                f"{dp[0]:+.3f} [{dp[1]:+.3f}, {dp[2]:+.3f}] | {e[0]:.3f} | {de[0]:+.3f} [{de[1]:+.3f}, {de[2]:+.3f}] |"
            )
    return lines


def main() -> None:
    """Measure and write the section of the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "worlds")
    parser.add_argument("--heads", type=int, nargs="*", default=[0, 1, 2], help="seeds of the epistemic head")
    options = parser.parse_args()
    found = []
    for world in WORLDS:
        before = dict(plan.PLANTED), dict(plan.OVERREPRESENTED)
        found.append(measure(world, options.work, options.heads))
        plan.PLANTED.update(before[0])
        plan.OVERREPRESENTED.update(before[1])
    write_json(RESULTS / "worlds.json", {"worlds": found})
    (RESULTS / "worlds.md").write_text("\n".join(section(found)) + "\n", encoding="utf-8")
    print("\n".join(section(found)))


if __name__ == "__main__":
    main()
