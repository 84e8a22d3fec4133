"""A small line chart with intervals, as SVG: equal results give equal bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 360, 60, 48, 16, 150
COLOURS = ("#1f5fa8", "#c2571a", "#2f7d4f", "#7a4a9e")


class Line(NamedTuple):
    """One line: its name and points (x, y, low, high), x above 0."""

    name: str
    points: Sequence[tuple[float, float, float, float]]


def chart(path: Path, lines: Sequence[Line], x_name: str, y_name: str) -> None:
    """Write lines over a logarithmic x axis, with their intervals as bars.

    Args:
        path: Of the SVG.
        lines: At least one point in all.
        x_name: Below the axis.
        y_name: Beside it.
    """
    points = [point for line in lines for point in line.points]
    xs = sorted({point[0] for point in points})
    low = 5 * math.floor(min(point[2] for point in points) / 5)
    high = max(low + 5, 5 * math.ceil(max(point[3] for point in points) / 5))
    first, last = math.log(xs[0]), math.log(max(xs[-1], 1.01 * xs[0]))

    def x(value: float) -> float:
        return LEFT + 14 + (math.log(value) - first) / (last - first) * (WIDTH - LEFT - RIGHT - 28)

    def y(value: float) -> float:
        return TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)

    step = next(s for s in (5, 10, 20) if (high - low) / s <= 10)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="13" fill="#222"><rect width="100%" height="100%" fill="#fff"/>'
    ]
    for k in range(int((high - low) / step) + 1):
        v = low + k * step
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(v):.1f}" y2="{y(v):.1f}" stroke="#ddd"/>'
        )
        parts.append(f'<text x="{LEFT - 8}" y="{y(v) + 4:.1f}" text-anchor="end">{v:g}</text>')
    parts += [
        f'<text x="{x(v):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{v:g}</text>' for v in xs
    ]
    for place, line in enumerate(lines):
        colour, shift = COLOURS[place % len(COLOURS)], 3 * (place - (len(lines) - 1) / 2)
        spots = [(x(p[0]) + shift, *(y(v) for v in p[1:])) for p in sorted(line.points)]
        way = " ".join(f"{px:.1f},{py:.1f}" for px, py, _, _ in spots)
        parts.append(f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for px, py, bottom, top in spots:
            parts.append(
                f'<line x1="{px:.1f}" x2="{px:.1f}" y1="{bottom:.1f}" y2="{top:.1f}" stroke="{colour}"/>'
            )
            parts.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5" fill="{colour}"/>')
        name_y = TOP + 14 + 18 * place
        parts.append(
            f'<text x="{WIDTH - RIGHT + 12}" y="{name_y}" fill="{colour}">{escape(line.name)}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x_name)}</text>')
    turned = f'transform="rotate(-90 16 {HEIGHT / 2:.0f})"'
    parts.append(
        f'<text x="16" y="{HEIGHT / 2:.0f}" text-anchor="middle" {turned}>{escape(y_name)}</text></svg>'
    )
    path.write_text("\n".join(parts) + "\n", encoding="utf-8")
