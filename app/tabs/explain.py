"""Explain: which pixels move the prediction, a class difference, or the uncertainty itself; methods side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import gradio as gr

from app.answers import NOTHING, answer, chosen_view, job_of, shown
from app.asked import (
    DEFAULT,
    METHODS,
    QUESTIONS,
    SIGNALS,
    Asked,
    clicked_in,
    from_place,
    likely,
    parts,
    place,
    question,
    there,
)
from app.components import Heats, View
from app.context import AppContext
from app.controls import class_choices, words
from app.evidence import method_words
from app.places import Arrival, kept
from app.render import view
from app.session import CARRIED, LATEST, QUICK, Session, clicked, polite

TITLE = "Explain"
ID = "explain"


def build(ctx: AppContext) -> SimpleNamespace:
    """The question above, the answers below."""
    w = SimpleNamespace(asked=gr.State({}), at=gr.State(""), page=gr.State(0), opened=gr.State([]))
    with gr.Row(elem_classes="two"):
        with gr.Column(elem_classes="rail"):
            w.chosen = View(elem_id="explain-chosen")
            w.target = gr.Dropdown(
                QUESTIONS,
                value="prediction",
                label="What to explain",
                elem_id="explain-target",
                interactive=True,
            )
            w.first = gr.Dropdown([], label="Class", elem_id="explain-first", visible=False, interactive=True)
            w.second = gr.Dropdown(
                [], label="Rather than", elem_id="explain-second", visible=False, interactive=True
            )
            w.signal = gr.Dropdown(
                [(words(name), name) for name in SIGNALS],
                value=SIGNALS[0],
                label="Signal",
                elem_id="explain-signal",
                visible=False,
                interactive=True,
            )
            w.methods = gr.CheckboxGroup(
                [(method_words(m), m) for m in METHODS],
                value=list(DEFAULT),
                label="Methods",
                elem_id="explain-methods",
            )
            w.trust = gr.Checkbox(
                False,
                label="Check the maps",
                info="Randomises the network and removes pixels; takes longer.",
                elem_id="explain-trust",
            )
            w.start = gr.Button("Explain", variant="primary", elem_id="explain-start")
        with gr.Column(elem_classes="middle"):
            w.progress = View(elem_id="explain-progress")
            w.results = Heats({"k": [NOTHING]}, elem_id="explain-results")
    w.question = [w.target, w.first, w.second, w.signal]
    w.pages = [w.asked, w.progress, w.results, w.start]
    return w


def wire(ctx: AppContext, session: Session, widgets: dict[str, SimpleNamespace]) -> None:
    """Connect the events."""
    w = widgets[ID]
    w.address = session.address
    w.pages.append(w.address)
    _wire_question(ctx, session, w)
    _wire_job(ctx, session, w)
    _wire_answers(ctx, session, w)
    _wire_address(ctx, session, w)

    @polite
    def refresh(first: str, second: str, ids: list[str]) -> Any:
        classes = class_choices(ctx, any_=False)
        known = [value for _, value in classes]
        return {
            w.first: gr.Dropdown(classes, value=first if first in known else None),
            w.second: gr.Dropdown(classes, value=second if second in known else None),
            w.chosen: chosen_view(ctx, there(ctx, ids)),
        }

    w.refresh, w.refresh_inputs = refresh, [w.first, w.second, session.explained]
    w.refresh_outputs = [w.first, w.second, w.chosen]


def _wire_question(ctx: AppContext, session: Session, w: SimpleNamespace) -> None:
    """The pickers that a question needs, filled with what is likely meant."""

    @polite
    def turned(kind: str, first: str, second: str, ids: list[str]) -> Any:
        classes = class_choices(ctx, any_=False)
        known = [value for _, value in classes]
        guess, label = [value if value in known else None for value in likely(ctx, there(ctx, ids))]
        a, b = (guess, label) if kind == "contrast" else (label or guess, second)
        one, two = first if first in known else a, second if second in known else (b if b != a else None)
        return {
            w.first: gr.Dropdown(classes, visible=kind in ("class", "contrast"), value=one),
            w.second: gr.Dropdown(classes, visible=kind == "contrast", value=two if two in known else None),
            w.signal: gr.Dropdown(visible=kind == "signal"),
        }

    @polite
    def explained(name: str) -> Any:
        from ltg_core.signals import SIGNALS as known

        return gr.Dropdown(info=str(known[name].HELP))

    inputs = [w.target, w.first, w.second, session.explained]
    w.target.change(turned, inputs, [w.first, w.second, w.signal], **LATEST)
    w.signal.input(explained, w.signal, w.signal, **LATEST)


def _wire_job(ctx: AppContext, session: Session, w: SimpleNamespace) -> None:
    """Start and follow."""
    inputs = {session.explained, *w.question, w.methods, w.trust}

    def asked(values: dict[Any, Any]) -> Asked:
        methods = tuple(name for name in METHODS if name in (values[w.methods] or []))
        target = question(ctx, *(values[part] for part in w.question))
        return Asked(tuple(there(ctx, values[session.explained])), methods, target)

    @polite
    def start(values: dict[Any, Any]) -> Any:
        new = asked(values)
        return answer(ctx, w, new, new.methods if values[w.trust] else ())

    @polite
    def follow(now: Asked) -> Any:
        job = job_of(ctx, now)
        return gr.skip() if job is None else shown(ctx, w, now, job, again=True)

    w.start.click(start, inputs, w.pages, api_name="explain", show_progress="hidden")
    session.beats["explain"].change(follow, w.asked, w.pages, **QUICK)


def _wire_answers(ctx: AppContext, session: Session, w: SimpleNamespace) -> None:
    """What is clicked in the table, and in the selection."""

    @polite
    def act(now: Asked, event: gr.EventData) -> Any:
        data, now = clicked(event), now or Asked()
        if data.get("name") == "cancel":
            ctx.jobs.cancel(str(data.get("job")))
            return gr.skip()
        if data.get("name") == "remove":
            left = tuple(one for one in there(ctx, list(now.ids)) if one != data.get("id"))
            return selected(ctx, session, w, dataclasses.replace(now, ids=left, opened=None))
        if data.get("name") == "instead":
            used, new = str(data.get("of")), str(data.get("method"))
            methods = [new if name == used else name for name in now.methods]
            return {w.methods: methods} | answer(ctx, w, dataclasses.replace(now, methods=tuple(methods)))
        if data.get("name") == "ask":
            target = str(data.get("target"))
            return {w.target: target} | answer(ctx, w, dataclasses.replace(now, target=target))
        new, checked = clicked_in(now, data)
        step = data.get("name") == "step"
        return gr.skip() if new == now and not checked else answer(ctx, w, new, checked, replace=step)

    outputs = [session.explained, w.chosen, w.methods, w.target, *w.pages]
    for part in (w.chosen, w.progress, w.results):
        part.act(act, w.asked, outputs, **CARRIED)


def open_on(ctx: AppContext, session: Session, ids: Sequence[str], methods: Sequence[str]) -> dict[Any, Any]:
    """Open this tab on samples (outputs: ``session.explained``, ``session.address``); the page follows the address."""
    asked = Asked(tuple(ids), tuple(name for name in METHODS if name in methods) or DEFAULT)
    told = kept(ID, place(asked, ctx.workspace.label_names()), go=True)
    return {session.explained: list(ids), session.address: told}


def selected(ctx: AppContext, session: Session, w: SimpleNamespace, asked: Asked) -> dict[Any, Any]:
    """Another selection: it is answered at once."""
    ids = list(asked.ids)
    update: dict[Any, Any] = {session.explained: ids, w.chosen: chosen_view(ctx, ids)}
    if ids:
        return update | answer(ctx, w, asked)
    told = kept(ID, {})
    return update | {w.asked: asked, w.results: {"k": [NOTHING]}, w.progress: view(), w.address: told}


def _wire_address(ctx: AppContext, session: Session, w: SimpleNamespace) -> None:
    """What an address asks is answered, with the pickers set accordingly."""

    def arrive(values: dict[Any, Any], arrival: Arrival) -> dict[Any, Any]:
        given, now = arrival.of(ID), values[w.asked] or Asked()
        wanted = from_place(ctx, given, values[session.explained]) if given.get("of") else Asked()
        if not wanted.ids and not now.ids:
            return {}
        found = selected(ctx, session, w, wanted)
        if not wanted.ids:
            return found
        labels, choices = ctx.workspace.label_names(), class_choices(ctx, any_=False)
        kind, first, second, signal = parts(labels, wanted.target)
        one, two = (str(labels.index(name)) if name in labels else None for name in (first, second))
        return found | {
            w.methods: list(wanted.methods),
            w.target: kind,
            w.first: gr.Dropdown(choices, value=one, visible=kind in ("class", "contrast")),
            w.second: gr.Dropdown(choices, value=two, visible=kind == "contrast"),
            w.signal: gr.Dropdown(value=signal or SIGNALS[0], visible=kind == "signal"),
        }

    w.arrive, w.arrive_inputs = arrive, {w.asked, session.explained}
    w.arrive_outputs = [session.explained, w.chosen, w.methods, *w.question, *w.pages]
