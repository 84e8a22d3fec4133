"""The filters of Browse: every value with the number of samples that it would leave."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from app.context import AppContext
from app.controls import origin_choices, words
from app.query import NONE, OR, Query
from app.render import QUIET_META, Node, h, name_of, view

if TYPE_CHECKING:
    from ltg_core.data.records import Filter
    from ltg_core.workflows import Tally

FEW = 10
MOST = 200
_TITLES = {
    "answer": "Prediction is",
    "label": "Class",
    "prediction": "Predicted as",
    "split": "Split",
    "origin": "Origin",
    "verdict": "Verdict",
    "belief": "Belief",
    "tag": "Tag",
    "text": "Words",
    "slice": "Slice",
}
_OPEN = ("answer", "label", "split")
Choice = tuple[str, str, int]
"""Words, value in the query, number of samples."""


def counted(ctx: AppContext, chosen: Filter) -> Tally:
    """The groups of a filter; a click on a plain value needs no new pass of the database."""
    from ltg_core import workflows
    from ltg_core.workflows.breakdown import FACETS

    base = dataclasses.replace(chosen, **dict.fromkeys(FACETS))
    key = ("tally", repr(base), workflows.stamp(ctx.workspace))
    found: Tally = ctx.cached(key, lambda: workflows.tally(ctx.workspace, base))
    return found.narrowed(chosen)


def rail(ctx: AppContext, query: Query, chosen: Filter, counts: Tally, opened: Collection[str]) -> Node:
    """All groups of filters.

    Args:
        ctx: The process.
        query: What is shown.
        chosen: The same as a filter.
        counts: Of the same.
        opened: Names of metadata columns that are unfolded, and of groups that show all their values.
    """
    from ltg_core import workflows

    groups = [
        _group(field, _TITLES[field], found, getattr(query, field), opened)
        for field, found in _choices(ctx, counts).items()
    ]
    tags = [(tag, tag, n) for tag, n in workflows.tag_counts(ctx.workspace, chosen)]
    groups.append(_group("tag", _TITLES["tag"], tags, query.tag, opened))
    columns = [name for name in ctx.workspace.meta_columns() if name not in QUIET_META]
    shown = [_column(ctx, query, chosen, name, opened) for name in columns[:60]]
    return view(*groups, h("h4", "Metadata") if shown else None, *shown, classes="facets")


def _choices(ctx: AppContext, counts: Tally) -> dict[str, list[Choice]]:
    labels = ctx.workspace.label_names()
    runs = {value: text for text, value in origin_choices(ctx)}
    said = {True: ("Right", "right"), False: ("Wrong", "wrong")}
    belief = {True: "believed", False: "quarantined"}
    found: dict[str, list[Choice]] = {
        "answer": [(*said[value], n) for value, n in counts.facet("correct")],
        "label": [(name_of(i, labels), name_of(i, labels), n) for i, n in counts.facet("label")],
        "split": [(words(s) if s else "No split", s or NONE, n) for s, n in counts.facet("split")],
        "prediction": [(name_of(i, labels), name_of(i, labels), n) for i, n in counts.facet("prediction")],
        "origin": [(runs.get(o, o), o, n) for o, n in counts.facet("origin")],
        "verdict": [(words(v), v, n) for v, n in counts.facet("verdict")],
        "belief": [(words(belief[b]), belief[b], n) for b, n in counts.facet("believed")],
    }
    return found


def _group(
    field: str, title: str, choices: Sequence[Choice], value: str, opened: Collection[str]
) -> Node | None:
    """One group; None where there is nothing to choose."""
    for one in _chosen(field, value):
        if field != "origin" and one not in [choice[1] for choice in choices]:
            choices = [*choices, (one, one, 0)]
    if not choices or (field == "belief" and not value and len(choices) < 1):
        return None
    unfolded = {"open": "true"} if field in _OPEN or (value and field != "origin") else {}
    return h(
        "details.facet",
        h("summary", title),
        h("div.facet-rows", *_rows(field, choices, value, opened)),
        key=field,
        **unfolded,
    )


def _chosen(field: str, value: str) -> list[str]:
    """Values that are set."""
    return value.split(OR) if field == "split" and value else [value] if value else []


def _rows(field: str, choices: Sequence[Choice], value: str, opened: Collection[str]) -> list[Node]:
    limit, chosen = MOST if field in opened else FEW, _chosen(field, value)
    kept = [choice for place, choice in enumerate(choices) if place < limit or choice[1] in chosen]
    most = max((n for _, _, n in choices), default=0) or 1
    rows = [_row(field, choice, choice[1] in chosen, most) for choice in kept]
    if field in opened and len(choices) > FEW:
        rows.append(h("button.link", "Show fewer", act=("unfold", {"group": field}), type="button"))
    elif len(choices) > len(kept):
        more = (
            f"Show {'all' if len(choices) <= MOST else MOST} {len(choices) if len(choices) <= MOST else ''}"
        )
        rows.append(h("button.link", more.strip(), act=("unfold", {"group": field}), type="button"))
    return rows


def _row(field: str, choice: Choice, on: bool, most: int) -> Node:
    text, value, n = choice
    return h(
        "button.facet-row" + (".is-on" if on else "") + ("" if n else ".is-empty"),
        h("span.facet-fill"),
        h("span.facet-value", text),
        h("span.facet-count", "✕" if on else f"{n:,}"),
        act=("filter", {"field": field, "value": value}),
        w=f"{100 * n / most:.1f}%",
        type="button",
        title=f"{text}: {n:,} samples",
        aria_pressed=str(on).lower(),
        key=value,
    )


def _column(ctx: AppContext, query: Query, chosen: Filter, name: str, opened: Collection[str]) -> Node:
    """A metadata column: its values are counted only while it is unfolded."""
    from ltg_core import workflows

    field, value = f"meta.{name}", query.meta.get(name, "")
    rows: list[Node] = []
    if field in opened or value:
        key = ("column", name, repr(chosen), workflows.stamp(ctx.workspace))
        found, different = ctx.cached(key, lambda: workflows.column_counts(ctx.workspace, chosen, name))
        choices = [(_shown(v), _as_text(v), n) for v, n in found]
        if value and value not in [choice[1] for choice in choices]:
            choices.append((value_words(value), value, 0))
        most = max((n for _, _, n in choices), default=0) or 1
        rows = [_row(field, choice, choice[1] == value, most) for choice in choices]
        if different > len(found):
            rows.append(h("p.soft", f"and {different - len(found):,} other values; search for them above"))
        if not rows:
            rows.append(h("p.soft", "No sample that passes has a value here."))
    unfolded = {"open": "true"} if rows else {}
    return h(
        "details.facet",
        h("summary", words(name), act=("unfold", {"group": field})),
        h("div.facet-rows", *rows),
        key=field,
        **unfolded,
    )


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else value_words(_as_text(value))


def value_words(value: str) -> str:
    """A metadata value for people: ranges as they are spoken."""
    from ltg_core.data.records import Range

    found = Range.read(value)
    if found is None:
        return value
    if math.isinf(found.low):
        return f"below {found.high:.4g}"
    return f"{found.low:.4g} and above" if math.isinf(found.high) else f"{found.low:.4g} to {found.high:.4g}"


def chips(query: Query, slice_name: str = "") -> list[Node]:
    """What narrows the view down, each with a way to take it away.

    Args:
        query: What is shown.
        slice_name: Of ``query.slice``.
    """
    made = []
    for field, value in query.conditions():
        if (field, value) == ("origin", "real"):
            continue
        title = _TITLES.get(field) or words(field.removeprefix("meta."))
        shown = slice_name if field == "slice" else value_words(value) if field.startswith("meta.") else value
        made.append(
            h(
                "button.condition",
                h("span", f"{title}: "),
                h("b", shown),
                h("span.soft", " ✕"),
                act=("filter", {"field": field, "value": value}),
                title="Take this filter away",
                type="button",
            )
        )
    if made:
        made.append(h("button.link", "Clear all", act=("clear", {}), type="button"))
        made.append(
            h(
                "button.link",
                "Save as slice",
                act=("ask", {"what": "filter"}),
                type="button",
                title="Keep these filters under a name",
            )
        )
    return made
