"""The report as HTML: every text escaped, every picture inside, a policy that forbids everything else."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ltg_core.report.changes import change
from ltg_core.report.escape import text
from ltg_core.report.figures import interval, scatter
from ltg_core.report.parts import Case, Measure, Picture, Report
from ltg_core.report.style import style

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_URL = re.compile(r"data:image/(?:webp|png|jpeg);base64,[A-Za-z0-9+/=]+")


def render(report: Report) -> str:
    """The whole file."""
    body = (
        _head(report),
        _answers(report),
        _numbers(report),
        change(report.change),
        _cases(report),
        _map(report),
        _actions(report),
        _method(report),
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{text(report.title)}</title>\n<style>{style()}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def _paragraphs(value: str) -> str:
    parts = [part.strip() for part in re.split(r"\n\s*\n", value.strip()) if part.strip()]
    return "".join(f"<p>{text(part)}</p>" for part in parts)


def _head(report: Report) -> str:
    return (
        f'<header><p class="kicker">Weakness report · {text(report.date)}</p><h1>{text(report.title)}</h1>'
        f'<p class="about">{text(report.about)}</p><div class="weakness">{_paragraphs(report.weakness)}</div></header>'
    )


def _answers(report: Report) -> str:
    rows = (("What fails", report.what), ("How often", report.often), ("How sure we are", report.sure))
    cells = "".join(f"<div><h2>{name}</h2><p>{text(value)}</p></div>" for name, value in rows if value)
    return f'<section class="answers">{cells}</section>' if cells else ""


def _numbers(report: Report) -> str:
    if not report.measures:
        return ""
    rows = "".join(_measure(one) for one in report.measures)
    return (
        "<section><h2>In numbers</h2><table><thead><tr><th>Read rightly</th><th></th><th class='n'>Share</th>"
        f"<th class='n'>95 % interval</th><th class='n'>Samples</th></tr></thead><tbody>{rows}</tbody></table>"
        f'<p class="soft">{text(report.measured)}</p></section>'
    )


def _measure(one: Measure) -> str:
    if not one.whole:
        return ""
    return (
        f"<tr{' class=weak' if one.weak else ''}><th>{text(one.name)}</th><td class='bar'>{interval(one)}</td>"
        f"<td class='n'><b>{_percent(one.part / one.whole)}</b></td>"
        f"<td class='n'>{100 * one.low:.1f} to {_percent(one.high)}</td>"
        f"<td class='n'>{one.part:,} of {one.whole:,}</td></tr>"
    )


def _percent(value: float) -> str:
    return f"{100 * value:.1f}\u00a0%"


def _cases(report: Report) -> str:
    if not report.cases:
        return ""
    shown = "".join(_case(number, case) for number, case in enumerate(report.cases, 1))
    return f'<section><h2>Examples</h2><p class="soft">{text(report.chosen)}</p>{shown}</section>'


def _case(number: int, case: Case) -> str:
    note = f"<blockquote>{_paragraphs(case.note)}</blockquote>" if case.note.strip() else ""
    rows = "".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in case.facts)
    return (
        f'<article><h3><span class="number">{number}</span>{text(case.title)}</h3><p>{text(case.text)}</p>{note}'
        f'<div class="pictures">{"".join(_picture(one) for one in case.pictures)}</div>'
        f"{f'<dl>{rows}</dl>' if rows else ''}</article>"
    )


def _picture(one: Picture) -> str:
    if not _URL.fullmatch(one.url):
        return ""
    kind = {True: " class=wrong", False: " class=right", None: ""}[one.wrong]
    said = f"<span{kind}>{text(one.text)}</span>" if one.text else ""
    return (
        f'<figure><img src="{one.url}" alt="{text(one.name)}"><figcaption><b>{text(one.name)}</b>{said}</figcaption>'
        "</figure>"
    )


def _map(report: Report) -> str:
    if report.scatter is None or not report.scatter.points:
        return ""
    kinds = {point[2] for point in report.scatter.points}
    names = (("right", "real, read rightly"), ("wrong", "real, read wrongly"), ("made", "generated"))
    legend = "".join(
        f'<span><svg viewBox="0 0 10 10"><circle class="dot-{kind}" cx="5" cy="5" r="4"/></svg>{name}</span>'
        for kind, name in names
        if kind in kinds
    )
    numbers = "<span><b class='number'>1</b>an example above</span>" if report.scatter.marks else ""
    return (
        f'<section class="map"><h2>Where it lies</h2>{scatter(report.scatter)}<p class="legend">{legend}{numbers}</p>'
        f'<p class="soft">{text(report.scatter.note)}</p></section>'
    )


def _actions(report: Report) -> str:
    return (
        f"<section><h2>What can be done</h2><ul>{_items(report.actions)}</ul></section>"
        if report.actions
        else ""
    )


def _items(values: Iterable[str]) -> str:
    return "".join(f"<li>{text(value)}</li>" for value in values)


def _method(report: Report) -> str:
    rows = "".join(f"<tr><th>{text(name)}</th><td>{text(value)}</td></tr>" for name, value in report.method)
    return f'<section class="method"><h2>How this was made</h2><table><tbody>{rows}</tbody></table></section>'
