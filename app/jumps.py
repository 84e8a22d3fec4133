"""From one sample or several to another tab: explain them, imagine from them, show them on the map."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import gradio as gr

from app import imagining, pins
from app.cells import value_text
from app.context import AppContext
from app.controls import words
from app.details import sample_panel
from app.picked import Picked
from app.query import SAMPLES, Query
from app.session import CARRIED, EVERY, Session, clicked, polite, text_ids
from app.tabs import browse, explain, imagine
from app.tabs import map as map_tab
from ltg_core.errors import InputError

_MORE = 16  # images of a finding
_SENT = 200  # samples at most that go to Explain, which asks for them page by page


def wire(ctx: AppContext, session: Session, widgets: dict[str, SimpleNamespace]) -> None:
    """Connect the actions below a sample, wherever it is shown."""
    to_explain, to_imagine, to_map = widgets[explain.ID], widgets[imagine.ID], widgets[map_tab.ID]

    @polite
    def jump(methods: list[str], selection: list[str], picked: Picked, event: gr.EventData) -> Any:
        data = clicked(event)
        name, sample_id = data.get("name"), str(data.get("id", ""))
        ids = [sample_id] if sample_id else text_ids(selection)
        if name not in ("explain", "imagine", "map") or not ids:
            return gr.skip()
        if name == "explain":
            return explain.open_on(ctx, session, ids[:_SENT], methods)
        if name == "imagine":
            return imagine.aim(ctx, to_imagine, session, preset=imagining.COUNTERFACTUAL, **_aim_of(ctx, ids))
        if len(ids) == 1:
            found = map_tab.focus(ctx, to_map, session, ids[0])
        else:
            found = map_tab.select(ctx, to_map, (picked or Picked()).with_ids(ids))
            found |= {to_map.plot: gr.update(chosen=ids, highlight=[])}
        return {session.tabs: gr.Tabs(selected=map_tab.ID)} | found

    outputs = [
        session.explained,
        *imagine.aim_outputs(to_imagine, session),
        *to_map.focus_outputs,
    ]
    _wire_pins(ctx, widgets)
    _wire_findings(ctx, session, widgets)
    from_browse = widgets[browse.ID]
    for part in (from_browse.panel, from_browse.bar, to_map.panel):
        part.act(jump, [to_explain.methods, from_browse.selection, to_map.picked], outputs, **CARRIED)

    @polite
    def like(query: Query, event: gr.EventData) -> Any:
        data = clicked(event)
        if data.get("name") != "like":
            return gr.skip()
        wanted = dataclasses.replace(query or Query(), shown=SAMPLES, like=str(data.get("id", "")), page=1)
        return browse.told(wanted, "") | {"go": True}

    to_map.panel.act(like, from_browse.query, session.address, **CARRIED)


def _wire_findings(ctx: AppContext, session: Session, widgets: dict[str, SimpleNamespace]) -> None:
    """From a finding that has words to images of it."""

    @polite
    def more(event: gr.EventData) -> Any:
        from ltg_core import workflows

        data, ws = clicked(event), ctx.workspace
        if data.get("name") != "slice-imagine":
            return gr.skip()
        found = workflows.slice_of(ws, str(data.get("id", ""))[:64])
        cell = workflows.cell_to_check(ws, found.id)
        return imagine.aim(
            ctx,
            widgets[imagine.ID],
            session,
            about=f"finding: {found.name}",
            label=cell["class"],
            prompt=workflows.prompt_of(ws, ctx.need_classifier(), cell),
            number=_MORE,
            meta={cell["column"]: cell["value"]} if cell["column"] else {},
        )

    outputs = imagine.aim_outputs(widgets[imagine.ID], session)
    widgets[browse.ID].summary.act(more, None, outputs, **CARRIED)


def _wire_pins(ctx: AppContext, widgets: dict[str, SimpleNamespace]) -> None:
    """The pin below a sample, and the one beside a generated image."""

    def changed(event: gr.EventData, *, back: bool) -> Any:
        data = clicked(event)
        return sample_panel(ctx, str(data["id"]), back=back) if pins.change(ctx, data) else gr.skip()

    @polite
    def in_browse(event: gr.EventData) -> Any:
        return changed(event, back=True)

    @polite
    def on_map(event: gr.EventData) -> Any:
        return changed(event, back=False)

    @polite
    def beside(event: gr.EventData) -> None:
        done = pins.change(ctx, clicked(event))
        if done:
            gr.Info(f"{done[:1].upper()}{done[1:]}; see Tell.", duration=4)

    widgets["browse"].panel.act(in_browse, None, widgets["browse"].panel, **EVERY)
    widgets["map"].panel.act(on_map, None, widgets["map"].panel, **EVERY)
    widgets["imagine"].results.act(beside, None, None, **EVERY)


def _aim_of(ctx: AppContext, ids: list[str]) -> dict[str, Any]:
    """What ``imagine.aim`` makes of a selection: its real samples, and the class and condition that they share.

    Raises:
        InputError: None of them is real.
    """
    from ltg_core import workflows

    samples = [sample for sample in ctx.workspace.there(ids) if sample.real]
    if not samples:
        raise InputError("images are imagined from real samples; none of these is real")
    real, names = [sample.id for sample in samples], {sample.label_name for sample in samples}
    found: dict[str, Any] = {"sources": real, "number": max(4, len(real))}
    label = names.pop() if len(names) == 1 else None
    if label not in ctx.workspace.label_names():
        return found
    found["label"] = label
    shared = workflows.shared_condition(ctx.workspace, real)
    if shared is not None:
        column, value = shared
        found |= {"meta": {column: value}, "about": f"{words(column).lower()}: {value_text(value)}"}
        if ctx.generator_name() is not None:
            found["prompt"] = imagining.prompt_of(ctx, str(label), found["meta"])
    return found
