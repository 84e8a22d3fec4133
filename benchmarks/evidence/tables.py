"""From what was measured to the text of ``docs/evidence.md``; what is missing is said in the same place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.evidence.arms import ARMS, SCALES
from benchmarks.evidence.figure import Line, chart
from benchmarks.evidence.statistics import Estimate, estimated, unpacked
from benchmarks.evidence.truth import frame_of
from benchmarks.evidence.units import Store
from benchmarks.measure import read_json

SEEDS = (0, 1, 2)
"""What the tables wait for."""
COLUMNS = {"planted": "planted cells", "tail": "tail, balanced", "head": "head", "overall": "overall",
           "balanced": "balanced", "worst class": "worst class"}  # fmt: skip
LTG, UNGUIDED, BEST = "+ LTG epistemic", "+ unguided", "+ best of N, equal compute"
REAL, BALANCED = "real only", "balanced softmax"
Found = dict[int, dict[str, Any]]


def cell(one: Estimate, sign: bool = False) -> str:
    """Points with their interval, in bold where a difference leaves out 0."""
    form = "{:+.1f}" if sign else "{:.1f}"
    text = form.format(100 * one.value)
    text = f"**{text}**" if sign and one.certain else text
    return f"{text} [{form.format(100 * one.low)}, {form.format(100 * one.high)}]"


def where(command: str, found: Sequence[Mapping[str, Any]]) -> str:
    """Command, seeds and machines of what stands below."""
    seeds = sorted({int(one["seed"]) for one in found})
    machines = sorted({str(one["machine"]) for one in found})
    return f"`{command}`, seeds {', '.join(map(str, seeds))}, {'; '.join(machines)}."


def missing(
    store: Store, part: str, names: Sequence[str], seeds: Sequence[int] = SEEDS, once: Sequence[str] = ()
) -> list[str]:
    """Which arms and seeds are not measured yet, in words; empty where all are.

    Args:
        store: Results.
        part: Of the evidence.
        names: Its arms.
        seeds: That are waited for.
        once: Arms that have the first seed alone.
    """
    by_seeds: dict[tuple[int, ...], list[str]] = {}
    for name in names:
        there = store.all(part, name)
        absent = tuple(s for s in (seeds[:1] if name in once else seeds) if s not in there)
        if absent:
            by_seeds.setdefault(absent, []).append(name)
    if not by_seeds:
        return []
    lacking = [
        f"seed{'s' if len(s) > 1 else ''} {', '.join(map(str, s))} of {'; '.join(n)}"
        for s, n in by_seeds.items()
    ]
    word = part.removesuffix("-full")
    more = "" if word == part else " --recipe full"
    return [
        f'**Not yet measured:** {". ".join(lacking)}. `make evidence ARGS="--parts {word}{more}"` goes on.',
        "",
    ]


def right_of(found: Found, count: int) -> dict[int, np.ndarray]:
    """Seed → which test pictures are right."""
    return {seed: unpacked(one["right"], count) for seed, one in found.items()}


def roadsigns(store: Store) -> list[str]:
    """The arms that retrain, their differences, the bars."""
    lines = ["## Retraining on the road-sign world: every arm with the same number of images", ""]
    record = read_json(store.folder / "roadsigns.frame.json")
    names, once = [arm.name for arm in ARMS], [arm.name for arm in ARMS if arm.untouched]
    found = {name: store.all("roadsigns", name) for name in names}
    found = {name: runs for name, runs in found.items() if runs}
    if record is None or not found:
        return [*lines, *missing(store, "roadsigns", names, once=once)]
    frame = frame_of(record)
    right = {name: right_of(runs, len(frame.labels)) for name, runs in found.items()}
    every = [run for runs in found.values() for run in runs.values()]
    sizes = every[0]["settings"]["sizes"]
    recipe = every[0]["settings"]["recipe"]
    lines += [
        where("python -m benchmarks.evidence --parts roadsigns", every),
        "",
        f"A copy of the bundled classifier goes on learning ({recipe['scope']} network, {sizes['epochs']} epochs, learning rate {recipe['lr']:g}, "
        f"batches of {recipe['batch']}, averaged weights of the last epoch) from the {sum(record['train_counts']):,} bundled training pictures and "
        f"{sizes['images']} synthetic images, equally many of every class, labelled with the class that was asked for, weight {recipe['weight']:g}. "
        "Only images that pass the validity checks are learned from; those that do not are paid for all the same. Loss: balanced softmax, "
        'but cross-entropy for "real only" and the post-hoc adjustment, whose strength is chosen on validation. Prompts name the class alone, '
        'but for "prompt diversity", which names the ten conditions of the generator\'s card in turn, and "what errs when asked for", which names the words that make the '
        "class err when the generator is asked for them twice (below; the images of that search are in its bill). Accuracy in % on the "
        f"{len(frame.labels):,} test pictures, with 95 % bootstrap intervals over pictures and seeds. Nothing was chosen on the test pictures. The interval of an arm with one seed says nothing about other trainings.",
        "",
        f"| arm | seeds | {' | '.join(COLUMNS.values())} |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    for name in found:
        figures = estimated(frame, right[name])
        cells = " | ".join(cell(figures[key]) for key in COLUMNS)
        lines.append(f"| {name} | {', '.join(map(str, sorted(right[name])))} | {cells} |")
    lines += [
        "",
        "Differences in points, pictures and seeds paired, 95 % intervals; in bold where the interval leaves out 0.",
        "",
        f"| arm | against | seeds | {' | '.join(COLUMNS.values())} |",
        "|---" * (len(COLUMNS) + 3) + "|",
    ]
    for after, before in _pairs(list(found)):
        both = set(right[after]) & set(right[before])
        if both:
            change = estimated(frame, right[after], right[before])
            cells = " | ".join(cell(change[key], True) for key in COLUMNS)
            lines.append(f"| {after} | {before} | {', '.join(map(str, sorted(both)))} | {cells} |")
    lines += ["", *_bill(found), *_bars(frame, right), *missing(store, "roadsigns", names, once=once)]
    return lines


def _pairs(names: list[str]) -> list[tuple[str, str]]:
    """What is held against what: synthetic arms against real ones and unguided, guided ones against best of N."""
    made = [name for name in names if name.startswith("+ ")]
    pairs = [(name, REAL) for name in names if name in ("post-hoc logit adjustment", BALANCED)]
    pairs += [(UNGUIDED, BALANCED)] + [(name, UNGUIDED) for name in made if name != UNGUIDED]
    pairs += [(name, BEST) for name in made if "LTG" in name]
    pairs += [("+ LTG epistemic in two rounds", LTG)]
    pairs += [("+ what errs when asked for", other) for other in ("+ prompt diversity", LTG)]
    return [pair for pair in pairs if pair[0] in names and pair[1] in names]


def _bill(found: Mapping[str, Found]) -> list[str]:
    """What the synthetic images of every arm cost and show."""
    made = {
        name: list(runs.values()) for name, runs in found.items() if "synthetic" in next(iter(runs.values()))
    }
    if not made:
        return []

    def mean(runs: Sequence[Mapping[str, Any]], of: Callable[[Mapping[str, Any]], float]) -> float:
        return float(np.mean([of(run["synthetic"]) for run in runs]))

    base = made.get(UNGUIDED)
    price = mean(base, lambda s: s["gflop"] / s["images"]) if base else None
    lines = [
        "What the images cost: network calls of the generation, in floating-point operations, with those of quarantined images. What "
        "they show is read by the oracles afterwards; no arm knows it.",
        "",
        "| arm | images | generated for them | believed | GFLOP an image | × unguided | on class | in planted cells |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, runs in made.items():
        own = mean(runs, lambda s: s["gflop"] / s["images"])
        times = f"{own / price:.2f}" if price else "–"
        lines.append(
            f"| {name} | {mean(runs, lambda s: s['images']):.0f} | {mean(runs, lambda s: s['attempts']):.0f} | "
            f"{mean(runs, lambda s: s['images'] / s['attempts']):.1%} | {own:.0f} | {times} | "
            f"{mean(runs, lambda s: s['seen_by_oracles']['on_class']):.1%} | {mean(runs, lambda s: s['seen_by_oracles']['planted_share']):.1%} |"
        )
    return [*lines, ""]


def verdict(one: Estimate, bar: float, more: bool = True) -> str:
    """Whether the estimate, and whether the whole interval, is beyond the bar."""
    beyond, surely = (one.value >= bar, one.low >= bar) if more else (one.value > bar, one.low > bar)
    return (
        "met, with the whole interval"
        if surely
        else "met, not with the whole interval"
        if beyond
        else "**not met**"
    )


def both(one: Mapping[int, Any] | None, other: Mapping[int, Any] | None) -> str:
    """Seeds that two arms have in common, "" for none; all differences are of these alone."""
    return ", ".join(map(str, sorted(set(one or ()) & set(other or ()))))


def _bars(frame: Any, right: Mapping[str, dict[int, np.ndarray]]) -> list[str]:
    asked = [
        (LTG, UNGUIDED, "planted", 0.10, "planted cells, at least +10"),
        (LTG, UNGUIDED, "tail", 0.04, "tail, at least +4"),
        (LTG, UNGUIDED, "head", -0.01, "head, no worse than −1"),
        (LTG, REAL, "head", -0.01, "head, no worse than −1"),
        (LTG, BEST, "planted", 0.0, "planted cells, better at equal compute"),
    ]
    lines = ["| bar | against | seeds | measured | |", "|---|---|---|---|---|"]
    for after, before, key, bar, words in asked:
        if seeds := both(right.get(after), right.get(before)):
            change = estimated(frame, right[after], right[before])[key]
            lines.append(
                f"| {after[2:]}: {words} | {before} | {seeds} | {cell(change, True)} | {verdict(change, bar, bar != 0)} |"
            )
        else:
            lines.append(f"| {after[2:]}: {words} | {before} | – | – | open |")
    return [*lines, ""]


def curve(store: Store) -> list[str]:
    """Accuracy on planted cells over the number of images."""
    record = read_json(store.folder / "roadsigns.frame.json")
    lines = ["### How many images it takes", ""]
    names = [f"{name}, {scale:g}x" for name in (LTG, UNGUIDED) for scale in SCALES]
    if record is None:
        return [*lines, *missing(store, "curve", names)]
    frame = frame_of(record)
    right: dict[tuple[str, float], dict[int, np.ndarray]] = {}
    every: list[dict[str, Any]] = []
    for name in (LTG, UNGUIDED):
        for scale in (1.0, *SCALES):
            runs = store.all("roadsigns", name) if scale == 1 else store.all("curve", f"{name}, {scale:g}x")
            every += runs.values()
            if runs:
                right[name, scale] = right_of(runs, len(frame.labels))
    if not every:
        return [*lines, *missing(store, "curve", names)]
    base = every[0]["settings"]["sizes"]["images"]
    lines += [where("python -m benchmarks.evidence --parts roadsigns curve", every), "",
              f"1x is {base} images. A smaller set is a part of the larger one; more images make an epoch longer.", "",
              "| arm | images | seeds | planted cells | tail, balanced | overall |", "|---|---|---|---|---|---|"]  # fmt: skip
    drawn: dict[str, list[tuple[float, Estimate]]] = {}
    for name, scale in sorted(right):
        figures = estimated(frame, right[name, scale])
        drawn.setdefault(name[2:], []).append((scale * base, figures["planted"]))
        seeds = ", ".join(map(str, sorted(right[name, scale])))
        cells = " | ".join(cell(figures[key]) for key in ("planted", "tail", "overall"))
        lines.append(f"| {name} | {scale:g}x ({round(scale * base)}) | {seeds} | {cells} |")
    shown = [
        Line(name, [(x, 100 * e.value, 100 * e.low, 100 * e.high) for x, e in points])
        for name, points in drawn.items()
    ]
    if any(len(line.points) > 1 for line in shown):
        chart(store.folder / "curve.svg", shown, "synthetic images", "accuracy on planted cells, %")
        lines += [
            "",
            "![Accuracy on planted cells over the number of synthetic images, with 95 % intervals](../benchmarks/results/evidence/curve.svg)",
        ]
    lines += ["", "As good as four times as many unguided images (difference on planted cells in points)?", "",
              "| LTG epistemic | unguided | seeds | measured | |", "|---|---|---|---|---|"]  # fmt: skip
    for scale in (0.25, 0.5, 1.0):
        few, many = (LTG, scale), (UNGUIDED, 4 * scale)
        if seeds := both(right.get(few), right.get(many)):
            change = estimated(frame, right[few], right[many])["planted"]
            said = f"{seeds} | {cell(change, True)} | {verdict(change, 0.0)}"
        else:
            said = "– | – | open"
        lines.append(f"| {scale:g}x | {4 * scale:g}x | {said} |")
    return [*lines, "", *missing(store, "curve", names)]


def recipe(store: Store) -> list[str]:
    """How the recipe was chosen."""
    from benchmarks.evidence.roadsigns import RECIPES, TUNING_SEED

    found = {
        name: runs[TUNING_SEED] for name in RECIPES if TUNING_SEED in (runs := store.all("recipe", name))
    }
    lines = ["### How the recipe was chosen", ""]
    if found:
        lines += [
            where("python -m benchmarks.evidence --parts recipe", list(found.values())),
            "",
            "Balanced accuracy on the real validation pictures after training with unguided images and a seed that no arm has.",
            "",
            "| recipe | balanced accuracy | accuracy |",
            "|---|---|---|",
        ]
        for name, run in found.items():
            v = run["validation"]
            lines.append(f"| {name} | {v['balanced_accuracy']:.2%} | {v['accuracy']:.2%} |")
        lines.append("")
    return [*lines, *missing(store, "recipe", list(RECIPES), (TUNING_SEED,))]
