"""Curate and export: accept and reject with the keyboard, then take the set away."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gradio as gr

from app.components import Grid, View
from app.context import AppContext
from app.controls import ANY, class_choices, given, keep, origin_choices, whole
from app.details import cards
from app.render import Node, empty, facts, h, label_of, name_of, percent, picture, view
from app.session import EVERY, LATEST, QUICK, Session, clicked, polite, text_ids
from ltg_core.errors import InputError
from ltg_core.jobs import CancelToken, ProgressFn

TITLE = "Curate & Export"
ID = "curate"

PAGE = 120
# Named here because the registry itself brings torch, and the page should stand before that; a test compares the two.
FORMATS = [
    ("ImageFolder: one folder a class; any training script reads it", "imagefolder"),
    ("WebDataset: tar shards for large trainings that stream their data", "webdataset"),
    ("Hugging Face: images with metadata.jsonl, for load_dataset", "huggingface"),
    ("Parquet: tables with the images inside, for Hugging Face datasets", "parquet"),
    ("CSV: images and one table, for a spreadsheet or pandas", "csv"),
    ("JSONL: images and one line of JSON for each, for own scripts", "jsonl"),
    ("COCO: one category for each image, for tools that read COCO", "coco"),
    ("FiftyOne: data/ and labels.json, to open in FiftyOne", "fiftyone"),
]
_SHOW = [
    ("Any verdict", ANY),
    ("Undecided", "undecided"),
    ("Accepted", "accepted"),
    ("Rejected", "rejected"),
    ("Flagged", "flagged"),
]
_BELIEF = [("Any", ANY), ("Believed", "believed"), ("Quarantined", "quarantined")]
_KEYS = (
    ("← → ↑ ↓", "move"),
    ("P or A", "accept"),
    ("X", "reject"),
    ("U", "undecided"),
    ("F", "flag"),
    ("0–5", "rating"),
    ("Shift + click", "range"),
    ("Ctrl + Z", "undo"),
    ("Shift + Ctrl + Z", "redo"),
)


def build(ctx: AppContext) -> SimpleNamespace:
    """Filters, the grid with its keys, the sample in focus, the export."""
    w = SimpleNamespace(page=gr.State(0), focus=gr.State([]))
    with gr.Row(elem_classes="three"):
        with gr.Column(elem_classes="rail"):
            w.origin = gr.Dropdown(
                [("Generated", "generated"), ("Real", "real"), ("Any", ANY)],
                value="generated",
                label="Origin",
                interactive=True,
                elem_id="curate-origin",
            )
            w.verdict = gr.Dropdown(_SHOW, value=ANY, label="Verdict", interactive=True)
            w.belief = gr.Dropdown(_BELIEF, value=ANY, label="Belief", interactive=True)
            w.label = gr.Dropdown([("Any", ANY)], value=ANY, label="Class", interactive=True)
            with gr.Row():
                w.undo = gr.Button("Undo", size="sm", min_width=60, elem_id="curate-undo")
                w.redo = gr.Button("Redo", size="sm", min_width=60, elem_id="curate-redo")
            w.keys = View(
                view(h("div.keys", *[h("div.key", h("kbd", key), h("span", text)) for key, text in _KEYS]))
            )
        with gr.Column(elem_classes="middle"):
            with gr.Row(elem_classes="pager"):
                w.count = View(elem_id="curate-count")
                w.previous = gr.Button("←", size="sm", min_width=44, elem_classes="quiet")
                w.next = gr.Button("→", size="sm", min_width=44, elem_classes="quiet")
            w.grid = Grid({"items": [], "empty": ["Loading …"], "mode": "curate"}, elem_id="curate-grid")
        with gr.Column(elem_classes="side"):
            w.panel = View(elem_id="curate-panel")
            with gr.Column(elem_classes="stack"):
                w.tags = gr.Textbox(
                    label="Tag the selection",
                    placeholder="night, hard to read",
                    max_length=300,
                    submit_btn="Tag",
                    elem_id="curate-tags",
                )
            with gr.Column(elem_classes="stack"):
                w.format = gr.Dropdown(
                    FORMATS, value="imagefolder", label="Export all accepted as", elem_id="export-format"
                )
                w.export = gr.Button("Export", variant="primary", elem_id="export-start")
                w.exported = View(elem_id="export-state")
    w.filters = {w.origin, w.verdict, w.belief, w.label}
    return w


def show_page(
    ctx: AppContext, w: SimpleNamespace, values: dict[Any, Any], number: int, focus: str = ""
) -> dict[Any, Any]:
    """One page for deciding."""
    from ltg_core.data.records import Filter

    belief = given(values[w.belief])
    origin = given(values[w.origin])
    wanted = Filter(
        origin=origin,
        verdict=given(values[w.verdict]),
        label=whole(values[w.label]),
        believed=None if belief is None else belief == "believed",
        # The unguided twins are there for comparison; they are no candidates.
        meta={"role": "guided"} if origin not in (None, "real") else {},
    )
    total = ctx.workspace.count(wanted)
    pages = max(1, -(-total // PAGE))
    number = min(max(0, number), pages - 1)
    shown = ctx.workspace.query(
        wanted, sort="id" if origin == "real" else "created", limit=PAGE, offset=number * PAGE
    )
    nothing = [
        "Nothing to decide here",
        "Make some images under Imagine, or choose another origin or verdict.",
    ]
    where = f"page {number + 1} of {pages}" if pages > 1 else ""
    return {
        w.grid: {
            "items": cards(ctx, shown),
            "mode": "curate",
            "empty": nothing,
            "label": "Samples to decide on",
            "focus": focus,
        },
        w.count: view(
            h(
                "div.count",
                h("b", f"{total:,} samples"),
                h("span.soft", " · " + _tally(ctx)),
                h("span.soft.where", where),
            )
        ),
        w.page: number,
    }


def _tally(ctx: AppContext) -> str:
    from ltg_core.data.records import Filter

    counts = {v: ctx.workspace.count(Filter(verdict=v)) for v in ("accepted", "rejected", "flagged")}
    return ", ".join(f"{count:,} {verdict}" for verdict, count in counts.items())


def panel(ctx: AppContext, sample_id: str) -> Node:
    """The sample in focus, large, with what decides: class, prediction, belief, twin."""
    sample = ctx.workspace.sample(sample_id)
    labels = ctx.workspace.label_names()
    said = ctx.workspace.predictions([sample_id], ctx.model_hash or "").get(sample_id)
    read = f"{name_of(said.pred, labels)} {percent(said.confidence)}" if said else ""
    rating = "★" * (sample.rating or 0)
    return view(
        h(
            "div.hero",
            picture(sample.id, label_of(sample, labels)),
            h(
                "div.badges",
                h(f"span.badge.badge-{sample.verdict}", sample.verdict),
                h(f"span.badge.badge-{sample.belief}", sample.belief) if sample.belief else None,
                *[h("span.badge.badge-tag", tag) for tag in sample.tags],
            ),
        ),
        facts(
            [
                ("Class", label_of(sample, labels)),
                ("Prediction", read),
                ("Why", sample.belief_reason),
                ("Prompt", sample.meta.get("prompt")),
                ("Rating", rating),
                ("Note", sample.note),
            ]
        ),
        classes="panel",
    )


def decide(ctx: AppContext, action: str, ids: list[str]) -> str:
    """Do what a key or a button says; returns what was done, in words."""
    from ltg_core.curation import verdicts

    workspace = ctx.workspace
    if action == "undo":
        done = verdicts.undo(workspace)
        return f"Undone: {done}" if done else "There is nothing to undo."
    if action == "redo":
        done = verdicts.redo(workspace)
        return f"Done again: {done}" if done else "There is nothing to redo."
    if not ids:
        raise InputError("nothing is selected; click a sample first")
    if action.startswith("rate "):
        return verdicts.rate(workspace, ids, int(action[5:]) or None)
    return verdicts.set_verdict(workspace, ids, action)


def wire(ctx: AppContext, session: Session, widgets: dict[str, SimpleNamespace]) -> None:
    """Connect the events."""
    w = widgets[ID]
    inputs, page = {*w.filters, w.page, w.focus}, [w.grid, w.count, w.page]

    @polite
    def refresh(values: dict[Any, Any]) -> dict[Any, Any]:
        origins = [("Generated", "generated"), *[c for c in origin_choices(ctx) if c[1] != "generated"]]
        classes = class_choices(ctx)
        offered = {
            w.origin: gr.update(choices=origins, value=keep(values[w.origin], origins, "generated")),
            w.label: gr.update(choices=classes, value=keep(values[w.label], classes, ANY)),
        }
        return offered | show_page(
            ctx, w, {**values, **{box: update["value"] for box, update in offered.items()}}, values[w.page]
        )

    w.tab.select(refresh, inputs, [w.origin, w.label, *page], **QUICK)
    w.refresh, w.refresh_inputs, w.refresh_outputs = refresh, inputs, [w.origin, w.label, *page]
    _wire_pages(ctx, w, inputs, page)
    _wire_verdicts(ctx, w, inputs, page)
    _wire_export(ctx, session, w)


def _wire_pages(ctx: AppContext, w: SimpleNamespace, inputs: set[Any], page: list[Any]) -> None:
    """What is shown, and the sample in focus."""

    @polite
    def first(values: dict[Any, Any]) -> dict[Any, Any]:
        return show_page(ctx, w, values, 0)

    @polite
    def previous(values: dict[Any, Any]) -> dict[Any, Any]:
        return show_page(ctx, w, values, values[w.page] - 1)

    @polite
    def following(values: dict[Any, Any]) -> dict[Any, Any]:
        return show_page(ctx, w, values, values[w.page] + 1)

    @polite
    def pick(event: gr.EventData) -> dict[Any, Any]:
        data = clicked(event)
        sample_id = str(data.get("id", ""))
        return {w.panel: panel(ctx, sample_id), w.focus: text_ids(data.get("ids")) or [sample_id]}

    for box in w.filters:
        box.input(first, inputs, page, api_name="curate", **QUICK)
    w.previous.click(previous, inputs, page, **QUICK)
    w.next.click(following, inputs, page, **QUICK)
    w.grid.pick(pick, None, [w.panel, w.focus], **LATEST)


def _wire_verdicts(ctx: AppContext, w: SimpleNamespace, inputs: set[Any], page: list[Any]) -> None:
    """Keys, undo and redo, tags."""

    def focused(values: dict[Any, Any]) -> dict[Any, Any]:
        ids = text_ids(values[w.focus])
        return {w.panel: panel(ctx, ids[0])} if ids else {}

    @polite
    def key(values: dict[Any, Any], event: gr.EventData) -> dict[Any, Any]:
        data = clicked(event)
        decide(ctx, str(data.get("action", "")), text_ids(data.get("ids")))
        return show_page(ctx, w, values, values[w.page], str(data.get("focus", ""))) | focused(values)

    @polite
    def undo(values: dict[Any, Any]) -> dict[Any, Any]:
        gr.Info(decide(ctx, "undo", []), duration=3)
        return show_page(ctx, w, values, values[w.page]) | focused(values)

    @polite
    def redo(values: dict[Any, Any]) -> dict[Any, Any]:
        gr.Info(decide(ctx, "redo", []), duration=3)
        return show_page(ctx, w, values, values[w.page]) | focused(values)

    @polite
    def tag(text: str, ids: list[str]) -> Any:
        from ltg_core.curation import verdicts

        wanted = [one.strip() for one in (text or "").split(",") if one.strip()]
        chosen = text_ids(ids)
        if not wanted or not chosen:
            raise InputError("select a sample and write a tag")
        verdicts.tag(ctx.workspace, chosen, add=wanted)
        return {w.tags: "", w.panel: panel(ctx, chosen[0])}

    w.grid.decide(key, inputs, [*page, w.panel], concurrency_id="verdicts", **EVERY)
    w.undo.click(undo, inputs, [*page, w.panel], concurrency_id="verdicts", **EVERY)
    w.redo.click(redo, inputs, [*page, w.panel], concurrency_id="verdicts", **EVERY)
    w.tags.submit(tag, [w.tags, w.focus], [w.tags, w.panel], show_progress="hidden", api_name="tag")


def _wire_export(ctx: AppContext, session: Session, w: SimpleNamespace) -> None:
    @polite
    def start(fmt: str) -> Any:
        from ltg_core.data.records import Filter

        if not ctx.workspace.count(Filter(verdict="accepted")):
            raise InputError("no sample is accepted yet; accept some first (P or A)")

        def work(on_progress: ProgressFn, cancel: CancelToken) -> Any:
            from ltg_core import workflows

            return workflows.export(
                ctx.workspace, None, fmt, _place(ctx, fmt), on_progress=on_progress, cancel=cancel
            )

        job = ctx.submit("export", "Exporting", work)
        return {
            w.exported: view(ctx.bar(job)),
            w.export: gr.Button(interactive=False),
        }

    @polite
    def follow() -> Any:
        job = ctx.latest("export")
        if job is None:
            return gr.skip()
        shown = exported(ctx, job.result) if job.state == "done" else ctx.bar(job)
        return {w.exported: view(shown), w.export: gr.Button(interactive=job.ended)}

    @polite
    def act(event: gr.EventData) -> Any:
        ctx.jobs.cancel(str(clicked(event).get("job")))

    w.export.click(start, w.format, [w.exported, w.export], api_name="export", show_progress="hidden")
    session.beats["export"].change(follow, None, [w.exported, w.export], **QUICK)
    w.exported.act(act, None, None, **QUICK)


def _place(ctx: AppContext, fmt: str) -> Any:
    import time

    return ctx.workspace.exports_folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{fmt}"


def exported(ctx: AppContext, result: Any) -> Node:
    """Where the export is, what was left out and why, and the link."""
    report = result[1] if isinstance(result, tuple) else result
    if report is None or not getattr(report, "n", 0):
        return empty("Nothing was exported")
    reasons: dict[str, int] = {}
    for _, reason in report.left_out:
        reasons[reason] = reasons.get(reason, 0) + 1
    return h(
        "div.done",
        h("b", f"{report.n:,} sample{'s' if report.n != 1 else ''} exported"),
        *[h("p.soft", f"{count:,} left out: {reason}") for reason, count in list(reasons.items())[:4]],
        h("a.button", "Download (.zip)", href=f"download:{report.path.name}"),
        h("p.soft.path", f"in the workspace: exports/{report.path.name}"),
    )
