"""Which class each name of the data means, as a table to be edited."""

from __future__ import annotations

from typing import Any

from app.context import AppContext
from app.render import Node, h, view
from ltg_core.errors import InputError
from ltg_core.jobs import Job

_OPTIONS = 12_000  # a page holds so many; beyond that only names without a class can be edited here
_ROWS = 200
_HOW = {
    "same": ("same name", ""),
    "spelling": ("matched, another spelling", ".is-auto"),
    "hand": ("set by hand", ".is-hand"),
    "": ("no class", ".is-none"),
}


def submit(ctx: AppContext, data: dict[str, Any]) -> Job:
    """Queue one change of the table."""
    name, label = str(data.get("of", "")), str(data.get("value", ""))
    if not name:
        raise InputError("this row has no name")

    return ctx.run("setup", "Changing the label mapping", "map_labels", {"chosen": {name: label}})


def table(ctx: AppContext) -> Node:
    """Every name of the data with its class."""
    from ltg_core import workflows

    if ctx.classifier() is None:
        return view()
    rows = workflows.name_rows(ctx.workspace)
    if not rows:
        return view()
    labels = ctx.workspace.label_names()
    most = max(1, min(_ROWS, _OPTIONS // max(1, len(labels))))
    none, auto = sum(not row.label for row in rows), sum(row.how == "spelling" for row in rows)
    notes = [f"{len(rows) - none:,} of {len(rows):,} names of the data have a class"]
    notes += [f"{auto:,} matched by themselves in another spelling"] if auto else []
    notes += [f"{none:,} have none: their images count as unlabelled"] if none else []
    return view(
        h("h3", "Label mapping"),
        h("p.warn" if none else "p.soft", "; ".join(notes) + "."),
        h(
            "div.matrix-box",
            h(
                "table.mapping",
                h(
                    "thead",
                    h("tr", *[h("th", t) for t in ("In the data", "Images", "Class of the classifier", "")]),
                ),
                h("tbody", *[_row(row, labels) for row in rows[:most]]),
            ),
        ),
        h("p.soft", f"and {len(rows) - most:,} more names, all with a class") if len(rows) > most else None,
    )


def _row(row: Any, labels: list[str]) -> Node:
    text, kind = _HOW[row.how]
    options = [h("option", "no class", value=""), *[h("option", label, value=label) for label in labels]]
    return h(
        "tr",
        h("td", row.name),
        h("td.n", f"{row.n:,}"),
        h(
            "td",
            h(
                "select",
                *options,
                act=("map", {"of": row.name}),
                value=row.label,
                aria_label=f"Class of {row.name}",
            ),
        ),
        h("td", h(f"span.how{kind}", text)),
        key=row.name,
    )
