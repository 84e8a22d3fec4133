"""Step 2: the data; an upload or a path, what is held out, and what was read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gradio as gr

from app.components import View
from app.context import AppContext
from app.render import Node, empty, facts, h, view
from app.session import polite
from app.steps.paths import local_path, uploaded
from app.steps.states import DATA, onward
from ltg_core.errors import InputError
from ltg_core.jobs import Job

_KINDS = (
    ".zip", ".parquet", ".csv", ".tsv", ".jsonl", ".ndjson", ".tar", ".tar.gz", ".tgz", ".npz", ".npy"
)  # fmt: skip
_HOLDOUTS = [
    ("Nothing", ""),
    ("20 % for validation", "0.2"),
    ("10 % for validation, 10 % for test", "0.1,0.1"),
    ("20 % for validation, 20 % for test", "0.2,0.2"),
]
_SPLITS = [("As the data says", ""), ("Train", "train"), ("Validation", "val"), ("Test", "test")]
_SHOWN = 12


def build(ctx: AppContext, w: SimpleNamespace) -> None:
    """The form on the left, what is there on the right."""
    with gr.Row(elem_classes="boxes"):
        with gr.Column(elem_classes="box"):
            w.file = gr.File(
                label="Zip or tar, Parquet, CSV, JSONL, npz",
                file_types=list(_KINDS),
                elem_id="setup-file",
                height=130,
            )
            w.path = gr.Textbox(
                label="or a path on this machine",
                placeholder="folder of class folders, or a file",
                max_length=4000,
                visible=ctx.settings.local,
                elem_id="setup-path",
            )
            w.split = gr.Dropdown(_SPLITS, value="", label="Split", elem_id="setup-split")
            w.holdout = gr.Dropdown(
                _HOLDOUTS,
                value="",
                label="Hold out, where the data has no such split",
                elem_id="setup-holdout",
            )
            w.group = gr.Textbox(
                label="and keep together what has the same value in this column",
                placeholder="such as track; empty: every image alone",
                max_length=200,
                elem_id="setup-group",
            )
            w.load = gr.Button("Import", variant="primary", elem_id="setup-import")
        with gr.Column(elem_classes="box"):
            w.data_now = View(elem_id="setup-data-now")


def wire(ctx: AppContext, w: SimpleNamespace, started: Any, outputs: list[Any]) -> None:
    """The import."""

    @polite
    def load(file: str | None, path: str, split: str, holdout: str, group: str) -> Any:
        return started(import_data(ctx, file, path, split, holdout, group))

    given = [w.file, w.path, w.split, w.holdout, w.group]
    w.load.click(load, given, outputs, api_name="import_data", show_progress="hidden")


def import_data(
    ctx: AppContext, file: str | None, path: str, split: str, holdout: str = "", group: str = ""
) -> Job:
    """Import an upload or a path, then score what is new."""
    if file is None and not (path or "").strip():
        raise InputError("choose a file to upload, or give a path")
    place = uploaded(ctx, file) if file is not None else local_path(ctx, path)
    shares = [float(share) for share in holdout.split(",")] if holdout else None

    arguments = {
        "path": str(place.resolve()),
        "split": split or "",
        "holdout": shares,
        "group": (group or "").strip(),
    }
    return ctx.run("setup", f"Importing {place.name}", "bring_data", arguments)


def shown(ctx: AppContext) -> Node:
    """What is there, and what the last import read and left out."""
    from ltg_core import workflows
    from ltg_core.data.records import Filter

    ws = ctx.workspace
    if not ws.count(Filter(origin="real")):
        return view(
            h("h3", "No data yet"),
            empty(
                "What is needed",
                "Real images with labels: class folders (with train, val and test above them or without), as a zip or "
                "tar; a zip with metadata.csv or metadata.jsonl beside the images; WebDataset shards; Parquet with "
                "the images in it; arrays (npz). Hold some out: accuracy and percentiles are measured on images that "
                "the classifier has not seen.",
            ),
        )
    last = workflows.last_import(ws) or {}
    rows: list[tuple[str, Any]] = [("Real images", f"{ws.count(Filter(origin='real')):,}")]
    rows += [(f"Split {name or 'none'}", f"{n:,}") for name, n in last.get("now", {}).items()]
    rows.append(("Columns", ", ".join(ws.meta_columns()[:14])))
    held_out = workflows.held_out_split(ws)
    advice = None
    if not held_out:
        advice = h(
            "p.warn",
            "Nothing is held out: accuracy would be measured on images that the classifier may have learned by heart. "
            "Import again with a hold-out, or with a split test or val.",
        )
    return view(h("h3", "In the workspace"), facts(rows), advice, *_last(last), onward(DATA))


def _last(last: dict[str, Any]) -> list[Node | None]:
    """The last import as a list: read, there before, left out and why."""
    if not last:
        return []
    lines = [f"{last['added']:,} images added"]
    if last.get("present"):
        lines.append(f"{last['present']:,} were there already")
    if last.get("unknown_labels"):
        n = sum(last["unknown_labels"].values())
        lines.append(f"{n:,} have a class that the classifier does not know; map it in the next step")
    if last.get("held_out"):
        shares = ", ".join(
            f"{name} {share:.0%}" for name, share in last["held_out"].get("shares", {}).items()
        )
        lines.append(f"held out: {shares}")
    skipped = [
        h("li", h("b", str(name)), h("span.soft", f" {reason}"))
        for name, reason in last["first_skipped"][:_SHOWN]
    ]
    more = last["skipped"] - len(skipped)
    return [
        h("h4", f"Last import: {last['name']}"),
        h("ul.read", *[h("li", line) for line in lines]),
        h("h4", f"Left out · {last['skipped']:,}") if skipped else None,
        h("ul.read.left-out", *skipped) if skipped else None,
        h("p.soft", f"and {more:,} more") if more > 0 else None,
    ]
