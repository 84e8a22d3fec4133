"""Start: what this is, how things stand, the first surprising finding, and what to do next."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import gradio as gr

from app.components import View
from app.context import AppContext
from app.query import Query, address
from app.session import CARRIED, IN_ORDER, Session, clicked, polite
from app.welcome import glance, start_view, waiting

TITLE = "Start"
ID = "start"


def build(ctx: AppContext) -> SimpleNamespace:
    """One view; it is drawn from what the workspace holds."""
    w = SimpleNamespace(been=gr.BrowserState([], storage_key="longtail-been", secret="longtail"))
    w.view = View(waiting(None), elem_id="start-view")
    return w


def wire(ctx: AppContext, session: Session, widgets: dict[str, SimpleNamespace]) -> None:
    """The button, the cards, and redrawing."""
    w = widgets[ID]

    @polite
    def refresh(been: Any) -> dict[Any, Any]:
        return {w.view: start_view(ctx, been if isinstance(been, list) else [])}

    @polite
    def act(event: gr.EventData) -> Any:
        data = clicked(event)
        if data.get("name") == "finding":
            return {session.address: link(ctx)}
        tab = str(data.get("tab", ""))
        return (
            {session.tabs: gr.Tabs(selected=tab)}
            if data.get("name") == "go" and tab in widgets
            else gr.skip()
        )

    @polite
    def came(been: Any) -> Any:
        known = been if isinstance(been, list) else []
        return gr.skip() if "browse" in known else {w.been: ["browse"], w.view: start_view(ctx, ["browse"])}

    w.view.act(act, None, [session.address, session.tabs], **CARRIED)
    widgets["browse"].tab.select(came, w.been, [w.been, w.view], **IN_ORDER)
    session.beats["open"].change(refresh, w.been, [w.view], **IN_ORDER)
    w.refresh, w.refresh_inputs, w.refresh_outputs = refresh, [w.been], [w.view]


def link(ctx: AppContext) -> dict[str, Any]:
    """The value of the address that opens the finding's samples in Browse."""
    from ltg_core.errors import InputError

    state = glance(ctx)
    if state is None or state.finding is None:
        raise InputError(
            "there is no finding yet; it needs labelled real samples that are held out, and their scores"
        )
    found = state.finding
    meta = {found.column: found.value} if found.column else {}
    query = Query(label=found.label, answer="wrong", split=found.split, rank="confidence", meta=meta)
    return {"set": {**address(query, ""), "tab": "browse"}, "go": True, "at": time.time()}
