"""Browse: rank the samples by a signal, narrow them down, look at one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gradio as gr

from app.components import Grid, View
from app.context import AppContext
from app.controls import ANY, PAGE, class_choices, given, keep, origin_choices, signal_choices, whole, words
from app.details import cards, overview, sample_panel
from app.render import h, view
from app.session import LATEST, QUICK, Session, clicked, polite
from ltg_core.errors import InputError

TITLE = "Browse"
ID = "browse"

_RIGHT = [("Any", ANY), ("Right", "right"), ("Wrong", "wrong")]
_VERDICTS = [
    ("Any", ANY),
    ("Accepted", "accepted"),
    ("Rejected", "rejected"),
    ("Flagged", "flagged"),
    ("Undecided", "undecided"),
]
_BELIEF = [("Any", ANY), ("Believed", "believed"), ("Quarantined", "quarantined")]
_ORDERS = [
    ("Confidence, lowest first", "-confidence"),
    ("Confidence, highest first", "confidence"),
    ("Newest", "created"),
]


def build(ctx: AppContext) -> SimpleNamespace:
    """The controls, the grid, the panel."""
    w = SimpleNamespace(page=gr.State(0))
    with gr.Row(elem_classes="three"):
        with gr.Column(elem_classes="rail"):
            w.sort = gr.Dropdown(
                [("Newest", "created")],
                value="created",
                label="Rank by",
                elem_id="browse-sort",
                interactive=True,
            )
            w.label = gr.Dropdown(
                [("Any", ANY)], value=ANY, label="Class", elem_id="browse-class", interactive=True
            )
            w.right = gr.Radio(_RIGHT, value=ANY, label="Prediction is", elem_id="browse-right")
            w.split = gr.Dropdown([("Any", ANY)], value=ANY, label="Split", interactive=True)
            with gr.Accordion("More filters", open=False):
                w.prediction = gr.Dropdown([("Any", ANY)], value=ANY, label="Predicted as", interactive=True)
                w.origin = gr.Dropdown(
                    [("Any", ANY), ("Real", "real"), ("Generated", "generated")],
                    value="real",
                    label="Origin",
                    interactive=True,
                )
                w.verdict = gr.Dropdown(_VERDICTS, value=ANY, label="Verdict", interactive=True)
                w.belief = gr.Dropdown(_BELIEF, value=ANY, label="Belief", interactive=True)
                w.tag = gr.Dropdown([("Any", ANY)], value=ANY, label="Tag", interactive=True)
            w.text = gr.Textbox(
                label="Words",
                placeholder="night fog …",
                max_length=200,
                elem_id="browse-text",
                submit_btn="Find",
            )
            w.reset = gr.Button("Clear filters", size="sm", elem_classes="quiet")
        with gr.Column(elem_classes="middle"):
            with gr.Row(elem_classes="pager"):
                w.count = View(elem_id="browse-count")
                w.previous = gr.Button(
                    "←", size="sm", min_width=44, elem_id="browse-previous", elem_classes="quiet"
                )
                w.next = gr.Button("→", size="sm", min_width=44, elem_id="browse-next", elem_classes="quiet")
            w.grid = Grid({"items": [], "empty": ["Loading …"]}, elem_id="browse-grid")
        with gr.Column(elem_classes="side"):
            w.panel = View(elem_id="browse-panel")
    w.filters = {
        w.sort,
        w.label,
        w.right,
        w.split,
        w.prediction,
        w.origin,
        w.verdict,
        w.belief,
        w.tag,
        w.text,
    }
    return w


def chosen(ctx: AppContext, w: SimpleNamespace, values: dict[Any, Any]) -> Any:
    """The filter that the controls show."""
    from ltg_core.data.records import Filter

    belief = given(values[w.belief])
    right = given(values[w.right])
    return Filter(
        split=given(values[w.split]),
        label=whole(values[w.label]),
        origin=given(values[w.origin]),
        prediction=whole(values[w.prediction]),
        correct=None if right is None else right == "right",
        verdict=given(values[w.verdict]),
        tag=given(values[w.tag]),
        believed=None if belief is None else belief == "believed",
        text=values[w.text] or "",
        model_hash=ctx.model_hash,
    )


def show_page(ctx: AppContext, w: SimpleNamespace, values: dict[Any, Any], number: int) -> dict[Any, Any]:
    """One page of the grid: only what is visible travels."""
    wanted, sort = chosen(ctx, w, values), values[w.sort]
    if ctx.model_hash is None and (wanted.prediction is not None or wanted.correct is not None):
        raise InputError("filters on predictions need a classifier; add one under Setup")
    total = ctx.workspace.count(wanted)
    pages = max(1, -(-total // PAGE))
    number = min(max(0, number), pages - 1)
    signal = sort if sort in [name for _, name in signal_choices(ctx)] else None
    if signal is None and (
        sort not in [v for _, v in _ORDERS] or (sort.endswith("confidence") and not ctx.model_hash)
    ):
        sort = "created"
    ids = ctx.workspace.query(wanted, sort=sort, limit=PAGE, offset=number * PAGE)
    nothing = ["Nothing passes these filters", "Clear one of them, or choose another class."]
    if not ctx.workspace.count():
        nothing = ["No samples yet", "The demo is being opened, or add a data set under Setup."]
    text = f"{total:,} sample{'s' if total != 1 else ''}"
    where = f"page {number + 1} of {pages}" if pages > 1 else ""
    return {
        w.grid: {"items": cards(ctx, ids, signal), "empty": nothing, "label": "Samples, ranked"},
        w.count: view(
            h(
                "div.count",
                h("b", text),
                h("span.soft", f" ranked by {words(signal)}" if signal else ""),
                h("span.soft.where", where),
            )
        ),
        w.page: number,
    }


def choices(ctx: AppContext, w: SimpleNamespace, values: dict[Any, Any]) -> dict[Any, Any]:
    """What the dropdowns offer now; what was chosen stays chosen where it can."""
    sorts = [*signal_choices(ctx), *_ORDERS]
    classes = class_choices(ctx)
    splits = [("Any", ANY), *[(words(s), s) for s in ctx.workspace.splits()]]
    origins = origin_choices(ctx)
    tags = [("Any", ANY), *[(tag, tag) for tag in ctx.workspace.tags()]]
    sort = values[w.sort]
    if sort == "created":  # the first look: the rarest first
        sort = sorts[0][1]
    offered = {w.sort: (sorts, sort, sorts[0][1]), w.label: (classes, values[w.label], ANY)}
    offered |= {w.split: (splits, values[w.split], ANY), w.prediction: (classes, values[w.prediction], ANY)}
    offered |= {w.origin: (origins, values[w.origin], ANY), w.tag: (tags, values[w.tag], ANY)}
    return {box: gr.update(choices=c, value=keep(v, c, d)) for box, (c, v, d) in offered.items()}


def wire(ctx: AppContext, session: Session, widgets: dict[str, SimpleNamespace]) -> None:
    """Connect the events."""
    w = widgets[ID]
    inputs = {*w.filters, w.page}
    page = [w.grid, w.count, w.page]

    @polite
    def refresh(values: dict[Any, Any]) -> dict[Any, Any]:
        offered = choices(ctx, w, values)
        values = {**values, **{box: update["value"] for box, update in offered.items()}}
        return {**offered, **show_page(ctx, w, values, values[w.page]), w.panel: overview(ctx)}

    @polite
    def first_page(values: dict[Any, Any]) -> dict[Any, Any]:
        return show_page(ctx, w, values, 0)

    @polite
    def previous(values: dict[Any, Any]) -> dict[Any, Any]:
        return show_page(ctx, w, values, values[w.page] - 1)

    @polite
    def following(values: dict[Any, Any]) -> dict[Any, Any]:
        return show_page(ctx, w, values, values[w.page] + 1)

    @polite
    def pick(event: gr.EventData) -> dict[Any, Any]:
        sample_id = str(clicked(event).get("id", ""))
        return {session.sample: sample_id, w.panel: sample_panel(ctx, sample_id)}

    def cleared() -> dict[Any, Any]:
        return dict.fromkeys((w.label, w.right, w.split, w.prediction, w.verdict, w.belief, w.tag), ANY) | {
            w.origin: "real",
            w.text: "",
        }

    @polite
    def act(values: dict[Any, Any], event: gr.EventData) -> dict[Any, Any]:
        data = clicked(event)
        name = data.get("name")
        if name == "overview":
            return {w.panel: overview(ctx)}
        if name == "errors":
            index = ctx.workspace.label_names().index(str(data.get("label")))
            change = {w.label: str(index), w.right: "wrong"}
        elif name == "rank":
            change = {w.sort: str(data.get("signal"))}
        else:
            return gr.skip()
        return change | show_page(ctx, w, {**values, **change}, 0)

    w.refresh, w.refresh_inputs = refresh, inputs
    w.refresh_outputs = [*page, w.panel, w.sort, w.label, w.split, w.prediction, w.origin, w.tag]
    for box in (w.sort, w.label, w.right, w.split, w.prediction, w.origin, w.verdict, w.belief, w.tag):
        box.input(first_page, inputs, page, **LATEST)
    w.text.submit(first_page, inputs, page, api_name="browse", **LATEST)
    w.previous.click(previous, inputs, page, **QUICK)
    w.next.click(following, inputs, page, **QUICK)
    w.grid.pick(pick, None, [session.sample, w.panel], **LATEST)
    w.panel.act(act, inputs, [w.panel, w.sort, w.label, w.right, *page], **QUICK)
    cleared_now = w.reset.click(cleared, None, list(w.filters - {w.sort}), **QUICK)
    cleared_now.then(first_page, inputs, page, **QUICK)
