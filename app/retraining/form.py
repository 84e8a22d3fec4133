"""The form of Retrain: its controls, as they are built. What a newcomer needs stands open, the rest is folded away."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gradio as gr

from app.components import View
from app.controls import control, controls
from app.retraining.order import (
    DEFAULT,
    LOSS_SETTINGS,
    LOSSES,
    ROLES,
    SAMPLERS,
    SCOPES,
    SEEDS,
    SYNTHETIC,
)
from app.retraining.plan import waiting
from ltg_core.params import specs
from ltg_core.training.settings import MixSettings, TrainSettings

NO_COLUMN = ("None", "")
COLUMNS = {
    "column": ("Condition", "Groups are the pairs of class and value of this column"),
    "weight_column": ("Weight by", "A column from 0 to 1 that multiplies the weight, such as judge"),
    "label_column": (
        "Trust in the label",
        "A column with the probability that a label is right; makes it soft",
    ),
}
"""Settings of the mixture that are a metadata column: title and what it is for."""


def build() -> SimpleNamespace:
    """Controls on the left; on the right what it will learn from, the start, and what was trained."""
    w = SimpleNamespace(confirm=gr.State(""))
    with gr.Row(elem_classes="two retrain"):
        with gr.Column(elem_classes="rail wide"):
            _mixture(w)
            _learning(w)
            _rest(w)
        with gr.Column(elem_classes="middle"):
            w.plan = View(waiting(), elem_id="retrain-plan")
            with gr.Row(elem_classes="retrain-start"):
                w.start = gr.Button("Start retraining", variant="primary", elem_id="retrain-start")
                w.cancel = gr.Button("Cancel", elem_id="retrain-cancel", interactive=False)
            w.progress = View(elem_id="retrain-progress")
            w.trained = View(elem_id="retrain-trained")
    w.choices = [w.mix["synthetic"], w.mix["role"], w.train["scope"], w.loss]
    """What the address keeps."""
    boxes = [
        *w.train.values(),
        *w.mix.values(),
        *(box for some in w.losses.values() for box in some.values()),
    ]
    w.inputs = {w.loss, w.sampler, w.seeds, w.first, w.name, w.generations, *boxes}
    return w


def _mixture(w: SimpleNamespace) -> None:
    by_name = {spec.name: spec for spec in specs(MixSettings)}
    w.mix = {
        "synthetic": gr.Dropdown(
            SYNTHETIC,
            value=DEFAULT["synthetic"],
            label="Generated images",
            info="Beside all real training images",
            elem_id="retrain-synthetic",
        ),
        "role": gr.Dropdown(
            ROLES,
            value=DEFAULT["role"],
            label="Which of them",
            info="A training on the twins says what guidance adds",
            elem_id="retrain-role",
        ),
    }
    weight = control(by_name["synthetic_weight"])
    weight.label, weight.info, weight.maximum = "Weight of a generated image", "A real one has 1", 2
    weight.elem_id = "retrain-weight"
    w.mix["synthetic_weight"] = weight


def _learning(w: SimpleNamespace) -> None:
    def menu(title: str, known: dict[str, tuple[str, str]], value: str, name: str) -> tuple[Any, View]:
        made = gr.Dropdown(
            [(words, key) for key, (words, _) in known.items()],
            value=value,
            label=title,
            elem_id=f"retrain-{name}",
        )
        return made, View(about(known, value), elem_id=f"retrain-about-{name}")

    scope, w.about_scope = menu("What learns", SCOPES, DEFAULT["scope"], "scope")
    w.loss, w.about_loss = menu("Loss", LOSSES, DEFAULT["loss"], "loss")
    w.sampler, w.about_sampler = menu("How often images are shown", SAMPLERS, "instance", "sampler")
    with gr.Row():
        epochs = gr.Number(
            30, label="Epochs at most", precision=0, minimum=1, maximum=10_000, elem_id="retrain-epochs"
        )
        w.seeds = gr.Number(
            3, label="Trainings", precision=0, minimum=1, maximum=SEEDS, elem_id="retrain-seeds"
        )
    w.train = {"scope": scope, "epochs": epochs}


def _rest(w: SimpleNamespace) -> None:
    with gr.Accordion("All settings", open=False, elem_id="retrain-all"):
        w.name = gr.Textbox(
            label="Name",
            placeholder="after classifier, loss and scope",
            max_length=80,
            elem_id="retrain-name",
        )
        w.first = gr.Number(
            0,
            label="First seed",
            info="The others follow it",
            precision=0,
            minimum=0,
            elem_id="retrain-first",
        )
        w.losses = {}
        for loss, settings in LOSS_SETTINGS.items():
            w.losses[loss] = {
                name: gr.Number(
                    default,
                    label=f"{LOSSES[loss][0]}: {name}",
                    info=text,
                    minimum=low,
                    maximum=high,
                    visible=loss == DEFAULT["loss"],
                    elem_id=f"retrain-{loss}-{name}",
                )
                for name, default, low, high, text in settings
            }
        w.generations = gr.Dropdown(
            [],
            value=[],
            multiselect=True,
            label="Only images of these generations",
            info="Empty for all",
            elem_id="retrain-generations",
        )
        for name, (title, text) in COLUMNS.items():
            w.mix[name] = gr.Dropdown(
                [NO_COLUMN], value="", label=title, info=text, elem_id=f"retrain-{name.replace('_', '-')}"
            )
        rest = controls(MixSettings, without=("synthetic", "role", "synthetic_weight", *COLUMNS))
        rest["limit"].label = "Generated images at most"
        w.mix |= rest
        w.train |= controls(TrainSettings, without=("scope", "epochs"))
        for name, box in {**rest, **w.train}.items():
            box.elem_id = box.elem_id or f"retrain-{name.replace('_', '-')}"


def about(known: dict[str, tuple[str, str]], value: str) -> dict[str, Any]:
    """One line on what a choice means."""
    from app.render import h, view

    text = known[value][1] if value in known else ""
    return view(h("p.soft.choice-about", text)) if text else view()
