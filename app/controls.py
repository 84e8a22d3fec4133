"""Controls derived from declarations, and the choices that several tabs offer."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.context import AppContext
from ltg_core.params import Params, Spec, specs

ANY = "any"
PAGE = 60


def control(spec: Spec, choices: list[str] | None = None) -> gr.components.Component:
    """One control for one parameter: a tick, a choice, a slider or a number."""
    label = spec.name.replace("_", " ").capitalize()
    options = list(spec.choices) or choices
    if options:
        return gr.Dropdown(options, value=spec.default, label=label, info=spec.help)
    if spec.kind is bool:
        return gr.Checkbox(spec.default, label=label, info=spec.help)
    if spec.kind is str:
        return gr.Textbox(spec.default, label=label, info=spec.help, max_length=500)
    whole = spec.kind is int
    if spec.low is not None and spec.high is not None and spec.high <= 1000:
        step = 1 if whole else (0.01 if spec.high <= 2 else 0.1)
        return gr.Slider(spec.low, spec.high, value=spec.default, step=step, label=label, info=spec.help)
    return gr.Number(
        spec.default,
        label=label,
        info=spec.help,
        precision=0 if whole else None,
        minimum=spec.low,
        maximum=spec.high,
    )


def controls(
    cls: type[Params], *, choices: dict[str, list[str]] | None = None, without: tuple[str, ...] = ()
) -> dict[str, gr.components.Component]:
    """All controls of a settings class, by field name, but for those that stand elsewhere."""
    wanted = [spec for spec in specs(cls) if spec.name not in without]
    return {spec.name: control(spec, (choices or {}).get(spec.name)) for spec in wanted}


def settings_from(cls: type[Params], made: dict[str, Any], values: dict[Any, Any]) -> Params:
    """The settings that the controls show.

    Raises:
        ParamError: A value out of bounds.
    """
    return cls.from_dict(
        {name: values[widget] for name, widget in made.items() if values[widget] is not None}
    )


def class_choices(ctx: AppContext, *, any_: bool = True) -> list[tuple[str, str]]:
    """Classes for a dropdown: (name, index as text)."""
    names = [(name, str(index)) for index, name in enumerate(ctx.workspace.label_names())]
    return [("Any", ANY), *names] if any_ else names


def signal_choices(ctx: AppContext) -> list[tuple[str, str]]:
    """Signals that have scores: (words, name)."""
    names = ctx.workspace.score_names(ctx.model_hash) if ctx.model_hash else []
    order = (
        "epistemic",
        "entropy",
        "margin",
        "energy",
        "loss",
        "hardness",
        "density",
        "relative_mahalanobis",
    )
    ranked = sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))
    return [(words(name), name) for name in ranked]


def words(name: str) -> str:
    """A registry name for people."""
    return name.replace("_", " ").capitalize()


def origin_choices(ctx: AppContext) -> list[tuple[str, str]]:
    """Where samples come from: (words, value)."""
    runs = [
        (f"Run of {run_time(run.started)} ({run.settings.get('preset') or 'generated'})", run.id)
        for run in ctx.workspace.runs("generate")[:30]
    ]
    return [("Any", ANY), ("Real", "real"), ("Generated", "generated"), *runs]


def run_time(seconds: float) -> str:
    """Local time for a list."""
    import time

    return time.strftime("%d %b %H:%M:%S", time.localtime(seconds))


def given(value: Any) -> Any:
    """A dropdown's value with "any" as None."""
    return None if value in (None, "", ANY) else value


def whole(value: Any) -> int | None:
    """A dropdown's index, None for any."""
    chosen = given(value)
    return int(chosen) if chosen is not None else None


def keep(value: Any, choices: list[tuple[str, str]], default: Any) -> Any:
    """The old value where it is still offered."""
    return value if value in [v for _, v in choices] else default
