"""Write ``docs/evidence.md`` from what the benchmarks have measured; nothing is typed in by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import RESULTS, ROOT, interval, ratio_interval, read_json

BASE, DEFAULT, BEST = "unguided", "default (search and climb)", "best of n, equal compute"


def share(rows: np.ndarray) -> float:
    """Planted share of the on-class rows; columns: on class, planted, wrong, believed, survival, condition, label."""
    on = rows[rows[:, 0] == 1]
    return float(on[:, 1].mean()) if len(on) else float("nan")


def on_class(rows: np.ndarray) -> float:
    """Share of rows that the oracle puts into the intended class."""
    return float(rows[:, 0].mean())


def believed_error(rows: np.ndarray) -> float:
    """Error rate of the classifier on believed images; the oracle's class is the truth."""
    kept = rows[(rows[:, 3] == 1) & (rows[:, 0] == 1)]
    return float(kept[:, 2].mean()) if len(kept) else float("nan")


def distinct(rows: np.ndarray, draw: int = 0) -> float:
    """Distinct conditions of a class's images, mean over the classes; ``draw``: expected among so many of them.

    The expectation over all subsets of n images is sum_c 1 - C(n_all - n_c, n) / C(n_all, n) (rarefaction, Hurlbert 1971),
    so that arms of different sizes can be compared.
    """
    found = []
    for label in set(rows[:, 6]):
        counts = np.unique(rows[rows[:, 6] == label, 5], return_counts=True)[1]
        n = int(counts.sum())
        few = min(draw or n, n)
        found.append(sum(1 - math.comb(n - int(c), few) / math.comb(n, few) for c in counts))
    return float(np.mean(found))


def load_arms(folder: Path) -> dict[str, dict[str, Any]]:
    """All finished runs by arm: a table of rows over the seeds, and the calls an image."""
    from ltg_core.demo.world import CONDITIONS

    arms: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.json")):
        run = read_json(path)
        arm = arms.setdefault(run["arm"], {"rows": [], "calls": {}, "seeds": []})
        arm["seeds"].append(run["seed"])
        for r in run["rows"]:
            arm["rows"].append(
                [
                    r["on_class"],
                    r["planted"],
                    r["wrong"],
                    r["believed"],
                    r["survival"],
                    CONDITIONS.index(r["condition"]),
                    r["label"],
                ]
            )
        for name, n in run["calls"].items():
            arm["calls"][name] = arm["calls"].get(name, 0) + n
    for arm in arms.values():
        arm["rows"] = np.array(arm["rows"], dtype=float)
        arm["calls"] = {name: n / len(arm["rows"]) for name, n in arm["calls"].items()}
    return arms


def cost(calls: dict[str, float], costs: dict[str, float]) -> float:
    """GFLOP an image."""
    return sum(n * costs.get(name, 0.0) for name, n in calls.items())


def figure(rows: np.ndarray, statistic: Callable[[np.ndarray], float], digits: int = 3) -> str:
    """A value with its 95 % interval."""
    low, high = interval(rows, statistic)
    return f"{statistic(rows):.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def ratio_text(top: np.ndarray, bottom: np.ndarray, statistic: Callable[[np.ndarray], float]) -> str:
    """A ratio with its 95 % interval."""
    point, low, high = ratio_interval(top, bottom, statistic)
    return f"{point:.2f} × [{low:.2f}, {high:.2f}]"


