"""From a sample to another tab: explain it, imagine from it, find it on the map."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gradio as gr

from app.context import AppContext
from app.controls import ANY
from app.session import Session, clicked, polite
from app.tabs import explain, imagine
from app.tabs import map as map_tab


def wire(ctx: AppContext, session: Session, widgets: dict[str, SimpleNamespace]) -> None:
    """Connect the actions below a sample, wherever it is shown."""
    to_explain, to_imagine, to_map = widgets[explain.ID], widgets[imagine.ID], widgets[map_tab.ID]

    @polite
    def jump(methods: list[str], event: gr.EventData) -> Any:
        data = clicked(event)
        name, sample_id = data.get("name"), str(data.get("id", ""))
        if name == "explain":
            explain.submit(ctx, [sample_id], methods or list(explain.METHODS[:2]), "prediction", False)
            return {
                session.tabs: gr.Tabs(selected=explain.ID),
                session.explained: [sample_id],
                to_explain.target: "prediction",
            }
        if name == "imagine":
            label = ctx.workspace.sample(sample_id).label_name
            known = label in ctx.workspace.label_names()
            return {
                session.tabs: gr.Tabs(selected=imagine.ID),
                session.sources: [sample_id],
                to_imagine.preset: "counterfactual",
                to_imagine.label: label if known else ANY,
                to_imagine.prompt: "",
            }
        if name == "map":
            return {session.tabs: gr.Tabs(selected=map_tab.ID)} | map_tab.focus(
                ctx, to_map, session, sample_id
            )
        return gr.skip()

    outputs = [
        session.tabs,
        session.explained,
        session.sources,
        to_explain.target,
        to_imagine.preset,
        to_imagine.label,
        to_imagine.prompt,
        *to_map.focus_outputs,
    ]
    for panel in (widgets["browse"].panel, to_map.panel):
        panel.act(jump, to_explain.methods, outputs, show_progress="hidden", concurrency_limit=None)
