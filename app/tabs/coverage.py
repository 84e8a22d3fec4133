"""Coverage: which classes under which conditions are thin and misread, and a way to aim at them."""

from __future__ import annotations

import json
import random
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import gradio as gr

from app import cells, imagining, pricing
from app.brief import LONGEST, is_brief, whole
from app.components import View
from app.context import AppContext
from app.controls import words
from app.imagining import SLICE
from app.looking import filter_of
from app.places import Arrival, kept
from app.planner import GRID, NEED, cell_of, columns, counted, has_words, place, query_of
from app.query import address
from app.render import Node, empty, h, label_of, view
from app.session import CARRIED, QUICK, Session, clicked, polite
from app.tabs import imagine
from ltg_core.errors import InputError

if TYPE_CHECKING:
    from ltg_core.workflows import Coverage, Order
    from ltg_core.workflows.coverage import Cell

TITLE = "Coverage"
ID = "coverage"

_SHOWN = 8


def build(ctx: AppContext) -> SimpleNamespace:
    """The grid, and beside it one cell."""
    w = SimpleNamespace(mode=gr.State(GRID), cell=gr.State({}))
    with gr.Row(elem_classes="two map coverage-page"):
        with gr.Column(elem_classes="middle"):
            with gr.Row(elem_classes="coverage-head"):
                w.column = gr.Dropdown(
                    [], label="Class by", elem_id="coverage-column", interactive=True, visible=False, scale=0
                )
                w.top = View(elem_id="coverage-top")
            w.grid = View(elem_id="coverage-grid")
        with gr.Column(elem_classes="side"):
            w.panel = View(elem_id="coverage-panel")
    return w


def show(
    ctx: AppContext, w: SimpleNamespace, column: str | None, mode: str, chosen: dict[str, Any]
) -> dict[Any, Any]:
    """Everything on the tab."""
    offered = columns(ctx)
    labels = ctx.workspace.label_names()
    if not offered or not labels:
        return {
            w.column: gr.Dropdown(visible=False),
            w.top: view(),
            w.grid: view(_nothing(ctx)),
            w.panel: view(),
        }
    column = column if column in [name for _, name in offered] else offered[0][1]
    found = counted(ctx, column)
    cell = cell_of(found, labels, chosen)
    drawn = cells.ranking(found, labels) if mode == NEED else cells.grid(found, labels, cell)
    return {
        w.column: gr.Dropdown(offered, value=column, visible=True),
        w.top: _top(mode),
        w.grid: view(cells.legend(found, ranked=mode == NEED), drawn),
        w.panel: _panel(ctx, found, labels, cell),
    }


def arriving(ctx: AppContext, w: SimpleNamespace, arrival: Arrival) -> dict[Any, Any]:
    """The column, the kind of view and the cell that an address names.

    Raises:
        InputError: There is no such column or cell; the rest is shown.
    """
    given, offered = arrival.of(ID), [name for _, name in columns(ctx)]
    mode = NEED if given.get("show") == NEED else GRID
    by = whole(given.get("by", ""), offered)
    column = by if by in offered else next(iter(offered), None)
    chosen, lost = {}, bool(by) and column != by
    if column and given.get("class"):
        found, labels = counted(ctx, column), ctx.workspace.label_names()
        values = (json.dumps(cell.value) for cell in found.cells.values())
        chosen = {
            "label": whole(given["class"], labels),
            "value": whole(given.get("value", ""), values if is_brief(given.get("value", "")) else ()),
        }
        lost = lost or cell_of(found, labels, chosen) is None
    if lost:
        gr.Warning("The column or cell of the coverage that this address names is not here.", duration=8)
    return {w.mode: mode, w.cell: chosen} | show(ctx, w, column, mode, chosen)


def _top(mode: str) -> Node:
    modes = [
        h(
            "button.mode" + (".is-on" if mode == name else ""),
            text,
            act=("show", {"mode": name}),
            type="button",
            aria_pressed=str(mode == name).lower(),
        )
        for name, text in ((GRID, "Grid"), (NEED, "By need"))
    ]
    return view(h("div.modes", *modes))


