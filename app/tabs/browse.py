"""Browse: rank the samples by a signal, narrow them down, see where the classifier errs, look at one."""

from __future__ import annotations

import dataclasses
import time
from types import SimpleNamespace
from typing import Any

import gradio as gr

from app import classes, facets
from app.components import Grid, View
from app.context import AppContext
from app.controls import PAGE, signal_choices, words
from app.details import cards, overview, sample_panel
from app.query import CLASSES, CONFUSION, LONGEST, SAMPLES, Query, address, as_filter, from_address
from app.render import Node, h, view
from app.session import LATEST, Session, clicked, polite

TITLE = "Browse"
ID = "browse"

_ORDERS = [
    ("Confidence, lowest first", "-confidence"),
    ("Confidence, highest first", "confidence"),
    ("Newest", "created"),
]
_HINT = (
    "The rarest come first: the bar below a picture is its percentile. Answers in red are wrong. "
    "Click a picture for all that is known about it, or narrow them down on the left."
)
_MODES = ((SAMPLES, "Samples"), (CONFUSION, "Confusion matrix"), (CLASSES, "By class"))


def build(ctx: AppContext) -> SimpleNamespace:
    """The filters, the samples or what sums them up, the panel."""
    w = SimpleNamespace(query=gr.State(Query()), sample=gr.State(""), opened=gr.State([]))
    with gr.Row(elem_classes="three"):
        with gr.Column(elem_classes="rail"):
            w.sort = gr.Dropdown(
                [("Newest", "created")],
                value="created",
                label="Rank by",
                elem_id="browse-sort",
                interactive=True,
            )
            w.text = gr.Textbox(
                label="Search",
                placeholder="night fog …",
                max_length=LONGEST,
                elem_id="browse-text",
                submit_btn="Find",
            )
            w.facets = View(elem_id="browse-facets")
        with gr.Column(elem_classes="middle"):
            w.count = View(elem_id="browse-count")
            w.grid = Grid({"items": [], "empty": ["Loading …"]}, elem_id="browse-grid")
            w.summary = View(elem_id="browse-summary")
        with gr.Column(elem_classes="side"):
            w.panel = View(elem_id="browse-panel")
    w.shown = [w.query, w.sort, w.text, w.facets, w.count, w.grid, w.summary]
    return w


def orders(ctx: AppContext) -> list[tuple[str, str]]:
    """What the samples can be ranked by: (words, name); a classifier that was just chosen has scored nothing yet."""
    scored = signal_choices(ctx)
    return [*scored, *(_ORDERS if scored else _ORDERS[-1:])]


