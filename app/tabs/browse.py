"""Browse: rank the samples by a signal, narrow them down, see where the classifier errs, look at one or at many."""

from __future__ import annotations

import dataclasses
import time
from types import SimpleNamespace
from typing import Any

import gradio as gr

from app import facets, named, selecting
from app.brief import LONGEST, WHOLE
from app.clicks import changed
from app.components import Grid, Pager, View
from app.context import AppContext
from app.details import overview, sample_panel
from app.looking import filter_of, known, look, orders
from app.places import Arrival
from app.query import SAMPLES, SLICES, Query, address, as_query, from_names, is_id
from app.render import Node, view
from app.session import BESIDE, CARRIED, IN_ORDER, LATEST, Session, clicked, polite, text_ids
from app.slicelist import Undo
from app.steps.paths import uploaded
from app.viewing import samples, summary, top

TITLE = "Browse"
ID = "browse"


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
                placeholder='night "no entry" …',
                max_length=LONGEST,
                elem_id="browse-text",
                submit_btn="Find",
            )
            w.upload = gr.UploadButton(
                "Search by image",
                file_types=["image"],
                size="sm",
                elem_id="browse-upload",
                elem_classes="quiet",
            )
            w.facets = View(elem_id="browse-facets")
        with gr.Column(elem_classes="middle"):
            w.count = Pager(elem_id="browse-count")
            w.progress = View(elem_id="browse-progress")
            selecting.build(w)
            w.grid = Grid({"items": [], "empty": ["Loading …"]}, elem_id="browse-grid")
            w.summary = View(elem_id="browse-summary")
        with gr.Column(elem_classes="side"):
            w.panel = View(elem_id="browse-panel")
    w.shown = [w.query, w.sort, w.text, w.facets, w.count, w.grid, w.summary, w.bar, w.selection]
    return w


def show(
    ctx: AppContext, w: SimpleNamespace, query: Query, opened: list[str], sample: str = ""
) -> dict[Any, Any]:
    """Everything that depends on the query; only what is visible travels.

    Raises:
        InputError: A condition on predictions, and there is no classifier; a slice or picture that is not here.
    """
    seen = look(ctx, query)
    query = dataclasses.replace(query, page=seen.query.page)
    if query.shown == SAMPLES:
        grid, summed = gr.update(value=samples(ctx, seen, sample), visible=True), view()
    else:
        grid, summed = gr.update(visible="hidden"), summary(ctx, seen)
    return {
        w.query: query,
        w.sort: gr.Dropdown(orders(ctx), value=seen.query.rank),
        w.text: query.text,
        w.facets: facets.rail(ctx, query, seen.chosen, seen.counts, opened),
        w.count: top(ctx, seen),
        w.grid: grid,
        w.summary: summed,
        w.bar: view(),
        w.selection: [],
    }


def wire(ctx: AppContext, session: Session, widgets: dict[str, SimpleNamespace]) -> None:
    """Connect the events."""
    w = widgets[ID]
    w.outputs = [*w.shown, session.address]
    w.state = [w.query, w.opened, w.sample]

    def redraw(query: Query, opened: list[str], sample: str) -> dict[Any, Any]:
        return show(ctx, w, query, opened, sample)

    _wire_filters(ctx, session, w)
    _wire_samples(ctx, session, w)
    _wire_slices(ctx, session, w)
    _wire_address(ctx, session, w)
    selecting.wire(ctx, w, redraw)

    @polite
    def refresh(query: Query, opened: list[str], sample: str) -> dict[Any, Any]:
        # The query itself stays: a filter that was clicked meanwhile must not be taken back; so does a selection.
        found = show(ctx, w, query or Query(), opened, sample)
        for part in (w.query, w.text, w.bar, w.selection):
            del found[part]
        if "value" in found[w.grid]:
            found[w.grid]["value"]["again"] = True
        return found

    @polite
    def beside(sample: str) -> Node:
        return panel(ctx, sample)

    w.refresh, w.refresh_inputs = refresh, w.state
    w.refresh_outputs = [w.sort, w.facets, w.count, w.grid, w.summary]
    # By itself and afterwards, so that it is about the sample that was picked while the rest was drawn.
    w.afterwards = (beside, w.sample, w.panel)


def panel(ctx: AppContext, sample: str) -> Node:
    """The chosen sample, or how the classifier does."""
    return sample_panel(ctx, sample) if sample else overview(ctx)