def _panel(ctx: AppContext, found: Coverage, labels: list[str], cell: Cell | None) -> Node:
    if cell is None:
        return cells.hint(found, labels, _filling(ctx, found, labels))
    chosen = filter_of(ctx, query_of(ctx, found, cell, labels))
    sort = "-confidence" if ctx.model_hash and cell.held else None
    ids = (
        ctx.workspace.query(chosen, sort=sort, limit=_SHOWN)
        if sort
        else ctx.workspace.query(chosen, limit=_SHOWN)
    )
    shown = [(sample.id, label_of(sample, labels)) for sample in ctx.workspace.there(ids)]
    aimed = {found.column: cell.value}
    prompt = imagining.prompt_of(ctx, labels[cell.label], aimed) if ctx.generator_name() is not None else ""
    return cells.panel(found, cell, labels, shown, prompt, by_words=has_words(ctx, found, cell))


def _still(ctx: AppContext, column: str | None) -> Coverage:
    """The grid of a column that was there when the page was drawn, or of the first one.

    Raises:
        InputError: There is none any more.
    """
    offered = [name for _, name in columns(ctx)]
    if not offered:
        raise InputError("there is nothing to plan by any more; import a column or save a slice")
    return counted(ctx, column if column in offered else offered[0])


def _lacking(ctx: AppContext, found: Coverage, labels: list[str]) -> int:
    """Images that all cells lack up to the goal; those of a slice cannot be shared out, for slices overlap."""
    from ltg_core import workflows
    from ltg_core.workflows.coverage import RARE

    if found.column == SLICE or not found.goal:
        return 0
    settings = workflows.BalanceSettings(column=found.column, to=found.goal, rare=RARE)
    key = ("lacking", settings, workflows.stamp(ctx.workspace))
    number: int = ctx.cached(key, lambda: workflows.plan_balance(ctx.workspace, labels, settings).number)
    return number


def _filling(ctx: AppContext, found: Coverage, labels: list[str]) -> Node | None:
    missing = _lacking(ctx, found, labels)
    if not missing or ctx.generator_name() is None:
        return None
    order = _order(ctx, found, min(missing, imagining.MOST), cells.FILLING[0])
    return cells.filling(missing, found.goal, order.number, pricing.told(ctx, order))


def _order(ctx: AppContext, found: Coverage, number: int, preset: str) -> Order:
    from ltg_core import workflows
    from ltg_core.workflows.coverage import RARE

    guidance = imagining.base(preset, imagining.needs_of(ctx)).to_dict()
    seed = random.randrange(2**31)
    filled = {"balance": True, "groups": found.column, "to": found.goal, "rare": RARE}
    return workflows.Order(number, seed, guidance=guidance, preset=preset, **filled)


def _fill(ctx: AppContext, column: str | None, preset: str) -> None:
    """Queue images for what all cells lack.

    Raises:
        InputError: Nothing is missing any more.
    """
    if preset not in cells.FILLING:
        raise InputError(f"cells are filled up by {' or '.join(cells.FILLING)}, not by {preset!r}")
    found = _still(ctx, column)
    missing = _lacking(ctx, found, ctx.workspace.label_names())
    if not missing:
        raise InputError("nothing is missing any more: every cell has as many images as the median cell")
    imagining.submit(ctx, _order(ctx, found, min(missing, imagining.MOST), preset))


def _nothing(ctx: AppContext) -> Node:
    if not ctx.workspace.count():
        return empty("No samples yet", "The demo is being opened, or add a data set under Setup.")
    return empty(
        "Nothing to plan by yet",
        "The planner counts every class under every condition, so it needs a column that says under which condition a "
        "picture was taken: weather, light, camera, site. Give it in a CSV or Parquet manifest (path, label, split and "
        "any other column) and import that under Setup; folders of classes alone do not say it. Slices that you save "
        "in Browse can be the conditions as well.",
    )


