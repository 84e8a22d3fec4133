"""How well two judges agree, as nodes: the figures with their intervals, the table, the images that they differ on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from app.context import AppContext
from app.render import Node, empty, h, percent, view

if TYPE_CHECKING:
    from ltg_core.curation.review import Agreement, Review

_WORDS = {"accepted": "accept", "rejected": "reject", "flagged": "flag"}
_THUMBS = 24


def outcome(ctx: AppContext, review_id: str) -> Node:
    """Agreement with its intervals, the table, and the disagreements to resolve."""
    from ltg_core.curation import review

    one, found = review.get(ctx.workspace, review_id), review.agreement(ctx.workspace, review_id)
    if not found.n:
        return view(empty(f"{one.reviewer[:60]} has not answered yet", "Go on with the review on the left."))
    return view(
        h("h3", f"How well {one.reviewer} agrees with the first verdicts"),
        h(
            "div.figures",
            _figure(
                percent(found.raw),
                f"the same verdict, {found.agreed:,} of {found.n:,}",
                found.raw_interval,
                100,
            ),
            _figure(_two(found.kappa), "Cohen's kappa (0 chance, 1 always)", found.kappa_interval, 1),
        ),
        *[h("p.warn", note[:1].upper() + note[1:] + ".") for note in found.notes],
        h("h4", "First verdict by answer"),
        _table(found),
        *_disagreements(ctx, one, found),
        classes="panel outcome",
    )


def _figure(value: str, text: str, interval: tuple[float, float], scale: int) -> Node:
    low, high = interval
    if math.isnan(low):
        between = "no interval"
    elif scale == 100:
        between = f"95 %: {100 * low:.0f} to {100 * high:.0f} %"
    else:
        between = f"95 %: {low:.2f} to {high:.2f}"
    return h("div.figure", h("b", value), h("span", text), h("span", between))


def _two(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _table(found: Agreement) -> Node:
    from ltg_core.curation.review import CHOICES

    head = h("tr", h("th", "first ↓ second →"), *[h("th", _WORDS[choice]) for choice in CHOICES])
    rows = [
        h(
            "tr",
            h("th", _WORDS[first]),
            *[
                h("td.same" if first == second else "td", f"{found.table.get((first, second), 0):,}")
                for second in CHOICES
            ],
        )
        for first in CHOICES
    ]
    return h("table.agreement", h("thead", head), h("tbody", *rows))


def _disagreements(ctx: AppContext, one: Review, found: Agreement) -> list[Node]:
    from app.curation.items import known

    if not found.disagreements:
        return [h("p.soft", "There is no disagreement to resolve.")]
    there = set(known(ctx, [sample for sample, *_ in found.disagreements]))
    shown = [
        h(
            "div.disagree",
            h("img.thumb", src=f"thumb:{sample}", alt="")
            if sample in there
            else h("span.thumb.is-none", "gone"),
            h("span.soft", f"{_WORDS[first]} → {_WORDS[second]}"),
        )
        for sample, first, second in found.disagreements[:_THUMBS]
    ]
    n = len(found.disagreements)
    return [
        h("h4", f"{n:,} disagreement{'s' if n != 1 else ''}"),
        h("div.thumbs", *shown),
        h("button.primary", "Resolve them in Decide", act=("resolve", {"id": one.id}), type="button"),
    ]
