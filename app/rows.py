"""The parts of a row of generated images: pictures, words, buttons; and film strips of a sweep."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app.context import AppContext
from app.render import Node, h, label_of, name_of, ordinal, percent

if TYPE_CHECKING:
    from ltg_core.data.records import Prediction, Sample


SCALE = (
    "Guided minus unguided on a fixed scale: grey is no change; black and white are a change by half the pixel range "
    "or more."
)


class Book:
    """Everything that the rows need, read at once."""

    def __init__(self, ctx: AppContext, rows: Sequence[Mapping[str, Any]], focus: str = "") -> None:
        self.focus = focus
        workspace, model = ctx.workspace, ctx.model_hash
        ids = [row[key] for row in rows for key in ("guided", "control") if row.get(key)]
        self.labels = workspace.label_names()
        self.samples = {sample.id: sample for sample in workspace.there(ids)}
        self.said = workspace.predictions(ids, model) if model else {}
        self.paired = any(row.get("control") for row in rows)

    def wrong(self, sample_id: str | None) -> bool | None:
        """Whether the classifier misses the intended class."""
        said: Prediction | None = self.said.get(sample_id or "")
        return None if said is None or said.correct is None else not said.correct


def frames(book: Book, row: Mapping[str, Any]) -> list[Node]:
    """Real, unguided, guided, difference: the same seed; of an unguided run the real sample and the image."""
    guided: Sample = book.samples[row["guided"]]
    control = row.get("control")
    real = row.get("source") or next(iter(guided.meta.get("neighbours") or []), None)
    beside = frame(real, "source" if row.get("source") else "nearest real", "")
    if not control:  # nothing was guided: the image is its own control
        note = ordinal(row.get("percentile"))
        return [beside, frame(guided.id, "unguided", note, main=True, opens=True, focus=book.focus)]
    return [
        beside,
        frame(control, "unguided", ordinal(row.get("percentile_control"))),
        frame(guided.id, "guided", ordinal(row.get("percentile")), main=True, opens=True, focus=book.focus),
        _difference(control, guided.id),
    ]


def frame(
    sample_id: str | None,
    name: str,
    note: str,
    *,
    main: bool = False,
    opens: bool = False,
    focus: str = "",
) -> Node:
    """A picture with its name; one that opens is a button to the large view."""
    shown = h("img", src=f"image:{sample_id}", alt=name) if sample_id else h("div.blank")
    if opens and sample_id:
        shown = h(
            "button.opens" + (".takes-focus" if sample_id == focus else ""),
            shown,
            act=("enlarge", {"id": sample_id}),
            type="button",
            title="Look at it closely",
            aria_label=f"Look closely at the {name} image, {note or 'not ranked'}",
            key=f"open-{sample_id}",
        )
    return h(
        "figure.frame" + (".is-main" if main else ""), shown, h("figcaption", h("span", name), h("b", note))
    )


def _difference(control: str, guided: str) -> Node:
    """Guided minus unguided on a fixed scale, so that a small change looks small.

    Two layers: the style sheet mixes them to 0.5 + guided - unguided, cut at 0 and 1.
    """
    layers = h(
        "div.change",
        h("img", src=f"image:{guided}", alt=""),
        h("img.under", src=f"image:{control}", alt="guided minus unguided"),
    )
    caption = h("figcaption", h("span", "difference"), h("b", "±0.5"), title=SCALE)
    return h("figure.frame", layers, caption)


def head(book: Book, guided: Sample) -> Node:
    """The class that was asked for, the verdict, the belief."""
    verdict = "" if guided.verdict == "undecided" else guided.verdict
    return h(
        "div.row-head",
        h("b", label_of(guided, book.labels)),
        h("span.badge.badge-" + verdict, verdict) if verdict else None,
        h(f"span.badge.badge-{guided.belief}", guided.belief) if guided.belief else None,
    )


def said(book: Book, guided: Sample) -> Node | None:
    """What the classifier takes it for."""
    found = book.said.get(guided.id)
    if found is None:
        return None
    return h(
        f"div.row-said.{'wrong' if found.correct is False else 'right'}",
        h("span.soft", "read as "),
        h("b", name_of(found.pred, book.labels)),
        h("span.soft", f" {percent(found.confidence)}"),
    )


def buttons(guided: Sample) -> Node:
    """Accept, reject, flag, and the sweep of its weight."""

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

    return h(
        "div.row-buttons",
        button("accepted", "✓ Accept"),
        button("rejected", "✕ Reject"),
        button("flagged", "⚑ Flag"),
        h(
            "button.quiet-link",
            "Sweep",
            act=("sweep", {"id": guided.id}),
            type="button",
            title="Draw this image at several weights, as a film strip",
            aria_label="Sweep the weight of this image",
        ),
        h(
            "button.quiet-link",
            "Pin",
            act=("pin", {"id": guided.id, "on": True}),
            type="button",
            title="A case for the report (Tell)",
        ),
    )


# --- film strips ----------------------------------------------------------------------------------------


def strips(book: Book, rows: Sequence[Mapping[str, Any]]) -> list[Node]:
    """One row a seed: unguided, then every weight, with percentile, prediction and belief below each."""
    from ltg_core import workflows

    found = workflows.film_strips([dict(row) for row in rows])
    text = "The seed and everything else stay the same; only the weight grows from left to right."
    return [h("p.soft", text), *[_strip(book, strip) for strip in found]]


def _strip(book: Book, strip: Mapping[str, Any]) -> Node:
    shown = []
    if strip["control"]:
        control = strip["frames"][0].get("percentile_control")
        shown.append(_still(book, strip["control"], "unguided", control, opens=False))
    for row in strip["frames"]:
        shown.append(
            _still(book, row["guided"], f"weight {float(row['weight'] or 0):g}", row.get("percentile"))
        )
    return h(
        "section.strip",
        h(
            "div.strip-head",
            h("b", label_of(book.samples[strip["frames"][0]["guided"]], book.labels)),
            h("span.soft", f"“{strip['prompt']}” · seed {strip['seed']}"),
        ),
        h("div.stills", *shown, tabindex=0, role="group", aria_label=f"Film strip of seed {strip['seed']}"),
        key=f"strip-{strip['seed']}-{strip['label']}",
    )


def _still(book: Book, sample_id: str, name: str, percentile: float | None, *, opens: bool = True) -> Node:
    sample: Sample = book.samples[sample_id]
    known = percentile is not None and not math.isnan(percentile)
    return h(
        f"div.still.v-{sample.verdict}.is-{sample.belief or 'unknown'}",
        frame(sample_id, name, ordinal(percentile), opens=opens, focus=book.focus),
        h("span.still-bar", h("span.meter-fill"), w=f"{percentile:.1f}%" if known else "0%"),
        said(book, sample),
        h(f"span.badge.badge-{sample.belief}", sample.belief, title=sample.belief_reason or "")
        if sample.belief
        else None,
        key=sample_id,
    )
