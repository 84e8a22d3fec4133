"""Signal and weight by step as a small drawing, with the same in words."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING

from app.render import Node, h

if TYPE_CHECKING:
    from ltg_core.workflows import ImageTrace, RunTrace

    Points = list[tuple[int, float]]

_WIDTH, _HEIGHT = 620, 212
_LEFT, _RIGHT, _TOP, _SIGNAL, _BARS = 46, 12, 10, 128, 26
_BOTTOM = _TOP + _SIGNAL
_TICKS = {-2: "P 2", -1: "P 16", 0: "P 50", 1: "P 84", 2: "P 98", 3: "P 99.9"}


def trace_figure(trace: RunTrace, index: int | None = None) -> Node | None:
    """The mean over a run with every image faintly behind it, or one image; None where nothing was watched."""
    shown = trace.mean if index is None else trace.images.get(index)
    if shown is None or len(shown.guided) < 2:
        return None
    behind = list(trace.images.values()) if index is None and 1 < len(trace.images) <= 64 else []
    return h(
        "figure.trace",
        _drawing(trace, shown, behind),
        h(
            "figcaption",
            h("span.key-guided", "guided"),
            h("span.key-control", "unguided, same seed") if shown.control else None,
            h("span.key-weight", "weight") if shown.weight else None,
            h("span.key-target", "target") if trace.target is not None and shown.weight else None,
            h("span.soft", "mean of the run, single images behind" if behind else ""),
        ),
        h("details.calls", h("summary", "The same as a table"), _table(shown)),
    )


def _drawing(trace: RunTrace, shown: ImageTrace, behind: list[ImageTrace]) -> Node:
    values = [v for one in (shown, *behind) for part in (one.guided, one.control) for _, v in part]
    low, high = max(-3.5, min([*values, -0.5])) - 0.2, min(5.0, max([*values, 1.5])) + 0.2
    steps = max(2, trace.steps)

    def x(step: float) -> float:
        return _LEFT + (step - 1) / (steps - 1) * (_WIDTH - _LEFT - _RIGHT)

    def y(level: float) -> float:
        return _TOP + (high - min(high, max(low, level))) / (high - low) * _SIGNAL

    def path(points: Points, kind: str) -> Node | None:
        if not points:
            return None
        place = " L ".join(f"{x(step):.1f} {y(level):.1f}" for step, level in points)
        return h(f"path.{kind}", d=f"M {place}")

    grid = [
        part
        for level, name in _TICKS.items()
        if low <= level <= high
        for part in (
            h("line.plot-grid", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=f"{y(level):.1f}", y2=f"{y(level):.1f}"),
            h("text.plot-text", name, x=_LEFT - 6, y=f"{y(level) + 4:.1f}", text_anchor="end"),
        )
    ]
    target = None
    if trace.target is not None and shown.weight and low <= trace.target <= high:
        at = f"{y(trace.target):.1f}"
        target = h("line.plot-target", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=at, y2=at)
    return h(
        "svg.plot",
        *grid,
        target,
        *[path(one.guided, "plot-one") for one in behind],
        path(shown.control, "plot-control"),
        path(shown.guided, "plot-guided"),
        *[h("circle.plot-dot", cx=f"{x(s):.1f}", cy=f"{y(v):.1f}", r=2.6) for s, v in shown.guided],
        *_bars(shown, x),
        *[
            h("text.plot-text", str(step), x=f"{x(step):.1f}", y=_HEIGHT - 18, text_anchor="middle")
            for step in _steps(steps)
        ],
        h("text.plot-text", "step", x=(_LEFT + _WIDTH) / 2, y=_HEIGHT - 4, text_anchor="middle"),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=in_words(shown),
    )


def _bars(shown: ImageTrace, x: object) -> list[Node]:
    most = max([weight for _, weight in shown.weight] or [0.0])
    base = _BOTTOM + 10 + _BARS
    found = (
        [h("text.plot-text", "weight", x=_LEFT - 6, y=base - 4, text_anchor="end")] if shown.weight else []
    )
    for step, weight in shown.weight:
        tall = max(1.0, _BARS * weight / most) if most else 1.0
        left, top = f"{x(step) - 4:.1f}", f"{base - tall:.1f}"  # type: ignore[operator]
        found.append(h("rect.plot-weight", x=left, y=top, width=8, height=f"{tall:.1f}"))
    return found


def _steps(steps: int) -> list[int]:
    every = 1 if steps <= 12 else 2 if steps <= 24 else 5 if steps <= 60 else max(10, steps // 8)
    found = [1, *range(every, steps + 1, every)] if every > 1 else list(range(1, steps + 1))
    return sorted({s for s in found if s == 1 or s - 1 >= every * 0.6})


def in_words(shown: ImageTrace) -> str:
    """What the drawing shows, for who cannot see it."""
    text = f"Signal by step. Guided: from {_rank(shown.guided[0][1])} to {_rank(shown.guided[-1][1])}."
    if shown.control:
        text += f" Unguided: from {_rank(shown.control[0][1])} to {_rank(shown.control[-1][1])}."
    pushed = [f"{weight:.2g} at step {step}" for step, weight in shown.weight if weight]
    return text + (f" Weight: {', '.join(pushed)}." if pushed else " Nothing was pushed.")


def _rank(level: float) -> str:
    percentile = 100 * NormalDist().cdf(level)
    return f"P {percentile:.0f}" if percentile < 99 else f"P {min(percentile, 99.99):.1f}"


def _table(shown: ImageTrace) -> Node:
    parts = {"unguided": dict(shown.control), "guided": dict(shown.guided), "weight": dict(shown.weight)}
    steps = sorted({step for values in parts.values() for step in values})
    head = h("tr", *[h("th", name, scope="col") for name in ("step", *parts)])
    rows = [
        h(
            "tr",
            h("th", str(step), scope="row"),
            *[
                h("td", ("–" if step not in v else _rank(v[step]) if name != "weight" else f"{v[step]:.2g}"))
                for name, v in parts.items()
            ],
        )
        for step in steps
    ]
    return h("table.steps", h("thead", head), h("tbody", *rows))
