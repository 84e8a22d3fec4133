"""Map: real and generated samples, near ones near; lasso to gallery and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import gradio as gr

from app.components import Grid, PlotMap, View
from app.context import AppContext
from app.controls import controls, keep, settings_from, signal_choices, words
from app.details import cards, sample_panel
from app.render import h, label_of, name_of, percent, view
from app.session import LATEST, QUICK, Session, clicked, polite, text_ids
from ltg_core.errors import LtgError
from ltg_core.jobs import CancelToken, ProgressFn

TITLE = "Map"
ID = "map"

SHOWN = 120
_COLOURS = [
    ("Class", "class"),
    ("Prediction", "prediction"),
    ("Right or wrong", "correct"),
    ("Origin", "origin"),
    ("Verdict", "verdict"),
    ("Belief", "belief"),
]
_PALETTES = {
    "correct": {"right": "#5b8def", "wrong": "#d6336c", "not known": "#b8bec9"},
    "origin": {"real": "#8fa3bf", "generated": "#e8590c"},
    "verdict": {"accepted": "#2b8a3e", "rejected": "#c92a2a", "flagged": "#e67700", "undecided": "#b8bec9"},
    "belief": {"believed": "#1971c2", "quarantined": "#e67700", "real": "#c3cad5"},
}


def build(ctx: AppContext) -> SimpleNamespace:
    """The plot, and beside it what was selected."""
    from ltg_core.embedding.layout import MapSettings

    w = SimpleNamespace(lasso=gr.State([]))
    with gr.Row(elem_classes="two map"):
        with gr.Column(elem_classes="middle"):
            with gr.Row(elem_classes="pager"):
                w.colour = gr.Dropdown(
                    _COLOURS,
                    value="class",
                    label="Colour by",
                    elem_id="map-colour",
                    interactive=True,
                    min_width=160,
                )
                w.draw = gr.Button("Draw the map", variant="primary", elem_id="map-draw", min_width=140)
            w.progress = View(elem_id="map-progress")
            w.plot = PlotMap(
                {
                    "ids": [],
                    "empty": [
                        "No map yet",
                        "Press Draw the map. The first one of a session takes about half a minute.",
                    ],
                },
                elem_id="map-plot",
            )
            w.note = View(elem_id="map-note")
            with gr.Accordion("How it is laid out", open=False):
                w.settings = controls(MapSettings)
        with gr.Column(elem_classes="side wide"):
            w.chosen = View(elem_id="map-chosen")
            w.gallery = Grid(
                {"items": [], "empty": ["Nothing selected", "Draw a lasso around points, or click one."]},
                elem_id="map-gallery",
            )
            w.panel = View(elem_id="map-panel")
    return w


def points(ctx: AppContext, colour: str) -> dict[str, Any]:
    """The last map as the plot wants it; coordinates, ids, colours and hover texts."""
    from ltg_core import workflows

    table = workflows.map_points(ctx.workspace)
    ids = list(table["id"]) if table else []
    if not ids:
        return {
            "ids": [],
            "empty": [
                "No map yet",
                "Press Draw the map. The first one of a session takes about half a minute.",
            ],
        }
    workspace, model = ctx.workspace, ctx.model_hash
    samples = workspace.samples(ids)
    said = workspace.predictions(ids, model) if model else {}
    labels = workspace.label_names()
    texts = []
    for sample in samples:
        guess = said.get(sample.id)
        read = f" → {name_of(guess.pred, labels)} {percent(guess.confidence)}" if guess else ""
        texts.append(f"{label_of(sample, labels)}{read}" + ("" if sample.real else " · generated"))
    value: dict[str, Any] = {
        "ids": ids,
        "x": [round(float(x), 3) for x in table["x"]],
        "y": [round(float(y), 3) for y in table["y"]],
        "generated": [0 if sample.real else 1 for sample in samples],
        "text": texts,
        "label": words(colour),
    }
    return value | _coloured(ctx, colour, samples, said, labels)


def _coloured(
    ctx: AppContext, colour: str, samples: Sequence[Any], said: Mapping[str, Any], labels: Sequence[str]
) -> dict[str, Any]:
    """Names and an index each, or percentiles."""
    if colour not in [value for _, value in _COLOURS]:
        scores = ctx.workspace.scores([s.id for s in samples], ctx.model_hash or "", colour)
        values = [scores[s.id].percentile if s.id in scores else math.nan for s in samples]
        return {
            "colour": [None if v is None or math.isnan(v) else round(v, 1) for v in values],
            "label": f"{words(colour)}, percentile",
        }
    read = {
        "class": lambda s: label_of(s, labels),
        "prediction": lambda s: name_of(said[s.id].pred, labels) if s.id in said else "–",
        "correct": lambda s: {True: "right", False: "wrong", None: "not known"}[
            said[s.id].correct if s.id in said else None
        ],
        "origin": lambda s: "real" if s.real else "generated",
        "verdict": lambda s: s.verdict,
        "belief": lambda s: s.belief or "real",
    }[colour]
    found = [read(sample) for sample in samples]
    order = list(_PALETTES.get(colour, {})) or [*labels, *sorted(set(found) - set(labels))]
    order = [name for name in order if name in set(found)] + sorted(set(found) - set(order))
    value: dict[str, Any] = {"names": order, "colour": [order.index(name) for name in found]}
    if colour in _PALETTES:
        value["palette"] = [_PALETTES[colour].get(name, "#9498a0") for name in order]
    return value


def _note(ctx: AppContext) -> dict[str, Any]:
    """What was sampled or left out, and how many samples are newer than the map."""
    from ltg_core import workflows

    run = next((run for run in ctx.workspace.runs("map") if run.state == "done"), None)
    if run is None:
        return view()
    notes = [str(note) for note in run.result.get("notes", [])]
    placed = len((workflows.map_points(ctx.workspace) or {}).get("id", []))
    missing = ctx.workspace.count() - placed
    lines = [f"{placed:,} samples.", *notes]
    if missing > 0:
        lines.append(f"{missing:,} samples are not on it; draw the map again to place them.")
    return view(
        h(
            "p.soft",
            " ".join(lines)
            + " Round points are real, diamonds generated. Shift adds to a selection, double click clears it.",
        )
    )


def wire(ctx: AppContext, session: Session, widgets: dict[str, SimpleNamespace]) -> None:
    """Connect the events."""
    w = widgets[ID]
    _wire_job(ctx, session, w)
    _wire_selection(ctx, session, w)

    @polite
    def recolour(colour: str) -> Any:
        value = points(ctx, colour)
        button = gr.Button(
            "Draw again" if value["ids"] else "Draw the map",
            variant="secondary" if value["ids"] else "primary",
        )
        return {w.plot: gr.update(value=value), w.note: _note(ctx), w.draw: button}

    @polite
    def refresh(colour: str) -> Any:
        offered = [*_COLOURS, *signal_choices(ctx)]
        colour = keep(colour, offered, "class")
        return {w.colour: gr.Dropdown(offered, value=colour)} | recolour(colour)

    w.colour.input(recolour, w.colour, [w.plot, w.note, w.draw], **QUICK)
    w.refresh, w.refresh_inputs, w.refresh_outputs = refresh, w.colour, [w.colour, w.plot, w.note, w.draw]


def _wire_job(ctx: AppContext, session: Session, w: SimpleNamespace) -> None:
    """Draw, follow, cancel."""

    @polite
    def draw(values: dict[Any, Any]) -> Any:
        from ltg_core.embedding.layout import MapSettings

        classifier = ctx.need_classifier()
        settings = settings_from(MapSettings, w.settings, values)
        busy = ctx.latest("map")
        if busy is not None and not busy.ended:
            return gr.skip()

        def work(on_progress: ProgressFn, cancel: CancelToken) -> Any:
            from ltg_core import workflows

            return workflows.map_samples(
                ctx.workspace, classifier, settings, on_progress=on_progress, cancel=cancel
            )

        job = ctx.submit("map", "Drawing the map", work)
        return {
            w.progress: view(ctx.bar(job)),
            w.draw: gr.Button(interactive=False),
        }

    @polite
    def follow(colour: str) -> Any:
        job = ctx.latest("map")
        if job is None:
            return gr.skip()
        shown = ctx.bar(job) if job.state != "done" else None
        return {w.progress: view(shown), w.draw: gr.Button(interactive=job.ended)}

    @polite
    def cancel(event: gr.EventData) -> Any:
        ctx.jobs.cancel(str(clicked(event).get("job")))

    w.draw.click(draw, set(w.settings.values()), [w.progress, w.draw], api_name="map", show_progress="hidden")
    session.beats["map"].change(follow, w.colour, [w.progress, w.draw], **QUICK)
    w.progress.act(cancel, None, None, **QUICK)


def _wire_selection(ctx: AppContext, session: Session, w: SimpleNamespace) -> None:
    """Lasso to gallery, gallery to ring, a point to its neighbours."""
    w.focus_outputs = [w.chosen, w.gallery, w.plot, w.panel, session.sample]

    @polite
    def lasso(event: gr.EventData) -> Any:
        return select(ctx, w, text_ids(clicked(event).get("ids")))

    @polite
    def point(event: gr.EventData) -> Any:
        return focus(ctx, w, session, str(clicked(event).get("id", "")))

    @polite
    def pick(event: gr.EventData) -> Any:
        data = clicked(event)
        sample_id = str(data.get("id", ""))
        ring = text_ids(data.get("ids")) or [sample_id]
        return {
            w.plot: gr.update(highlight=ring),
            w.panel: sample_panel(ctx, sample_id, back=False),
            session.sample: sample_id,
        }

    w.plot.lasso(lasso, None, [w.chosen, w.gallery, w.plot, w.lasso], api_name="lasso", **LATEST)
    w.plot.point(point, None, w.focus_outputs, **LATEST)
    w.gallery.pick(pick, None, [w.plot, w.panel, session.sample], **LATEST)


def select(ctx: AppContext, w: SimpleNamespace, ids: list[str]) -> dict[Any, Any]:
    """What the lasso holds."""
    text = f"{len(ids):,} selected" + (f", the first {SHOWN} shown" if len(ids) > SHOWN else "")
    return {
        w.lasso: ids,
        w.gallery: {
            "items": cards(ctx, ids[:SHOWN]),
            "label": "Selected on the map",
            "empty": ["Nothing selected", "Draw a lasso around points, or click one."],
        },
        w.chosen: view(h("div.count", h("b", text))) if ids else view(),
        w.plot: gr.update(highlight=[]),
    }


def focus(ctx: AppContext, w: SimpleNamespace, session: Session, sample_id: str) -> dict[Any, Any]:
    """One sample: ringed, shown large, with its nearest real neighbours."""
    near = neighbours(ctx, sample_id)
    title = "The sample and its nearest real neighbours" if near else "The sample"
    return {
        session.sample: sample_id,
        w.gallery: {"items": cards(ctx, [sample_id, *near]), "label": title},
        w.chosen: view(h("div.count", h("b", title))),
        w.plot: gr.update(highlight=[sample_id, *near]),
        w.panel: sample_panel(ctx, sample_id, back=False),
    }


def neighbours(ctx: AppContext, sample_id: str, count: int = 6) -> list[str]:
    """Real samples nearest in the classifier's features; none where it was not scored."""
    from ltg_core import workflows
    from ltg_core.data.records import Filter

    classifier = ctx.classifier()
    if classifier is None:
        return []

    def real() -> tuple[list[str], Any]:
        ids = ctx.workspace.query(Filter(origin="real"), limit=20_000)
        return ids, workflows.features(ctx.workspace, classifier, ids)

    try:
        ids, features = ctx.cached("real features", real)
        own = workflows.features(ctx.workspace, classifier, [sample_id])
    except LtgError:
        return []
    distance = ((features - own) ** 2).sum(axis=1)
    return [ids[i] for i in distance.argsort()[: count + 1] if ids[i] != sample_id][:count]
