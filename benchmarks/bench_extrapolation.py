"""``python -m benchmarks.bench_extrapolation``: auxiliary classes beside rare ones, on CIFAR-100.

50 classes with a long tail are the targets, 50 others the pool. A pool class stands beside the targets of its
superclass. The neighbour arms learn from pool classes whose superclass has a rare target (fewer than 20 images), the
random arm from as many classes, with as many images each, of the other superclasses. Only the 50 target outputs are
kept. The recipe is short; nothing is chosen on the test images, and the last weights are taken. Every training goes
on where it was stopped, and finished ones are left alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import io
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

from benchmarks.measure import RESULTS, ROOT, machine
from ltg_core.data import near
from ltg_core.evaluation.bootstrap import Difference, differences
from ltg_core.evaluation.frame import Answers, Frame, answers, shots
from ltg_core.jobs import CancelToken, Progress
from ltg_core.models.own import SmallResNet
from ltg_core.models.units import Units
from ltg_core.training.loop import Fit, TrainingSet
from ltg_core.training.losses import LOSSES, About, Loss
from ltg_core.training.losses.neighbour_silencing import NeighbourSilencing
from ltg_core.training.samplers.instance import InstanceSampler
from ltg_core.training.settings import TrainSettings
from ltg_core.training.student import Student

DATA = ROOT.parent / "shared" / "data" / "cifar100_extrapolation"
WEAK = 20
SHOWN = ("accuracy", "many", "medium", "few", "macro_f1", "ece")
_MEAN, _STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way to train: its loss, and which auxiliary classes are beside the targets ("", "random", "neighbour")."""

    name: str
    loss: Loss
    auxiliary: str = ""


ARMS = (
    Arm("cross-entropy", LOSSES["cross-entropy"]()),
    Arm("balanced softmax", LOSSES["balanced-softmax"]()),
    Arm("+ random auxiliary", LOSSES["balanced-softmax"](), "random"),
    Arm("+ neighbour auxiliary", LOSSES["balanced-softmax"](), "neighbour"),
    Arm("+ neighbour silencing, lambda 0.1", NeighbourSilencing(silence=0.1), "neighbour"),
    Arm("+ neighbour silencing, lambda 0", NeighbourSilencing(silence=0.0), "neighbour"),
)
PAIRS = (
    ("balanced softmax", "cross-entropy"),
    ("+ random auxiliary", "balanced softmax"),
    ("+ neighbour auxiliary", "balanced softmax"),
    ("+ neighbour silencing, lambda 0.1", "balanced softmax"),
    ("+ neighbour silencing, lambda 0", "balanced softmax"),
    ("+ neighbour auxiliary", "+ random auxiliary"),
    ("+ neighbour silencing, lambda 0.1", "+ neighbour auxiliary"),
    ("+ neighbour silencing, lambda 0", "+ neighbour auxiliary"),
)


@dataclasses.dataclass(frozen=True)
class Images:
    """uint8 pictures (N, 3, H, W) and the class name of each."""

    pixels: torch.Tensor
    names: tuple[str, ...]

    def of(self, names: Sequence[str], each: int) -> Images:
        """The first ``each`` pictures of some classes."""
        places = [i for name in names for i in [k for k, n in enumerate(self.names) if n == name][:each]]
        return Images(self.pixels[places], tuple(self.names[i] for i in places))


@dataclasses.dataclass(frozen=True)
class World:
    """Everything that the arms share.

    Attributes:
        train: Long-tailed images of the targets.
        val: Only watched.
        test: Measured once, at the end.
        pool: Images of other classes, without near copies of ``val`` and ``test``.
        targets: Class names, the most frequent first.
        superclass: Of every class.
        dropped: Near copies that were taken out of the pool.
    """

    train: Images
    val: Images
    test: Images
    pool: Images
    targets: tuple[str, ...]
    superclass: Mapping[str, str]
    dropped: int = 0

    @property
    def counts(self) -> np.ndarray:
        """Training images of each target."""
        return np.array([self.train.names.count(name) for name in self.targets])

    @property
    def sides(self) -> dict[str, list[str]]:
        """Pool classes beside a rare target, and the others."""
        rare = {self.superclass[n] for n, k in zip(self.targets, self.counts, strict=True) if k < WEAK}
        classes = sorted(set(self.pool.names))
        return {
            "neighbour": [name for name in classes if self.superclass[name] in rare],
            "random": [name for name in classes if self.superclass[name] not in rare],
        }

    def auxiliary(self, kind: str, seed: int) -> list[str]:
        """Equally many classes of either kind; where there are more, the seed says which."""
        sides = self.sides
        count = min(len(names) for names in sides.values())
        order = np.random.default_rng(seed).permutation(len(sides[kind]))[:count]
        return sorted(sides[kind][i] for i in order)

    @property
    def each(self) -> int:
        """Images a pool class: as many as the smallest has."""
        return min(self.pool.names.count(name) for name in set(self.pool.names))


