"""Decide: filters with counts, thumbnails with their keys, undo and redo of everything."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import gradio as gr

from app.components import Curator, View
from app.context import AppContext
from app.curation.choice import Choice, rail
from app.curation.items import PAGE, figures, items, known, page, state, take
from app.places import kept
from app.session import CARRIED, EVERY, Session, clicked, polite, text_ids

_NOTHING = [
    "Nothing to decide here",
    "Make some images under Imagine, or choose another origin or filter on the left.",
]
_FILTERED = ["No sample passes these filters", "Take one of them away on the left."]


def build(ctx: AppContext) -> SimpleNamespace:
    """The rail and the grid."""
    w = SimpleNamespace(choice=gr.State(Choice()), offset=gr.State(0), acked=gr.State(0), shown=gr.State([]))
    with gr.Row(elem_classes="two decide"):
        with gr.Column(elem_classes="rail"):
            w.rail = View(elem_id="curate-filters")
        with gr.Column(elem_classes="middle"):
            w.grid = Curator({"items": [], "empty": ["Loading …"], "mode": "decide"}, elem_id="curate-grid")
    w.inputs = [w.choice, w.offset]
    w.outputs = [w.choice, w.offset, w.rail, w.grid]
    return w


def _sort(choice: Choice) -> str:
    return "id" if choice.origin == "real" or choice.ids else "created"


def show(
    ctx: AppContext,
    w: SimpleNamespace,
    choice: Choice,
    offset: int = 0,
    *,
    first: bool = False,
    focus: str = "",
) -> dict[Any, Any]:
    """One page of samples, and the rail.

    Args:
        ctx: The process.
        w: Of this part.
        choice: The filters.
        offset: Of the page.
        first: Whether the first undecided sample takes the focus.
        focus: The sample that takes it instead.
    """
    chosen = choice.as_filter(ctx.workspace.label_names())
    sort = _sort(choice)
    ids, offset, total = page(ctx, chosen, offset, sort=sort)
    value = {
        **figures(ctx, chosen),  # first: what somebody decides from here on, this page has not seen
        "mode": "decide",
        "items": items(ctx, ids),
        "empty": _NOTHING if choice == choice.cleared() else _FILTERED,
        "label": "Samples to decide on",
        "offset": offset,
        "total": total,
        "more": offset + len(ids) < total,
        "first": first,
        "focus": focus,
        "tags": ctx.workspace.tags(),
    }
    return {w.choice: choice, w.offset: offset, w.rail: rail(ctx, choice), w.grid: value}


def answer(
    ctx: AppContext, choice: Choice, data: dict[str, Any], acked: int, author: str
) -> tuple[int, dict[str, Any]]:
    """Do what a page sent, unless it was done already; what the page should know now."""
    number = data.get("number")
    number = number if isinstance(number, int) and not isinstance(number, bool) else 0
    told: list[str] = []
    focus = ""
    if number > acked:  # a parcel that is sent again, because the answer was lost, is done once
        _, told, focus = take(ctx, data.get("steps"), data.get("seen"), author)
    shown = text_ids(data.get("shown"), limit=PAGE)
    chosen = choice.as_filter(ctx.workspace.label_names())
    patch = {
        **figures(ctx, chosen),  # first, as in ``show``
        "ack": number,
        "items": state(ctx, shown),
        "notice": " ".join(dict.fromkeys(told)),
        "focus": focus,
        "tags": ctx.workspace.tags(),
    }
    return max(number, acked), patch


def page_of(request: gr.Request | None) -> str:
    """A name for this page load, to tell its decisions from those of others."""
    return str(getattr(request, "session_hash", "") or "")[:40]


def place(choice: Choice, offset: int) -> dict[str, str]:
    """What the address keeps; the sample in focus comes from the browser."""
    return {**choice.place(), "from": str(offset) if offset else ""}


def arriving(ctx: AppContext, w: SimpleNamespace, given: Mapping[str, str]) -> dict[Any, Any]:
    """The filters, the page and the sample that an address names."""
    choice, sample, start = Choice.from_place(given), given.get("sample", ""), given.get("from", "")
    offset = int(start) if start.isdecimal() and len(start) < 9 else 0
    if sample:
        order = ctx.workspace.query(choice.as_filter(ctx.workspace.label_names()), sort=_sort(choice))
        if sample not in order:
            gr.Warning("The sample that this address names is not among these.", duration=8)
        elif sample not in order[offset : offset + PAGE]:
            offset = order.index(sample) // PAGE * PAGE
    return show(ctx, w, choice, offset, focus=sample)


def wire(ctx: AppContext, session: Session, w: SimpleNamespace) -> None:
    """Connect the events; ``w.refresh`` draws everything anew."""

    def changed(found: dict[Any, Any], *, replace: bool = False) -> dict[Any, Any]:
        """Told to the address as well."""
        told = kept("curate", place(found[w.choice], found[w.offset]), replace=replace)
        return found | {session.address: told}

    @polite
    def refresh(choice: Choice, offset: int) -> dict[Any, Any]:
        found = show(ctx, w, choice or Choice(), offset or 0)
        del found[w.choice]  # a filter that was clicked meanwhile must not be taken back
        return found

    @polite
    def narrow(choice: Choice, event: gr.EventData) -> Any:
        data, choice = clicked(event), choice or Choice()
        if data.get("name") == "clear":
            return changed(show(ctx, w, choice.cleared()))
        wanted = choice.toggled(str(data.get("field", "")), str(data.get("value", "")))
        return gr.skip() if wanted == choice else changed(show(ctx, w, wanted))

    @polite
    def decide(choice: Choice, acked: int, event: gr.EventData, request: gr.Request) -> dict[Any, Any]:
        acked, patch = answer(ctx, choice or Choice(), clicked(event), acked or 0, page_of(request))
        return {w.acked: acked, w.grid: gr.update(patch=patch)}

    @polite
    def turn(choice: Choice, offset: int, event: gr.EventData) -> dict[Any, Any]:
        data, choice = clicked(event), choice or Choice()
        if data.get("to") != "next":
            return changed(show(ctx, w, choice, (offset or 0) - PAGE), replace=True)
        # What was decided may not pass the filter any more; the next page begins after what still does.
        chosen = choice.as_filter(ctx.workspace.label_names())
        left = dataclasses.replace(chosen, ids=tuple(known(ctx, text_ids(data.get("shown"), limit=PAGE))))
        found = show(ctx, w, choice, (offset or 0) + ctx.workspace.count(left), first=True)
        return changed(found, replace=True)

    @polite
    def settle(choice: Choice) -> dict[Any, Any]:
        return {w.rail: rail(ctx, choice or Choice())}

    w.refresh = refresh
    outputs = [*w.outputs, session.address]
    w.rail.act(narrow, w.choice, outputs, **CARRIED)
    w.grid.decide(decide, [w.choice, w.acked], [w.acked, w.grid], concurrency_id="verdicts", **EVERY)
    w.grid.turn(turn, w.inputs, outputs, concurrency_id="verdicts", **EVERY)
    w.grid.settle(settle, w.choice, w.rail, **CARRIED)
