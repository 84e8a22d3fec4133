"""The tables of what is found, of the signals, and of the question whether guidance is adversarial."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.bench_cifar import SHARED
from benchmarks.evidence.adversarial import CHECKED, OTHERS, level, ratio
from benchmarks.evidence.asking import EVERY, confirmed, judged
from benchmarks.evidence.discovery import FIRST, SEARCHED
from benchmarks.evidence.signals import DEMO, NETWORKS, mean_of_heads
from benchmarks.evidence.tables import LTG, UNGUIDED, missing, where
from benchmarks.evidence.units import Store
from benchmarks.measure import interval


def discovery(store: Store) -> list[str]:
    """Recall and false discovery of the first findings of every arm."""
    names = [arm.name for arm in SEARCHED]
    found = {name: runs for name in names if (runs := store.all("discovery", name))}
    lines = ["## What the images of an arm name", ""]
    if found:
        every = [run for runs in found.values() for run in runs.values()]
        lines += [
            where("python -m benchmarks.evidence --parts discovery", every),
            "",
            f"Only generated images ({every[0]['images']} believed ones an arm and seed), no real picture: words by the generator's text-image encoder, "
            "cells (class and word) ranked in two ways. Misread: more of the cell's images are read as another class than was asked for than of all others "
            "(Fisher's exact test). More often: guided images show it more often than the unguided ones of the same seeds (the product's exact test of pairs). The first "
            f"{FIRST} findings, and those of them with q ≤ .05; ten cells are planted. Enrichment: planted share of on-class images, by the "
            "oracles, over that of unguided images of the same seeds. Bars: recall ≥ 0.8 at false discovery ≤ 0.2, enrichment ≥ 3. Mean of the seeds.",
            "",
            f"| arm | seeds | by | findings | recall of the first {FIRST} | false discovery | findings with q ≤ .05 | recall of these | false discovery of these | enrichment |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        base = found.get(UNGUIDED, {})
        for name, runs in found.items():
            one = [run["first"] for run in runs.values()]
            sure = [run["significant"] for run in runs.values()]
            lines.append(
                f"| {name} | {', '.join(map(str, sorted(runs)))} | misread | {_ranked(one, sure)} | {_enrichment(runs, base)} |"
            )
            pairs = [run["by_pairs"] for run in runs.values() if "by_pairs" in run]
            if pairs:
                one, sure = [row["first"] for row in pairs], [row["significant"] for row in pairs]
                lines.append(
                    f"| {name} | {', '.join(map(str, sorted(runs)))} | more often | {_ranked(one, sure)} | |"
                )
        for seed, run in sorted(found.get(LTG, {}).items()):
            cells = "; ".join(f"{f['cell']} ({f['bad']} of {f['n']})" for f in run["found"])
            more = "; ".join(f"{f['cell']} ({f['guided']}, {f['control']})" for f in run.get("oftener", []))
            lines += ["", f"LTG epistemic, seed {seed}. Misread (of all images of the cell): {cells}.",
                      f"More often (guided, unguided images): {more}."]  # fmt: skip
        best = found.get(LTG, {})
        if best:
            ways = (
                [run["first"] for run in best.values()],
                [run["by_pairs"]["first"] for run in best.values() if "by_pairs" in run],
            )
            good = any(w and _mean(w, "recall") >= 0.8 and _mean(w, "false_discovery") <= 0.2 for w in ways)
            seeds = ", ".join(map(str, sorted(best)))
            lines += ["", f"The bar of recall and false discovery is {'met' if good else '**not met**'} by LTG epistemic from generated images alone "
                      f"(seeds {seeds}). The search among real held-out pictures is reported in `benchmarks/results/naming.md` (`make bench-naming`)."]  # fmt: skip
        lines.append("")
    return [*lines, *missing(store, "discovery", names), *asked(store, found)]


def asked(store: Store, arms: dict[str, dict[int, dict[str, Any]]]) -> list[str]:
    """What is left of the arms' cells, and what is found at all, when the generator is asked for every cell in words."""
    tables = {
        seed: run for seed, run in store.all("asking", EVERY).items() if "again" in run
    }  # not of an older form
    lines = ["### The same cells, asked for", ""]
    if tables:
        every = list(tables.values())
        one = every[0]
        lines += [
            where("python -m benchmarks.evidence --parts asking", every),
            "",
            f"Every class is drawn with and without each word from the same {one['settings']['pairs']} seeds, unguided "
            f"({one['images']:,} images a seed, the {len(one['cells'])} cells together). A cell is confirmed where the classifier reads more of the images with the word "
            "wrongly than of those without it: McNemar's exact test, one side, over pairs of which both images show their class to the generator's text-image encoder; "
            "corrected over the candidates, q ≤ .05; at most the first ten. Candidates of an arm: the cells that its guided images named, the first ten of either ranking above. "
            "The last two rows have no arm. One tries all cells, which a short list of words allows; in the other the "
            f"{one['settings']['again'][0]} cells whose first pairs err most are asked for again, and their {one['settings']['again'][1]} new pairs alone are tested, corrected "
            f"over these cells ({np.mean([run['images_again'] for run in every]):,.0f} more images a seed). Mean of the seeds.",
            "",
            "| candidates of | seeds | candidates | confirmed | recall | false discovery |",
            "|---|---|---|---|---|---|",
        ]
        for name, runs in arms.items():
            rows = []
            for seed in sorted(set(runs) & set(tables)):
                cells = {f["cell"] for key in ("found", "oftener") for f in runs[seed].get(key, [])}
                rows.append((seed, len(cells), judged(confirmed(tables[seed]["cells"], cells))))
            if rows:
                lines.append(_asked(name, rows))
        lines.append(
            _asked(EVERY, [(seed, len(run["cells"]), run["all"]) for seed, run in sorted(tables.items())])
        )
        twice = [(seed, len(run["again"]), run["twice"]) for seed, run in sorted(tables.items())]
        lines.append(_asked(f"{EVERY}, what errs asked for again", twice))
        for seed, run in sorted(tables.items()):
            for what, cells in (("All cells", run["cells"]), ("Asked for again", run["again"])):
                made = confirmed(cells, [cell["cell"] for cell in cells])
                told = "; ".join(f"{f['cell']} ({f['without']}, {f['with']} of {f['pairs']})" for f in made)
                lines += ["", f"{what}, seed {seed}, wrong without and with the word: {told or 'none'}."]
        good = all(np.mean([row[2][name] for row in twice]) * way >= bar * way for name, way, bar in (("recall", 1, 0.8), ("false_discovery", -1, 0.2)))  # fmt: skip
        lines += [
            "",
            f"The bar of recall and false discovery is {'met' if good else '**not met**'} by asking twice.",
        ]
        lines.append("")
    return [*lines, *missing(store, "asking", [EVERY])]


