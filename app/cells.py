"""The coverage planner as nodes: the grid, the ranking, one cell."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from app.controls import words
from app.query import Query
from app.render import Node, facts, h, percent, view

if TYPE_CHECKING:
    from ltg_core.workflows import Coverage
    from ltg_core.workflows.coverage import Cell

FEW = 8
"""Held-out samples below which an error rate is set in italics."""
LISTED = 40
FILLING = ("hard but believable", "feedback-guided")
"""Presets by which all thin cells are filled up; the first one is recommended."""


def value_text(value: Any) -> str:
    """A metadata value for people."""
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def query_value(value: Any) -> str:
    """A metadata value as the address and its filter spell it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def query_of(found: Coverage, cell: Cell, labels: Sequence[str], *, wrong: bool = False) -> Query:
    """The samples of a cell in Browse; its errors are those of the held-out split."""
    meta = {found.column: query_value(cell.value)}
    answer, split = ("wrong", found.split or "") if wrong else ("", "")
    return Query(label=labels[cell.label], meta=meta, answer=answer, split=split)


def named(cell: Cell, labels: Sequence[str]) -> dict[str, str]:
    """What a click on a cell sends along: names, never positions."""
    return {"label": labels[cell.label], "value": json.dumps(cell.value)}


def grid(found: Coverage, labels: Sequence[str], chosen: Cell | None) -> Node:
    """Classes by conditions, coloured by need."""
    head = h(
        "tr",
        h("th.corner", h("span", words(found.column)), scope="col"),
        *[
            h("th.condition-name", h("span", value_text(v)), scope="col", title=value_text(v))
            for v in found.values
        ],
    )
    most = max((cell.need for cell in found.cells.values()), default=0.0) or 1.0
    rows = [
        h(
            "tr",
            h("th.true", name, scope="row", title=name),
            *[
                _cell(found.cells[label, place], labels, most, found, chosen)
                for place in range(len(found.values))
            ],
            key=name,
        )
        for label, name in enumerate(labels)
    ]
    return h(
        "div.coverage-box",
        h("table.coverage", h("thead", head), h("tbody", *rows)),
        tabindex=0,
        role="group",
        aria_label="Coverage by class and condition",
    )


def _cell(cell: Cell, labels: Sequence[str], most: float, found: Coverage, chosen: Cell | None) -> Node:
    kinds = ".is-empty" if not cell.train + cell.accepted else ""
    kinds += ".is-few" if cell.held < FEW else ""
    kinds += ".is-on" if chosen and (chosen.label, chosen.value) == (cell.label, cell.value) else ""
    return h(
        "td" + kinds,
        h(
            "button.cover",
            h("b", _rate(cell, found)),
            h(
                "span.cover-n",
                h("span", f"{cell.train:,}" if cell.train else "none"),
                h("span.cover-made", f"+{cell.accepted:,}") if cell.accepted else None,
            ),
            act=("cell", named(cell, labels)),
            type="button",
            title=in_words(cell, labels, found),
            aria_label=in_words(cell, labels, found),
            aria_pressed=str("is-on" in kinds).lower(),
        ),
        w=f"{100 * cell.need / most:.0f}%",
    )


def _rate(cell: Cell, found: Coverage) -> str:
    if math.isnan(found.overall):
        return "·"
    return percent(cell.error) if cell.held else "?"


def in_words(cell: Cell, labels: Sequence[str], found: Coverage) -> str:
    """A cell as one sentence."""
    kind = "training samples" if found.trained else "real samples"
    held = f"{cell.wrong} of {cell.held} held-out samples wrong" if cell.held else "no held-out samples"
    return (
        f"{labels[cell.label]}, {value_text(cell.value)}: {cell.train or 'no'} {kind}, {held}, "
        f"{cell.accepted or 'no'} accepted synthetic"
    )


def ranking(found: Coverage, labels: Sequence[str]) -> Node:
    """The cells in need, the first ones first."""
    rows = []
    for cell in found.ranked()[:LISTED]:
        low, high = cell.interval
        error = f"{percent(cell.error)} ({percent(low)} to {percent(high)})" if cell.held else "not known"
        rows.append(
            h(
                "tr" + ("" if cell.held >= FEW else ".is-few"),
                h(
                    "td",
                    h(
                        "button.link",
                        f"{labels[cell.label]} × {value_text(cell.value)}",
                        act=("cell", named(cell, labels)),
                        type="button",
                    ),
                ),
                h("td.number", f"{cell.train:,}"),
                h("td.number", f"+{cell.accepted:,}" if cell.accepted else "–"),
                h("td.number", f"{cell.wrong} of {cell.held}" if cell.held else "–"),
                h("td.rate", error),
                h(
                    "td",
                    h(
                        "span.meter-bar",
                        h("span.meter-fill"),
                        w=f"{100 * cell.need:.0f}%",
                        title=f"{cell.need:.2f}",
                    ),
                ),
                key=f"{cell.label}-{json.dumps(cell.value)}",
            )
        )
    names = (
        "Cell",
        "In training" if found.trained else "Real",
        "Accepted",
        "Wrong",
        "Error, 95 % interval",
        "Need",
    )
    head = h("tr", *[h("th", name, scope="col") for name in names])
    more = len(found.cells) - LISTED
    return h(
        "div.coverage-box",
        h("table.needs", h("thead", head), h("tbody", *rows)),
        h("p.soft", f"{more} more cells are in less need.") if more > 0 else None,
    )


