"""Retrain and prove: copies of the classifier learn, by hand or in rounds, and are compared on real images."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import gradio as gr

from app import imagining
from app.components import View
from app.context import AppContext
from app.places import Arrival, kept
from app.render import Node, h, view
from app.retraining import learn, order, practise, prove, trained, using
from app.session import CARRIED, EVERY, QUICK, Session, clicked, polite
from ltg_core.errors import InputError

TITLE = "Retrain"
ID = "retrain"
LEARN, PROVE, PRACTISE = "retrain", "compare", "practise"
_PARTS = {LEARN: "Retrain", PROVE: "Compare", PRACTISE: "Practise"}


def build(ctx: AppContext) -> SimpleNamespace:
    """Three parts of which one is shown, and above them the question whether to use a classifier."""
    w = SimpleNamespace(part=gr.State(LEARN))
    with gr.Row(elem_classes="retrain-head"):
        w.top = View(top(LEARN), elem_id="retrain-top")
    w.use = using.build()
    with gr.Column(elem_id="retrain-learn"):  # the style sheet shows one of them
        w.learn = learn.build()
    with gr.Column(elem_id="retrain-prove"):
        w.prove = prove.build()
    with gr.Column(elem_id="retrain-practise"):
        w.practise = practise.build()
    w.progress = w.learn.progress  # its buttons are the queue's
    return w


def top(part: str) -> Node:
    """The parts, of which one is on."""
    return view(
        h(
            "div.modes",
            *[
                h(
                    "button.mode" + (".is-on" if name == part else ""),
                    text,
                    act=("part", {"part": name}),
                    type="button",
                    aria_pressed="true" if name == part else "false",
                )
                for name, text in _PARTS.items()
            ],
            role="group",
            aria_label="Parts of this tab",
        ),
        classes=f"shows-{part}",
    )


def turn_to(w: SimpleNamespace, part: str) -> dict[Any, Any]:
    """One of the parts is shown."""
    return {w.part: part, w.top: top(part)}


def _place(
    ctx: AppContext, w: SimpleNamespace, part: str, values: Mapping[Any, Any], run: str, arm: int
) -> dict[str, str]:
    """What the address keeps: the part, and what is chosen in it."""
    if part == PROVE:
        return {"part": PROVE, **prove.place(ctx, run, arm)}
    if part == PRACTISE:
        return {"part": PRACTISE}
    return learn.place(learn.chosen(w.learn, values))


def wire(ctx: AppContext, session: Session, widgets: dict[str, SimpleNamespace]) -> None:
    """Connect the events."""
    w = widgets[ID]
    w.turned = [w.part, w.top]
    using.wire(ctx, session, w.use)
    learn.wire(ctx, session, w.learn, lambda values: kept(ID, learn.place(learn.chosen(w.learn, values))))
    prove.wire(ctx, session, w.prove, w.use, lambda state: kept(ID, {"part": PROVE, **state}))
    practise.wire(ctx, session, w.practise)
    _wire_parts(ctx, session, w)
    _wire_list(ctx, session, w)
    _wire_rounds(ctx, session, w)
    _wire_address(ctx, w)


def _wire_parts(ctx: AppContext, session: Session, w: SimpleNamespace) -> None:
    """Which part is shown, and everything as it is now when the tab is."""
    state = {w.part, w.use.asked, w.prove.run, w.prove.arm, *w.learn.inputs, *w.prove.inputs}

    @polite
    def act(values: dict[Any, Any], event: gr.EventData) -> Any:
        data = clicked(event)
        if data.get("name") != "part" or data.get("part") not in _PARTS:
            return gr.skip()
        given = _place(ctx, w, data["part"], values, values[w.prove.run], values[w.prove.arm])
        return turn_to(w, data["part"]) | {session.address: kept(ID, given)}

    @polite
    def refresh(values: dict[Any, Any]) -> dict[Any, Any]:
        return drawn(ctx, w, values)

    @polite
    def count(values: dict[Any, Any]) -> Any:
        if values[w.part] != PRACTISE:
            return {w.learn.plan: learn.planned(ctx, w.learn, values)}
        if not practise.under_way(ctx):
            imagining.measure(ctx)
        return {w.practise.plan: practise.planned(ctx, w.practise, values)}

    @polite
    def timed(values: dict[Any, Any]) -> Any:
        return count(values) if values[w.part] == PRACTISE else gr.skip()

    outputs = drawn_outputs(w)
    counted = {w.part, *w.learn.inputs, *w.practise.inputs}, [w.learn.plan, w.practise.plan]
    w.top.act(act, state, [*w.turned, session.address], **CARRIED)
    w.part.change(count, *counted, **QUICK)
    session.beats["measure"].change(timed, *counted, **QUICK)
    w.refresh, w.refresh_inputs, w.refresh_outputs, w.always = refresh, set(state), outputs, True
    # Counting asks a worker, so it comes after what is there at once.
    w.afterwards = (count, *counted)


def drawn(ctx: AppContext, w: SimpleNamespace, values: Mapping[Any, Any]) -> dict[Any, Any]:
    """Lists, choices, progress and the shown comparison, as they are now."""
    found = learn.offered(ctx, w.learn, values) | prove.offered(ctx, w.prove, values)
    found |= learn.following(ctx, w.learn) | prove.following(ctx, w.prove)
    found |= practise.following(ctx, w.practise) | {w.practise.rounds: practise.listing(ctx)}
    found |= prove.show(ctx, w.prove, values[w.prove.run], values[w.prove.arm])
    return found | {w.learn.trained: trained.listing(ctx), w.use.view: using.shown(ctx, values[w.use.asked])}


def drawn_outputs(w: SimpleNamespace) -> list[Any]:
    """What ``drawn`` changes."""
    bars = [w.learn.progress, w.learn.start, w.learn.cancel, *w.prove.bars, *w.practise.bars]
    return [
        *learn.offered_outputs(w.learn),
        *w.prove.offers,
        *bars,
        *w.prove.shown,
        w.practise.rounds,
        w.learn.trained,
        w.use.view,
    ]


def _wire_list(ctx: AppContext, session: Session, w: SimpleNamespace) -> None:
    """The buttons beside a trained classifier."""

    @polite
    def act(values: dict[Any, Any], event: gr.EventData) -> Any:
        data = clicked(event)
        name = data.get("name")
        if name == "use":
            return using.ask(ctx, w.use, data.get("ref"))
        if name == "resume":
            order.resume(ctx, str(data.get("run", "")))
            return learn.following(ctx, w.learn) | {w.learn.trained: trained.listing(ctx)}
        if name == "compare":
            prove.begin(
                ctx, [str(data.get("run", ""))], prove.ORIGIN, {"free": True, "column": _column(values)}
            )
            found = prove.offered(ctx, w.prove, {**values, w.prove.arms: [data["run"]]})
            given = _place(ctx, w, PROVE, values, values[w.prove.run], values[w.prove.arm])
            shown = turn_to(w, PROVE) | prove.following(ctx, w.prove)
            return found | shown | {session.address: kept(ID, given)}
        return gr.skip()

    def _column(values: Mapping[Any, Any]) -> str:
        chosen = values[w.prove.column]
        return chosen if chosen in ctx.workspace.meta_columns() else ""

    bars = [w.learn.progress, w.learn.start, w.learn.cancel, *w.prove.bars]
    outputs = [w.use.asked, w.use.view, w.learn.trained, *bars, *w.turned, *w.prove.offers, session.address]
    w.learn.trained.act(act, {w.prove.run, w.prove.arm, *w.prove.inputs}, outputs, **EVERY)


def _wire_rounds(ctx: AppContext, session: Session, w: SimpleNamespace) -> None:
    """The buttons beside the rounds of a loop."""

    @polite
    def act(event: gr.EventData) -> Any:
        data = clicked(event)
        name, run = data.get("name"), str(data.get("run", ""))
        if name == "use":
            return using.ask(ctx, w.use, data.get("ref"))
        if name == "resume":
            practise.resume(ctx, run)
            return practise.following(ctx, w.practise) | {w.practise.rounds: practise.listing(ctx)}
        if name == "open":
            shown = prove.show(ctx, w.prove, run, 0)
            if shown[w.prove.run] != run:
                raise InputError("this comparison is not there any more")
            given = {"part": PROVE, **prove.place(ctx, run, 0)}
            return shown | turn_to(w, PROVE) | {session.address: kept(ID, given)}
        return gr.skip()

    asked = [w.use.asked, w.use.view]
    outputs = [*asked, *w.practise.bars, w.practise.rounds, *w.turned, *w.prove.shown, session.address]
    w.practise.rounds.act(act, None, outputs, **EVERY)


def _wire_address(ctx: AppContext, w: SimpleNamespace) -> None:
    """What a link shows."""

    def arrive(values: dict[Any, Any], arrival: Arrival) -> dict[Any, Any]:
        given = arrival.of(ID)
        part = given.get("part", LEARN)
        found = turn_to(w, part if part in _PARTS else LEARN)
        if part == PRACTISE:
            return found
        if part != PROVE:
            return found | learn.arriving(w.learn, given, values)
        number = given.get("arm", "")
        at = int(number) - 1 if number.isdecimal() and len(number) < 4 else 0
        shown = prove.show(ctx, w.prove, given.get("of", ""), at)
        if given.get("of", shown[w.prove.run]) != shown[w.prove.run]:
            gr.Warning("The comparison that this address names is not here; the newest is shown.", duration=8)
        return found | shown

    w.arrive, w.arrive_inputs = arrive, set(w.learn.choices) | {w.learn.sampler}
    w.arrive_outputs = list(
        dict.fromkeys([*w.turned, *w.learn.choices, *learn.explained_outputs(w.learn), *w.prove.shown])
    )
