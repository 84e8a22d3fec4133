"""Explain: which pixels move the prediction, or the uncertainty itself; methods side by side."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import gradio as gr

from app.components import View
from app.context import AppContext
from app.controls import words
from app.render import Node, empty, h, label_of, name_of, percent, view
from app.session import QUICK, Session, clicked, polite, text_ids
from ltg_core.errors import InputError
from ltg_core.jobs import CancelToken, Job, ProgressFn

if TYPE_CHECKING:
    from ltg_core.attribution.base import Heatmap

TITLE = "Explain"
ID = "explain"

MOST = 12
# Named here because the registry itself brings torch, and the page should stand before that; a test compares the two.
METHODS = ("integrated_gradients", "grad_cam", "saliency", "occlusion", "gradient_shap")
_DEFAULT = ["integrated_gradients", "grad_cam", "occlusion"]
_QUESTIONS = [
    ("Why this prediction?", "prediction"),
    ("Why this and not its label?", "contrast"),
    ("Why is it unsure?", "signal:entropy"),
]


def build(ctx: AppContext) -> SimpleNamespace:
    """The question above, the answers below."""
    w = SimpleNamespace()
    with gr.Row(elem_classes="two"):
        with gr.Column(elem_classes="rail"):
            w.chosen = View(elem_id="explain-chosen")
            w.target = gr.Dropdown(
                _QUESTIONS, value="prediction", label="Question", elem_id="explain-target", interactive=True
            )
            w.methods = gr.CheckboxGroup(
                [(words(m), m) for m in METHODS], value=_DEFAULT, label="Methods", elem_id="explain-methods"
            )
            w.trust = gr.Checkbox(
                False, label="Check the maps", info="Randomises the network and removes pixels; takes longer."
            )
            w.start = gr.Button("Explain", variant="primary", elem_id="explain-start")
        with gr.Column(elem_classes="middle"):
            w.progress = View(elem_id="explain-progress")
            w.results = View(elem_id="explain-results")
    return w


def wire(ctx: AppContext, session: Session, widgets: dict[str, SimpleNamespace]) -> None:
    """Connect the events."""
    w = widgets[ID]
    _wire_job(ctx, session, w)

    @polite
    def show(ids: list[str]) -> Any:
        return chosen_view(ctx, text_ids(ids))

    @polite
    def refresh(target: str, ids: list[str]) -> Any:
        offered = questions(ctx)
        value = target if target in [v for _, v in offered] else "prediction"
        update: dict[Any, Any] = {
            w.target: gr.Dropdown(offered, value=value),
            w.chosen: chosen_view(ctx, text_ids(ids)),
        }
        if ctx.latest("explain") is None:
            update[w.results] = view(
                empty(
                    "Nothing explained yet",
                    "Choose a sample in Browse or on the Map and press Explain there.",
                )
            )
        return update

    @polite
    def act(ids: list[str], event: gr.EventData) -> Any:
        data = clicked(event)
        if data.get("name") == "cancel":
            ctx.jobs.cancel(str(data.get("job")))
        elif data.get("name") == "remove":
            return [one for one in text_ids(ids) if one != data.get("id")]
        return gr.skip()

    session.explained.change(show, session.explained, w.chosen, **QUICK)
    for part in (w.chosen, w.progress):
        part.act(act, session.explained, session.explained, **QUICK)
    w.refresh, w.refresh_inputs = refresh, [w.target, session.explained]
    w.refresh_outputs = [w.target, w.chosen, w.results]


def _wire_job(ctx: AppContext, session: Session, w: SimpleNamespace) -> None:
    """Start and follow."""
    inputs = {session.explained, w.target, w.methods, w.trust}

    @polite
    def start(values: dict[Any, Any]) -> Any:
        job = submit(
            ctx,
            text_ids(values[session.explained]),
            list(values[w.methods]),
            values[w.target],
            bool(values[w.trust]),
        )
        return {
            w.progress: view(ctx.bar(job)),
            w.start: gr.Button(interactive=False),
        }

    @polite
    def follow() -> Any:
        job = ctx.latest("explain")
        if job is None:
            return gr.skip()
        bar = ctx.bar(job) if job.state != "done" else None
        update: dict[Any, Any] = {w.progress: view(bar), w.start: gr.Button(interactive=job.ended)}
        if job.state == "done":
            update[w.results] = answers(ctx, job.result)
        return update

    w.start.click(start, inputs, [w.progress, w.start], api_name="explain", show_progress="hidden")
    session.beats["explain"].change(follow, None, [w.progress, w.start, w.results], **QUICK)


def questions(ctx: AppContext) -> list[tuple[str, str]]:
    """What can be asked: the prediction, the uncertainty, each class."""
    names = ctx.workspace.score_names(ctx.model_hash) if ctx.model_hash else []
    found = [*_QUESTIONS[:2]]
    found += [
        (f"Why is it unsure? ({words(n)})", f"signal:{n}")
        for n in ("epistemic", "entropy", "margin")
        if n in names
    ]
    return [
        *found,
        *[(f"What speaks for {label}?", f"class:{label}") for label in ctx.workspace.label_names()],
    ]


def submit(ctx: AppContext, ids: list[str], methods: list[str], target: str, trust: bool) -> Job:
    """Check the question, then queue the work."""
    classifier = ctx.need_classifier()
    if not ids:
        raise InputError("no sample is chosen; click one in Browse and press Explain")
    if not methods:
        raise InputError("choose at least one method")
    target = _target(ctx, ids, target)

    def work(on_progress: ProgressFn, cancel: CancelToken) -> Any:
        from ltg_core import workflows

        return workflows.explain(
            ctx.workspace,
            classifier,
            ids[:MOST],
            methods,
            target=target,
            trust=trust,
            on_progress=on_progress,
            cancel=cancel,
        )

    return ctx.submit("explain", "Explaining", work)


def _target(ctx: AppContext, ids: Sequence[str], target: str) -> str:
    """The contrast between prediction and label of the first sample, in words that the workflow reads."""
    if target != "contrast":
        return target
    sample = ctx.workspace.sample(ids[0])
    labels = ctx.workspace.label_names()
    said = ctx.workspace.predictions([ids[0]], ctx.model_hash or "").get(ids[0])
    if said is None or sample.label is None:
        raise InputError("this question needs a sample with a label and a prediction")
    if said.pred == sample.label:
        raise InputError(
            "the prediction is the label; ask why this prediction, or choose a sample that is wrong"
        )
    return f"contrast:{labels[said.pred]}|{labels[sample.label]}"


def chosen_view(ctx: AppContext, ids: list[str]) -> Node:
    """The samples in question."""
    if not ids:
        return view(h("div.sources.is-none", h("span.soft", "No sample chosen. Click one in Browse.")))
    samples = ctx.workspace.samples(ids[:MOST])
    labels = ctx.workspace.label_names()
    said = ctx.workspace.predictions(ids, ctx.model_hash or "")
    rows = []
    for sample in samples:
        guess = said.get(sample.id)
        kind = "wrong" if guess and guess.correct is False else "right"
        read = (
            h(f"span.soft.{kind}", f"read as {name_of(guess.pred, labels)} {percent(guess.confidence)}")
            if guess
            else None
        )
        rows.append(
            h(
                "div.sources",
                h("img.thumb", src=f"thumb:{sample.id}", alt=""),
                h("div", h("b", label_of(sample, labels)), read),
                h("button.link", "Remove", act=("remove", {"id": sample.id}), type="button"),
                key=sample.id,
            )
        )
    return view(*rows)


def answers(ctx: AppContext, heats: Any) -> Node:
    """One row a sample: the picture, then each method's heat over it; the slider fades all of them."""
    found: list[Heatmap] = list(getattr(heats, "heatmaps", heats) or [])
    if not found:
        return view(empty("No map came out"))
    ids = list(dict.fromkeys(heat.sample_id for heat in found))
    slider = h(
        "label.fader",
        h("span", "Overlay"),
        h(
            "input",
            type="range",
            min="0",
            max="1",
            step="0.05",
            value="0.8",
            name="heat",
            aria_label="Overlay",
        ),
    )
    target = found[0].target
    return view(
        h("div.answer-head", h("h3", target[:1].upper() + target[1:]), slider),
        h("p.soft", "Red raises it, blue lowers it; methods without a sign go from clear to dark."),
        *[_row([heat for heat in found if heat.sample_id == one], one) for one in ids],
        classes="answers",
    )


