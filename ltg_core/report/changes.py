"""Before and after in a report: what became worse first."""

from __future__ import annotations

from collections.abc import Sequence

from ltg_core.report.escape import text
from ltg_core.report.parts import Change, Step

_HALF, _WIDE = 150, 312


def change(found: Change | None) -> str:
    """The part as HTML, "" where there is no comparison."""
    if found is None:
        return ""
    widest = max((abs(v) for one in (*found.worse, *found.overall) for v in _ends(one)), default=0.0) or 0.01
    if found.worse:
        more = f'<p class="soft">and {found.more:,} more</p>' if found.more else ""
        sure = sum(one.certain for one in found.worse)
        said = f"{sure:,} of these" if sure else "None of these"
        worse = (
            f"<h3>What became worse</h3>{_table(found.worse, widest)}{more}"
            f'<p class="soft">{said} with an interval that leaves out 0.</p>'
        )
    else:
        worse = "<h3>Nothing became worse</h3>"
    return (
        f'<section class="change"><h2>Before and after</h2><p>{text(found.about)}</p>{worse}'
        f"<h3>All in all</h3>{_table(found.overall, widest)}"
        f'<p class="soft">{text(found.note)}</p>{_learned(found.learned)}</section>'
    )


def _learned(parts: Sequence[str]) -> str:
    if not parts:
        return ""
    title, *rest = parts
    return f"<h3>{text(title)}</h3>" + "".join(f'<p class="soft">{text(one)}</p>' for one in rest)


def _table(steps: Sequence[Step], widest: float) -> str:
    rows = "".join(_row(one, widest) for one in steps)
    return (
        "<table><thead><tr><th>What</th><th></th><th class='n'>Before</th><th class='n'>After</th>"
        f"<th class='n'>Change, in points</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def _row(one: Step, widest: float) -> str:
    kind = ("weak" if one.worse else "better") if one.certain else "open"
    interval = (
        f"{_points(one.low)} to {_points(one.high)}" if one.low is not None and one.high is not None else ""
    )
    images = f", {one.images:,} images" if one.images is not None else ""
    about = interval or "too few images for an interval"
    return (
        f"<tr class={kind}><th>{text(one.name)}</th><td class='bar'>{_bar(one, widest, kind)}</td>"
        f"<td class='n'>{_percent(one.before)}</td><td class='n'>{_percent(one.after)}</td>"
        f"<td class='n'><b>{_points(one.after - one.before)}</b><br><span class='soft'>{about}{images}</span></td></tr>"
    )


def _ends(one: Step) -> tuple[float, ...]:
    some = (one.after - one.before, one.low, one.high)
    return tuple(v for v in some if v is not None)


def _bar(one: Step, widest: float, kind: str) -> str:
    """The change as a dot on a line around 0, with its interval."""
    at, *ends = (round(_HALF * (1 + v / widest), 1) for v in _ends(one))
    span = f'<line class="range" x1="{ends[0]}" x2="{ends[1]}" y1="11" y2="11"/>' if len(ends) == 2 else ""
    return (
        f'<svg class="interval {kind}" viewBox="-6 0 {_WIDE} 22" aria-hidden="true">'
        f'<line class="base" x1="0" x2="{2 * _HALF}" y1="11" y2="11"/>'
        f'<line class="zero" x1="{_HALF}" x2="{_HALF}" y1="2" y2="20"/>{span}<circle cx="{at}" cy="11" r="5"/></svg>'
    )


def _points(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "\u2212")


def _percent(value: float) -> str:
    return f"{100 * value:.1f}\u00a0%"
