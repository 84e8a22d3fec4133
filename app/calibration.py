"""The reliability diagram: what the classifier is sure of against how often it is right, as a drawing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from app.render import Node, h, percent

_W, _H, _LEFT, _TOP, _SIDE, _COUNTS = 360, 300, 44, 12, 220, 36


def diagram(rows: Sequence[Mapping[str, Any]], title: str, known: bool) -> Node:
    """Accuracy by confidence, with the diagonal of perfect calibration and how many samples each bar stands on.

    Args:
        rows: Of ``workflows.reliability``.
        title: Whose calibration it is.
        known: Whether it is one class, and the way back to all is offered.
    """
    n = sum(row["n"] for row in rows)
    full = [row for row in rows if row["n"]]
    if not n:
        return h("div.reliability", h("h4", title), h("p.soft", "No labelled sample with a prediction here."))
    error = sum(row["n"] * abs(row["accuracy"] - row["confidence"]) for row in full) / n
    lean = sum(row["n"] * (row["confidence"] - row["accuracy"]) for row in full) / n
    says = "It is surer than it is right" if lean > 0 else "It is right more often than it is sure"
    return h(
        "div.reliability",
        h(
            "div.reliability-head",
            h("h4", title),
            h("button.link", "All classes", act=("of", {"label": ""}), type="button") if known else None,
        ),
        _drawing(full, n, f"Reliability diagram of {title}: calibration error {percent(error, 1)}"),
        h(
            "p.soft",
            h("b", f"Calibration error {percent(error, 1)}"),
            f" on {n:,} samples. {says}"
            + (f", by {percent(abs(lean), 1)} on average." if abs(lean) >= 0.0005 else "."),
        ),
        h(
            "p.soft",
            "Bars: how often answers of that confidence are right. Red: the part that is missing up to the confidence; "
            "amber: what is right beyond it. The small bars below count the samples.",
        ),
    )


def _drawing(rows: Sequence[Mapping[str, Any]], n: int, words: str) -> Node:
    most = max(row["n"] for row in rows)
    floor = _TOP + _SIDE
    parts: list[Node] = [_ground()]
    for row in rows:
        x, width = _LEFT + row["low"] * _SIDE + 1, (row["high"] - row["low"]) * _SIDE - 2
        right, sure = row["accuracy"] * _SIDE, row["confidence"] * _SIDE
        parts.append(_bar("right", x, floor - right, width, right))
        low, high = sorted((right, sure))
        parts.append(_bar("over" if sure > right else "under", x, floor - high, width, high - low))
        tall = max(1.0, (_COUNTS - 12) * math.sqrt(row["n"] / most))
        parts.append(_bar("many", x, _H - 14 - tall, width, tall))
    parts.append(h("path.diagonal", d=f"M{_LEFT} {floor} L{_LEFT + _SIDE} {_TOP}"))
    return h(
        "svg.reliability-plot", *parts, viewBox=f"0 0 {_LEFT + _SIDE + 16} {_H}", role="img", aria_label=words
    )


def _ground() -> Node:
    """Frame, lines and their numbers."""
    floor = _TOP + _SIDE
    parts = [h("rect.ground", x=_LEFT, y=_TOP, width=_SIDE, height=_SIDE)]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        at = floor - share * _SIDE
        parts.append(h("path.rule", d=f"M{_LEFT} {at:.1f} h{_SIDE}"))
        parts.append(h("text.tick", f"{100 * share:.0f}", x=_LEFT - 6, y=f"{at + 4:.1f}", text_anchor="end"))
        if share in (0.0, 0.5, 1.0):
            x = _LEFT + share * _SIDE
            parts.append(h("text.tick", f"{100 * share:.0f}", x=f"{x:.1f}", y=_H - 1, text_anchor="middle"))
    parts.append(h("text.tick", "% right", x=_LEFT + 5, y=_TOP + 14))
    parts.append(h("text.tick", "% sure", x=_LEFT + _SIDE * 0.75, y=_H - 1, text_anchor="middle"))
    return h("g", *parts)


def _bar(kind: str, x: float, y: float, width: float, height: float) -> Node:
    return h(
        f"rect.{kind}", x=f"{x:.1f}", y=f"{y:.1f}", width=f"{width:.1f}", height=f"{max(0.0, height):.1f}"
    )
