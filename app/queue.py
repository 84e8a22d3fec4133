"""The buttons of the queue, wherever a job is shown: cancel, resume, start again, see the result."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gradio as gr

from app.components import View
from app.context import AppContext
from app.joblist import tab_of
from app.session import BESIDE, CARRIED, Session, clicked, polite
from app.tabs import imagine
from ltg_core.jobs import Job


def wire(ctx: AppContext, session: Session, widgets: dict[str, SimpleNamespace], top: View) -> None:
    """Connect the header's buttons, and below the bars of the tabs what is the same for all of them."""
    w = widgets[imagine.ID]

    @polite
    def act(event: gr.EventData) -> Any:
        data = clicked(event)
        name, wanted = data.get("name"), str(data.get("tab"))
        if name == "cancel":
            ctx.jobs.cancel(str(data.get("job")))
        elif name == "again":
            ctx.again(str(data.get("job")))
        elif name == "result":
            return show(ctx.jobs.get(str(data.get("job"))))
        elif name == "go" and wanted in widgets:
            return {session.tabs: gr.Tabs(selected=wanted)}
        return gr.skip()

    @polite
    def again(event: gr.EventData) -> Any:
        if clicked(event).get("name") == "again":
            ctx.again(str(clicked(event).get("job")))

    def show(job: Job) -> dict[Any, Any]:
        wanted = {session.tabs: gr.Tabs(selected=tab_of(job))} if tab_of(job) in widgets else {}
        if job.kind != "generate" or not job.ended or not job.run:
            return wanted
        return wanted | imagine.show_run(ctx, w, job.run) | {session.run: job.run}

    top.act(act, None, [session.tabs, session.run, w.results, w.runs, w.large], **CARRIED)
    for part in (tab.progress for tab in widgets.values() if hasattr(tab, "progress")):
        part.act(again, None, None, **BESIDE)
