"""Retrain and prove: copies of the classifier learn, and are compared with it on real images that none has seen."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import gradio as gr

from app.components import View
from app.context import AppContext
from app.places import Arrival, kept
from app.render import Node, h, view
from app.retraining import learn, order, prove, trained, using
from app.session import CARRIED, EVERY, Session, clicked, polite

TITLE = "Retrain"
ID = "retrain"
LEARN, PROVE = "retrain", "compare"
_PARTS = ((LEARN, "Retrain"), (PROVE, "Compare"))


def build(ctx: AppContext) -> SimpleNamespace:
    """Two parts of which one is shown, and above them the question whether to use a classifier."""
    w = SimpleNamespace(part=gr.State(LEARN))
    with gr.Row(elem_classes="retrain-head"):
        w.top = View(top(LEARN), elem_id="retrain-top")
    w.use = using.build()
    with gr.Column(elem_id="retrain-learn"):  # the style sheet shows one of the two
        w.learn = learn.build()
    with gr.Column(elem_id="retrain-prove"):
        w.prove = prove.build()
    w.progress = w.learn.progress  # its buttons are the queue's
    return w


def top(part: str) -> Node:
    """The two parts."""
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
                for name, text in _PARTS
            ],
            role="group",
            aria_label="Parts of this tab",
        ),
        classes=f"shows-{part}",
    )


def turn_to(w: SimpleNamespace, part: str) -> dict[Any, Any]:
    """One of the two parts is shown."""
    return {w.part: part, w.top: top(part)}


def _place(
    ctx: AppContext, w: SimpleNamespace, part: str, values: Mapping[Any, Any], run: str, arm: int
) -> dict[str, str]:
    """What the address keeps: the part, and what is chosen in it."""
    if part == PROVE:
        return {"part": PROVE, **prove.place(ctx, run, arm)}
    return learn.place(learn.chosen(w.learn, values))


def wire(ctx: AppContext, session: Session, widgets: dict[str, SimpleNamespace]) -> None:
    """Connect the events."""
    w = widgets[ID]
    w.turned = [w.part, w.top]
    using.wire(ctx, session, w.use)
    learn.wire(ctx, session, w.learn, lambda values: kept(ID, learn.place(learn.chosen(w.learn, values))))
    prove.wire(ctx, session, w.prove, w.use, lambda state: kept(ID, {"part": PROVE, **state}))
    _wire_parts(ctx, session, w)
    _wire_list(ctx, session, w)
    _wire_address(ctx, w)


def _wire_parts(ctx: AppContext, session: Session, w: SimpleNamespace) -> None:
    """Which part is shown, and everything as it is now when the tab is."""
    state = {w.part, w.use.asked, w.prove.run, w.prove.arm, *w.learn.inputs, *w.prove.inputs}

    @polite
    def act(values: dict[Any, Any], event: gr.EventData) -> Any:
        data = clicked(event)
        if data.get("name") != "part" or data.get("part") not in (LEARN, PROVE):
            return gr.skip()
        given = _place(ctx, w, data["part"], values, values[w.prove.run], values[w.prove.arm])
        return turn_to(w, data["part"]) | {session.address: kept(ID, given)}

    @polite
    def refresh(values: dict[Any, Any]) -> dict[Any, Any]:
        return drawn(ctx, w, values)

    @polite
    def count(values: dict[Any, Any]) -> Any:
        return learn.planned(ctx, w.learn, values)

    outputs = drawn_outputs(w)
    w.top.act(act, state, [*w.turned, session.address], **CARRIED)
    w.refresh, w.refresh_inputs, w.refresh_outputs, w.always = refresh, set(state), outputs, True
    # Counting asks a worker, so it comes after what is there at once.
    w.afterwards = (count, set(w.learn.inputs), w.learn.plan)


def drawn(ctx: AppContext, w: SimpleNamespace, values: Mapping[Any, Any]) -> dict[Any, Any]:
    """Lists, choices, progress and the shown comparison, as they are now."""
    found = learn.offered(ctx, w.learn, values) | prove.offered(ctx, w.prove, values)
    found |= learn.following(ctx, w.learn) | prove.following(ctx, w.prove)
    found |= prove.show(ctx, w.prove, values[w.prove.run], values[w.prove.arm])
    return found | {w.learn.trained: trained.listing(ctx), w.use.view: using.shown(ctx, values[w.use.asked])}


def drawn_outputs(w: SimpleNamespace) -> list[Any]:
    """What ``drawn`` changes."""
    bars = [w.learn.progress, w.learn.start, w.learn.cancel, *w.prove.bars]
    return [
        *learn.offered_outputs(w.learn),
        *w.prove.offers,
        *bars,
        *w.prove.shown,
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


def _wire_address(ctx: AppContext, w: SimpleNamespace) -> None:
    """What a link shows."""

    def arrive(values: dict[Any, Any], arrival: Arrival) -> dict[Any, Any]:
        given = arrival.of(ID)
        part = given.get("part", LEARN)
        found = turn_to(w, PROVE if part == PROVE else LEARN)
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
