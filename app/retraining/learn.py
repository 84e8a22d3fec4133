"""Retrain: what is asked for, what it will learn from, the start, and what was trained."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import gradio as gr

from app.context import AppContext
from app.controls import origin_choices
from app.discreet import discreet
from app.retraining import form, order, plan, trained
from app.retraining.order import DEFAULT, LOSSES, ROLES, SAMPLERS, SCOPES, SYNTHETIC
from app.session import LATEST, QUICK, Session, polite
from ltg_core.errors import LtgError

build = form.build
_KNOWN = {
    "synthetic": [value for _, value in SYNTHETIC],
    "role": [value for _, value in ROLES],
    "scope": list(SCOPES),
    "loss": list(LOSSES),
}
"""What the address may say, in the order of ``w.choices``."""


def place(values: Mapping[str, Any]) -> dict[str, str]:
    """What the address keeps of the form."""
    return {
        name: str(values[name]) if str(values[name]) in known and values[name] != DEFAULT[name] else ""
        for name, known in _KNOWN.items()
    }


def chosen(w: SimpleNamespace, values: Mapping[Any, Any]) -> dict[str, Any]:
    """The values that the address keeps, by name."""
    return {name: values[box] for name, box in zip(_KNOWN, w.choices, strict=True)}


def arriving(w: SimpleNamespace, given: Mapping[str, str], now: Mapping[Any, Any]) -> dict[Any, Any]:
    """The controls that an address changes, and the lines about them; what it names and is not here is said."""
    found: dict[Any, Any] = {}
    lost = []
    for (name, known), box in zip(_KNOWN.items(), w.choices, strict=True):
        value = given.get(name, DEFAULT[name])
        if value not in known:
            lost.append(name)
            value = DEFAULT[name]
        if value != now[box]:
            found[box] = value
    if lost:
        gr.Warning(f"What this address names for Retrain is not here: {', '.join(lost)}.", duration=8)
    if not found:
        return {}
    role, values = w.mix["role"], {**now, **found}
    shown = gr.Dropdown(value=values[role], visible=values[w.mix["synthetic"]] != "none")
    return found | explained(w, values) | {role: shown}


def explained(w: SimpleNamespace, values: Mapping[Any, Any]) -> dict[Any, Any]:
    """The line about every choice, and the settings of the chosen loss alone."""
    loss = str(values[w.loss])
    found: dict[Any, Any] = {
        w.about_scope: form.about(SCOPES, str(values[w.train["scope"]])),
        w.about_loss: form.about(LOSSES, loss),
        w.about_sampler: form.about(SAMPLERS, str(values[w.sampler])),
        w.mix["role"]: gr.Dropdown(visible=values[w.mix["synthetic"]] != "none"),
    }
    for name, boxes in w.losses.items():
        found |= {box: gr.Number(visible=name == loss) for box in boxes.values()}
    return found


def explained_outputs(w: SimpleNamespace) -> list[Any]:
    """What ``explained`` changes."""
    boxes = [box for some in w.losses.values() for box in some.values()]
    return [w.about_scope, w.about_loss, w.about_sampler, w.mix["role"], *boxes]


def planned(ctx: AppContext, w: SimpleNamespace, values: Mapping[Any, Any]) -> dict[str, Any]:
    """What stands above the start button; an error says what to do."""
    classifier = ctx.classifier()
    if classifier is None or not ctx.workspace.count():
        return plan.nothing()
    try:
        given = order.arguments(w, values)
        return plan.shown(order.planned(ctx, given), given, classifier.name)
    except LtgError as error:
        return plan.refused(discreet(str(error)))


def offered(ctx: AppContext, w: SimpleNamespace, values: Mapping[Any, Any]) -> dict[Any, Any]:
    """Generations and columns to choose from, as they are now."""
    runs = [(text, value) for text, value in origin_choices(ctx) if value not in ("any", "real", "generated")]
    known = [value for _, value in runs]
    kept = [one for one in values[w.generations] or [] if one in known]
    names = ctx.workspace.meta_columns()
    columns = [form.NO_COLUMN, *[(name[:60], name) for name in names[:300]]]
    found: dict[Any, Any] = {w.generations: gr.Dropdown(runs, value=kept)}
    for name in form.COLUMNS:
        box = w.mix[name]
        found[box] = gr.Dropdown(columns, value=values[box] if values[box] in names else "")
    return found


def offered_outputs(w: SimpleNamespace) -> list[Any]:
    """What ``offered`` changes."""
    return [w.generations, *(w.mix[name] for name in form.COLUMNS)]


def following(ctx: AppContext, w: SimpleNamespace) -> dict[Any, Any]:
    """The progress of the visitor's training, and which buttons make sense."""
    from app.render import view

    job = ctx.followed("retrain")
    if job is None:
        return {w.progress: view(), w.start: gr.Button(START), w.cancel: gr.Button(interactive=False)}
    stops = job.token.cancelled and not job.ended
    return {
        w.progress: view(ctx.bar(job, cancel=False)) if job.state != "done" else view(),
        w.start: gr.Button(START if job.ended else "Add to the queue"),
        w.cancel: gr.Button("Stopping …" if stops else "Cancel", interactive=not job.ended and not stops),
    }


START = "Start retraining"


def wire(ctx: AppContext, session: Session, w: SimpleNamespace, told: Any) -> None:
    """Connect the events; ``told`` makes the value of the address from the form's values."""
    bars = [w.progress, w.start, w.cancel]

    @polite
    def changed(values: dict[Any, Any]) -> dict[Any, Any]:
        return explained(w, values) | {session.address: told(values)}

    @polite
    def count(values: dict[Any, Any]) -> dict[str, Any]:
        return planned(ctx, w, values)

    @polite
    def start(values: dict[Any, Any]) -> Any:
        job = order.submit(ctx, order.arguments(w, values))
        if ctx.before(job):
            gr.Info(f"{job.title}: queued; it starts by itself.", duration=5)
        return following(ctx, w)

    @polite
    def cancel() -> Any:
        job = ctx.followed("retrain")
        if job is not None and not job.ended:
            ctx.jobs.cancel(job.id)
        return following(ctx, w)

    @polite
    def follow() -> Any:
        return following(ctx, w) | {w.trained: trained.listing(ctx)}

    keeping = [*w.choices, w.sampler]
    gr.on(
        [box.input for box in keeping],
        changed,
        set(keeping),
        [*explained_outputs(w), session.address],
        **QUICK,
    )
    numbers = [box for box in w.inputs if box not in (w.name, w.first)]
    gr.on([box.input for box in numbers], count, w.inputs, w.plan, **LATEST)
    w.start.click(start, w.inputs, bars, api_name="retrain", show_progress="hidden")
    w.cancel.click(cancel, None, bars, **QUICK)
    session.beats["retrain"].change(follow, None, [*bars, w.trained], **QUICK)