def _asked(name: str, rows: list[tuple[int, int, dict[str, Any]]]) -> str:
    made = [row[2] for row in rows]
    return (
        f"| {name} | {', '.join(str(row[0]) for row in rows)} | {np.mean([row[1] for row in rows]):.1f} | "
        f"{_mean(made, 'findings'):.1f} | {_mean(made, 'recall'):.2f} | {_mean(made, 'false_discovery'):.2f} |"
    )


def _ranked(one: list[dict[str, Any]], sure: list[dict[str, Any]]) -> str:
    return (
        f"{_mean(one, 'findings'):.1f} | {_mean(one, 'recall'):.2f} | {_mean(one, 'false_discovery'):.2f} | "
        f"{_mean(sure, 'findings'):.1f} | {_mean(sure, 'recall'):.2f} | {_mean(sure, 'false_discovery'):.2f}"
    )


def _mean(rows: list[dict[str, Any]], key: str) -> float:
    return float(np.mean([row[key] for row in rows]))


def _enrichment(runs: dict[int, dict[str, Any]], base: dict[int, dict[str, Any]]) -> str:
    both = sorted(set(runs) & set(base))
    if not both:
        return "–"
    top, bottom = (
        sum(some[s]["seen_by_oracles"]["planted"] for s in both)
        / sum(some[s]["images"] * some[s]["seen_by_oracles"]["on_class"] for s in both)
        for some in (runs, base)
    )
    return f"{top / bottom:.1f} ×" if bottom else f"none unguided, {top:.1%} here"


def signals(store: Store) -> list[str]:
    """Ranking and calibration of every signal."""
    lines = ["## Every signal: errors, rare classes, planted cells; what a percentile means", ""]
    named = {DEMO: store.all("signals", DEMO)} | {name: store.all("signals", name) for name in NETWORKS}
    every = [run for runs in named.values() for run in runs.values()]
    if every:
        lines += [
            where("python -m benchmarks.evidence --parts signals", every),
            "",
            "Mean over heads; intervals over pictures, from the lowest end of the heads to the highest. Calibration: percentiles of real test "
            "pictures should be uniform, with 5 % above 95; distance is that of Kolmogorov and Smirnov.",
            "",
        ]
    for network, runs in named.items():
        if not runs:
            continue
        table, one = mean_of_heads(runs), next(iter(runs.values()))
        truths = [t for t in ("errors", "tail", "planted") if t in table["entropy"]]
        lines += [
            f"{network[0].upper()}{network[1:]}: right on {one['accuracy']:.2%} of {one['images']:,} test pictures, heads of seeds {', '.join(map(str, sorted(runs)))}.",
            "",
            "| signal | "
            + " | ".join(f"AUROC {t} | minus entropy's | AUPR {t}" for t in truths)
            + " | distance | above 95 |",
            "|---" * (3 * len(truths) + 3) + "|",
        ]
        for name, row in table.items():
            cells = []
            for t in truths:
                a, d = row[t]["auroc"], row[t]["minus_entropy"]
                cells += [
                    f"{a[0]:.3f} [{a[1]:.3f}, {a[2]:.3f}]",
                    f"{d[0]:+.3f} [{d[1]:+.3f}, {d[2]:+.3f}]",
                    f"{row[t]['aupr']:.3f}",
                ]
            c = row["calibration"]
            lines.append(f"| {name} | {' | '.join(cells)} | {c['distance']:.3f} | {c['above_95']:.1%} |")
        if network == DEMO:
            lines += ["", *_order(table)]
        else:
            lines += ["", "These networks were trained on all the training images by others, so percentiles on any of them are not those of "
                      "images that a classifier has not seen: that is what the last columns show."]  # fmt: skip
        lines.append("")
    if not (SHARED / "cifar10").exists() and not all(named[name] for name in NETWORKS):
        lines += ["CIFAR-10 is not there, so its networks cannot be measured here.", ""]
    return [*lines, *missing(store, "signals", [DEMO, *NETWORKS])]