def told(query: Query, sample: str, *, replace: bool = False) -> dict[str, Any]:
    """The value of the address; the time makes two equal ones differ, for the browser may have moved between."""
    return {"set": address(query, sample), "replace": replace, "at": time.time()}


def _wire_filters(ctx: AppContext, session: Session, w: SimpleNamespace) -> None:
    """What changes the query, and the way back to the overview."""

    def after(query: Query, opened: list[str], sample: str) -> dict[Any, Any]:
        found = show(ctx, w, query, opened, sample)
        return found | {session.address: told(found[w.query], sample)}

    @polite
    def ranked(rank: str, query: Query, opened: list[str], sample: str) -> dict[Any, Any]:
        return after(dataclasses.replace(query or Query(), rank=str(rank), like="", page=1), opened, sample)

    @polite
    def searched(text: str, query: Query, opened: list[str], sample: str) -> dict[Any, Any]:
        text = " ".join((text or "").split())[:LONGEST]
        return after(dataclasses.replace(query or Query(), text=text, page=1), opened, sample)

    @polite
    def pictured(path: str, query: Query, opened: list[str], sample: str) -> dict[Any, Any]:
        from ltg_core import workflows

        classifier, ws = ctx.need_classifier(), ctx.workspace
        picture = ctx.machine.reader.picture(uploaded(ctx, path or ""), ws.path / "tmp")
        like = workflows.upload(ws, classifier, picture)
        wanted = dataclasses.replace(query or Query(), shown=SAMPLES, like=like, page=1)
        return after(wanted, opened, sample)

    @polite
    def act(query: Query, opened: list[str], sample: str, selection: list[str], event: gr.EventData) -> Any:
        data = clicked(event)
        query, opened, name = query or Query(), list(opened or []), data.get("name")
        if name == "unfold":
            group = str(data.get("group", ""))[:WHOLE]
            opened = [one for one in opened if one != group] if group in opened else [*opened[-40:], group]
            return {w.opened: opened, w.facets: _rail(ctx, query, opened)}
        if name == "overview":
            return {w.sample: "", w.panel: overview(ctx), session.address: told(query, "")}
        if name == "sample" and is_id(str(data.get("id"))):
            sample = str(data["id"])
            found = {w.sample: sample, session.sample: sample, w.panel: sample_panel(ctx, sample)}
            return found | {session.address: told(query, sample)}
        if name == "ask":
            return selecting.asking(ctx, w, data, selection)
        if name in SLICE_ACTS:
            return slice_act(ctx, w, query, data)
        wanted = changed(query, data, ctx.workspace.label_names())
        if name == "slice-open":
            wanted = opened_slice(ctx, query, str(data.get("id", ""))[:64])
        return gr.skip() if wanted is None else after(wanted, opened, sample)

    w.sort.input(ranked, [w.sort, *w.state], w.outputs, **LATEST)
    w.text.submit(searched, [w.text, *w.state], w.outputs, api_name="browse", **LATEST)
    w.upload.upload(pictured, [w.upload, *w.state], w.outputs, api_name="search_by_image", **LATEST)
    outputs = [*w.outputs, w.opened, w.sample, w.panel, session.sample, w.progress, *w.asking]
    for part in (w.facets, w.count, w.summary, w.panel):
        part.act(act, [*w.state, w.selection], outputs, **CARRIED)


def _rail(ctx: AppContext, query: Query, opened: list[str]) -> Node:
    chosen = filter_of(ctx, query)
    return facets.rail(ctx, query, chosen, facets.counted(ctx, chosen), opened)


def _wire_samples(ctx: AppContext, session: Session, w: SimpleNamespace) -> None:
    """Choosing a sample, or several."""

    @polite
    def pick(before: str, event: gr.EventData) -> Any:
        data = clicked(event)
        sample, ids = str(data.get("id", "")), text_ids(data.get("ids"))
        if not is_id(sample):
            return gr.skip()
        found = {w.selection: ids if len(ids) > 1 else [], w.bar: selecting.bar(ids)}
        # From one sample to the next is no step to go back to; a hundred arrow keys would fill the history.
        # It says nothing else: a page that is being turned meanwhile must not be turned back.
        named = {"set": {"sample": sample}, "only": ["sample"], "replace": bool(before), "at": time.time()}
        shown = {w.panel: sample_panel(ctx, sample), session.address: named}
        return found | shown | {session.sample: sample, w.sample: sample}

    outputs = [session.sample, w.sample, w.panel, session.address, w.selection, w.bar]
    w.grid.pick(pick, w.sample, outputs, **CARRIED)


