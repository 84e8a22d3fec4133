"""Write ``docs/performance.md`` and its figure from what the benchmarks have measured; no figure is typed by hand."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import RESULTS, ROOT, interval, read_json, write_json
from benchmarks.report import ratio_text, share

PAGE = ROOT / "docs" / "performance.md"
FIGURE = ROOT / "docs" / "performance.svg"
KEPT = 0.95
"""A setting counts where its share of on-class images is at least this part of unguided sampling's."""
NAIVE, OURS, UNGUIDED = "naive LTG", "ours", "unguided"
Arm = dict[str, Any]


def arms(folder: Path, costs: dict[str, float]) -> list[Arm]:
    """Every mode and setting over its seeds: gain, on-class rate, planted share, density, coverage, cost."""
    runs = [read_json(path) for path in sorted(folder.glob("*__*.json"))]
    plain = {run["seed"]: run for run in runs if run["mode"] == UNGUIDED}
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run in runs:
        if run["seed"] in plain and run["images"] <= plain[run["seed"]]["images"]:
            groups.setdefault((run["mode"], json.dumps(run["setting"], sort_keys=True)), []).append(run)
    return [_arm(mode, json.loads(text), group, plain, costs) for (mode, text), group in groups.items()]


def _arm(
    mode: str, setting: dict[str, Any], runs: list[Any], plain: dict[int, Any], costs: dict[str, float]
) -> Arm:
    rows = [row for run in runs for row in run["rows"]]
    twins = [row for run in runs for row in plain[run["seed"]]["rows"][: run["images"]]]
    gains = np.array([row["level"] - twin["level"] for row, twin in zip(rows, twins, strict=True)])
    robust = [row["robust"] - twin["robust"] for row, twin in zip(rows, twins, strict=True)]
    low, high = interval(gains, lambda values: float(values.mean()))
    on = [row for row in rows if row["on_class"]]
    work = sum(n * costs.get(name, 0.0) for run in runs for name, n in run["calls"].items()) / len(rows)
    base = [
        sum(n * costs[name] for name, n in plain[r["seed"]]["calls"].items()) / plain[r["seed"]]["images"]
        for r in runs
    ]
    seconds = [run["cpu_seconds"] / run["images"] for run in runs]
    alone = {seed: run["cpu_seconds"] / run["images"] for seed, run in plain.items()}
    slower = [run["cpu_seconds"] / run["images"] / alone[run["seed"]] for run in runs]
    return {
        "mode": mode,
        "setting": setting,
        "seeds": sorted(run["seed"] for run in runs),
        "images": len(rows),
        "gain": float(gains.mean()),
        "gain_low": low,
        "gain_high": high,
        "gain_robust": float(np.mean(robust)),
        "on_class": len(on) / len(rows),
        "on_class_unguided": float(np.mean([twin["on_class"] for twin in twins])),
        "planted": float(np.mean([row["planted"] for row in on])) if on else 0.0,
        "percentile": float(np.mean([row["percentile"] for row in rows])),
        "density": float(np.mean([run["density"] for run in runs])),
        "coverage": float(np.mean([run["coverage"] for run in runs])),
        "coverage_unguided": float(np.mean([plain[run["seed"]]["coverage"] for run in runs])),
        "gflop": work,
        "cost": work / float(np.mean(base)),
        "cpu_seconds": float(np.median(seconds)),
        "load": float(np.mean([run["load"] for run in runs])),
        "time": float(np.median(slower)),
    }


def allowed(arm: Arm) -> bool:
    """Whether enough images stay on class."""
    return bool(arm["on_class"] >= KEPT * arm["on_class_unguided"])


def matched(found: list[Arm]) -> dict[str, Any]:
    """The cheapest setting of every mode that stays on class and gains at least what the naive form gains at its best.

    No interpolation: only settings that were run count. A mode that never gains as much is given with its best.
    """
    naive = [arm for arm in found if arm["mode"] == NAIVE and allowed(arm)]
    if not naive:
        return {}
    goal = max(arm["gain"] for arm in naive)
    table: dict[str, Any] = {"goal": goal}
    for mode in dict.fromkeys(arm["mode"] for arm in found):
        own = [arm for arm in found if arm["mode"] == mode and allowed(arm)]
        enough = [arm for arm in own if arm["gain"] >= goal]
        if enough:
            best = min(enough, key=lambda arm: float(arm["cost"]))
            table[mode] = {
                "reached": True,
                "cost": best["cost"],
                "gain": best["gain"],
                "setting": best["setting"],
            }
        elif own:
            best = max(own, key=lambda arm: float(arm["gain"]))
            table[mode] = {
                "reached": False,
                "cost": best["cost"],
                "gain": best["gain"],
                "setting": best["setting"],
            }
        else:
            table[mode] = {"reached": False, "cost": None, "gain": None, "setting": None}
    return table


