"""What the measurements share: intervals, AUROC, the machine, costs in floating-point operations."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from ltg_core.generators.base import Generator
from ltg_core.guidance.engine import Target

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
"""What was measured, kept with the code that measured it."""


def machine() -> str:
    """The machine in one line: processor, cores, torch."""
    name = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            name = line.split(":", 1)[1].strip()
            break
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
    return (
        f"{name}, {os.cpu_count()} cores, {gpu}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    )


def commit() -> str:
    """The commit that is measured, with a plus where the working tree differs from it; "unknown" outside of git."""
    try:
        told = [
            subprocess.run(
                ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
            ).stdout.strip()
            for words in (
                ("rev-parse", "--short=12", "HEAD"),
                ("status", "--porcelain", "--", "ltg_core", "benchmarks/*.py"),
            )
        ]
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return told[0] + ("+" if told[1] else "")


def interval(
    values: np.ndarray, statistic: Callable[[np.ndarray], float], seed: int = 0
) -> tuple[float, float]:
    """95 % bootstrap interval of a statistic of rows."""
    rng = np.random.default_rng(seed)
    draws = [statistic(values[rng.integers(len(values), size=len(values))]) for _ in range(1000)]
    return float(np.nanpercentile(draws, 2.5)), float(np.nanpercentile(draws, 97.5))


def ratio_interval(
    top: np.ndarray, bottom: np.ndarray, statistic: Callable[[np.ndarray], float], seed: int = 0
) -> tuple[float, float, float]:
    """Ratio of a statistic of two arms with its 95 % bootstrap interval; rows are paired where the lengths agree."""
    rng = np.random.default_rng(seed)
    paired = len(top) == len(bottom)
    draws = []
    for _ in range(1000):
        a = rng.integers(len(top), size=len(top))
        b = a if paired else rng.integers(len(bottom), size=len(bottom))
        low = statistic(bottom[b])
        draws.append(statistic(top[a]) / low if low > 0 else np.inf)
    point = statistic(top) / max(statistic(bottom), 1e-12)
    return float(point), float(np.percentile(draws, 2.5)), float(np.percentile(draws, 97.5))


def auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve (scikit-learn); NaN where one of the classes is absent."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(positive, scores)) if 0 < positive.sum() < len(positive) else float("nan")


def resampled_auroc(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUROC under many weightings of the same rows, ties counting half.

    Args:
        scores: (N,).
        positive: (N,) bool.
        weights: (R, N) how often each row counts; the counts of a bootstrap draw, or ones.

    Returns:
        (R,) the same as `auroc` of every resample; one sort serves them all.
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) != 0])
    above = np.add.reduceat(weights[:, order] * positive[order], starts, axis=1)
    below = np.add.reduceat(weights[:, order] * ~positive[order], starts, axis=1)
    lower = below.cumsum(axis=1) - below / 2
    found: np.ndarray = (above * lower).sum(axis=1) / (above.sum(axis=1) * below.sum(axis=1))
    return found


def aupr(scores: np.ndarray, positive: np.ndarray) -> float:
    """Average precision (scikit-learn)."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(positive, scores)) if positive.any() else float("nan")


def call_costs(generator: Generator, target: Target) -> dict[str, float]:
    """GFLOP of one call of each network on one sample, forward ("U") and input gradient alone ("Ub")."""
    z = torch.randn(1, *generator.latent_shape)
    inputs = generator.condition(["a sign"]).asked
    x = torch.rand(1, 3, generator.image_size, generator.image_size)
    functions: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], torch.Tensor]] = {
        "U": (lambda v: generator.predict(v, 500.0, inputs), z),
        "D": (lambda v: generator.decode(v), z),
        "T": (lambda v: generator.decode(v, tiny=True), z),
        "C": (lambda v: target.classifier.logits(v), x),
    }
    if target.judge is not None:
        functions["J"] = (target.judge.log_prob, x)
    costs = {}
    for name, (function, start) in functions.items():
        with FlopCounterMode(display=False) as forward, torch.no_grad():
            function(start)
        with FlopCounterMode(display=False) as both:
            function(start.clone().requires_grad_(True)).sum().backward()
        costs[name] = forward.get_total_flops() / 1e9
        costs[name + "b"] = both.get_total_flops() / 1e9 - costs[name]
    return costs


def write_json(path: Path, value: Any) -> None:
    """Write results where the report finds them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(_json(value), encoding="utf-8")
    os.replace(temporary, path)


def _json(value: Any) -> str:
    """One line a key and a row, so that a difference of two results can be read."""
    if not isinstance(value, dict):
        return json.dumps(value)
    parts = []
    for key, one in value.items():
        text = json.dumps(one)
        if isinstance(one, list) and one and isinstance(one[0], dict):
            text = "[\n  " + ",\n  ".join(json.dumps(row) for row in one) + "\n ]"
        parts.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def read_json(path: Path) -> Any:
    """Read results, or None where there are none yet."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
