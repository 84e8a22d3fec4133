"""What a query of Browse looks like: the samples, the line above them, and the views that sum them up."""

from __future__ import annotations

from typing import Any

from app import calibration, classes, facets, slicelist
from app.context import AppContext
from app.controls import signal_choices, words
from app.details import cards
from app.looking import Look
from app.query import CLASSES, CONFUSION, SAMPLES, SIZES, SLICES, Query
from app.render import Node, data_url, h, label_of, view

_HINT = (
    "The rarest come first: the bar below a picture is its percentile. Answers in red are wrong. "
    "Click a picture for all that is known about it; Shift or Ctrl and a click select several."
)
_MODES = ((SAMPLES, "Samples"), (CONFUSION, "Confusion matrix"), (CLASSES, "By class"), (SLICES, "Slices"))


# --- the samples ----------------------------------------------------------------------------------


def samples(ctx: AppContext, seen: Look, focus: str) -> dict[str, Any]:
    """The value of the grid: one page."""
    ids = seen.ranked.ids(seen.first, seen.first + seen.query.size)
    likes = seen.like.of(seen.ranked, seen.first, seen.first + seen.query.size) if seen.like else None
    nothing = ["Nothing passes these filters", "Take one of them away, or choose another value."]
    if not ctx.workspace.count():
        nothing = ["No samples yet", "The demo is being opened, or add a data set under Setup."]
    label = "Samples, the most similar first" if seen.like else "Samples, ranked"
    items = cards(ctx, ids, seen.signal or None, likes)
    return {"items": items, "empty": nothing, "label": label, "focus": focus}


def top(ctx: AppContext, seen: Look) -> Node:
    """The kind of view, how many samples, what narrows them down, the pages."""
    query, n = seen.query, len(seen.ranked)
    if query.shown == SLICES:
        return view(h("div.count", _modes(query)))
    chips = facets.chips(query, seen.slice.name if seen.slice else "")
    shown = query.shown == SAMPLES
    return view(
        h(
            "div.count",
            _modes(query),
            h("b", f"{n:,} sample{'s' if n != 1 else ''}"),
            h("span.soft", f"ranked by {words(seen.signal)}" if shown and seen.signal else ""),
            _pager(query, seen.pages, n) if shown else None,
        ),
        h("div.conditions", *chips),
        _banner(ctx, query.like) if seen.like and shown else None,
        h("p.soft.hint", _HINT) if shown and seen.signal and query.page == 1 and not chips else None,
    )


def _modes(query: Query) -> Node:
    return h(
        "div.modes",
        *[
            h(
                "button.mode" + (".is-on" if query.shown == mode else ""),
                text,
                act=("show", {"mode": mode}),
                type="button",
                aria_pressed=str(query.shown == mode).lower(),
            )
            for mode, text in _MODES
        ],
    )


def _pager(query: Query, pages: int, n: int) -> Node:
    """How many on a page, and the way from page to page."""
    sizes = [
        h(
            "button.size" + (".is-on" if size == query.size else ""),
            str(size),
            act=("size", {"n": size}),
            type="button",
            title=f"{size} pictures on a page",
            aria_pressed=str(size == query.size).lower(),
        )
        for size in SIZES
    ]

    def step(name: str, text: str, to: int, title: str) -> Node:
        off = {} if 1 <= to <= pages else {"disabled": "true"}
        return h(
            f"button.{name}",
            text,
            act=("page", {"to": to}),
            type="button",
            title=title,
            aria_label=title,
            **off,
        )

    field = h(
        "input.page-field", name="page", value=str(query.page), aria_label="Page", key=f"page-{query.page}"
    )
    return h(
        "div.paging",
        h("div.sizes", *sizes) if n > SIZES[0] else None,
        h(
            "div.pages",
            step("previous", "←", query.page - 1, "Previous page (Page Up on the first picture)"),
            field,
            h("span.soft", f"of {pages:,}"),
            step("next", "→", query.page + 1, "Next page (Page Down on the last picture)"),
        )
        if pages > 1
        else None,
    )


def _banner(ctx: AppContext, like: str) -> Node:
    """The picture that the others are compared with, and the way out."""
    from ltg_core import workflows

    path = workflows.picture_of(ctx.workspace, like)
    if path is not None:
        import numpy as np

        from ltg_core.data.images import read_image

        picture = h(
            "img.thumb", src=data_url(np.asarray(read_image(path))), alt="The picture that was searched for"
        )
        text, show = "your picture", None
    else:
        sample = ctx.workspace.sample(like)
        picture = h("img.thumb", src=f"thumb:{like}", alt="The sample that was searched for")
        text = f"this {label_of(sample, ctx.workspace.label_names())}"
        show = h("button.link", "Show it", act=("sample", {"id": like}), type="button")
    return h(
        "div.banner",
        picture,
        h(
            "div",
            h("b", f"Most similar to {text}"),
            h(
                "span.soft",
                "by the classifier's own features; the number below a picture is the cosine, 1 is the same",
            ),
        ),
        show,
        h("button", "Back to the ranking", act=("unlike", {}), type="button"),
    )


# --- what sums them up ----------------------------------------------------------------------------


def summary(ctx: AppContext, seen: Look, undo: slicelist.Undo | None = None) -> Node:
    """The confusion matrix, the table of classes with their calibration, or the slices and what was done to one."""
    from ltg_core import workflows

    query, labels = seen.query, ctx.workspace.label_names()
    signal = query.rank if query.rank in [name for _, name in signal_choices(ctx)] else ""
    if query.shown == SLICES:
        return slicelist.listing(ctx, signal, undo)
    note = _training(ctx, seen)
    if query.shown == CONFUSION:
        return classes.matrix(seen.counts.confusion(len(labels)), labels, note)
    ctx.need_classifier()
    rows = workflows.class_table(ctx.workspace, seen.chosen, len(labels), signal)
    label = labels.index(query.of) if query.of in labels else None
    bins = workflows.reliability(ctx.workspace, seen.chosen, len(labels), label)
    drawn = calibration.diagram(
        bins, f"Calibration: {query.of if label is not None else 'all classes'}", label is not None
    )
    return classes.table(rows, labels, query, signal, note, drawn)


def _training(ctx: AppContext, seen: Look) -> Node | None:
    """That samples are counted which the classifier was trained with."""
    split = seen.query.split
    counted = dict(seen.counts.facet("split")).get("train", 0) if not split else 0
    if not counted and split != "train":
        return None
    held_out = next((s for s in ("test", "val") if s in ctx.workspace.splits()), "")
    return h(
        "p.warn",
        "Training samples are counted, which the classifier has seen. ",
        h(
            "button.link",
            f"Only {words(held_out).lower()}",
            act=("filter", {"field": "split", "value": held_out}),
            type="button",
        )
        if held_out
        else None,
    )
