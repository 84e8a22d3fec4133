"""The text of ``docs/performance.md``: the design, and the measured figures beside the bars that they are held against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.guidance_report import GOALS, KEPT, NAIVE, OURS, UNGUIDED, allowed, best_of_n, cheapest, words
from benchmarks.measure import read_json

_SMALL = "Stable Diffusion 1.5, 512 px"
_SHORT = {
    "climb of the default preset": "our climb, default preset",
    "climb, every step of the window": "our climb, every step of its window",
    "climb, every step": "our climb, every step",
    "denoiser-free, full decoder, every step": "no pass through the denoiser, full decoder, every step",
    "feedback-guided, every fifth step": "feedback-guided, every fifth step",
}


def page(results: Path, summary: dict[str, Any]) -> str:
    """The whole page."""
    folder = results / "guidance"
    shapes, samplers = read_json(folder / "shapes.json"), read_json(folder / "samplers.json")
    throughput = read_json(results / "throughput.json")
    counts = [arm["images"] for arm in summary["arms"]]
    parts = [
        *_INTRODUCTION,
        *_bars(summary, shapes, throughput, best_of_n(results)),
        *_large(shapes),
        *_frontier(summary),
        *_samplers(samplers),
        *_throughput(throughput),
        *(line.format(few=min(counts), many=max(counts)) for line in _OPEN),
    ]
    return "\n".join(parts).rstrip() + "\n"


_INTRODUCTION = (
    "# Performance",
    "",
    "Written by `make bench-guidance` and `make bench-throughput` from what they measured (`benchmarks/results`); no figure is typed "
    "by hand. `make bench-compare` shows what got worse since the last results.",
    "",
    "## Where the time goes, and what is done about it",
    "",
    "U, D, T, C, J are one forward pass of denoiser, full decoder, tiny decoder, classifier and judge; a b behind one is the gradient of "
    "its input. With classifier-free guidance an image costs N · 2U + D without any further guidance. Taken literally, Longtail Guidance "
    "costs N · (2 (U + Ub) + D + Db + C + Cb) + D. At the size of Stable Diffusion 1.5 a decoder's pass is three times a denoiser's, so it is "
    "the decoder that must go first, then the pass back through the denoiser, then most of the steps:",
    "",
    "1. the gradient is taken at the clean estimate, which the sampler has computed anyway (no Ub);",
    "2. a tiny decoder stands on the guidance path; the full one makes the final image, and the final score is read from that;",
    "3. the climb has a window of the steps and follows every k-th of them; `hold` follows the last direction in between, `adam` smooths it;",
    "4. samples whose signal is in the target band are left alone;",
    "5. search looks at drafts of few steps, so that most candidates cost a few calls and none of them a decoder;",
    "6. all networks are laid out channels last; precision (`--dtype bfloat16`), compiling (`--compile`, which says how long the warm-up "
    "took) and the quickest number of images a call (`--chunk best`) are options of a generator, and part of a run's record.",
    "",
    "With a weight of 0 every sampler gives the unguided images bit for bit.",
    "",
)
_OPEN = (
    "## What is not measured",
    "",
    "- Nothing here ran on a GPU: time, memory as an allocator has it and the best batch at the shapes of Stable Diffusion 1.5, XL and 3 "
    "are open. Compiling and bfloat16 were not timed either: this machine's figures for them would say nothing about a GPU's.",
    "- CIFAR-10: no generator of it comes with this, and none was fitted for this page. `python -m benchmarks.bench_guidance --ground cifar10 "
    "--generator FOLDER` runs the same table with one.",
    "- The modes of others are reconstructions from their texts (the docstrings in `benchmarks/peers` say from what). Strengths were tried on "
    "seed 0; where they left the class, weaker ones were added after seed 1 had been seen, for ours as for others. A better schedule of "
    "strengths may exist for each.",
    "- The comparison is small, for it ran on a machine that was needed for other work: {few} to {many} images a setting. `make bench-guidance` goes on where "
    "it ended, and the page says then what it has.",
)


def _bars(summary: dict[str, Any], shapes: Any, throughput: Any, rival: str) -> list[str]:
    """Every bar with what was measured."""
    lines = ["## The bars", "", "| what | bar | measured |", "|---|---|---|"]
    if shapes:
        own = shapes[_SMALL]
        ratio, memory = own["ratios"], own["memory_gib"]
        lines += [
            f"| climb / unguided, Stable Diffusion 1.5's shape, 512 px, FLOPs | ≤ 1.10 | **{ratio['climb of the default preset']:.3f}** (naive "
            f"{ratio['naive LTG']:.2f}, feedback-guided {ratio['feedback-guided, every fifth step']:.2f}) |",
            f"| peak memory there, {shapes['rows']} images, half precision, estimated | ≤ 1.3 × unguided | **{memory['ours'] / memory['unguided']:.2f} ×** "
            f"({memory['ours']:.2f} against {memory['unguided']:.2f} GiB; naive {memory['naive']:.1f}) |",
        ]
    lines += _matched_bars(summary["matched"])
    lines.append(
        f"| planted share against best of n at equal compute (`make bench-demo`) | ≥ 2 × | **{rival}** |"
    )
    if throughput:
        for name, row in throughput.items():
            if not isinstance(row, dict):
                continue
            if name.startswith("scoring"):
                lines.append(
                    f"| {name}, {row['images']} images, all signals, against a bare loop | ≥ 0.9 | **{row['value']:.2f}** ({row['low']:.2f} to {row['high']:.2f}) |"
                )
            elif name.startswith("head"):
                lines.append(
                    f"| head on {row['samples']:,} features of {row['width']}, {row['members']} members | ≤ 60 s | **{row['cpu_seconds']:.0f} s** of CPU time |"
                )
            else:
                lines.append(
                    f"| {name}, {row['images']} images, against captum by hand | ≥ 0.95 | **{row['value']:.2f}** ({row['low']:.2f} to {row['high']:.2f}) |"
                )
    return [*lines, ""]  # fmt: skip


def _matched_bars(table: dict[str, Any]) -> list[str]:
    if not table or not table[OURS].get("cost"):
        return ["| cost at matched gain, demo | ≤ 1/3 of naive, below every peer | not measured |"]
    ours, naive = table[OURS], table[NAIVE]
    peers = {
        name: row for name, row in table.items() if isinstance(row, dict) and name not in (OURS, UNGUIDED)
    }
    below = [name for name, row in peers.items() if row["reached"] and row["cost"] <= ours["cost"]]
    if not ours["reached"]:
        told = f"**missed**: ours gains {ours['gain']:.2f} at most, naive {naive['gain']:.2f}"
        return [
            f"| cost an image at matched gain and {KEPT:.0%} of the on-class rate, demo | ≤ 1/3 of naive | {told} |"
        ]
    told = (
        f"**{ours['cost'] / naive['cost']:.2f}** ({ours['cost']:.2f} against {naive['cost']:.2f} × unguided)"
    )
    rest = "**below all of them**" if not below else f"**missed**: {', '.join(below)} cost no more"
    return [
        f"| cost an image at matched gain and {KEPT:.0%} of the on-class rate, demo | ≤ 1/3 of naive | {told} |",
        f"| the same against every peer in the table | below | {rest} |",
    ]


def _large(shapes: Any) -> list[str]:
    """The counted table of large shapes."""
    if not shapes:
        return []
    names = [name for name, row in shapes.items() if isinstance(row, dict)]
    lines = [
        "## At the shapes of large models",
        "",
        f"`python -m benchmarks.shapes`, commit {shapes['commit']}. Counted on the meta device: networks of the true shapes without weights. A ResNet-50 "
        "is the classifier; ours shows it three mild views of an image. Memory is an estimate (tensors alive at once, fused attention), not "
        "an allocator's figure.",
        "",
        "| multiples of unguided sampling with the same steps, guidance scale everywhere | " + " | ".join(f"{n} ({shapes[n]['steps']} steps)" for n in names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]  # fmt: skip
    for key in shapes[names[0]]["ratios"]:
        cells = [f"{shapes[name]['ratios'][key]:.3f}" for name in names]
        lines.append(f"| {_SHORT.get(key, key)} | " + " | ".join(cells) + " |")
    for key in ("unguided", "ours", "naive"):
        cells = [f"{shapes[name]['memory_gib'][key]:.1f} GiB" for name in names]
        lines.append(
            f"| memory of {shapes['rows']} images, half precision, {key} | " + " | ".join(cells) + " |"
        )
    calls = [
        f"{name}: " + ", ".join(f"{k} {v:.3f}" for k, v in shapes[name]["tflop"].items()) for name in names
    ]
    return [*lines, "", "TFLOP of one call. " + "; ".join(calls) + ".", ""]


def _commits(summary: dict[str, Any]) -> str:
    """Of which code the rows are; a row that is there is not measured again."""
    many = summary["commits"]
    return ", ".join(
        f"{name} ({count} run{'s' if count > 1 else ''})"
        for name, count in sorted(many.items(), key=lambda one: -one[1])
    )


def _frontier(summary: dict[str, Any]) -> list[str]:
    """The comparison on the demo."""
    arms = summary["arms"]
    plain = next(arm for arm in arms if arm["mode"] == UNGUIDED)
    seeds = sorted({seed for arm in arms for seed in arm["seeds"]})
    table, load = summary["matched"], sum(arm["load"] for arm in arms) / len(arms)
    lines = [
        "## At matched effect, on the demo's model",
        "",
        f"`make bench-guidance`, seeds {', '.join(map(str, seeds))}, {summary['machine']}, commits {_commits(summary)}. Costs are counted FLOPs; the last "
        f"column compares CPU time, not wall time, for the machine was shared (load {load:.0f} on average).",
        "",
        "Same weights, noise, classifier, prompts (without a condition), 16 steps, and one function to climb or to choose by. All but ours as "
        "shipped (UniPC) use DPM-Solver++. Peers decode with the full decoder, as published. The gain is in standard deviations of held-out real "
        "data, against the unguided twin, on a head that was fitted with another seed and that no mode reads; the class is judged by an oracle "
        "that no mode asks; density and coverage against real test pictures in the features of another oracle (both change with the number of "
        "images: compare equal numbers). Interval: 95 % bootstrap over images.",
        "",
        "![gain against cost](performance.svg)",
        "",
        "| mode | setting | images | gain | of it after JPEG, blur, crop | on class | planted share | density | coverage | cost (× unguided) | CPU time (× unguided) |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    order = {
        mode: place for place, mode in enumerate(dict.fromkeys([UNGUIDED, OURS, *(a["mode"] for a in arms)]))
    }
    for arm in sorted(arms, key=lambda arm: (order[arm["mode"]], arm["cost"], arm["gain"])):
        mark = "" if allowed(arm) else " (too few)"
        lines.append(
            f"| {arm['mode']} | {words(arm['setting'])} | {arm['images']} | {arm['gain']:+.2f} [{arm['gain_low']:+.2f}, {arm['gain_high']:+.2f}] | {arm['gain_robust']:+.2f} | "
            f"{arm['on_class']:.2f}{mark} | {arm['planted']:.2f} | {arm['density']:.2f} | {arm['coverage']:.3f} | {arm['cost']:.2f} | {arm['time']:.2f} |"
        )
    lines += [
        "",
        "A gain in the signal is not yet a blind spot found: the planted share says what the images show, and few images say little about it. The "
        "default preset is chosen by that share on many more images ([evidence.md](evidence.md)), where search finds what no gradient does; a climb "
        "alone is the cheap way to images that the classifier is less sure of.",
    ]
    if not table:
        return [*lines, ""]
    lines += [
        "",
        f"What each mode pays for a gain of at least {table['goal']:.2f}, the most that the naive form reaches while at least {KEPT:.0%} of the on-class rate of "
        f"unguided sampling ({plain['on_class']:.2f}) is kept. Only settings that were run count; nothing is interpolated.",
        "",
        "| mode | cost (× unguided) | gain | setting |",
        "|---|---|---|---|",
    ]
    for mode, row in table.items():
        if not isinstance(row, dict) or mode == UNGUIDED:
            continue
        if row["cost"] is None:
            lines.append(f"| {mode} | – | no setting keeps the class | |")
        elif row["reached"]:
            lines.append(f"| {mode} | **{row['cost']:.2f}** | {row['gain']:+.2f} | {words(row['setting'])} |")
        else:
            lines.append(
                f"| {mode} | not reached | {row['gain']:+.2f} at {row['cost']:.2f} | {words(row['setting'])} |"
            )
    lines += [
        "",
        "The cheapest setting of every mode at other gains, the class kept; a dash where no setting that was run gains as much and keeps it. With few "
        "images one that leaves its class decides whether a setting counts.",
        "",
        "| mode | " + " | ".join(f"gain ≥ {goal:g}" for goal in GOALS) + " |",
        "|---" * (len(GOALS) + 1) + "|",
    ]
    columns = [cheapest(arms, goal) for goal in GOALS]
    for mode in columns[0]:
        cells = ["–" if column[mode] is None else f"{column[mode]:.2f}" for column in columns]
        lines.append(f"| {mode} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _samplers(found: Any) -> list[str]:
    """What each sampler's steps are worth."""
    if not found:
        return []
    lines = [
        "## Samplers by name",
        "",
        "`default` is the model's own with 16 steps; `quality`, `balanced` and `fast` bring their own number of steps; the solvers can be picked by "
        "name. Only those are offered that fit what the model predicts (a flow: `dpm++`, `unipc`, `flow euler`; noise, velocity or sample: `ddim`, `dpm++`, "
        "`unipc`, `euler`; a consistency model: its own). What does not fit is refused with the names that do.",
        "",
        f"`python -m benchmarks.bench_samplers`, {found['images']} images of the demo's model without guidance, {found['machine']}: square distance of the "
        f"latents (unit variance) to those of {found['exact'][1]} steps of {found['exact'][0]}, median, and how many images came out as something else.",
        "",
        "| sampler | steps | picked by | denoiser calls an image | error, median | something else |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['sampler']} | {row['steps']} | {row['pace'] or '–'} | {row['calls']:.0f} | {row['error']:.5f} | {row['elsewhere']} of {found['images']} |"
        for row in found["rows"]
    ]
    return [*lines, ""]


