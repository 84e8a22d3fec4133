"""History: what was done lately, and the way back to any point of it."""

from __future__ import annotations

import html
import time
from types import SimpleNamespace
from typing import Any

import gradio as gr

from app.components import View
from app.context import AppContext
from app.curation.decide import page_of
from app.render import Node, empty, h, view
from app.session import EVERY, clicked, polite

_SHOWN = 100


def build(ctx: AppContext) -> SimpleNamespace:
    """One list."""
    return SimpleNamespace(list=View(elem_id="curate-history"))


def listed(ctx: AppContext, author: str = "") -> Node:
    """The actions, the newest first, each with the way to undo or redo up to it."""
    from ltg_core.curation import history

    actions = history(ctx.workspace, _SHOWN)
    if not actions:
        return view(empty("Nothing was decided yet", "What you accept, tag, rate or restore is listed here."))
    rows = []
    for action in actions:
        name, text = ("redo", "Redo to here") if action.undone else ("undo", "Undo to here")
        when = time.strftime("%d %b %H:%M:%S", time.localtime(action.created))
        picture = (
            h("img.thumb", src=f"thumb:{action.sample}", alt="") if action.sample else h("span.thumb.is-none")
        )
        other = "another page" if action.author and author and action.author != author else ""
        rows.append(
            h(
                "div.past" + (".is-undone" if action.undone else ""),
                picture,
                h(
                    "div.past-text",
                    h("b", action.description),
                    h("span.soft", " · ".join(filter(None, (when, other)))),
                ),
                h("span.soft", "undone") if action.undone else None,
                h(
                    "button",
                    text,
                    act=(name, {"to": action.id}),
                    type="button",
                    aria_label=f"{text}: {action.description[:200]}",
                ),
                key=str(action.id),
            )
        )
    note = (
        "Undo takes back the last action of this workspace, whoever did it; here you go back several at once."
    )
    return view(h("p.soft", note), h("div.pasts", *rows), classes="history")


def wire(ctx: AppContext, w: SimpleNamespace, after: Any) -> None:
    """Connect the events; ``after(chain)`` redraws the other parts."""

    @polite
    def refresh(request: gr.Request) -> dict[Any, Any]:
        return {w.list: listed(ctx, page_of(request))}

    @polite
    def act(event: gr.EventData, request: gr.Request) -> dict[Any, Any]:
        from ltg_core.curation import redo, undo

        data, author = clicked(event), page_of(request)
        to = data.get("to")
        if isinstance(to, int) and data.get("name") in ("undo", "redo"):
            step = undo if data["name"] == "undo" else redo
            words = step(ctx.workspace, to=to, author=author)
            gr.Info(html.escape(f"{'Undone' if step is undo else 'Done again'}: {words}"), duration=4)
        return {w.list: listed(ctx, author)}

    w.refresh = refresh
    after(w.list.act(act, None, w.list, concurrency_id="verdicts", **EVERY))