def _order(table: dict[str, dict[str, dict[str, Any]]]) -> list[str]:
    said = []
    for truth in ("tail", "planted"):
        value, low, high = table["epistemic"][truth]["minus_entropy"]
        verdict = "met" if value >= 0 else "**not met**"
        said.append(f"{truth}: {value:+.3f} [{low:+.3f}, {high:+.3f}], {verdict}")
    return [f"Bar: AUROC of epistemic at least that of entropy. {'; '.join(said)}."]


def adversarial(store: Store) -> list[str]:
    """Belief, survival, transfer."""
    names = [arm.name for arm in CHECKED]
    found = {name: runs for name in names if (runs := store.all("adversarial", name))}
    lines = ["## Is guidance adversarial?", ""]
    if found:
        every = [run for runs in found.values() for run in runs.values()]
        accuracy = ", ".join(f"{name} {every[0]['others'][name]['accuracy']:.1%}" for name in OTHERS)
        lines += [
            where("python -m benchmarks.evidence --parts adversarial", every),
            "",
            "All images, believed or not, beside the unguided ones of the same seeds. Gain: percentile of the epistemic signal (audit heads), guided minus "
            "unguided. Signal left: share of the signal of guided images after a change; gain left: the gain after both images were changed so, over the "
            "gain. Transfer: the gain that another network sees with a head of its own, over the gain of the network that was guided against; in "
            "percentile points, and in standard scores. A gain that was searched for shrinks in any second measurement, so 1 is not "
            f"to be expected. Other networks: {', '.join(f'{n} ({OTHERS[n][0]})' for n in OTHERS)}, trained with the demo's own recipe; right on the test pictures: {accuracy}. "
            "95 % bootstrap intervals over images. Bars: survival ≥ 0.6, transfer ≥ 0.5.",
            "",
            "| arm | seeds | images | believed | gain | signal left: JPEG / blur / crop / re-encoding | gain left: the same | transfer to another seed | in standard scores | transfer to another architecture | in standard scores | bars |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        lines += [_checked(name, list(runs.values()), sorted(runs)) for name, runs in found.items()]
        lines += ["", "Errors of the other networks on guided and on unguided images (label: the class that was asked for): " + "; ".join(
            f"{name}, {other}: {np.mean([run['others'][other]['errors_guided'] for run in runs.values()]):.1%} and "
            f"{np.mean([run['others'][other]['errors_control'] for run in runs.values()]):.1%}"
            for name, runs in found.items() for other in OTHERS) + ".", ""]  # fmt: skip
    return [*lines, *missing(store, "adversarial", names)]


def _checked(name: str, runs: list[dict[str, Any]], seeds: list[int]) -> str:
    def column(*keys: str) -> np.ndarray:
        parts = []
        for run in runs:
            value: Any = run
            for key in keys:
                value = value[key]
            parts += value
        return np.array(parts, dtype=float)

    gain = column("own", "guided") - column("own", "control")
    believed = column("believed")
    low, high = interval(gain, lambda v: float(v.mean()))
    ways = list(runs[0]["kept"])
    left = [column("kept", way, "share").mean() for way in ways]
    kept = [ratio(column("kept", way, "guided") - column("kept", way, "control"), gain)[0] for way in ways]
    cells, passes = [], [min(left) >= 0.6]
    scores = level(column("own", "guided")) - level(column("own", "control"))
    for other in OTHERS:
        guided, control = column("others", other, "guided"), column("others", other, "control")
        points = ratio(guided - control, gain)
        passes.append(points[0] >= 0.5)
        cells += [_text(points), _text(ratio(level(guided) - level(control), scores))]
    verdicts = " / ".join("met" if good else "**not met**" for good in passes)
    return (
        f"| {name} | {', '.join(map(str, seeds))} | {len(gain)} | {believed.mean():.1%} | {gain.mean():+.1f} [{low:+.1f}, {high:+.1f}] | "
        f"{' / '.join(f'{v:.2f}' for v in left)} | {' / '.join(f'{v:.2f}' for v in kept)} | {' | '.join(cells)} | {verdicts} |"
    )


def _text(one: tuple[float, float, float]) -> str:
    return f"{one[0]:.2f} [{one[1]:.2f}, {one[2]:.2f}]"
