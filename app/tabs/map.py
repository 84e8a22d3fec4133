"""Map: real and generated samples, near ones near; lasso to gallery and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import gradio as gr

from app import drawing, plots
from app.brief import whole
from app.components import Grid, PlotMap, View
from app.context import AppContext
from app.controls import controls, keep
from app.details import cards, sample_panel
from app.drawing import drawn
from app.imagining import COUNTERFACTUAL
from app.picked import Picked, chosen_view, near_view
from app.places import Arrival, kept
from app.session import CARRIED, LATEST, QUICK, Session, clicked, polite, text_ids
from app.tabs import explain, imagine
from ltg_core.errors import InputError, LtgError

TITLE = "Map"
ID = "map"

FIRST = "class"
"""What the points are coloured by at first."""
SHOWN = 60
NEAR = 8
_NOTHING = ["Nothing selected", "Draw a lasso around points, or click one. Shift adds, Ctrl removes."]
_SENT = 500  # of a selection to another tab; nobody looks at more


def build(ctx: AppContext) -> SimpleNamespace:
    """The plot, and beside it what was selected."""
    from ltg_core.embedding.layout import MapSettings

    w = SimpleNamespace(picked=gr.State(Picked()), sent=gr.State({}))
    with gr.Row(elem_classes="two map"):
        with gr.Column(elem_classes="middle"):
            with gr.Row(elem_classes="pager"):
                w.colour = gr.Dropdown(
                    plots.PLAIN,
                    value=FIRST,
                    label="Colour by",
                    elem_id="map-colour",
                    interactive=True,
                    min_width=160,
                )
                w.draw = gr.Button("Draw the map", variant="primary", elem_id="map-draw", min_width=140)
            w.progress = View(elem_id="map-progress")
            w.plot = PlotMap(plots.EMPTY, elem_id="map-plot")
            w.note = View(elem_id="map-note")
            with gr.Accordion("How it is laid out", open=False):
                w.settings = controls(MapSettings)
        with gr.Column(elem_classes="side wide"):
            w.chosen = View(elem_id="map-chosen")
            w.tag = gr.Textbox(
                show_label=False,
                placeholder="Tag these samples, for example: fog, check",
                max_length=300,
                submit_btn="Tag",
                visible=False,
                elem_id="map-tag",
            )
            w.gallery = Grid({"items": [], "empty": _NOTHING}, elem_id="map-gallery")
            w.panel = View(elem_id="map-panel")
    w.selected = [w.picked, w.chosen, w.tag, w.gallery]
    return w


def wire(ctx: AppContext, session: Session, widgets: dict[str, SimpleNamespace]) -> None:
    """Connect the events."""
    w = widgets[ID]
    drawing.wire(ctx, session, w)
    _wire_selection(ctx, session, w)
    _wire_actions(ctx, session, widgets)

    @polite
    def recolour(colour: str, sent: dict[str, str]) -> Any:
        told = kept(ID, {"by": colour if colour != FIRST else ""})
        return drawn(ctx, w, colour, sent) | {session.address: told}

    @polite
    def refresh(colour: str, sent: dict[str, str]) -> Any:
        offered = plots.colour_choices(ctx)
        colour = keep(colour, offered, FIRST)
        return {w.colour: gr.Dropdown(offered, value=colour)} | drawn(ctx, w, colour, sent)

    def arrive(values: dict[Any, Any], arrival: Arrival) -> dict[Any, Any]:
        offered = plots.colour_choices(ctx)
        names = [value for _, value in offered]
        wanted = whole(arrival.of(ID).get("by", FIRST), names)
        if wanted not in names:
            gr.Warning("The map cannot be coloured as this address says.", duration=8)
        colour = wanted if wanted in names else FIRST
        return {w.colour: gr.Dropdown(offered, value=colour)} | drawn(ctx, w, colour, values[w.sent])

    shown = [w.plot, w.note, w.draw, w.sent]
    w.colour.input(recolour, [w.colour, w.sent], [*shown, session.address], **LATEST)
    w.arrive, w.arrive_inputs, w.arrive_outputs = arrive, {w.sent}, [w.colour, *shown]
    w.refresh, w.refresh_inputs = refresh, [w.colour, w.sent]
    w.refresh_outputs = [w.colour, *shown]
    w.always = True  # a verdict that was given elsewhere is a colour here


def _wire_selection(ctx: AppContext, session: Session, w: SimpleNamespace) -> None:
    """Lasso to gallery, gallery to ring, a point to its neighbours."""
    w.focus_outputs = [*w.selected, w.plot, w.panel, session.sample]

    @polite
    def lasso(picked: Picked, event: gr.EventData) -> Any:
        return select(ctx, w, (picked or Picked()).with_ids(text_ids(clicked(event).get("ids"))))

    @polite
    def point(event: gr.EventData) -> Any:
        return look(ctx, w, session, str(clicked(event).get("id", "")))

    @polite
    def pick(event: gr.EventData) -> Any:
        data = clicked(event)
        found = look(ctx, w, session, str(data.get("id", "")))
        several = text_ids(data.get("ids"))
        return found | ({w.plot: gr.update(highlight=several)} if len(several) > 1 else {})

    @polite
    def near(event: gr.EventData) -> Any:
        data = clicked(event)
        return look(ctx, w, session, str(data.get("id", ""))) if data.get("name") == "near" else gr.skip()

    looked = [w.plot, w.panel, session.sample]
    w.plot.lasso(lasso, w.picked, [*w.selected, w.plot], api_name="lasso", **CARRIED)
    w.plot.point(point, None, looked, **CARRIED)
    w.gallery.pick(pick, None, looked, **CARRIED)
    w.panel.act(near, None, looked, **CARRIED)


def _wire_actions(ctx: AppContext, session: Session, widgets: dict[str, SimpleNamespace]) -> None:
    """What can be done with a selection."""
    w = widgets[ID]

    @polite
    def act(picked: Picked, methods: list[str], event: gr.EventData) -> Any:
        data, picked = clicked(event), picked or Picked()
        name = str(data.get("name"))
        if name == "explain":
            return explain.open_on(ctx, session, picked.ids[:_SENT], methods)
        if name == "imagine":
            real = real_of(ctx, picked.ids)
            about = f"{len(real):,} real samples selected on the map"
            number = min(len(real), 8)
            return imagine.aim(
                ctx,
                widgets[imagine.ID],
                session,
                sources=real,
                about=about,
                preset=COUNTERFACTUAL,
                number=number,
            )
        new = picked.after(name, data, pages=-(-len(picked.ids) // SHOWN))
        if new == picked:
            return gr.skip()
        return select(ctx, w, new) | (
            {w.plot: gr.update(chosen=list(new.ids))} if new.ids != picked.ids else {}
        )

    @polite
    def tag(text: str, picked: Picked) -> Any:
        from ltg_core.curation import verdicts

        tags = [part.strip() for part in (text or "").split(",") if part.strip()]
        if not tags or not picked.ids:
            raise InputError("select samples and write at least one tag; several are separated by commas")
        done = verdicts.tag(ctx.workspace, picked.ids, tags)
        gr.Info(f"{done[:1].upper()}{done[1:]}. Undo in Curate, or with Ctrl+Z there.", duration=6)
        ctx.changed()
        return {w.tag: ""}

    aimed = imagine.aim_outputs(widgets[imagine.ID], session)
    outputs = [session.explained, *aimed, *w.selected, w.plot]
    w.chosen.act(act, [w.picked, widgets[explain.ID].methods], outputs, **CARRIED)
    w.tag.submit(tag, [w.tag, w.picked], w.tag, api_name=False, **QUICK)


def real_of(ctx: AppContext, ids: Sequence[str]) -> list[str]:
    """Real samples of a selection, in its order: generation starts from real ones.

    Raises:
        InputError: There is none.
    """
    from ltg_core.data.records import Filter

    known = set(ctx.workspace.query(Filter(ids=tuple(ids), origin="real")))
    found = [one for one in ids if one in known][:_SENT]
    if not found:
        raise InputError("only generated samples are selected; images are imagined from real ones")
    return found


def select(ctx: AppContext, w: SimpleNamespace, picked: Picked) -> dict[Any, Any]:
    """The selection: its page of the gallery, and what can be done with it."""
    picked = dataclasses.replace(picked, page=min(picked.page, max(0, (len(picked.ids) - 1) // SHOWN)))
    start = picked.page * SHOWN
    wanted = picked.ids[start : start + SHOWN]
    shown = known(ctx, wanted)
    return {
        w.picked: picked,
        w.gallery: {"items": cards(ctx, shown), "label": "Selected on the map", "empty": _NOTHING},
        w.chosen: chosen_view(picked, SHOWN, len(wanted) - len(shown)),
        w.tag: gr.update(visible=bool(picked.ids)),
        w.plot: gr.update(highlight=[]),
    }


def known(ctx: AppContext, ids: Sequence[str]) -> list[str]:
    """Those that are still there."""
    from ltg_core.data.records import Filter

    found = set(ctx.workspace.query(Filter(ids=tuple(ids)))) if ids else set()
    return [one for one in ids if one in found]


def look(ctx: AppContext, w: SimpleNamespace, session: Session, sample_id: str) -> dict[Any, Any]:
    """One sample: ringed, shown large, with its nearest real neighbours."""
    near = neighbours(ctx, sample_id)
    panel = sample_panel(ctx, sample_id, back=False)
    return {
        session.sample: sample_id,
        w.plot: gr.update(highlight=[sample_id, *[one for one, _ in near]]),
        w.panel: {**panel, "k": [*panel["k"][:2], near_view(ctx, near), *panel["k"][2:]]},
    }


def focus(ctx: AppContext, w: SimpleNamespace, session: Session, sample_id: str) -> dict[Any, Any]:
    """One sample from another tab: placed on the map where it is not there yet."""
    from ltg_core import workflows

    ids = plots.ids_of(ctx)
    if ids and sample_id not in set(ids):
        workflows.place_on_map(ctx.workspace, [sample_id])
        ctx.changed()
    return look(ctx, w, session, sample_id)


def neighbours(ctx: AppContext, sample_id: str) -> list[tuple[str, float]]:
    """Real samples nearest in the classifier's features; none where it was not scored."""
    from ltg_core import workflows

    classifier = ctx.classifier()
    if classifier is None:
        return []
    try:
        return workflows.nearest_real(ctx.workspace, classifier, sample_id, NEAR)
    except LtgError:
        return []