def legend(found: Coverage, *, ranked: bool = False) -> Node:
    """How to read the grid, or the ranking."""
    held = f"the held-out split “{found.split}”" if found.split else "all real samples"
    count = "training samples" if found.trained else "real samples"
    left = f" {found.left_out} rarer values are left out." if found.left_out else ""
    if ranked:
        text = f"Errors on {held}, with 95 % intervals. Need: error rate, pulled toward the average where few samples "
        return h("div.coverage-legend", h("span.soft", f"{text}speak, times the lack of {count}.{left}"))
    text = f"Large: errors on {held}, in italics below {FEW} samples. Small: {count}, + accepted synthetic. "
    return h(
        "div.coverage-legend",
        h("span.need-scale", h("span", "little need"), h("span.need-bar"), h("span", "great need")),
        h("span.soft", f"{text}Dashed: none seen in training.{left}"),
    )


def hint(found: Coverage, labels: Sequence[str], filling: Node | None = None) -> Node:
    """What stands beside the grid before a cell is chosen; ``filling`` offers to fill up all thin cells at once."""
    first = [cell for cell in found.ranked() if cell.need > 0][:5]
    return view(
        h("h3", "Where images would help most"),
        h(
            "p.soft",
            "Need grows with the error rate (pulled toward the average where few samples speak) and with the lack of "
            "training samples. Choose a cell to see its samples, or to imagine more of them.",
        ),
        h(
            "div.first-needs",
            *[
                h(
                    "button.pair",
                    h("span", h("b", labels[cell.label]), f" · {value_text(cell.value)}"),
                    h("span.pair-count", f"{cell.wrong} of {cell.held} wrong" if cell.held else "not seen"),
                    act=("cell", named(cell, labels)),
                    type="button",
                )
                for cell in first
            ],
        ),
        filling,
        classes="panel",
    )


def filling(missing: int, goal: int, number: int, price: str) -> Node:
    """The offer to fill up what is thin, shared out over the cells.

    Args:
        missing: Images until every cell has ``goal``.
        goal: Images that each should have.
        number: Images that are made at a time.
        price: How long they take, in words; "" where that is not known yet.
    """
    some = "all of them" if number == missing else "shared out by need"
    return h(
        "div.filling",
        h("h3", "Fill up the thin cells"),
        h(
            "p.soft",
            f"{missing:,} images are missing until every cell has {goal:,}, as many as the median cell; accepted ones "
            "count. What is made waits under Curate for your verdict.",
        ),
        h(
            "div.actions",
            h(
                "button.primary",
                f"Imagine {number}, {some}",
                act=("fill", {"preset": FILLING[0]}),
                type="button",
            ),
            h(
                "button",
                "The same, feedback-guided",
                act=("fill", {"preset": FILLING[1]}),
                type="button",
                title="One criterion of the classifier, and each image resembles a real one of its cell",
            ),
        ),
        h("p.soft", price) if price else None,
    )


def panel(
    found: Coverage,
    cell: Cell,
    labels: Sequence[str],
    shown: Sequence[tuple[str, str]],
    prompt: str,
    *,
    by_words: bool = True,
) -> Node:
    """One cell: its figures, some of its samples, what to do.

    Args:
        found: The grid.
        cell: The cell.
        labels: Class names.
        shown: Samples to show: (id, words).
        prompt: How it would be asked for; "" without a generator.
        by_words: Whether a prompt can say what the cell is; else images start from its samples.
    """
    low, high = cell.interval
    error = f"{cell.wrong} of {cell.held}: {percent(cell.error)} ({percent(low)} to {percent(high)})"
    number = cell.wanted or 8
    there = named(cell, labels)
    return view(
        h("button.link.back", "← Overview", act=("overview", {}), type="button"),
        h("h3", f"{labels[cell.label]} × {value_text(cell.value)}"),
        facts(
            [
                ("In training" if found.trained else "Real", f"{cell.train:,}" if cell.train else "none"),
                ("Errors", error if cell.held else "no held-out sample: not known"),
                ("Accepted", f"{cell.accepted:,} synthetic" if cell.accepted else "no synthetic image yet"),
                ("Undecided", f"{cell.waiting:,} synthetic, to be curated" if cell.waiting else None),
                ("Goal", f"{found.goal:,}, the median cell" if found.goal else None),
            ]
        ),
        h(
            "div.cell-samples",
            *[
                h(
                    "button.cell-sample",
                    h("img.thumb", src=f"thumb:{one}", alt=text),
                    act=("open", {"id": one}),
                    type="button",
                    title=text,
                    key=one,
                )
                for one, text in shown
            ],
        )
        if shown
        else h("p.soft", "There is no real sample of this cell."),
        h(
            "div.actions",
            h("button.primary", f"Imagine {number} for this cell", act=("imagine", there), type="button")
            if prompt and by_words
            else None,
            h(
                "button" + ("" if by_words else ".primary"),
                "Start from its samples",
                act=("from", there),
                type="button",
            )
            if prompt and cell.real
            else None,
            h("button", f"See its {cell.real:,} real samples", act=("samples", there), type="button")
            if cell.real
            else None,
            h("button", f"See its {cell.wrong:,} errors", act=("errors", there), type="button")
            if cell.wrong
            else None,
        ),
        h("p.soft", _asked(prompt, by_words, cell)),
        classes="panel",
    )


def _asked(prompt: str, by_words: bool, cell: Cell) -> str:
    if not prompt:
        return "Add a generator under Setup to imagine more."
    if by_words:
        return f"Asked for as “{prompt}”."
    if cell.real:
        return "No prompt can say what this slice is, so new images are re-drawn from its samples."
    return "No prompt can say what this slice is, and it holds no sample of this class to start from."
