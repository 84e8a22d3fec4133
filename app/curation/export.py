"""Export: which samples, in which form, what would be left out, the result."""

from __future__ import annotations

import re
import time
from types import SimpleNamespace
from typing import Any

import gradio as gr

from app.components import View
from app.context import AppContext
from app.curation.choice import Choice
from app.render import Node, empty, h, view
from app.session import BESIDE, QUICK, Session, clicked, polite
from ltg_core.errors import InputError
from ltg_core.jobs import Job

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
ACCEPTED, SHOWN, SET = "accepted", "shown", "set:"
_FIRST = [("All accepted samples", ACCEPTED), ("What Decide shows", SHOWN)]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_HELD = (
    "Validation and test samples, and images made from them, are exported too, each as its own split. Whoever trains "
    "on them measures nothing any more."
)


def build(ctx: AppContext) -> SimpleNamespace:
    """The order on the left, what comes of it on the right."""
    w = SimpleNamespace()
    with gr.Row(elem_classes="two"):
        with gr.Column(elem_classes="rail wide"):
            w.what = gr.Dropdown(
                _FIRST, value=ACCEPTED, label="Samples", elem_id="export-what", interactive=True
            )
            w.format = gr.Dropdown(FORMATS, value="imagefolder", label="Format", elem_id="export-format")
            w.with_real = gr.Checkbox(False, label="Add the real training samples", elem_id="export-real",
                                      info="But for those that you rejected")  # fmt: skip
            w.held_out = gr.Checkbox(False, label="Held-out samples too", info=_HELD, elem_id="export-held")
            w.name = gr.Textbox(label="Folder name", placeholder="named after the time", max_length=80,
                                elem_id="export-name")  # fmt: skip
            w.overwrite = gr.Checkbox(
                False, label="Replace an earlier export of this name", elem_id="export-overwrite"
            )
            with gr.Row():
                w.preview = gr.Button("Preview", elem_id="export-preview")
                w.start = gr.Button("Export", variant="primary", elem_id="export-start")
        with gr.Column(elem_classes="middle"):
            w.state = View(elem_id="export-state")
    w.order = [w.what, w.format, w.with_real, w.held_out, w.name, w.overwrite]
    return w


def choices(ctx: AppContext) -> list[tuple[str, str]]:
    """What can be exported: (words, value)."""
    from ltg_core.curation import sets

    kept = [
        (f"The set {one.name}, version {one.version} ({one.n:,})", SET + one.ref)
        for one in sets.every(ctx.workspace)
    ]
    return [*_FIRST, *kept]


def submit(ctx: AppContext, values: dict[str, Any], choice: Choice, *, preview: bool) -> Job:
    """Queue an export, or the look at what it would be.

    Args:
        ctx: The process.
        values: what, format, with_real, held_out, name and overwrite.
        choice: What Decide shows.
        preview: Only count.
    """
    what, fmt = str(values["what"]), str(values["format"])
    ids = None
    if what == SHOWN:
        ids = ctx.workspace.query(choice.as_filter(ctx.workspace.label_names()))
        if not ids:
            raise InputError("Decide shows no sample; change its filters, or export all accepted samples")
    order = {
        "set_ref": what.removeprefix(SET) if what.startswith(SET) else None,
        "with_real": bool(values["with_real"]),
        "held_out": bool(values["held_out"]),
    }
    task, extra = "plan_export", {}
    if not preview:
        name = _name(ctx, str(values["name"] or ""), fmt)
        task, extra = "export", {"name": name, "overwrite": bool(values["overwrite"])}
    title = "Checking what would be exported" if preview else "Exporting"
    arguments = {"ids": ids, "fmt": fmt, **order, **extra}
    return ctx.run("export", title, task, arguments, about={"preview": preview})


def _name(ctx: AppContext, name: str, fmt: str) -> str:
    name = name.strip()
    if name and not _NAME.fullmatch(name):
        raise InputError(
            "a folder name begins with a letter or digit and has letters, digits, dots, dashes and underscores, 80 at "
            f"most; got {name[:100]!r}"
        )
    if name:
        return name
    base, number = f"{time.strftime('%Y%m%d-%H%M%S')}-{fmt}", 2
    name = base
    while (ctx.workspace.exports_folder / name).exists():
        name, number = f"{base}-{number}", number + 1
    return name


def shown(ctx: AppContext, job: Job | None) -> Node:
    """The newest export or preview: its progress, what it found, where it is."""
    if job is None:
        text = "Preview says what would be exported and what would be left out, and why; nothing is written."
        return view(empty("Take the set away", text))
    if job.state != "done":
        return view(ctx.bar(job))
    found = job.result if isinstance(job.result, dict) else {}
    return view(planned(found) if ctx.about(job).get("preview") else exported(found))