def load() -> World:
    """The data, decoded."""
    about = json.loads((DATA / "classes.json").read_text(encoding="utf-8"))
    train, val, test, pool = (_read(DATA / f"{name}.parquet") for name in ("train_lt", "val", "test", "pool"))
    held = np.concatenate([_looks(val), _looks(test)])
    copies = {ours for ours, _ in near.nearest(_looks(pool), held, CancelToken())}
    keep = [i for i in range(len(pool.names)) if i not in copies]
    pool = Images(pool.pixels[keep], tuple(pool.names[i] for i in keep))
    return World(
        train, val, test, pool, tuple(about["targets_by_rank"]), about["superclass"], dropped=len(copies)
    )


def _read(path: Path) -> Images:
    table = pq.read_table(path, columns=["image", "class_name"])
    pixels = [
        np.asarray(Image.open(io.BytesIO(row["bytes"])).convert("RGB")) for row in table["image"].to_pylist()
    ]
    return Images(
        torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous(),
        tuple(table["class_name"].to_pylist()),
    )


def _looks(images: Images) -> np.ndarray:
    return np.stack([near.look_of(Image.fromarray(p.permute(1, 2, 0).numpy())) for p in images.pixels])


def training_set(world: World, arm: Arm, seed: int) -> TrainingSet:
    """What an arm learns from: target classes first, auxiliary ones after them."""
    beside = world.auxiliary(arm.auxiliary, seed) if arm.auxiliary else []
    extra = world.pool.of(beside, world.each)
    names = [*world.targets, *beside]
    place = {name: i for i, name in enumerate(names)}
    pixels = torch.cat([world.train.pixels, extra.pixels])
    labels = torch.tensor([place[name] for name in (*world.train.names, *extra.names)])
    own: dict[str, list[int]] = {}
    for i, name in enumerate(world.targets):
        own.setdefault(world.superclass[name], []).append(i)
    rows = [[-1]] * len(world.targets) + [own.get(world.superclass[name], [-1]) for name in beside]
    width = max(len(row) for row in rows)
    parents = torch.tensor([row + [-1] * (width - len(row)) for row in rows])
    held = world.val.pixels
    return TrainingSet(
        fetch=lambda at: pixels[at].float() / 255,
        targets=torch.nn.functional.one_hot(labels, len(names)).float(),
        weights=torch.ones(len(labels)),
        groups=torch.full((len(labels),), -1),
        about=About(torch.bincount(labels, minlength=len(names)).float(), parents=parents),
        held=lambda at: held[at].float() / 255,
        held_labels=torch.tensor([place[name] for name in world.val.names]),
        classes=len(world.targets),
        fingerprint=hashlib.sha256(pixels.numpy().tobytes() + " ".join(names).encode()).hexdigest()[:32],
    )


def prepare(x: torch.Tensor) -> torch.Tensor:
    """Standardised input."""
    return ((x - _MEAN[:, None, None]) / _STD[:, None, None]).contiguous(memory_format=torch.channels_last)


def slug(arm: Arm) -> str:
    """A name for its files, another one for each arm."""
    return re.sub(r"[^a-z0-9_]+", "-", arm.name.replace("+", "with").replace(".", "_"))


def one(
    world: World,
    arm: Arm,
    seed: int,
    settings: TrainSettings,
    work: Path,
    shape: tuple[int, int],
    wait: Callable[[], None],
) -> dict[str, Any]:
    """Train one arm with one seed and answer for the test images; a finished one is read.

    Args:
        world: The data.
        arm: What is trained.
        seed: Of weights, order, changes and the choice of auxiliary classes.
        settings: The recipe.
        work: Folder of checkpoints and answers.
        shape: Depth of the network and stride of its stem.
        wait: Called at every report.
    """
    given = {"settings": settings.to_dict(), "shape": list(shape), "loss": arm.loss.to_dict()}
    done, checkpoint = (work / f"{slug(arm)}-{seed}.{kind}" for kind in ("json", "ckpt"))
    if done.exists():
        found: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
        if found["given"] == given:
            return found
    began = time.process_time()
    data = training_set(world, arm, seed)
    count = data.targets.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = SmallResNet(shape[0], count, shape[1]).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    student = Student(net, Units(count), prepare)

    def report(p: Progress) -> None:
        print(f"{arm.name}, {p.message}", flush=True)
        wait()

    trained = Fit(
        student,
        data,
        arm.loss,
        InstanceSampler(),
        settings,
        seed=seed,
        checkpoint=checkpoint,
    ).run(what=f"seed {seed}", on_progress=report, cancel=CancelToken())
    student.load_state_dict(trained.state)
    said = answers(logits_of(student, world.test.pixels)[:, : len(world.targets)].numpy())
    found = {
        "given": given,
        "pred": said.pred.tolist(),
        "confidence": [round(float(c), 6) for c in said.confidence],
        "images": len(data.targets),
        "classes": count,
        "last": trained.history[-1],
        "seconds": round(time.process_time() - began),
    }
    done.write_text(json.dumps(found), encoding="utf-8")
    checkpoint.unlink(missing_ok=True)
    return found