GOALS = (0.5, 1.0, 1.5, 2.0)
"""Gains at which the modes' costs are laid side by side."""


def cheapest(found: list[Arm], goal: float) -> dict[str, float | None]:
    """The cost of every mode's cheapest setting that gains so much and stays on class; None where none does."""
    costs: dict[str, float | None] = {arm["mode"]: None for arm in found if arm["mode"] != UNGUIDED}
    for arm in found:
        if arm["mode"] in costs and allowed(arm) and arm["gain"] >= goal:
            best = costs[arm["mode"]]
            costs[arm["mode"]] = arm["cost"] if best is None else min(best, arm["cost"])
    return costs


def words(setting: dict[str, Any]) -> str:
    """A setting in a few words."""
    known = {"search": {"none": "climb only"}, "climb": {"none": "search only"}}
    shown = []
    for name, value in setting.items():
        if name == "sampler":
            continue
        told = known.get(name, {}).get(str(value))
        shown.append(
            told
            or (
                name
                if value is True
                else f"{name} {value:g}"
                if isinstance(value, (int, float))
                else f"{name} {value}"
            )
        )
    return ", ".join(shown) or "as shipped"


def draw(found: list[Arm], path: Path) -> None:
    """Gain against cost; hollow where too many images left their class."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    plt.rcParams["svg.hashsalt"] = "performance"
    modes = [mode for mode in dict.fromkeys(arm["mode"] for arm in found) if mode != UNGUIDED]
    colours = {mode: f"C{place % 10}" for place, mode in enumerate(modes)} | {OURS: "black"}
    forms = dict(zip(modes, "osD^vPXph<>8", strict=False)) | {OURS: "*"}
    figure, axes = plt.subplots(figsize=(8.5, 5.2))
    for mode in modes:
        own = sorted(
            (arm for arm in found if arm["mode"] == mode), key=lambda arm: (arm["cost"], arm["gain"])
        )
        thick = mode == OURS
        kept = [arm for arm in own if allowed(arm)]
        marker, size = forms[mode], 130 if thick else 42
        axes.scatter([], [], color=colours[mode], marker=marker, s=size, label=mode)
        for arm in own:
            full = allowed(arm)
            axes.errorbar(
                arm["cost"], arm["gain"], yerr=[[arm["gain"] - arm["gain_low"]], [arm["gain_high"] - arm["gain"]]],
                color=colours[mode], alpha=0.3, linewidth=1, zorder=1,
            )  # fmt: skip
            axes.scatter(
                arm["cost"], arm["gain"], marker=marker, s=size, zorder=3 if thick else 2, linewidths=1.2,
                facecolors=colours[mode] if full else "white", edgecolors=colours[mode],
            )  # fmt: skip
        if thick and len(kept) > 1:
            best = [
                a for a in kept if not any(b["cost"] <= a["cost"] and b["gain"] > a["gain"] for b in kept)
            ]
            axes.plot(
                [a["cost"] for a in best], [a["gain"] for a in best], color="black", linewidth=1, zorder=2
            )
    axes.set_xscale("log")
    ticks = [1, 1.5, 2, 3, 4, 6, 8, 12]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set_xlabel("cost of an image, multiples of unguided sampling (FLOPs of all network calls)")
    axes.set_ylabel("gain in the signal, standard deviations of real data")
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    axes.set_title(
        "filled: at least 95 % of the on-class rate of unguided sampling; hollow: fewer", fontsize=9
    )
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main(arguments: list[str] | None = None) -> None:
    """Write the page."""
    from benchmarks.guidance_page import page

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args(arguments)
    folder = options.results / "guidance"
    record = read_json(folder / "demo-costs.json")
    if record is None:
        raise SystemExit("nothing measured yet; run `make bench-guidance` first")
    found = arms(folder / "demo", record["costs"])
    summary = {
        "commit": record["commit"],
        "commits": Counter(read_json(path)["commit"] for path in (folder / "demo").glob("*__*.json")),
        "machine": record["machine"],
        "matched": matched(found),
        "arms": found,
    }
    write_json(folder / "summary.json", summary)
    draw(found, options.page.with_suffix(".svg"))
    options.page.write_text(page(options.results, summary), encoding="utf-8")
    print(f"{options.page.name} written")


def best_of_n(results: Path) -> str:
    """Our default against best-of-n at equal compute, from ``make bench-demo``."""
    from benchmarks.report import BEST, DEFAULT, load_arms

    runs = load_arms(results / "demo" / "arms")
    if BEST not in runs or DEFAULT not in runs:
        return "not measured"
    return ratio_text(runs[DEFAULT]["rows"], runs[BEST]["rows"], share)


if __name__ == "__main__":
    main()
