"""Figures of a report as inline SVG; colours are the style sheet's."""

from __future__ import annotations

from collections.abc import Sequence

from ltg_core.report.parts import Measure, Scatter

_WIDTH, _HEIGHT = 640, 400
_PAD = 18


def interval(measure: Measure) -> str:
    """A share as a dot on a line from 0 to 100 %, with its interval."""
    if not measure.whole:
        return ""
    at, low, high = (round(300 * v, 1) for v in (measure.part / measure.whole, measure.low, measure.high))
    kind = "weak" if measure.weak else "plain"
    return (
        f'<svg class="interval {kind}" viewBox="-6 0 312 22" aria-hidden="true">'
        '<line class="base" x1="0" x2="300" y1="11" y2="11"/>'
        f'<line class="range" x1="{low}" x2="{high}" y1="11" y2="11"/><circle cx="{at}" cy="11" r="5"/></svg>'
    )


def scatter(found: Scatter) -> str:
    """The map: real samples right and wrong, generated ones, and the numbers of the cases."""
    if not found.points:
        return ""
    place = _scale([p[:2] for p in found.points])
    # Errors are drawn over what is right, generated over both.
    rank = {"right": 0, "wrong": 1, "made": 2}
    dots = []
    for x, y, kind in sorted(found.points, key=lambda p: rank.get(p[2], 0)):
        px, py = place(x, y)
        dots.append(
            f'<circle class="dot-{kind}" cx="{px:.1f}" cy="{py:.1f}" r="{2.4 if kind == "right" else 3.1}"/>'
        )
    marks = []
    for number, x, y in found.marks:
        px, py = place(x, y)
        marks.append(
            f'<g class="mark"><circle cx="{px:.1f}" cy="{py:.1f}" r="10"/>'
            f'<text x="{px:.1f}" y="{py + 3.8:.1f}">{int(number)}</text></g>'
        )
    return (
        f'<svg class="scatter" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Map of the samples">'
        f"{''.join(dots)}{''.join(marks)}</svg>"
    )


class _scale:
    """From the map's coordinates to the picture's."""

    def __init__(self, points: Sequence[tuple[float, ...]]) -> None:
        xs, ys = [p[0] for p in points], [p[1] for p in points]
        self.left, self.top = min(xs), max(ys)
        self.fx = (_WIDTH - 2 * _PAD) / ((max(xs) - min(xs)) or 1.0)
        self.fy = (_HEIGHT - 2 * _PAD) / ((max(ys) - min(ys)) or 1.0)

    def __call__(self, x: float, y: float) -> tuple[float, float]:
        return _PAD + (x - self.left) * self.fx, _PAD + (self.top - y) * self.fy