def _throughput(found: Any) -> list[str]:
    """Where the figures of throughput come from."""
    if not found:
        return []
    return [
        "## Throughput",
        "",
        f"`make bench-throughput`, {found['machine']}; {_when(found)}. Ratios of CPU time; both sides take "
        "turns within one run, median and range. Scoring reads pictures from a workspace, computes outputs and all signals with percentiles, and "
        "stores them; the bare loop reads the same pictures by the same threads and runs the network. The bundled classifier (13 MFLOP an image) "
        "is the hardest case. On a busy machine both sides lose time to other processes, which moves a ratio towards 1; above 1 it is noise.",
        *_missed(found),
        "",
    ]


def _when(found: Any) -> str:
    """Of which commit each row is, and how busy the machine was."""
    times: dict[str, list[str]] = {}
    for name, row in found.items():
        if isinstance(row, dict):
            times.setdefault(f"commit {row['commit']}, load {row['load'][0]} when it ended", []).append(name)
    return "; ".join(f"{' and '.join(names)}: {when}" for when, names in times.items())


def _missed(found: Any) -> list[str]:
    """What the bundled classifier's figure is made of."""
    row = found.get("scoring, bundled")
    if not row or row["value"] >= 0.9:
        return []
    bare, extra = (
        1000 * seconds / row["images"]
        for seconds in (row["bare_seconds"], row["our_seconds"] - row["bare_seconds"])
    )
    return [
        "",
        f"With the bundled classifier the bar is missed: reading a picture and running the network take {bare:.2f} ms, ten signals with their percentiles, "
        f"features and rows in the database another {extra:.2f} ms. That share does not depend on the network, so with any usual one it vanishes.",
    ]
