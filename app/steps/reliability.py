"""Calibration as a picture: how often answers of a certain confidence are right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.render import Node, h, percent

if TYPE_CHECKING:
    from ltg_core.workflows.examining import Bin

_SIDE, _LEFT, _TOP, _COUNTS = 220, 40, 24, 34


def diagram(bins: Sequence[Bin]) -> Node:
    """Accuracy by confidence as bars against the diagonal; below it, how many answers there are."""
    most = max((one.n for one in bins), default=1)
    base = _TOP + _SIDE
    marks = [_axis_mark(share) for share in (0.0, 0.5, 1.0)]
    bars = [_bar(one, base) for one in bins]
    counts = [_count(one, base, most) for one in bins]
    summary = "; ".join(
        f"{percent(one.confidence)} sure: {percent(one.accuracy)} right ({one.n:,})" for one in bins
    )
    return h(
        "div.reliability",
        h(
            "svg",
            h("rect.frame", x=_LEFT, y=_TOP, width=_SIDE, height=_SIDE),
            *[part for pair in marks for part in pair],
            *[part for group in bars for part in group],
            h("line.diagonal", x1=_LEFT, y1=base, x2=_LEFT + _SIDE, y2=_TOP),
            *counts,
            h("text.axis", "share of right answers", x=_LEFT, y=14),
            h("text.axis", "0%", x=_LEFT, y=base + _COUNTS + 12, text_anchor="middle"),
            h("text.axis", "confidence", x=_LEFT + _SIDE / 2, y=base + _COUNTS + 12, text_anchor="middle"),
            h("text.axis", "100%", x=_LEFT + _SIDE, y=base + _COUNTS + 12, text_anchor="middle"),
            viewBox=f"0 0 {_LEFT + _SIDE + 20} {base + _COUNTS + 18}",
            aria_hidden="true",
        ),
        h("span.visually-hidden", f"Reliability: {summary}"),
    )


def _bar(one: Bin, base: float) -> list[Node]:
    x, width = _LEFT + _SIDE * one.low, _SIDE * (one.high - one.low)
    height = _SIDE * one.accuracy
    gap = abs(one.accuracy - one.confidence)
    top = _TOP + _SIDE * (1 - max(one.accuracy, one.confidence))
    return [
        h("rect.gap", x=_n(x + 0.7), y=_n(top), width=_n(width - 1.4), height=_n(_SIDE * gap)),
        h("rect.bar-right", x=_n(x + 0.7), y=_n(base - height), width=_n(width - 1.4), height=_n(height)),
    ]


def _count(one: Bin, base: float, most: int) -> Node:
    x, width = _LEFT + _SIDE * one.low, _SIDE * (one.high - one.low)
    height = max(1.0, (_COUNTS - 8) * one.n / most)
    return h("rect.bar-count", x=_n(x + 0.7), y=_n(base + 4), width=_n(width - 1.4), height=_n(height))


def _axis_mark(share: float) -> list[Node]:
    y = _TOP + _SIDE * (1 - share)
    return [
        h("line.tick-line", x1=_LEFT, x2=_LEFT + _SIDE, y1=_n(y), y2=_n(y)),
        h("text.axis", f"{share:.0%}", x=_LEFT - 6, y=_n(y + 4), text_anchor="end"),
    ]


def _n(value: float) -> str:
    return f"{value:.1f}"