def _row(heats: Sequence[Heatmap], sample_id: str) -> Node:
    frames = [
        h(
            "figure.frame",
            h("img", src=f"image:{sample_id}", alt="sample"),
            h("figcaption", h("span", "sample"), h("b", "")),
        )
    ]
    for heat in heats:
        layers = h(
            "div.heat",
            h("img", src=f"image:{sample_id}", alt=""),
            h("img.over", src=_layer(heat), alt=words(heat.method)),
        )
        notes = " ".join(heat.notes)
        frames.append(
            h(
                "figure.frame",
                layers,
                h("figcaption", h("span", words(heat.method)), h("b", "")),
                h("p.soft.note", notes) if notes else None,
            )
        )
    return h("div.heats", *frames, key=sample_id)


def _layer(heat: Heatmap) -> str:
    """The heat alone as a picture with opacity, so that the browser can fade it."""
    import numpy as np
    from PIL import Image

    from ltg_core.attribution.render import colours, normalised

    level = normalised(heat.values, signed=heat.signed)
    colour = colours(level, signed=heat.signed)
    pixels = np.dstack([colour, np.sqrt(np.abs(level))])
    buffer = io.BytesIO()
    Image.fromarray((pixels * 255).round().clip(0, 255).astype(np.uint8), "RGBA").save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
