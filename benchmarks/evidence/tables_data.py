"""The tables of real data sets: retraining on CIFAR-10-LT and GTSRB, category extrapolation on CIFAR-100."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.evidence.extrapolation import names as extrapolation_names
from benchmarks.evidence.photo_arms import arms_of
from benchmarks.evidence.photos import PLACES, Place
from benchmarks.evidence.statistics import Judged, estimated
from benchmarks.evidence.tables import (
    BALANCED,
    BEST,
    LTG,
    REAL,
    UNGUIDED,
    cell,
    missing,
    right_of,
    verdict,
    where,
)
from benchmarks.evidence.units import Store
from benchmarks.measure import RESULTS, read_json
from ltg_core.evaluation.frame import thirds

PUBLISHED = {"cifar10lt-full": {REAL: 72.0, BALANCED: 77.5}}
"""ResNet-32, CIFAR-10-LT, imbalance 100 (Ren et al. 2020 and others)."""
WITHIN = 2.0
COLUMNS = {"tail": "rarest third", "mid": "middle third", "head": "most frequent third", "overall": "overall",
           "balanced": "balanced", "worst class": "worst class"}  # fmt: skip
LADDER = (
    "+ random auxiliary",
    "balanced softmax",
    "+ neighbour auxiliary",
    "+ neighbour silencing, lambda 0.1",
)
"""The order that the paper's ablation reports, the worst first."""


def judged(record: Mapping[str, Any]) -> Judged:
    """Labels and parts of the classes from a frame's record."""
    labels = np.array([int(v) for v in record["labels"].split()])
    parts = record.get("parts") or {
        k: v.tolist() for k, v in thirds(np.array(record["train_counts"])).items()
    }
    return Judged(labels, parts, {})


