"""A comparison that is done: its figures in order and in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ltg_core.evaluation.frame import OVERALL, PARTS

_NAMES = {"ece": "calibration error", "macro_f1": "macro F1"}


def overall(arm: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of an arm's differences those of all images and of the parts of the classes, in the order of showing."""
    by = {one["name"]: one for one in arm["differences"]}
    return [by[name] for name in (*OVERALL, *PARTS) if name in by]


def figure_words(name: str) -> str:
    """The name of a figure for people."""
    kind, colon, rest = name.partition(":")
    if colon:
        return f"class {rest}" if kind == "class" else rest
    return _NAMES.get(name, name.replace("_", " "))


def learned_from(quality: Mapping[str, Any] | None) -> tuple[str, ...]:
    """How good the synthetic images of an arm are beside the real ones of the comparison: a title, what was measured
    and how to read it; () where there are none, two texts where nothing could be measured.
    """
    if not quality:
        return ()
    title, q = f"What it learned from: {quality['n']:,} synthetic images", quality["overall"]
    if q is None:
        return title, f"Not measured: {quality['note']}."
    shares = ", ".join(f"{name} {q[name]:.2f}" for name in ("precision", "recall", "density", "coverage"))
    return (
        title,
        f"Beside {q['real']:,} real images of their classes, in the base's features: {shares}; {q['vendi']:.1f} "
        f"different ones in effect (Vendi score; real ones {q['vendi_real']:.1f}); kernel distance {q['kid']:.3f}.",
        "Precision and density: they look like real ones. Recall and coverage: the real variety is there. Compare only "
        "sets of about equal numbers.",
    )


def chances(arm: Mapping[str, Any]) -> str:
    """What to think of many intervals at once, in words; "" where there are none."""
    with_interval = [one for one in arm["differences"] if one["low"] is not None]
    if not with_interval:
        return ""
    sure, n = sum(one["certain"] for one in with_interval), len(with_interval)
    return (
        f"Of {n:,} figures with an interval {sure:,} leave out 0; if nothing had changed, about {0.05 * n:.0f} would "
        "by chance. They overlap and are not corrected for their number: believe what several of them agree on, and "
        "measure on other images what you want to rely on."
    )