def wire(ctx: AppContext, session: Session, widgets: dict[str, SimpleNamespace]) -> None:
    """Connect the events."""
    w, to_imagine = widgets[ID], widgets[imagine.ID]
    shown = [w.column, w.top, w.grid, w.panel]
    state = [w.column, w.mode, w.cell]

    @polite
    def redraw(column: str | None, mode: str, chosen: dict[str, Any]) -> dict[Any, Any]:
        return show(ctx, w, column, mode or GRID, chosen or {})

    def changed(column: str | None, mode: str, chosen: dict[str, Any]) -> dict[Any, Any]:
        """Drawn, and told to the address."""
        told = kept(ID, place(ctx, column, mode, chosen))
        found = {w.mode: mode, w.cell: chosen, session.address: told}
        return found | show(ctx, w, column, mode, chosen)

    @polite
    def turned(column: str | None, mode: str) -> dict[Any, Any]:
        return changed(column, mode or GRID, {})  # the cell was one of another column

    @polite
    def act(column: str | None, mode: str, chosen: dict[str, Any], event: gr.EventData) -> Any:
        data = clicked(event)
        name = data.get("name")
        if name == "show" and data.get("mode") in (GRID, NEED):
            return changed(column, data["mode"], chosen or {})
        if name in ("cell", "overview"):
            wanted = {key: data.get(key) for key in ("label", "value")} if name == "cell" else {}
            return changed(column, mode or GRID, wanted)
        if name == "open":
            return {session.address: _go({"sample": str(data.get("id", ""))[:LONGEST]})}
        if name == "fill":
            _fill(ctx, column, str(data.get("preset")))
            return {
                session.tabs: gr.Tabs(selected=imagine.ID),
                session.address: kept(imagine.ID, {}, show=True),
            }
        if name in ("samples", "errors", "imagine", "from"):
            return _leave(ctx, session, to_imagine, column, data)
        return gr.skip()

    outputs = [*shown, w.mode, w.cell, session.address]
    w.column.input(turned, [w.column, w.mode], outputs, **QUICK)
    for part in (w.top, w.grid, w.panel):
        part.act(act, state, [*outputs, *imagine.aim_outputs(to_imagine, session)], **CARRIED)

    def arrive(values: dict[Any, Any], arrival: Arrival) -> dict[Any, Any]:
        return arriving(ctx, w, arrival)

    w.arrive, w.arrive_inputs = arrive, set()
    w.arrive_outputs = [*shown, w.mode, w.cell]
    w.refresh, w.refresh_inputs, w.refresh_outputs, w.always = redraw, state, shown, True


def _leave(
    ctx: AppContext, session: Session, to_imagine: SimpleNamespace, column: str | None, data: dict[str, Any]
) -> dict[Any, Any]:
    """To the samples of a cell, or to Imagine aimed at it."""
    labels, found = ctx.workspace.label_names(), _still(ctx, column)
    cell = cell_of(found, labels, data)
    if cell is None:
        raise InputError("this cell is no longer there; choose another one")
    if data["name"] in ("samples", "errors"):
        query = query_of(ctx, found, cell, labels, wrong=data["name"] == "errors")
        return {session.address: _go(address(query, ""))}
    label = labels[cell.label]
    about = f"{words(found.column).lower()}: {cells.value_text(cell.value)}"
    number, aimed = cell.wanted or 8, {found.column: cell.value}
    if data["name"] == "imagine":
        prompt = imagining.prompt_of(ctx, label, aimed)
        return imagine.aim(
            ctx, to_imagine, session, about=about, label=label, prompt=prompt, number=number, meta=aimed
        )
    chosen = filter_of(ctx, query_of(ctx, found, cell, labels))
    ids = ctx.workspace.query(chosen, limit=imagining.MOST)
    return imagine.aim(
        ctx,
        to_imagine,
        session,
        sources=ids,
        about=about,
        preset="hard but believable",
        label=label,
        prompt=imagining.prompt_of(ctx, label, aimed),
        number=len(ids),
        meta=aimed,
    )


def _go(wanted: dict[str, str]) -> dict[str, Any]:
    return {"set": wanted, "replace": False, "go": True, "at": time.time()}
