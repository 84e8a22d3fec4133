"""What Imagine does with an order: start, follow and cancel it; and with what came out of it."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import gradio as gr

from app import imagining
from app.context import AppContext
from app.enlarged import enlarged
from app.generations import following, last_ended, run_choices, show_run
from app.query import Query, address
from app.render import view
from app.session import BESIDE, CARRIED, IN_ORDER, QUICK, Session, clicked, polite, text_ids
from app.triplets import results
from ltg_core.jobs import Job

# The button is at the end of a long form: what it starts is brought into sight, where it is not.
_INTO_SIGHT = """() => {
  const column = document.querySelector("#imagine-progress").closest(".middle");
  const top = column.getBoundingClientRect().top, still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (top >= 0 && top <= 0.6 * innerHeight) return;
  column.scrollIntoView({ block: "start", behavior: still ? "auto" : "smooth" });
}"""


def wire_job(ctx: AppContext, session: Session, w: SimpleNamespace) -> None:
    """Start, follow, cancel."""
    outputs = [w.progress, w.start, w.cancel, w.results, w.runs, w.large, session.run]

    @polite
    def start(values: dict[Any, Any]) -> Any:
        order = imagining.order_of(w, values, text_ids(values[session.sources]))
        return begun(ctx, imagining.submit(ctx, order), w, session)

    @polite
    def follow(told: str, large: str) -> Any:
        job, ended = ctx.followed("generate"), last_ended(ctx)
        if job is None:
            return gr.skip()
        update = following(ctx, job, w)
        if ended is None or ended.id == told:
            return update
        update[w.told] = ended.id
        if large and not job.ended:  # who looks at one image closely, with more to come, is left alone
            return update | {w.runs: gr.Dropdown(run_choices(ctx))}
        return update | show_run(ctx, w, ended.run) | {session.run: ended.run}

    @polite
    def cancel() -> Any:
        job = ctx.followed("generate")
        if job is not None and not job.ended:
            ctx.jobs.cancel(job.id)
        return {w.cancel: gr.Button("Stopping …", interactive=False)}

    @polite
    def take_out(event: gr.EventData) -> Any:
        if clicked(event).get("name") != "cancel":
            return gr.skip()
        ctx.jobs.cancel(str(clicked(event).get("job")))
        job = ctx.followed("generate")
        return following(ctx, job, w) if job is not None else gr.skip()

    inputs = {*imagining.fitting(w), session.sources}
    w.start.click(start, inputs, outputs, api_name="imagine", show_progress="hidden")
    w.start.click(None, js=_INTO_SIGHT, show_progress="hidden")
    session.beats["generate"].change(follow, [w.told, w.large], [*outputs, w.told], **IN_ORDER)
    w.cancel.click(cancel, None, w.cancel, api_name="cancel_imagine", **QUICK)
    w.progress.act(take_out, None, [w.progress, w.start, w.cancel], **BESIDE)


def begun(ctx: AppContext, job: Job, w: SimpleNamespace, session: Session) -> dict[Any, Any]:
    """The page right after a start; what is shown stays where the new job has to wait for another one of this page."""
    first = imagining.under_way(ctx)[:1] or [job]
    if first[0].id != job.id:
        gr.Info(f"{job.title}: queued; it starts by itself.", duration=5)
        return following(ctx, first[0], w)
    cleared = {session.run: "", w.large: "", w.results: view(), w.runs: gr.Dropdown(visible=False)}
    return following(ctx, job, w) | cleared


def wire_results(ctx: AppContext, session: Session, w: SimpleNamespace) -> None:
    """Which run is shown, one image closely, verdicts, a sweep of one image, the rest of a stopped run."""

    @polite
    def choose_run(run: str) -> Any:
        return show_run(ctx, w, run) | {session.run: run} if run else gr.skip()

    @polite
    def act(run: str, large: str, event: gr.EventData) -> Any:
        from ltg_core import workflows
        from ltg_core.curation import verdicts

        data = clicked(event)
        name, one = data.get("name"), str(data.get("id", ""))
        if name == "verdict":
            verdicts.set_verdict(ctx.workspace, text_ids(data.get("ids")), str(data.get("verdict")))
            return {w.results: enlarged(ctx, run, large) if large else results(ctx, run)}
        if name == "enlarge":
            return {w.results: enlarged(ctx, run, one), w.large: one}
        if name == "back":
            return {w.results: results(ctx, run, focus=large), w.large: ""}
        if name == "sweep":
            return begun(ctx, imagining.submit(ctx, workflows.sweep_order(ctx.workspace, one)), w, session)
        if name == "resume":
            return begun(ctx, imagining.resume(ctx, run), w, session)
        if name == "open":
            found = address(Query(), one)
            return {session.address: {"set": found, "replace": False, "go": True, "at": time.time()}}
        return gr.skip()

    outputs = [w.results, w.large, w.progress, w.start, w.cancel, w.runs, session.run, session.address]
    w.runs.input(choose_run, w.runs, [w.results, w.large, w.runs, session.run], **QUICK)
    w.results.act(act, [session.run, w.large], outputs, **CARRIED)
