"""Setup: bring a classifier, data and a generator of your own, step by step, and see them confirmed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gradio as gr

from app.components import View
from app.context import AppContext
from app.render import Node, h, view
from app.session import CARRIED, QUICK, Session, clicked, polite
from app.steps import check, classifier, data, generator, head, mapping
from app.steps.states import (
    CHECK,
    CLASSIFIER,
    DATA,
    GENERATOR,
    HEAD,
    STEPS,
    TITLES,
    Place,
    first_open,
    states,
    stepper,
)
from ltg_core.jobs import Job

TITLE = "Setup"
ID = "setup"


def build(ctx: AppContext) -> SimpleNamespace:
    """The stepper, the job in progress, and one step at a time; the others keep what was entered."""
    w = SimpleNamespace(place=gr.State(Place()))
    w.steps = View(elem_id="setup-steps")
    w.progress = View(elem_id="setup-progress")
    with gr.Tabs(elem_id="setup-body", selected=CLASSIFIER) as w.body:
        with gr.Tab(TITLES[CLASSIFIER], id=CLASSIFIER):
            classifier.build(ctx, w)
        with gr.Tab(TITLES[DATA], id=DATA):
            data.build(ctx, w)
        with gr.Tab(TITLES[CHECK], id=CHECK):
            check.build(ctx, w)
        with gr.Tab(TITLES[HEAD], id=HEAD):
            head.build_head(w)
        with gr.Tab(TITLES[GENERATOR], id=GENERATOR):
            generator.build(ctx, w)
    w.buttons = [w.use, w.revise, w.load, w.use_generator, w.fit]
    w.shown = [
        *(w.classifier_now, w.data_now, w.check, w.check_modes, w.check_grid, w.mapping, w.head_now),
        w.generator_now,
    ]
    return w


def wire(ctx: AppContext, session: Session, widgets: dict[str, SimpleNamespace]) -> None:
    """Connect the events."""
    w = widgets[ID]
    outputs = [w.progress, *w.buttons]
    moved = [w.steps, w.body]

    def started(job: Job) -> dict[Any, Any]:
        """The job's bar; no other can be started meanwhile."""
        return {w.progress: view(ctx.bar(job)), **{b: gr.Button(interactive=False) for b in w.buttons}}

    def go(place: Place, step: str) -> Any:
        if step not in STEPS:
            return gr.skip()
        place.step = step
        found = {w.steps: stepper(states(ctx), step), w.body: gr.Tabs(selected=step)}
        return found | ({w.check: check.figures(ctx)} if step == CHECK else {})

    @polite
    def follow() -> Any:
        job = ctx.latest("setup")
        if job is None:
            return gr.skip()
        bar = ctx.bar(job) if job.state != "done" else outcome(job, ctx.title(job))
        return {w.progress: view(bar), **{button: gr.Button(interactive=job.ended) for button in w.buttons}}

    @polite
    def refresh(place: Place, mode: str) -> dict[Any, Any]:
        found, shown, opening = states(ctx), state_of(ctx, w, mode), ctx.latest("open")
        step = place.step  # only now: somebody may have gone on while all that was looked up
        first: dict[Any, Any] = {} if step else {w.body: gr.Tabs(selected=first_open(found))}
        if not step and (opening is None or opening.ended):
            place.step = first_open(found)  # from here on only the visitor changes the step
        first |= generator.filled(ctx, w, place)
        return {w.steps: stepper(found, step or first_open(found))} | first | shown

    @polite
    def act(place: Place, event: gr.EventData) -> Any:
        clicked_ = clicked(event)
        if clicked_.get("name") == "cancel":
            ctx.jobs.cancel(str(clicked_.get("job")))
            return gr.skip()
        return go(place, str(clicked_.get("to"))) if clicked_.get("name") == "step" else gr.skip()

    for part in (w.steps, w.progress, w.classifier_now, w.data_now, w.head_now):
        part.act(act, w.place, [*moved, w.check], **CARRIED)
    classifier.wire(ctx, w, started, outputs)
    data.wire(ctx, w, started, outputs)
    check.wire(ctx, w, started, [*outputs, *moved, w.check], go)
    head.wire(ctx, w, started, outputs)
    generator.wire(ctx, w, started, outputs)
    session.beats["setup"].change(follow, None, outputs, **QUICK)
    w.refresh, w.refresh_inputs = refresh, [w.place, w.mode]
    w.refresh_outputs = [w.steps, w.body, *w.shown, *generator.speed_parts(w)]


def outcome(job: Job, title: str) -> Node:
    """What a finished job says."""
    text = job.result() if callable(job.result) else job.result
    return h(
        "div.job.job-done",
        h("div.job-line", h("b", title), h("span.job-text", text if isinstance(text, str) else "done")),
    )


def state_of(ctx: AppContext, w: SimpleNamespace, mode: str) -> dict[Any, Any]:
    """What is loaded now."""
    return {
        w.classifier_now: classifier.shown(ctx),
        w.data_now: data.shown(ctx),
        w.check: check.figures(ctx),
        w.check_modes: check.modes(ctx, mode),
        w.check_grid: check.grid(ctx, mode),
        w.mapping: mapping.table(ctx),
        w.head_now: head.head_shown(ctx),
        w.generator_now: generator.shown(ctx),
    }