def retrained(store: Store, place: Place, recipe: str) -> list[str]:
    """One data set with one recipe; nothing of a full recipe that nobody has begun."""
    name = place.name if recipe == "shortened" else f"{place.name}-{recipe}"
    names = list(arms_of(place))
    found = {arm: runs for arm in names if (runs := store.all(name, arm))}
    record = read_json(store.folder / f"{name}.frame.json")
    if recipe == "full" and not found:
        return []
    lines = [f"## {place.title}{', full recipe' if recipe == 'full' else ''}: the same arms", ""]
    if not found or record is None:
        return [*lines, *missing(store, name, names)]
    frame = judged(record)
    right = {arm: right_of(runs, len(frame.labels)) for arm, runs in found.items()}
    every = [run for runs in found.values() for run in runs.values()]
    train, arch = every[0]["settings"]["train"], every[0]["settings"]["arch"]
    extra = " --recipe full --device cuda" if recipe == "full" else ""
    short = "" if recipe == "full" else "**Shortened recipe**, figures can only be held against each other: "
    lines += [
        where(f"python -m benchmarks.evidence --parts {place.name}{extra}", every),
        "",
        f"{short}{arch} from scratch, {train['epochs']} epochs, batch {train['batch_size']}, {train['optimizer']} {train['lr']:g}, weight decay "
        f"{train['weight_decay']:g}. {sum(record['train_counts']):,} training pictures, {max(record['train_counts'])} to {min(record['train_counts'])} a "
        f"class; {every[0]['settings']['images']} synthetic images an arm, equally many of every class, believed ones only, by a generator that was fitted on the training pictures "
        '("balanced prior": on as many of every class as the rarest has). The guided arms seek the blind spots of "real only" of the same '
        f"seed. A class has no named conditions here, so there is no arm of diverse prompts. {len(frame.labels):,} test pictures, 95 % bootstrap intervals over pictures and seeds.",
        "",
        f"| arm | seeds | {' | '.join(COLUMNS.values())} |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    for arm in found:
        figures = estimated(frame, right[arm])
        lines.append(
            f"| {arm} | {_seeds(right[arm])} | {' | '.join(cell(figures[key]) for key in COLUMNS)} |"
        )
    pairs = [(arm, before) for arm in found for before in _against(arm, found)]
    if pairs:
        lines += ["", "Differences in points; in bold where the interval leaves out 0.", "",
                  f"| arm | against | seeds | {' | '.join(COLUMNS.values())} |", "|---" * (len(COLUMNS) + 3) + "|"]  # fmt: skip
        for after, before in pairs:
            change = estimated(frame, right[after], right[before])
            both = set(right[after]) & set(right[before])
            lines.append(
                f"| {after} | {before} | {_seeds(both)} | {' | '.join(cell(change[key], True) for key in COLUMNS)} |"
            )
    lines += ["", *_published(name, frame, right), *_guided(frame, right), *_uncertain(found)]
    return [*lines, *missing(store, name, names)]


def _seeds(some: Any) -> str:
    return ", ".join(map(str, sorted(some)))


def _against(arm: str, found: Mapping[str, dict[int, Any]]) -> list[str]:
    """What an arm is held against, where both have a seed."""
    if not arm.startswith("+ "):
        wanted = [REAL] if arm != REAL else []
    else:
        suffix = ", balanced prior" if arm.endswith("balanced prior") else ""
        wanted = [BALANCED] if arm == UNGUIDED + suffix else [UNGUIDED + suffix]
        wanted += [BEST + suffix] if "LTG" in arm else []
    return [one for one in wanted if one in found and set(found[one]) & set(found[arm])]


def _published(name: str, frame: Judged, right: Mapping[str, dict[int, np.ndarray]]) -> list[str]:
    lines = []
    for arm, wanted in PUBLISHED.get(name, {}).items():
        if arm in right:
            value = 100 * estimated(frame, right[arm])["overall"].value
            good = "within" if abs(value - wanted) <= WITHIN else "**not within**"
            lines.append(f"- {arm}: {value:.1f} %, published {wanted:.1f} %: {good} {WITHIN:g} points")
    return [*lines, ""] if lines else []


def _guided(frame: Judged, right: Mapping[str, dict[int, np.ndarray]]) -> list[str]:
    """Bar: on the rarest third guided > unguided > real only, intervals without 0."""
    lines = []
    for after, before in ((LTG, UNGUIDED), (UNGUIDED, REAL)):
        if after in right and before in right and set(right[after]) & set(right[before]):
            change = estimated(frame, right[after], right[before])["tail"]
            lines.append(
                f"| {after} over {before}, rarest third | {cell(change, True)} | {verdict(change, 0.0, False)} |"
            )
    return ["| bar | measured | |", "|---|---|---|", *lines, ""] if lines else []


def _uncertain(found: Mapping[str, dict[int, dict[str, Any]]]) -> list[str]:
    rows = [
        (arm, seed, row)
        for arm, runs in found.items()
        for seed, run in sorted(runs.items())
        for row in run.get("uncertain", [])
    ]
    if not rows:
        return []
    lines = ["The most uncertain believed findings of LTG epistemic, and the real test errors that they predict (no picture of the data is shown, its licence "
             "does not allow it).", "",
             "| arm | seed | class asked for | read as | percentile | test pictures of the class | read wrongly | read as the same |", "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for arm, seed, row in rows:
        lines.append(
            f"| {arm} | {seed} | {row['class']} | {row['read_as']} | {row['percentile']:.0f} | {row['test_pictures']} | {row['test_errors']} | {row['test_read_as_the_same']} |"
        )
    return [*lines, ""]


def photos(store: Store) -> list[str]:
    """Every data set and recipe."""
    return [
        line
        for place in PLACES.values()
        for recipe in ("shortened", "full")
        for line in retrained(store, place, recipe)
    ]


def extrapolation(store: Store) -> list[str]:
    """The pieces that are there; the finished table of the shortened recipe is `bench_extrapolation`'s."""
    lines: list[str] = []
    for name in ("extrapolation", "extrapolation-full"):
        names = extrapolation_names()
        found = {arm: runs for arm in names if (runs := store.all(name, arm))}
        record = read_json(store.folder / f"{name}.frame.json")
        if not found or record is None:
            continue
        frame = judged(record)
        right = {arm: right_of(runs, len(frame.labels)) for arm, runs in found.items()}
        every = [run for runs in found.values() for run in runs.values()]
        given = every[0]["settings"]
        columns = ("overall", *frame.parts)
        lines += [
            f"## Category extrapolation, ResNet-{given['depth']}, {given['epochs']} epochs",
            "",
            where(
                "python -m benchmarks.evidence --parts extrapolation"
                + (" --recipe full" if name.endswith("full") else ""),
                every,
            ),
            "",
            f"| arm | seeds | {' | '.join(columns)} |",
            "|---" * (len(columns) + 2) + "|",
        ]
        for arm, runs in right.items():
            figures = estimated(frame, runs)
            lines.append(f"| {arm} | {_seeds(runs)} | {' | '.join(cell(figures[key]) for key in columns)} |")
        lines += ["", *_ladder(frame, right), *missing(store, name, names)]
    if not lines:
        lines = ["## Category extrapolation", ""]
        lines += (["The table of `python -m benchmarks.bench_extrapolation` stands at the end of this page; its units have no files of their own.", ""]
                  if (RESULTS / "extrapolation.md").exists() else missing(store, "extrapolation", extrapolation_names()))  # fmt: skip
    return lines


def _ladder(frame: Judged, right: Mapping[str, dict[int, np.ndarray]]) -> list[str]:
    lines = []
    for low, high in itertools.pairwise(LADDER):
        if low in right and high in right and set(right[low]) & set(right[high]):
            change = estimated(frame, right[high], right[low])["overall"]
            lines.append(f"| {high} over {low} | {cell(change, True)} | {verdict(change, 0.0, False)} |")
    return (
        [
            "The order of the paper's ablation:",
            "",
            "| step | measured, overall | |",
            "|---|---|---|",
            *lines,
            "",
        ]
        if lines
        else []
    )
