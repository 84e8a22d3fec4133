"""A generation as matched rows: nearest real sample, unguided, guided, difference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app.context import AppContext
from app.render import Node, empty, h, label_of, name_of, ordinal, percent, view

if TYPE_CHECKING:
    from ltg_core.data.records import Prediction, Sample


_SCALE = (
    "Guided minus unguided on a fixed scale: grey is no change; black and white are a change by half the pixel range "
    "or more."
)


def results(ctx: AppContext, run: str) -> Node:
    """Believed images first, quarantined ones apart, each with its reason."""
    from ltg_core import workflows

    rows = workflows.triplets(ctx.workspace, run)
    if not rows:
        return view(empty("This run kept no image", "It was stopped before the first ones were finished."))
    book = _Book(ctx, rows)
    believed = [row for row in rows if row["belief"] != "quarantined"]
    doubted = [row for row in rows if row["belief"] == "quarantined"]
    return view(
        _summary(book, rows, believed),
        h("p.soft", _SCALE.replace("Guided", "Difference is guided", 1)) if book.paired else None,
        h("h3", f"Believed · {len(believed)}") if believed else None,
        h("div.trips", *[_row(book, row) for row in believed]) if believed else None,
        h("h3", f"Quarantined · {len(doubted)}") if doubted else None,
        h("p.soft", "Not counted as evidence until somebody accepts them.") if doubted else None,
        h("div.trips.doubted", *[_row(book, row) for row in doubted]) if doubted else None,
    )


class _Book:
    """Everything that the rows need, read at once."""

    def __init__(self, ctx: AppContext, rows: Sequence[Mapping[str, Any]]) -> None:
        workspace, model = ctx.workspace, ctx.model_hash
        ids = [row[key] for row in rows for key in ("guided", "control") if row.get(key)]
        self.labels = workspace.label_names()
        self.samples = {sample.id: sample for sample in workspace.samples(ids)}
        self.said = workspace.predictions(ids, model) if model else {}
        self.paired = any(row.get("control") for row in rows)

    def wrong(self, sample_id: str | None) -> bool | None:
        """Whether the classifier misses the intended class."""
        said: Prediction | None = self.said.get(sample_id or "")
        return None if said is None or said.correct is None else not said.correct


def _summary(book: _Book, rows: Sequence[Mapping[str, Any]], believed: Sequence[Mapping[str, Any]]) -> Node:
    guided, control = _mean(rows, "percentile"), _mean(rows, "percentile_control")
    missed = [book.wrong(row["guided"]) for row in believed]
    missed_control = [book.wrong(row.get("control")) for row in rows if row.get("control")]
    figures = [h("div.figure", h("b", f"{len(believed)} of {len(rows)}"), h("span", "believed"))]
    if not math.isnan(guided):
        before = "" if math.isnan(control) else f"{control:.0f} → "
        figures.append(
            h("div.figure", h("b", f"{before}{guided:.0f}"), h("span", "mean percentile, unguided → guided"))
        )
    if any(value is not None for value in missed):
        figures.append(
            h(
                "div.figure",
                h("b", _share(missed_control) + " → " + _share(missed)),
                h("span", "misread by the classifier, unguided → believed"),
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


def _row(book: _Book, row: Mapping[str, Any]) -> Node:
    guided: Sample = book.samples[row["guided"]]
    control = row.get("control")
    real = row.get("source") or row.get("nearest") or next(iter(guided.meta.get("neighbours") or []), None)
    return h(
        f"div.trip.v-{guided.verdict}",
        h(
            "div.quad",
            _frame(real, "source" if row.get("source") else "nearest real", ""),
            _frame(control, "unguided", ordinal(row.get("percentile_control"))),
            _frame(guided.id, "guided", ordinal(row.get("percentile")), main=True),
            _difference(control, guided.id),
        ),
        h("div.row-text", *_words(book, guided, row), _buttons(guided)),
        key=guided.id,
    )


def _frame(sample_id: str | None, name: str, note: str, *, main: bool = False) -> Node:
    shown = h("img", src=f"image:{sample_id}", alt=name) if sample_id else h("div.blank")
    return h(
        "figure.frame" + (".is-main" if main else ""), shown, h("figcaption", h("span", name), h("b", note))
    )


def _difference(control: str | None, guided: str) -> Node:
    """Guided minus unguided on a fixed scale, so that a small change looks small.

    Two layers: the style sheet mixes them to 0.5 + guided - unguided, cut at 0 and 1.
    """
    if not control:
        return _frame(None, "difference", "")
    layers = h(
        "div.change",
        h("img", src=f"image:{guided}", alt=""),
        h("img.under", src=f"image:{control}", alt="guided minus unguided"),
    )
    caption = h("figcaption", h("span", "difference"), h("b", "±0.5"), title=_SCALE)
    return h("figure.frame", layers, caption)


def _words(book: _Book, guided: Sample, row: Mapping[str, Any]) -> list[Node | None]:
    said = book.said.get(guided.id)
    wanted = label_of(guided, book.labels)
    verdict = "" if guided.verdict == "undecided" else guided.verdict
    lines: list[Node | None] = [
        h(
            "div.row-head",
            h("b", wanted),
            h("span.badge.badge-" + verdict, verdict) if verdict else None,
            h(f"span.badge.badge-{row['belief']}", str(row["belief"])) if row.get("belief") else None,
        )
    ]
    if said is not None:
        kind = "wrong" if said.correct is False else "right"
        lines.append(
            h(
                f"div.row-said.{kind}",
                h("span.soft", "read as "),
                h("b", name_of(said.pred, book.labels)),
                h("span.soft", f" {percent(said.confidence)}"),
            )
        )
    lines.append(h("div.row-why.soft", str(row["reason"])) if row.get("reason") else None)
    prompt = guided.meta.get("prompt") or guided.caption
    lines.append(
        h("div.row-prompt.soft", f"“{prompt}” · seed {guided.meta.get('seed', '–')}") if prompt else None
    )
    return lines


def _buttons(guided: Sample) -> Node:
    def button(verdict: str, text: str) -> Node:
        on = guided.verdict == verdict
        act = ("verdict", {"ids": [guided.id], "verdict": "undecided" if on else verdict})
        return h(
            f"button.verdict.verdict-{verdict}" + (".is-on" if on else ""),
            text,
            act=act,
            type="button",
            aria_pressed=str(on).lower(),
        )

    return h("div.row-buttons", button("accepted", "✓ Accept"), button("rejected", "✕ Reject"))
