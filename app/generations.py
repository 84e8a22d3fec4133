"""Generations on the page: the one that is under way, and the list of those that are done."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gradio as gr

from app.context import AppContext
from app.controls import run_time
from app.imagining import under_way
from app.render import Node, data_url, h, view
from app.triplets import results
from ltg_core.guidance.settings import STAGES, Guidance
from ltg_core.jobs import Job


def following(ctx: AppContext, job: Job, w: SimpleNamespace) -> dict[Any, Any]:
    """The job's progress and previews, those that wait behind it, and which buttons make sense."""
    running = job.state == "running"
    previews = job.progress.preview if running else None
    shown = None
    if previews is not None:
        shown = h(
            "div.previews", *[h("img", src=data_url(image), alt="preview") for image in list(previews)[:8]]
        )
    # A stopped run says below what it keeps and makes the rest from there; one way is enough.
    again = "" if ctx.offer(job) == "Resume" else None
    node = ctx.bar(job, cancel=False, again=again) if job.state != "done" else None
    return {
        w.progress: view(node, _stages(ctx, job) if running else None, shown, _waiting(ctx, job)),
        w.start: gr.Button("Imagine" if job.ended else "Add to the queue"),
        w.cancel: gr.Button("Cancel", interactive=not job.ended and not job.token.cancelled),
    }


def _waiting(ctx: AppContext, job: Job) -> Node | None:
    """The generations behind the one that is followed, each with its way out of the queue."""
    behind = [one for one in under_way(ctx) if one.id != job.id]
    if not behind:
        return None
    rows = [
        h(
            "li",
            h("span", f"{place}. {one.title}"),
            h(
                "button.link",
                "Take out",
                act=("cancel", {"job": one.id}),
                type="button",
                aria_label=f"Take “{one.title}” out of the queue",
            ),
            key=one.id,
        )
        for place, one in enumerate(behind, 1)
    ]
    return h("div.waiting", h("b", "Next in the queue"), h("ol", *rows))


def last_ended(ctx: AppContext) -> Job | None:
    """The visitor's generation that ended last and left something to show."""
    ended = [job for job in ctx.jobs.all() if job.kind == "generate" and job.ended and job.run]
    return max(ended, key=lambda job: job.finished or job.created, default=None)


def _stages(ctx: AppContext, job: Job) -> Node:
    """Where in a unit the work is: the parts that this order has, the current one marked."""
    order = ctx.about(job).get("order") or {}
    guidance = Guidance.from_dict(dict(order.get("guidance") or {}))
    drafts = guidance.searches and guidance.search == "lookahead"
    there = {
        "control": guidance.searches or guidance.climbs or bool(order.get("weights")),
        "draft": drafts,
        "second": drafts and guidance.survivors > 1,
    }
    marks = []
    for stage, words in STAGES.items():
        if there.get(stage, True):
            now = job.progress.message.startswith(words)
            mark = {"aria_current": "step"} if now else {}
            marks.append(h("span.stage" + (".is-now" if now else ""), words, **mark))
    return h("div.stages", *marks)


def run_choices(ctx: AppContext) -> list[tuple[str, str]]:
    """Earlier generations: (words, id), the newest first."""
    found = []
    for run in ctx.workspace.runs("generate")[:40]:
        if run.state == "running":  # its job shows it, to whom it belongs
            continue
        given = run.settings
        names = list(dict.fromkeys(given.get("label_names") or []))
        what = names[0] if len(names) == 1 else f"{len(names)} classes" if names else "class unknown"
        state = "" if run.state == "done" else f" · {run.state}"
        preset = str(given.get("preset") or "custom")
        number = len(given.get("seeds") or []) or "?"
        found.append((f"{run_time(run.started)} · {what} · {preset} · {number}{state}", run.id))
    return found


def show_run(ctx: AppContext, w: SimpleNamespace, run: str) -> dict[Any, Any]:
    """A finished generation and its place in the list."""
    shown = gr.Dropdown(run_choices(ctx), value=run, visible=True)
    return {w.results: results(ctx, run), w.runs: shown, w.large: ""}
