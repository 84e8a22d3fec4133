"""Tell: pinned cases and plain words become one file that opens anywhere."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gradio as gr

from app.components import View
from app.context import AppContext
from app.controls import run_time
from app.details import label_of
from app.pins import change
from app.render import Node, empty, h, name_of, percent, view
from app.session import EVERY, QUICK, Session, clicked, polite
from ltg_core.errors import LtgError
from ltg_core.jobs import Job

TITLE = "Tell"
ID = "tell"

_SUGGESTED = "Empty: as suggested below"


def build(ctx: AppContext) -> SimpleNamespace:
    """Words, options and cases on the left, the file on the right."""
    w = SimpleNamespace()
    with gr.Row(elem_classes="two tell"):
        with gr.Column(elem_classes="rail wide"):
            w.title = gr.Textbox(
                label="Title", placeholder=_SUGGESTED, max_length=200, elem_id="tell-title", interactive=True
            )
            w.weakness = gr.Textbox(
                label="The weakness in your own words",
                placeholder=_SUGGESTED,
                lines=4,
                max_lines=12,
                max_length=6000,
                elem_id="tell-weakness",
                interactive=True,
            )
            w.suggestion = View(elem_id="tell-suggestion")
            with gr.Column(elem_classes="ticks"):
                w.attribution = gr.Checkbox(
                    True, label="Show what each answer rests on", elem_id="tell-attribution"
                )
                w.map = gr.Checkbox(True, label="Show the map, where one was drawn", elem_id="tell-map")
                w.change = gr.Checkbox(
                    True, label="Show before and after, where it was compared", elem_id="tell-change"
                )
                w.redact = gr.Checkbox(False, label="Leave out file names and paths", elem_id="tell-redact")
            w.make = gr.Button("Make the report", variant="primary", elem_id="tell-make")
            w.progress = View(elem_id="tell-progress")
            w.cases = View(elem_id="tell-cases")
        with gr.Column(elem_classes="middle"):
            w.preview = View(elem_id="tell-preview")
    return w


def wire(ctx: AppContext, session: Session, widgets: dict[str, SimpleNamespace]) -> None:
    """Connect the events."""
    w = widgets[ID]

    @polite
    def make(
        title: str, weakness: str, redact: bool, show_map: bool, compared: bool, attribution: bool
    ) -> Any:
        job = submit(
            ctx,
            title=title or "",
            weakness=weakness or "",
            redact=bool(redact),
            show_map=bool(show_map),
            show_change=bool(compared),
            attribution=bool(attribution),
        )
        return {w.progress: view(ctx.bar(job)), w.make: gr.Button(interactive=False)}

    @polite
    def follow() -> Any:
        job = ctx.latest("tell")
        if job is None:
            return gr.skip()
        bar = view(ctx.bar(job)) if job.state != "done" else view()
        done = {w.preview: preview(ctx)} if job.ended else {}
        return {w.progress: bar, w.make: gr.Button(interactive=job.ended), **done}

    @polite
    def act(event: gr.EventData) -> Any:
        data = clicked(event)
        if data.get("name") == "suggest":
            draft = suggestion(ctx)
            return {w.title: draft[0], w.weakness: draft[1]} if draft else gr.skip()
        if data.get("name") == "cancel":
            ctx.jobs.cancel(str(data.get("job")))
            return gr.skip()
        if data.get("name") == "tab":
            return {session.tabs: gr.Tabs(selected="browse")}
        return {w.cases: cases(ctx)} if change(ctx, data) else gr.skip()

    @polite
    def refresh() -> dict[Any, Any]:
        return {w.suggestion: suggested(ctx), w.cases: cases(ctx), w.preview: preview(ctx)}

    words = [w.title, w.weakness, w.redact, w.map, w.change, w.attribution]
    w.make.click(make, words, [w.progress, w.make], api_name="tell", show_progress="hidden")
    for part in (w.suggestion, w.cases, w.progress, w.preview):
        part.act(act, None, [w.title, w.weakness, w.cases, session.tabs], **EVERY)
    session.beats["tell"].change(follow, None, [w.progress, w.make, w.preview], **QUICK)
    w.refresh, w.refresh_inputs, w.refresh_outputs = refresh, [], [w.suggestion, w.cases, w.preview]
    w.always = True


def submit(ctx: AppContext, **words: Any) -> Job:
    """Check what can be checked now, then queue the work."""
    from ltg_core import workflows

    ctx.need_classifier()
    workflows.Draft(**words)  # too long a text is an error now
    return ctx.run("tell", "Making the report", "tell", words)


def suggestion(ctx: AppContext) -> tuple[str, str] | None:
    """Title and weakness that the numbers suggest; None where nothing is scored."""
    from ltg_core import workflows

    def found() -> tuple[str, str] | None:
        try:
            draft = workflows.suggest(ctx.workspace)
        except LtgError:
            return None
        return draft.title, draft.weakness

    made: tuple[str, str] | None = ctx.cached(("suggestion", workflows.stamp(ctx.workspace)), found)
    return made


def suggested(ctx: AppContext) -> Node:
    """The suggestion, and a way to start from it."""
    found = suggestion(ctx)
    if found is None:
        return view(h("p.soft", "A suggestion appears as soon as there are a classifier and scored samples."))
    return view(
        h(
            "div.suggestion",
            h("span.kicker", "Suggested from the numbers"),
            h("b", found[0]),
            h("p", found[1]),
            h("button.link", "Edit these words", act=("suggest", {}), type="button"),
        )
    )


def cases(ctx: AppContext) -> Node:
    """The pinned samples, to be ordered, annotated and taken out."""
    from ltg_core import curation

    pins = curation.pinned(ctx.workspace)
    head = h("h3", f"Pinned cases · {len(pins)}" if pins else "Pinned cases")
    if not pins:
        return view(
            head,
            h(
                "div.empty",
                h("b", "Nothing pinned yet"),
                h(
                    "p",
                    "Press Pin on a sample in Browse, Map or Imagine. Without pins, it shows the clearest errors.",
                ),
                h("button", "Choose in Browse", act=("tab", {}), type="button"),
            ),
        )
    samples = {one.id: one for one in ctx.workspace.there([pin.id for pin in pins])}
    pins = [pin for pin in pins if pin.id in samples]
    labels = ctx.workspace.label_names()
    said = ctx.workspace.predictions(list(samples), ctx.model_hash or "")
    rows = []
    for place, pin in enumerate(pins):
        guess = said.get(pin.id)
        read = f"read as {name_of(guess.pred, labels)} {percent(guess.confidence)}" if guess else ""
        kind = ".wrong" if guess and guess.correct is False else ""
        rows.append(
            h(
                "div.pin",
                h("img.thumb", src=f"thumb:{pin.id}", alt=""),
                h(
                    "div.pin-text",
                    h("b", f"{place + 1} · {label_of(samples[pin.id], labels)}"),
                    h(f"span.soft{kind}", read if samples[pin.id].real else f"generated; {read}"),
                ),
                h(
                    "div.pin-buttons",
                    _button("↑", "Move up", ("pin-move", {"id": pin.id, "by": -1}), off=place == 0),
                    _button(
                        "↓", "Move down", ("pin-move", {"id": pin.id, "by": 1}), off=place == len(pins) - 1
                    ),
                    _button("✕", "Unpin", ("pin", {"id": pin.id, "on": False})),
                ),
                h(
                    "textarea.pin-note",
                    act=("pin-note", {"id": pin.id}),
                    value=pin.note,
                    rows="2",
                    maxlength="2000",
                    placeholder="What does this case show?",
                    aria_label=f"Note on case {place + 1}",
                ),
                key=pin.id,
            )
        )
    return view(head, *rows)


def _button(text: str, title: str, act: tuple[str, dict[str, Any]], *, off: bool = False) -> Node:
    attrs = {"disabled": "true"} if off else {}
    return h("button", text, act=None if off else act, type="button", title=title, aria_label=title, **attrs)


def preview(ctx: AppContext) -> Node:
    """The newest report, as it will look; it runs nothing and reaches nothing."""
    from ltg_core import workflows

    told = [run for run in ctx.workspace.runs("tell") if run.state == "done"]
    run = next((run for run in told if workflows.report_path(ctx.workspace, run.id).is_file()), None)
    if run is None:
        return view(
            empty(
                "No report yet",
                "It will say what fails, how often, how sure that is, show the cases, and how it was made: one HTML "
                "file that opens from disk without a network, and prints on A4.",
            )
        )
    size = f"{run.result['bytes'] / 1000:,.0f} kB"
    cases_ = run.result["cases"]
    return view(
        h(
            "div.preview-head",
            h("b", f"Report of {run_time(run.started)}"),
            h("span.soft", f"{cases_} case{'s' if cases_ != 1 else ''}, {size}, one file"),
            h("a.button.primary", "Download the file", href=f"report:{run.id}"),
        ),
        h("iframe.preview", src=f"report:{run.id}", title="Preview of the report", key=run.id),
    )