def show(
    ctx: AppContext, w: SimpleNamespace, query: Query, opened: list[str], sample: str = ""
) -> dict[Any, Any]:
    """Everything that depends on the query; only what is visible travels.

    Raises:
        InputError: A condition on predictions, and there is no classifier.
    """
    offered = orders(ctx)
    rank = query.rank if query.rank in [name for _, name in offered] else offered[0][1]
    chosen = as_filter(query, ctx.workspace.label_names(), ctx.model_hash)
    counts = facets.counted(ctx, chosen)
    pages = max(1, -(-counts.total // PAGE))
    query = dataclasses.replace(query, page=min(query.page, pages))
    if query.shown == SAMPLES:
        grid, summary = _samples(ctx, query, chosen, rank, sample), view()
    else:
        grid, summary = gr.update(visible="hidden"), _summary(ctx, query, chosen, counts, rank)
    return {
        w.query: query,
        w.sort: gr.Dropdown(offered, value=rank),
        w.text: query.text,
        w.facets: facets.rail(ctx, query, chosen, counts, opened),
        w.count: _top(query, counts.total, pages, rank),
        w.grid: grid,
        w.summary: summary,
    }


def _samples(ctx: AppContext, query: Query, chosen: Any, rank: str, sample: str) -> Any:
    """One page of the grid."""
    ids = ctx.workspace.query(chosen, sort=rank, limit=PAGE, offset=(query.page - 1) * PAGE)
    nothing = ["Nothing passes these filters", "Take one of them away, or choose another value."]
    if not ctx.workspace.count():
        nothing = ["No samples yet", "The demo is being opened, or add a data set under Setup."]
    signal = rank if rank not in [name for _, name in _ORDERS] else None
    value = {"items": cards(ctx, ids, signal), "empty": nothing, "label": "Samples, ranked", "focus": sample}
    return gr.update(value=value, visible=True)


def _summary(ctx: AppContext, query: Query, chosen: Any, counts: Any, rank: str) -> Node:
    """The confusion matrix, or the table of classes."""
    from ltg_core import workflows

    labels = ctx.workspace.label_names()
    seen = dict(counts.facet("split")).get("train", 0) if not query.split else 0
    note = None
    if seen or query.split == "train":
        held_out = next((s for s in ("test", "val") if s in ctx.workspace.splits()), "")
        note = h(
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
    if query.shown == CONFUSION:
        return classes.matrix(counts.confusion(len(labels)), labels, note)
    ctx.need_classifier()
    signal = rank if rank in [name for _, name in signal_choices(ctx)] else ""
    rows = workflows.class_table(ctx.workspace, chosen, len(labels), signal)
    return classes.table(rows, labels, query, signal, note)


def _top(query: Query, total: int, pages: int, rank: str) -> Node:
    """The kind of view, how many samples, what narrows them down, the pages."""
    modes = [
        h(
            "button.mode" + (".is-on" if query.shown == mode else ""),
            text,
            act=("show", {"mode": mode}),
            type="button",
            aria_pressed=str(query.shown == mode).lower(),
        )
        for mode, text in _MODES
    ]
    ranked = query.shown == SAMPLES and rank not in [name for _, name in _ORDERS]
    return view(
        h(
            "div.count",
            h("div.modes", *modes),
            h("b", f"{total:,} sample{'s' if total != 1 else ''}"),
            h("span.soft", f"ranked by {words(rank)}" if ranked else ""),
            _pager(query.page, pages) if query.shown == SAMPLES else None,
        ),
        h("div.conditions", *facets.chips(query)),
        h("p.soft.hint", _HINT) if ranked and query.page == 1 and not facets.chips(query) else None,
    )


def _pager(page: int, pages: int) -> Node | None:
    if pages < 2:
        return None

    def step(text: str, to: int, name: str) -> Node:
        there = 1 <= to <= pages
        off = {} if there else {"disabled": "true"}
        return h(
            "button", text, act=("page", {"to": to}) if there else None, type="button", title=name, **off
        )

    return h(
        "div.pages",
        h("span.soft", f"{page:,} of {pages:,}", title="Page"),
        step("←", page - 1, "Previous page"),
        step("→", page + 1, "Next page"),
    )


def changed(query: Query, data: dict[str, Any], labels: list[str]) -> Query | None:
    """The query after a click; None where the click means nothing here."""
    name, text = data.get("name"), {key: str(value)[:LONGEST] for key, value in data.items()}
    if name == "filter":
        return query.toggled(text.get("field", ""), text.get("value", ""))
    if name == "clear":
        return query.cleared()
    if name == "show" and data.get("mode") in [mode for mode, _ in _MODES]:
        return dataclasses.replace(query, shown=text["mode"], page=1)
    if name == "page" and text.get("to", "").isdigit():
        return dataclasses.replace(query, page=max(1, int(text["to"])))
    if name == "sort":
        return dataclasses.replace(query, by=text.get("by", ""))
    if name == "rank":
        return dataclasses.replace(query, shown=SAMPLES, rank=text.get("signal", ""), page=1)
    if name == "errors" and data.get("label") in labels:
        return dataclasses.replace(query, shown=SAMPLES, label=text["label"], answer="wrong", page=1)
    if name == "cell":  # a cell names what it counts; the other conditions stay
        wanted = {key: text.get(key, "") for key in ("label", "prediction", "answer")}
        rank = text.get("rank", query.rank)
        return dataclasses.replace(query, shown=SAMPLES, rank=rank, page=1, **wanted)
    return None


def wire(ctx: AppContext, session: Session, widgets: dict[str, SimpleNamespace]) -> None:
    """Connect the events."""
    w = widgets[ID]
    w.outputs = [*w.shown, session.address]
    _wire_filters(ctx, session, w)
    _wire_samples(ctx, session, w)
    _wire_address(ctx, session, w, set(widgets))

    @polite
    def refresh(query: Query, opened: list[str], sample: str) -> dict[Any, Any]:
        # The query itself stays: a filter that was clicked meanwhile must not be taken back.
        found = show(ctx, w, query or Query(), opened, sample)
        del found[w.query], found[w.text]
        return found | {w.panel: panel(ctx, sample)}

    w.refresh, w.refresh_inputs = refresh, [w.query, w.opened, w.sample]
    w.refresh_outputs = [w.sort, w.facets, w.count, w.grid, w.summary, w.panel]


def panel(ctx: AppContext, sample: str) -> Node:
    """The chosen sample, or how the classifier does."""
    return sample_panel(ctx, sample) if sample else overview(ctx)


def _told(query: Query, sample: str, *, replace: bool = False) -> dict[str, Any]:
    """The value of the address; the time makes two equal ones differ, for the browser may have moved between."""
    return {"set": address(query, sample), "replace": replace, "at": time.time()}


def _wire_filters(ctx: AppContext, session: Session, w: SimpleNamespace) -> None:
    """What changes the query, and the way back to the overview."""
    state = [w.query, w.opened, w.sample]

    def after(query: Query, opened: list[str], sample: str) -> dict[Any, Any]:
        found = show(ctx, w, query, opened, sample)
        return found | {session.address: _told(found[w.query], sample)}

    @polite
    def ranked(rank: str, query: Query, opened: list[str], sample: str) -> dict[Any, Any]:
        return after(dataclasses.replace(query or Query(), rank=str(rank), page=1), opened, sample)

    @polite
    def searched(text: str, query: Query, opened: list[str], sample: str) -> dict[Any, Any]:
        text = " ".join((text or "").split())[:LONGEST]
        return after(dataclasses.replace(query or Query(), text=text, page=1), opened, sample)

    @polite
    def act(query: Query, opened: list[str], sample: str, event: gr.EventData) -> Any:
        data = clicked(event)
        query, opened = query or Query(), list(opened or [])
        if data.get("name") == "unfold":
            name = str(data.get("group", ""))[:LONGEST]
            opened = [one for one in opened if one != name] if name in opened else [*opened[-40:], name]
            return {w.opened: opened, w.facets: _rail(ctx, query, opened)}
        if data.get("name") == "overview":
            return {w.sample: "", w.panel: overview(ctx), session.address: _told(query, "")}
        wanted = changed(query, data, ctx.workspace.label_names())
        return gr.skip() if wanted is None else after(wanted, opened, sample)

    w.sort.input(ranked, [w.sort, *state], w.outputs, **LATEST)
    w.text.submit(searched, [w.text, *state], w.outputs, api_name="browse", **LATEST)
    for part in (w.facets, w.count, w.summary, w.panel):
        part.act(act, state, [*w.outputs, w.opened, w.sample, w.panel], **LATEST)


def _rail(ctx: AppContext, query: Query, opened: list[str]) -> Node:
    chosen = as_filter(query, ctx.workspace.label_names(), ctx.model_hash)
    return facets.rail(ctx, query, chosen, facets.counted(ctx, chosen), opened)


def _wire_samples(ctx: AppContext, session: Session, w: SimpleNamespace) -> None:
    """Choosing a sample."""

    @polite
    def pick(query: Query, before: str, event: gr.EventData) -> dict[Any, Any]:
        sample = str(clicked(event).get("id", ""))
        found = sample_panel(ctx, sample)
        # From one sample to the next is no step to go back to; a hundred arrow keys would fill the history.
        told = _told(query or Query(), sample, replace=bool(before))
        return {session.sample: sample, w.sample: sample, w.panel: found, session.address: told}

    w.grid.pick(pick, [w.query, w.sample], [session.sample, w.sample, w.panel, session.address], **LATEST)


def _wire_address(ctx: AppContext, session: Session, w: SimpleNamespace, tabs: set[str]) -> None:
    """A page that is opened by a link, and the browser's back and forward."""

    @polite
    def arrive(event: gr.EventData) -> dict[Any, Any]:
        data = clicked(event)
        query, sample, tab = from_address(str(data.get("query", "")))
        known = sample if sample and ctx.workspace.count(_only(sample)) else ""
        if sample and not known:
            gr.Warning("The sample that this address names is not in this workspace.", duration=8)
        found = show(ctx, w, query, [], known) | {w.sample: known, w.panel: panel(ctx, known)}
        return found | {session.sample: known, session.tabs: gr.Tabs(selected=tab if tab in tabs else ID)}

    outputs = [*w.shown, w.sample, w.panel, session.sample, session.tabs]
    w.arrived = session.address.go(arrive, None, outputs, **LATEST)


def _only(sample: str) -> Any:
    from ltg_core.data.records import Filter

    return Filter(ids=(sample,))
