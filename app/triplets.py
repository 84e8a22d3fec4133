"""A generation as matched rows: nearest real sample, unguided, guided, difference; a sweep as film strips."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app.context import AppContext
from app.discreet import discreet
from app.imagining import resumed
from app.render import Node, empty, h, view
from app.rows import SCALE, Book, buttons, frames, head, said, strips
from app.tracing import trace_figure

if TYPE_CHECKING:
    from ltg_core.data.records import Run, Sample


def results(ctx: AppContext, run: str, focus: str = "") -> Node:
    """Believed images first, quarantined ones apart, each with its reason; a sweep as film strips.

    Args:
        ctx: The process.
        run: A generation.
        focus: Id of the image that takes the focus, for who comes back from looking at it.
    """
    from ltg_core import workflows

    record, rows = ctx.workspace.run(run), workflows.triplets(ctx.workspace, run)
    if not rows:
        return view(
            _stopped(ctx, record, 0),
            empty("This run kept no image", "It was stopped before the first ones were finished."),
        )
    book = Book(ctx, rows, focus)
    believed = [row for row in rows if row["belief"] != "quarantined"]
    doubted = [row for row in rows if row["belief"] == "quarantined"]
    trace = trace_figure(workflows.run_trace(ctx.workspace, run))
    return view(
        _stopped(ctx, record, len(rows)),
        _summary(book, rows, believed),
        h("details.trace-box", h("summary", "Signal and weight by step"), trace) if trace else None,
        *(strips(book, rows) if record.settings.get("weights") else _parted(book, believed, doubted)),
    )


def _parted(
    book: Book, believed: Sequence[Mapping[str, Any]], doubted: Sequence[Mapping[str, Any]]
) -> list[Node | None]:
    return [
        h("p.soft", SCALE.replace("Guided", "Difference is guided", 1)) if book.paired else None,
        h("h3", f"Believed · {len(believed)}") if believed else None,
        h("div.trips", *[_row(book, row) for row in believed]) if believed else None,
        h("h3", f"Quarantined · {len(doubted)}") if doubted else None,
        h("p.soft", "Not counted as evidence until somebody accepts them.") if doubted else None,
        h("div.trips.doubted", *[_row(book, row) for row in doubted]) if doubted else None,
    ]


def _stopped(ctx: AppContext, record: Run, kept: int) -> Node | None:
    """What a run that ended early keeps, and the way on."""
    if record.state in ("done", "running"):
        return None
    wanted = max(kept, len(record.settings.get("seeds") or []))
    words = {"cancelled": "Cancelled", "failed": "Failed", "interrupted": "Interrupted"}[record.state]
    text = f" {kept} of {wanted} images were finished and are kept."
    if record.state == "failed":
        reason = discreet(record.reason)
        text += f" {reason[:1].upper()}{reason[1:]}."
    return h(
        "div.stopped",
        h("div", h("b", words + "."), text),
        _rest(wanted - kept, kept, under_way=resumed(ctx, record.id) is not None),
    )


def _rest(lacking: int, kept: int, *, under_way: bool) -> Node | None:
    if lacking < 1:
        return None
    if under_way:
        return h("span.soft", f"The other {lacking} are under way.")
    name = f"Make the other {lacking}" if kept else "Make them now"
    return h("button", name, act=("resume", {}), type="button")


def _summary(book: Book, rows: Sequence[Mapping[str, Any]], believed: Sequence[Mapping[str, Any]]) -> Node:
    guided, control = _mean(rows, "percentile"), _mean(rows, "percentile_control")
    missed = [book.wrong(row["guided"]) for row in believed]
    controls = dict.fromkeys(row["control"] for row in rows if row.get("control"))  # a sweep shares them
    missed_control = [book.wrong(control) for control in controls]
    figures = [h("div.figure", h("b", f"{len(believed)} of {len(rows)}"), h("span", "believed"))]
    if not math.isnan(guided):
        before, which = ("", "") if math.isnan(control) else (f"{control:.0f} → ", ", unguided → guided")
        figures.append(h("div.figure", h("b", f"{before}{guided:.0f}"), h("span", f"mean percentile{which}")))
    if any(value is not None for value in missed):
        figures.append(
            h(
                "div.figure",
                h("b", (f"{_share(missed_control)} → " if controls else "") + _share(missed)),
                h("span", "misread by the classifier" + (", unguided → believed" if controls else "")),
            )
        )
    ids = [row["guided"] for row in believed]
    accept = (
        h(
            "button",
            f"Accept all {len(ids)} believed",
            act=("verdict", {"ids": ids, "verdict": "accepted"}),
            type="button",
        )
        if ids
        else None
    )
    return h("div.figures.summary", *figures, accept)


def _mean(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    values = [float(row[key]) for row in rows if row.get(key) is not None and not math.isnan(float(row[key]))]
    return sum(values) / len(values) if values else math.nan


def _share(values: Sequence[bool | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{sum(known)} of {len(known)}" if known else "–"


def _row(book: Book, row: Mapping[str, Any]) -> Node:
    guided: Sample = book.samples[row["guided"]]
    return h(
        f"div.trip.v-{guided.verdict}",
        h("div.quad", *frames(book, row)),
        h("div.row-text", *_words(book, guided, row), buttons(guided)),
        key=guided.id,
    )


def _words(book: Book, guided: Sample, row: Mapping[str, Any]) -> list[Node | None]:
    prompt = guided.meta.get("prompt") or guided.caption
    return [
        head(book, guided),
        said(book, guided),
        h("div.row-why.soft", str(row["reason"])) if row.get("reason") else None,
        h("div.row-prompt.soft", f"“{prompt}” · seed {guided.meta.get('seed', '–')}") if prompt else None,
    ]