def arms_section(folder: Path, costs: dict[str, float]) -> list[str]:
    """The table of arms and the ratios that count."""
    arms = load_arms(folder)
    if BASE not in arms:
        return ["The arms have not been run yet.", ""]
    base = arms[BASE]
    base_cost = cost(base["calls"], costs)
    lines = [
        "Every class equally often, prompt without a condition; seeds of the images: those of runs "
        + ", ".join(sorted({str(s) for arm in arms.values() for s in arm["seeds"]}))
        + " in `benchmarks/results/demo/arms`; cost counts the FLOPs of all denoiser, decoder, classifier and judge calls.",
        "",
        "| arm | images | planted share of on-class | on class | distinct conditions in 10 images of a class | error on believed | survival "
        "| cost (× unguided) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, arm in arms.items():
        rows = arm["rows"]
        lines.append(
            f"| {name} | {len(rows)} ({len(set(arm['seeds']))} seeds) | {figure(rows, share)} | {figure(rows, on_class)} | {distinct(rows, 10):.2f} | "
            f"{figure(rows, believed_error)} | {np.nanmean(rows[:, 4]):.2f} | {cost(arm['calls'], costs) / base_cost:.2f} |"
        )
    lines.append("")
    if DEFAULT in arms:
        top = arms[DEFAULT]["rows"]
        lines += [
            f"- planted share, default against unguided: **{ratio_text(top, base['rows'], share)}** (bar 3 ×)",
            f"- error on believed images, default against unguided: **{ratio_text(top, base['rows'], believed_error)}** (bar 3 ×)",
            f"- distinct conditions, default against unguided: **{distinct(top) / distinct(base['rows']):.2f}** (bar 0.7)",
        ]
        if BEST in arms:
            lines.append(
                f"- planted share, default against best of n at {cost(arms[BEST]['calls'], costs) / cost(arms[DEFAULT]['calls'], costs):.2f} "
                f"of its cost: **{ratio_text(top, arms[BEST]['rows'], share)}** (bar 1.3 ×)"
            )
    return [*lines, ""]


def signals_section(found: dict[str, Any] | None) -> list[str]:
    """AUROC of every signal on the demo's test split, and the planted cells."""
    if found is None:
        return ["Not measured yet.", ""]
    lines = [
        f"{found['n']} test pictures; the classifier is right on {found['accuracy_seen']:.1%} of the cells it has seen and on "
        f"{found['accuracy_unseen']:.1%} of the planted ones. Mean over heads of seeds {', '.join(map(str, found['heads']))}.",
        "",
        "| signal | AUROC planted cells | minus entropy's | AUROC errors | minus entropy's | AUPR planted | AUPR errors |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in found["signals"].items():
        p, e = row["auroc_planted"], row["auroc_errors"]
        dp, de = row["planted_minus_entropy"], row["errors_minus_entropy"]
        lines.append(
            f"| {name} | {p[0]:.3f} [{p[1]:.3f}, {p[2]:.3f}] | {dp[0]:+.3f} [{dp[1]:+.3f}, {dp[2]:+.3f}] | "
            f"{e[0]:.3f} [{e[1]:.3f}, {e[2]:.3f}] | {de[0]:+.3f} [{de[1]:+.3f}, {de[2]:+.3f}] | "
            f"{row['aupr_planted']:.3f} | {row['aupr_errors']:.3f} |"
        )
    lines += ["", "| planted cell | n | accuracy |", "|---|---|---|"]
    lines += [f"| {name} | {cell['n']} | {cell['accuracy']:.1%} |" for name, cell in found["cells"].items()]
    return [*lines, ""]


def gates_section(found: dict[str, Any] | None) -> list[str]:
    """The generator's gates."""
    if found is None:
        return ["Not measured yet.", ""]
    lines = [
        f"Autoencoder, 500 test pictures: **{found['autoencoder_psnr_db']:.1f} dB** (bar 26 dB). 1,000 unguided samples each; the "
        "oracles are the judges.",
        "",
        "| classifier-free guidance scale | class agrees, condition named (bar 95 %) | named condition is seen (bar 85 %) | class "
        "agrees, no condition named |",
        "|---|---|---|---|",
    ]
    scales = {k: v for k, v in found.items() if isinstance(v, dict)}
    for scale, row in scales.items():
        lines.append(
            f"| {scale} | {row['class_agreement_named']:.1%} | {row['condition_agreement_named']:.1%} | "
            f"{row['class_agreement_plain']:.1%} |"
        )
    for scale, row in scales.items():
        by = ", ".join(f"{c} {v:.0%}" for c, v in row["condition_agreement_by_condition"].items())
        plain = ", ".join(f"{c} {v:.1%}" for c, v in row["plain_condition_share"].items())
        lines += ["", f"At {scale}, by condition: {by}. What the prompt without a condition yields: {plain}."]
    return [*lines, ""]


def _evidence() -> list[str]:
    """The comparison of the arms, written by `benchmarks.evidence.pages`."""
    from benchmarks.evidence.pages import sections
    from benchmarks.evidence.units import Store

    return sections(Store(RESULTS / "evidence"))


def main() -> None:
    """Write the page."""
    folder = RESULTS / "demo"
    record = read_json(folder / "machine.json")
    if record is None:
        raise SystemExit("nothing measured yet; run `make bench-demo` first")
    costs = record["costs"]
    text = [
        "# Evidence",
        "",
        "Written by `python -m benchmarks.report` from what `make evidence`, `make bench-demo` and the other benchmarks measured; no figure is typed by "
        "hand. Intervals are 95 % bootstrap intervals over images. What is not measured yet is named.",
        "",
        *_evidence(),
        "# The demo's models and what guidance finds",
        "",
        f"`make bench-demo`, {record['machine']}.",
        "",
        "Cost of one call, GFLOP: "
        + ", ".join(f"{k} {v:.3f}" for k, v in costs.items())
        + " (U denoiser, D decoder, "
        "T tiny decoder, C classifier, J judge; b: gradient with respect to the input).",
        "",
        "## The demo's generator",
        "",
        *gates_section(read_json(folder / "gates.json")),
        "## The signals on the demo's test split",
        "",
        *signals_section(read_json(folder / "signals.json")),
        "## Guided generation: what the arms find",
        "",
        *arms_section(folder / "arms", costs),
    ]
    for extra in ("worlds", "timing", "ui", "cifar10", "gtsrb", "extrapolation"):
        path = RESULTS / f"{extra}.md"
        if path.exists():
            text += [path.read_text(encoding="utf-8").rstrip(), ""]
    (ROOT / "docs" / "evidence.md").write_text("\n".join(text).rstrip() + "\n", encoding="utf-8")
    print("docs/evidence.md written")


if __name__ == "__main__":
    main()
