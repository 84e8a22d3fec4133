"""How the map comes to the page: the job that lays it out, the points and their colours, what was sampled and how."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gradio as gr

from app import plots
from app.context import AppContext
from app.controls import settings_from
from app.render import h, view
from app.session import BESIDE, CARRIED, QUICK, Session, clicked, polite


def drawn(ctx: AppContext, w: SimpleNamespace, colour: str, sent: dict[str, str] | None) -> dict[Any, Any]:
    """The points where the page has others, their colours where these are others; what it has is not sent again."""
    value, paint = plots.base(ctx), plots.paint(ctx, colour)
    before, now = sent or {}, {"points": value.get("stamp", ""), "paint": plots.stamp(paint)}
    changed: dict[str, Any] = {}
    if now["points"] != before.get("points"):
        changed["value"] = value
    if now != before:
        changed["paint"] = paint
    button = gr.Button(
        "Draw again" if value["n"] else "Draw the map", variant="secondary" if value["n"] else "primary"
    )
    plot = gr.update(**changed) if changed else gr.skip()
    return {w.plot: plot, w.note: _note(ctx, value["n"]), w.draw: button, w.sent: now}


def _note(ctx: AppContext, count: int) -> dict[str, Any]:
    """What was sampled and how, and what can be added."""
    run = next((run for run in ctx.workspace.runs("map") if run.state == "done"), None)
    if run is None or not count:
        return view()
    told = str(run.result.get("drawn") or f"{count:,} samples")
    lines = [told[:1].upper() + told[1:] + ("." if not run.result.get("placed") else " were laid out;")]
    if run.result.get("placed"):
        lines.append(
            f"{run.result['placed']:,} more stand at the weighted mean of their nearest neighbours among those."
        )
    lines += [str(note)[:1].upper() + str(note)[1:] + "." for note in run.result.get("notes", [])]
    if run.result.get("skipped"):
        lines.append(f"{run.result['skipped']:,} pictures could not be read.")
    missing = max(0, ctx.workspace.count() - count - int(run.result.get("skipped", 0)))
    button = None
    if missing:
        lines.append(f"{missing:,} samples are not on it.")
        button = h("button.link", "Place them too", act=("place", {}), type="button")
    return view(h("p.soft.map-note", " ".join(lines), button))


def wire(ctx: AppContext, session: Session, w: SimpleNamespace) -> None:
    """Draw, place, follow, cancel."""

    def start(title: str, task: str, arguments: dict[str, Any]) -> Any:
        busy = ctx.latest("map")
        if busy is not None and not busy.ended:
            return gr.skip()
        job = ctx.run("map", title, task, arguments)
        return {w.progress: view(ctx.bar(job)), w.draw: gr.Button(interactive=False)}

    @polite
    def draw(values: dict[Any, Any]) -> Any:
        from ltg_core.embedding.layout import MapSettings

        settings = settings_from(MapSettings, w.settings, values).to_dict()
        arguments = {"settings": settings, "classifier": ctx.need_classifier().hash}
        return start("Drawing the map", "map", arguments)

    @polite
    def place(event: gr.EventData) -> Any:
        if clicked(event).get("name") != "place":
            return gr.skip()
        return start("Placing samples on the map", "place_on_map", {})

    @polite
    def follow() -> Any:
        job = ctx.latest("map")
        if job is None:
            return gr.skip()
        shown = ctx.bar(job) if job.state != "done" else None
        return {w.progress: view(shown), w.draw: gr.Button(interactive=job.ended)}

    @polite
    def cancel(event: gr.EventData) -> Any:
        ctx.jobs.cancel(str(clicked(event).get("job")))

    w.draw.click(draw, set(w.settings.values()), [w.progress, w.draw], api_name="map", show_progress="hidden")
    w.note.act(place, None, [w.progress, w.draw], **CARRIED)
    session.beats["map"].change(follow, None, [w.progress, w.draw], **QUICK)
    w.progress.act(cancel, None, None, **BESIDE)
