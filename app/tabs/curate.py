"""Curate and export: decide with the keyboard, review blindly, keep versions, go back, take the set away."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gradio as gr

from app.context import AppContext
from app.curation import decide, export, kept, past, second
from app.curation.choice import Choice
from app.places import Arrival
from app.session import CARRIED, EVERY, LATEST, QUICK, Session, clicked, polite
from ltg_core.errors import InputError

TITLE = "Curate & Export"
ID = "curate"
_PARTS = (
    ("decide", "Decide", decide),
    ("review", "Blind review", second),
    ("sets", "Sets", kept),
    ("history", "History", past),
    ("export", "Export", export),
)


def build(ctx: AppContext) -> SimpleNamespace:
    """Five parts, each a tab of its own."""
    w = SimpleNamespace(parts={}, shells={})
    with gr.Tabs(elem_id="curate-parts", selected="decide") as w.tabs:
        for name, title, part in _PARTS:
            with gr.Tab(title, id=name, elem_id=f"curate-{name}") as w.shells[name]:
                w.parts[name] = part.build(ctx)
    return w


def wire(ctx: AppContext, session: Session, widgets: dict[str, SimpleNamespace]) -> None:
    """Connect the events."""
    w = widgets[ID]
    parts = SimpleNamespace(**w.parts)
    decide.wire(ctx, session, parts.decide)

    def arrive(values: dict[Any, Any], arrival: Arrival) -> dict[Any, Any]:
        return decide.arriving(ctx, parts.decide, arrival.of(ID))

    w.arrive, w.arrive_inputs, w.arrive_outputs = arrive, set(), parts.decide.outputs

    def after(chain: Any) -> None:
        """What changes the samples from another part redraws Decide."""
        chain.then(parts.decide.refresh, parts.decide.inputs, _shown(parts), **LATEST)

    second.wire(ctx, parts.review, parts.decide, after)
    kept.wire(ctx, parts.sets, parts.decide, after)
    past.wire(ctx, parts.history, after)
    export.wire(ctx, session, parts.export, parts.decide)
    w.refresh, w.refresh_inputs, w.refresh_outputs = parts.decide.refresh, parts.decide.inputs, _shown(parts)
    w.always = True
    w.shells["decide"].select(parts.decide.refresh, parts.decide.inputs, _shown(parts), **QUICK)
    w.shells["review"].select(parts.review.refresh, parts.review.review, parts.review.list, **QUICK)
    w.shells["sets"].select(parts.sets.refresh, parts.sets.refresh_inputs, parts.sets.outputs, **QUICK)
    w.shells["history"].select(parts.history.refresh, None, parts.history.list, **QUICK)
    w.shells["export"].select(
        parts.export.refresh, parts.export.what, [parts.export.what, parts.export.state], **QUICK
    )
    _between(ctx, w, parts)


def _shown(parts: SimpleNamespace) -> list[Any]:
    return [parts.decide.offset, parts.decide.rail, parts.decide.grid]


def _between(ctx: AppContext, w: SimpleNamespace, parts: SimpleNamespace) -> None:
    """From a review to its disagreements, from a set to its export."""

    @polite
    def resolve(event: gr.EventData) -> Any:
        from ltg_core.curation import review

        data = clicked(event)
        if data.get("name") != "resolve":
            return gr.skip()
        one = review.get(ctx.workspace, str(data.get("id", "")))
        found = [sample for sample, *_ in review.agreement(ctx.workspace, one.id).disagreements]
        if not found:
            raise InputError("there is no disagreement to resolve")
        choice = Choice(ids=tuple(found), about=f"Disagreements with {one.reviewer}")
        return {w.tabs: gr.Tabs(selected="decide")} | decide.show(ctx, parts.decide, choice)

    @polite
    def take(event: gr.EventData) -> Any:
        data = clicked(event)
        if data.get("name") != "export":
            return gr.skip()
        wanted = export.SET + str(data.get("set", ""))
        offered = export.choices(ctx)
        if wanted not in [value for _, value in offered]:
            raise InputError("this set is not there any more")
        return {w.tabs: gr.Tabs(selected="export"), parts.export.what: gr.Dropdown(offered, value=wanted)}

    parts.review.result.act(resolve, None, [w.tabs, *parts.decide.outputs], **EVERY)
    parts.sets.list.act(take, None, [w.tabs, parts.export.what], **CARRIED)