def planned(plan: dict[str, Any]) -> Node:
    """What an export would do."""
    if not plan.get("n"):
        return h("div.panel", h("h3", "Nothing would be exported"), *_left_out(plan))
    return h(
        "div.panel",
        h("h3", "What would be exported"),
        h(
            "div.figures",
            _figure(plan["n"], "samples"),
            _figure(plan["n"] - plan["real"], "generated"),
            _figure(plan["real"], "real"),
            _figure(plan["left_out"], "left out"),
        ),
        h("div.thumbs", *[h("img.thumb", src=f"thumb:{one}", alt="") for one in plan["examples"]]),
        *_counts("By split", plan["splits"] if len(plan["splits"]) > 1 else {}),
        *_counts("By class", plan["classes"]),
        *_left_out(plan),
        h("p.soft", "Nothing was written yet."),
    )


def exported(report: dict[str, Any]) -> Node:
    """Where the export is, what was left out and why, and the link."""
    if not report.get("n"):
        return empty("Nothing was exported")
    n, name = report["n"], report["name"]
    return h(
        "div.panel.done",
        h("h3", f"{n:,} sample{'s' if n != 1 else ''} exported"),
        h("a.button.primary", "Download (.zip)", href=f"download:{name}"),
        h("p.soft.path", f"In the workspace: exports/{name}"),
        *_counts("By split", report["splits"] if len(report["splits"]) > 1 else {}),
        *_counts("By class", report["classes"]),
        *_left_out(report),
    )


def _figure(value: int, text: str) -> Node:
    return h("div.figure", h("b", f"{value:,}"), h("span", text))


def _counts(title: str, counts: dict[str, int], most: int = 30) -> list[Node]:
    if not counts:
        return []
    rows = [
        h("div.count-row", h("span.count-name", name, title=name[:1000]), h("span.soft", f"{count:,}"))
        for name, count in list(counts.items())[:most]
    ]
    rest = len(counts) - most
    return [
        h("h4", title),
        h("div.count-rows", *rows),
        *([h("p.soft", f"and {rest:,} more")] if rest > 0 else []),
    ]


def _left_out(found: dict[str, Any]) -> list[Node]:
    if not found.get("left_out"):
        return [h("p.soft", "Nothing is left out.")]
    rows = [
        h(
            "div.left-out",
            h("span", f"{one['n']:,} because {one['reason']}"),
            h("div.thumbs.small", *[h("img.thumb", src=f"thumb:{id}", alt="") for id in one["ids"]]),
        )
        for one in found["reasons"][:10]
    ]
    return [h("h4", f"{found['left_out']:,} left out"), *rows]


def wire(ctx: AppContext, session: Session, w: SimpleNamespace, decide: SimpleNamespace) -> None:
    """Connect the events."""
    names = ("what", "format", "with_real", "held_out", "name", "overwrite")

    def order(
        what: str, fmt: str, real: bool, held: bool, name: str, over: bool, choice: Choice, preview: bool
    ) -> Any:
        values = dict(zip(names, (what, fmt, real, held, name, over), strict=True))
        job = submit(ctx, values, choice or Choice(), preview=preview)
        off = gr.Button(interactive=False)
        return {w.state: view(ctx.bar(job)), w.start: off, w.preview: off}

    @polite
    def preview(*given: Any) -> Any:
        return order(*given, preview=True)

    @polite
    def start(*given: Any) -> Any:
        return order(*given, preview=False)

    @polite
    def follow() -> Any:
        job = ctx.latest("export")
        on = gr.Button(interactive=job is None or job.ended)
        return {w.state: shown(ctx, job), w.start: on, w.preview: on}

    @polite
    def refresh(what: str) -> Any:
        offered = choices(ctx)
        kept = what if what in [value for _, value in offered] else ACCEPTED
        return {w.what: gr.Dropdown(offered, value=kept), w.state: shown(ctx, ctx.latest("export"))}

    @polite
    def act(event: gr.EventData) -> Any:
        data = clicked(event)
        if data.get("name") == "again":
            ctx.again(str(data.get("job")))
        elif data.get("name") == "cancel":
            ctx.jobs.cancel(str(data.get("job")))

    w.refresh, outputs = refresh, [w.state, w.start, w.preview]
    w.preview.click(preview, [*w.order, decide.choice], outputs, **QUICK)
    w.start.click(start, [*w.order, decide.choice], outputs, **QUICK)
    session.beats["export"].change(follow, None, outputs, **QUICK)
    w.state.act(act, None, None, **BESIDE)