SLICE_ACTS = (
    "slice-remove",
    "slice-restore",
    "slice-name",
    "slice-keep",
    "find",
    "cause",
    "causes",
    "habits",
)


def slice_act(ctx: AppContext, w: SimpleNamespace, query: Query, data: dict[str, Any]) -> dict[Any, Any]:
    """What the buttons of the slices do, but for opening one."""
    from ltg_core import workflows

    name, slice_id, undo = data.get("name"), str(data.get("id", ""))[:64], None
    found: dict[Any, Any] = {}
    if name == "slice-remove":
        gone = workflows.remove_slice(ctx.workspace, slice_id)
        undo = Undo(f"“{gone}” was removed.", "slice-restore", slice_id)
    elif name == "slice-restore":
        workflows.restore_slice(ctx.workspace, slice_id)
    elif name == "slice-name":
        workflows.rename_slice(ctx.workspace, slice_id, str(data.get("text", "")))
    elif name == "slice-keep":
        workflows.keep_slice(ctx.workspace, slice_id)
    elif name == "habits":
        found[w.progress] = view(ctx.bar(named.find_habits(ctx, str(data.get("column", "")))))
    elif name == "causes":
        found[w.progress] = view(ctx.bar(named.check_causes(ctx)))
    elif name == "cause":
        found[w.progress] = view(ctx.bar(named.check_cause(ctx, slice_id)))
    else:
        job = named.search(ctx, str(data.get("outcome")), str(data.get("words", "")))
        found[w.progress] = view(ctx.bar(job))
    return found | {w.summary: summary(ctx, look(ctx, dataclasses.replace(query, shown=SLICES)), undo)}


def _wire_slices(ctx: AppContext, session: Session, w: SimpleNamespace) -> None:
    """Following the search for weak slices."""

    @polite
    def follow(query: Query) -> Any:
        job, query = ctx.latest("slices"), query or Query()
        if job is None:
            return gr.skip()
        found: dict[Any, Any] = {w.progress: view() if job.state == "done" else view(ctx.bar(job))}
        if job.ended and query.shown == SLICES:
            found[w.summary] = summary(ctx, look(ctx, query))
        return found

    @polite
    def cancel(event: gr.EventData) -> None:
        if clicked(event).get("name") == "cancel":
            ctx.jobs.cancel(str(clicked(event).get("job")))

    session.beats["slices"].change(follow, w.query, [w.progress, w.summary], **IN_ORDER)
    w.progress.act(cancel, None, None, **BESIDE)


def opened_slice(ctx: AppContext, query: Query, slice_id: str) -> Query:
    """The view of a slice's samples; the ranking and the size of a page stay.

    Raises:
        InputError: There is no such slice.
    """
    from ltg_core import workflows

    found = workflows.slice_of(ctx.workspace, slice_id)
    wanted = as_query(found.filter, ctx.workspace.label_names(), slice_id)
    return dataclasses.replace(wanted, rank=query.rank, size=query.size)


def _wire_address(ctx: AppContext, session: Session, w: SimpleNamespace) -> None:
    """A page that is opened by a link, and the browser's back and forward."""

    def arrive(values: dict[Any, Any], arrival: Arrival) -> dict[Any, Any]:
        query, sample = from_names(arrival.given)
        same = values[w.query] == query and values[w.sample] == sample
        if same and arrival.tab != ID and not arrival.first:
            return {}
        there = sample if sample and ctx.workspace.count(_only(sample)) else ""
        if sample and not there:
            gr.Warning("The sample that this address names is not in this workspace.", duration=8)
        query, missing = known(ctx, query)
        if missing:
            gr.Warning(f"A part of this address is left out: {missing}.", duration=8)
        told = {w.sample: there, session.sample: there}
        if arrival.tab != ID:  # drawn when it is shown
            return told | {w.query: query, w.text: query.text, w.selection: [], w.bar: view(), drawn: -1}
        now = ctx.revision
        return told | show(ctx, w, query, [], there) | {w.panel: panel(ctx, there), drawn: now}

    drawn = session.drawn[ID]
    w.arrive, w.arrive_inputs = arrive, {w.query, w.sample}
    w.arrive_outputs = [*w.shown, w.sample, w.panel, session.sample, drawn]


def _only(sample: str) -> Any:
    from ltg_core.data.records import Filter

    return Filter(ids=(sample,))
