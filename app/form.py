"""The form of Imagine: its controls, as they are built."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import gradio as gr

from app.components import View
from app.controls import ANY, control, controls
from app.imagining import ABOUT, BALANCE, MOST, OWN_CLASS, WEIGHTS
from ltg_core.guidance.settings import Guidance
from ltg_core.params import specs

DEFAULT = "explore"
"""The preset to begin with."""
# Named here because the registry itself brings torch, and the page should stand before that; a test compares the two.
SIGNALS = (
    "epistemic",
    "logit_variance",
    "entropy",
    "margin",
    "energy",
    "loss",
    "hardness",
    "density",
    "relative_mahalanobis",
    "leverage",
)


def build() -> SimpleNamespace:
    """Controls on the left, what comes out on the right."""
    w = SimpleNamespace(aim=gr.State({}), needs=gr.State({}), about_sources=gr.State(""), large=gr.State(""))
    w.told = gr.State("")
    with gr.Row(elem_classes="two"):
        with gr.Column(elem_classes="rail wide"):
            w.source = View(elem_id="imagine-source")
            w.label = gr.Dropdown(
                class_names([]),
                value=ANY,
                label="Class",
                elem_id="imagine-class",
                interactive=True,
            )
            w.prompt = gr.Textbox(
                label="Prompt",
                lines=2,
                max_length=500,
                elem_id="imagine-prompt",
                placeholder="a photo of a stop sign at night in fog; empty for the plain one of the class",
            )
            _presets(w)
            _numbers(w)
            _settings(w)
            w.estimate = View(elem_id="imagine-estimate")
            with gr.Row():
                w.start = gr.Button("Imagine", variant="primary", elem_id="imagine-start")
                w.cancel = gr.Button("Cancel", elem_id="imagine-cancel", interactive=False)
        with gr.Column(elem_classes="middle"):
            w.progress = View(elem_id="imagine-progress")
            w.runs = gr.Dropdown(
                [], label="Shown run", visible=False, interactive=True, elem_id="imagine-runs"
            )
            w.results = View(elem_id="imagine-results")
    return w


def _presets(w: SimpleNamespace) -> None:
    """What to look for, what that is for, and what it alone needs."""
    w.preset = gr.Dropdown(
        [(title, name) for name, (title, _) in ABOUT.items()],
        value=DEFAULT,
        label="What to look for",
        elem_id="imagine-preset",
    )
    w.about = View(elem_id="imagine-about")
    w.toward = gr.Dropdown(
        [("A rarer one of its own class", OWN_CLASS)],
        value=OWN_CLASS,
        label="Turn it into",
        elem_id="imagine-toward",
        visible=False,
        interactive=True,
    )
    w.weights = gr.Textbox(
        WEIGHTS,
        label="Weights",
        info="One frame each; 0 is the searched image without a push",
        max_length=100,
        elem_id="imagine-weights",
        visible=False,
    )


def _numbers(w: SimpleNamespace) -> None:
    w.number = gr.Slider(1, MOST, value=8, step=1, label="Images", elem_id="imagine-number")
    with gr.Row():
        w.seed = gr.Number(
            0,
            label="Seed",
            precision=0,
            minimum=0,
            maximum=2**31 - 1,
            elem_id="imagine-seed",
            min_width=100,
            scale=3,
        )
        w.dice = gr.Button("New", size="sm", elem_classes="quiet", min_width=60, scale=1)


def _settings(w: SimpleNamespace) -> None:
    """The strength, and all the rest folded away."""
    by_name = {spec.name: spec for spec in specs(Guidance)}
    weight = control(by_name["weight"])
    weight.label, weight.info, weight.maximum = "Strength", "Push along the gradient; 0 for none", 10
    with gr.Accordion("All settings", open=False, elem_id="imagine-all"):
        w.negative = gr.Textbox(
            label="Negative prompt", max_length=500, placeholder="what it should not show"
        )
        rest = {"signal": list(SIGNALS)}
        made = controls(Guidance, choices=rest, without=("weight", "toward"))
        w.settings = {**made, "weight": weight, "toward": w.toward}
        for name, box in w.settings.items():
            box.elem_id = f"imagine-{name.replace('_', '-')}"


def class_names(names: Sequence[str]) -> list[tuple[str, str]]:
    """The classes to choose from."""
    several = [("All classes in turn", ANY), ("Rare classes more often, to balance them", BALANCE)]
    return [*several, *[(name, name) for name in names]]