@torch.no_grad()
def logits_of(student: Student, pixels: torch.Tensor) -> torch.Tensor:
    """(N, classes), all outputs."""
    student.eval()
    return torch.cat([student(part.float() / 255) for part in pixels.split(250)])


def report(world: World, found: Mapping[str, Sequence[Mapping[str, Any]]], head: Sequence[str]) -> list[str]:
    """The section: figures of every arm, then the differences with intervals."""
    place = {name: i for i, name in enumerate(world.targets)}
    labels = np.array([place[name] for name in world.test.names])
    frame = Frame(labels, world.targets, parts=shots(world.counts))
    said = {
        name: [Answers(np.array(r["pred"]), np.array(r["confidence"])) for r in runs]
        for name, runs in found.items()
    }
    shown = [name for name in SHOWN if name in frame.measured(next(iter(said.values()))[0])]
    lines = [
        *head,
        "",
        f"| arm | images | {' | '.join(shown)} | lowest to highest seed (accuracy) |",
        "|---" * (len(shown) + 3) + "|",
    ]
    for name, runs in said.items():
        figures = [frame.measured(one) for one in runs]
        cells = [f"{np.mean([f[key] for f in figures]):.1%}" for key in shown]
        own = [f["accuracy"] for f in figures]
        lines.append(
            f"| {name} | {found[name][0]['images']:,} | {' | '.join(cells)} | {min(own):.1%} to {max(own):.1%} |"
        )
    parts = [name for name in ("accuracy", *frame.parts) if name in shown]
    lines += [
        "",
        "Differences in points, with 95 % paired bootstrap intervals over the test images (each arm the mean of its "
        "seeds); in bold where the interval leaves out 0.",
        "",
        f"| arm | against | {' | '.join(parts)} |",
        "|---" * (len(parts) + 2) + "|",
    ]
    for after, before in PAIRS:
        if after in said and before in said:
            by = {d.name: d for d in differences(frame, said[before], said[after])}
            lines.append(f"| {after} | {before} | {' | '.join(_cell(by[part]) for part in parts)} |")
    return [*lines, ""]


def _cell(d: Difference) -> str:
    if d.low is None or d.high is None:
        return f"{100 * d.change:+.1f}"
    text = f"{100 * d.change:+.1f}"
    return f"{f'**{text}**' if d.certain else text} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"


def heading(world: World, options: argparse.Namespace, seeds: int) -> list[str]:
    """What was done, in words."""
    count, rare = min(len(names) for names in world.sides.values()), int((world.counts < WEAK).sum())
    return [
        "## Category extrapolation: CIFAR-100, 50 long-tailed targets, 50 other classes as pool",
        "",
        f"`python -m benchmarks.bench_extrapolation --seeds {options.seeds} --epochs {options.epochs} --depth "
        f"{options.depth} --stem-stride {options.stem_stride}`, {f'seeds 0 to {seeds - 1}' if seeds > 1 else 'seed 0 alone'}, {machine()}.",
        "",
        f"**Shortened recipe**: ResNet-{options.depth}, stem stride {options.stem_stride}, {options.epochs} epochs (of the "
        "images of the arm), batch 128, SGD .1, momentum .9, weight decay 2e-4, cosine, shift 4, mirrored; bfloat16. "
        "Published figures have ResNet-32 and 200 epochs; these cannot be held against them, only against each other. "
        f"{rare} targets have fewer than {WEAK} training images (few). Auxiliary arms have {count} pool classes of "
        f"{world.each} images each; which classes, where there are more, the seed says. Near copies of validation or test images among "
        f"the pool, left out: {world.dropped}. A pool class stands beside all targets of its "
        "superclass; the cosine band is not applied, because the superclass says what is near. An epoch of an "
        "auxiliary arm has more images, so more steps.",
    ]


def main() -> None:
    """Train what is missing, seed by seed; write the section after every seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "extrapolation")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--depth", type=int, default=8, help="of the ResNet: 6 k + 2")
    parser.add_argument("--stem-stride", type=int, default=2, help="1 for full resolution, four times slower")
    parser.add_argument("--pause-while", type=Path, help="wait while this file exists")
    options = parser.parse_args()
    if not DATA.exists():
        raise SystemExit(f"the data are not there ({DATA.name}); see the README for what is needed")
    settings = TrainSettings(
        scope="scratch", epochs=options.epochs, lr=0.1, optimizer="sgd", weight_decay=2e-4, warmup=1.0, clip=0.0,
        ema=0.0, patience=0, precision="bf16", shift=4, flip=True,
    )  # fmt: skip
    options.work.mkdir(parents=True, exist_ok=True)

    def wait() -> None:
        while options.pause_while and options.pause_while.exists():
            time.sleep(5)

    world = load()
    found: dict[str, list[dict[str, Any]]] = {arm.name: [] for arm in ARMS}
    for seed in range(options.seeds):
        for arm in ARMS:
            shape = (options.depth, options.stem_stride)
            found[arm.name].append(one(world, arm, seed, settings, options.work, shape, wait))
        lines = report(world, found, heading(world, options, seed + 1))
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / "extrapolation.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
