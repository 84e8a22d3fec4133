"""Imagine: make new samples where the classifier is unsure, next to what it gets without guidance."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import gradio as gr

from app import form, imagined, imagining, pricing
from app.brief import whole
from app.context import AppContext
from app.controls import ANY
from app.form import DEFAULT, class_names
from app.generations import run_choices, show_run
from app.imagining import ABOUT, BALANCE, COUNTERFACTUAL, MOST, OWN_CLASS, SWEEP
from app.places import Arrival, kept
from app.render import Node, view
from app.session import CARRIED, EVERY, LATEST, QUICK, Session, clicked, polite, text_ids

TITLE = "Imagine"
ID = "imagine"


def build(ctx: AppContext) -> SimpleNamespace:
    """Controls on the left, what comes out on the right."""
    return form.build()


def wire(ctx: AppContext, session: Session, widgets: dict[str, SimpleNamespace]) -> None:
    """Connect the events."""
    w = widgets[ID]
    imagined.wire_job(ctx, session, w)
    _wire_controls(ctx, session, w)
    imagined.wire_results(ctx, session, w)
    _wire_address(ctx, session, w)
    _wire_sources(ctx, session, w)

    def suit(values: dict[Any, Any]) -> dict[Any, Any]:
        needs = imagining.needs_of(ctx)
        changed = imagining.suited(w, str(values[w.preset]), values[w.needs], needs)
        return {**changed, w.needs: needs} if changed else {}

    @polite
    def refresh(values: dict[Any, Any]) -> dict[Any, Any]:
        names = ctx.workspace.label_names()
        label = values[w.label] if values[w.label] in (BALANCE, *names) else ANY
        toward = values[w.toward] if values[w.toward] in names else OWN_CLASS
        update: dict[Any, Any] = {
            w.label: gr.Dropdown(class_names(names), value=label),
            w.toward: gr.Dropdown(
                [("A rarer one of its own class", OWN_CLASS), *[(n, n) for n in names]], value=toward
            ),
        }
        fit, sampler = imagining.samplers(ctx, str(values[w.settings["sampler"]]))
        update |= {w.settings["sampler"]: gr.Dropdown(list(fit), value=sampler)}
        update |= suit(values)
        known = {**values, **update, w.label: label, w.toward: toward, w.settings["sampler"]: sampler}
        update |= pricing.priced(ctx, w, known, text_ids(values[session.sources]))
        runs, shown = run_choices(ctx), values[session.run]
        if imagining.under_way(ctx):
            return update | ({w.runs: gr.Dropdown(runs, visible=bool(runs))} if shown else {})
        theirs = ctx.jobs.foreign_runs()  # to be chosen from the list, but no page follows them by itself
        newest = next((run for _, run in runs if run not in theirs), "")
        if newest and not shown:
            return update | show_run(ctx, w, newest) | {session.run: newest}
        update[w.runs] = gr.Dropdown(runs, visible=bool(runs))
        if not shown:
            update[w.results] = view(pricing.invitation(ctx))
        return update

    w.refresh, w.refresh_inputs = refresh, {*imagining.fitting(w), session.sources, session.run}
    w.refresh_outputs = [w.label, w.toward, w.about, w.estimate, w.runs, w.results, w.large, session.run]
    w.refresh_outputs += [w.needs, w.settings["sampler"], *(w.settings[name] for name in imagining.NEEDED)]


def aim(
    ctx: AppContext,
    w: SimpleNamespace,
    session: Session,
    *,
    sources: Sequence[str] = (),
    about: str = "",
    preset: str = DEFAULT,
    label: str = ANY,
    prompt: str = "",
    number: int = 8,
    meta: Mapping[str, Any] | None = None,
) -> dict[Any, Any]:
    """Open this tab on something: selected samples, a slice, a cell of the coverage (outputs: ``aim_outputs``).

    Args:
        ctx: The workspace.
        w: Of this tab.
        session: The page.
        sources: Ids of real samples to start from, taken in turn.
        about: What they are, or what is aimed at, in words.
        preset: To begin with.
        label: Name of the class; ``ANY`` for that of each source, else all in turn.
        prompt: "" for the plain one.
        number: Images.
        meta: Metadata values that the images are meant to show.
    """
    return {
        session.tabs: gr.Tabs(selected=ID),
        session.sources: list(sources),
        w.about_sources: about,
        w.aim: dict(meta or {}),
        w.preset: preset,
        w.label: gr.Dropdown(
            class_names(ctx.workspace.label_names()), value=label
        ),  # it may not have been drawn yet
        w.prompt: prompt,
        w.number: max(1, min(MOST, number)),
        session.address: kept(ID, place(preset, label), show=True),
    }


def aim_outputs(w: SimpleNamespace, session: Session) -> list[Any]:
    """What ``aim`` changes."""
    aimed = [session.sources, w.about_sources, w.aim, w.preset, w.label, w.prompt, w.number]
    return [session.tabs, session.address, *aimed]


def place(preset: str, label: str) -> dict[str, str]:
    """What the address keeps."""
    return {"preset": preset if preset != DEFAULT else "", "class": label if label != ANY else ""}


def _wire_address(ctx: AppContext, session: Session, w: SimpleNamespace) -> None:
    """What is looked for, and in which class."""

    @polite
    def tell(preset: str, label: str) -> dict[str, Any]:
        return kept(ID, place(preset, label))

    def arrive(values: dict[Any, Any], arrival: Arrival) -> dict[Any, Any]:
        given, names = arrival.of(ID), ctx.workspace.label_names()
        preset = given.get("preset", DEFAULT)
        label = whole(given.get("class", ANY), names)
        if preset not in ABOUT or label not in (ANY, BALANCE, *names):
            gr.Warning("The preset or class of Imagine that this address names is not here.", duration=8)
        preset = preset if preset in ABOUT else DEFAULT
        label = label if label in (BALANCE, *names) else ANY
        found: dict[Any, Any] = {}
        if preset != values[w.preset]:
            found[w.preset] = preset
        if label != values[w.label]:  # as if it had been chosen by hand
            prompt = "" if label in (ANY, BALANCE) else imagining.prompt_of(ctx, label, {})
            found |= {w.label: gr.Dropdown(class_names(names), value=label), w.prompt: prompt, w.aim: {}}
            found |= {w.about_sources: ""} if not values[session.sources] else {}
        return found

    gr.on([w.preset.input, w.label.input], tell, [w.preset, w.label], session.address, **QUICK)
    w.arrive, w.arrive_inputs = arrive, {w.preset, w.label, session.sources}
    w.arrive_outputs = [w.preset, w.label, w.prompt, w.aim, w.about_sources]


def _wire_controls(ctx: AppContext, session: Session, w: SimpleNamespace) -> None:
    """What one control fills in for others; the price follows every one of them."""
    inputs = {*imagining.fitting(w), session.sources}
    lines = [w.about, w.estimate]

    @polite
    def fill_prompt(label: str, aimed: dict[str, Any]) -> Any:
        if label in (ANY, BALANCE):  # what was aimed at was a cell of one class
            return {w.prompt: "", w.aim: {}, w.about_sources: ""}
        return {w.prompt: imagining.prompt_of(ctx, label, aimed or {})}

    @polite
    def fill_settings(values: dict[Any, Any]) -> dict[Any, Any]:
        preset = str(values[w.preset])
        chosen = imagining.base(preset, values[w.needs]).to_dict()
        update: dict[Any, Any] = {widget: chosen[name] for name, widget in w.settings.items()}
        known = {**values, **update}
        update[w.toward] = gr.Dropdown(value=OWN_CLASS, visible=preset == COUNTERFACTUAL)
        update[w.weights] = gr.Textbox(visible=preset == SWEEP)
        strips = preset == SWEEP
        fewer: dict[str, Any] = (
            {"value": 1} if strips and int(values[w.number]) == 8 else {}
        )  # eight are seldom meant
        # Without a value of its own the number stays what somebody types meanwhile.
        update[w.number] = gr.Slider(label="Film strips" if strips else "Images", **fewer)
        known[w.number] = fewer.get("value", values[w.number])
        return update | pricing.priced(ctx, w, known, text_ids(values[session.sources]))

    @polite
    def reprice(values: dict[Any, Any]) -> dict[Any, Any]:
        return pricing.priced(ctx, w, values, text_ids(values[session.sources]))

    @polite
    def arrive(values: dict[Any, Any]) -> dict[Any, Any]:
        imagining.measure(ctx)
        return pricing.priced(ctx, w, values, text_ids(values[session.sources]))

    @polite
    def again(values: dict[Any, Any], event: gr.EventData) -> Any:
        name = clicked(event).get("name")
        if name == "browse":
            return {session.tabs: gr.Tabs(selected="browse")}
        return fill_settings(values) if name == "preset" else gr.skip()

    w.label.input(fill_prompt, [w.label, w.aim], [w.prompt, w.aim, w.about_sources], **QUICK)
    filled = [*lines, w.weights, w.number, *w.settings.values()]
    w.preset.change(fill_settings, inputs, filled, **QUICK)
    w.about.act(again, inputs, [*filled, session.tabs], **CARRIED)
    w.dice.click(lambda: random.randrange(2**31), None, w.seed, **QUICK)
    changing = [part.input for part in (w.weights, *w.settings.values())]
    changing += [w.number.change, session.sources.change, session.beats["measure"].change]
    gr.on(changing, reprice, inputs, lines, **LATEST)
    w.tab.select(arrive, inputs, lines, **LATEST)


def _wire_sources(ctx: AppContext, session: Session, w: SimpleNamespace) -> None:
    """What the generation starts from, and how to let go of it."""

    @polite
    def draw(ids: list[str], about: str) -> Node:
        return pricing.sources_view(ctx, text_ids(ids), about)

    @polite
    def act(ids: list[str], aimed: dict[str, Any], event: gr.EventData) -> Any:
        data = clicked(event)
        if data.get("name") == "clear":
            cleared = {session.sources: [], w.about_sources: "", w.aim: {}, w.preset: DEFAULT}
            return cleared | ({w.prompt: ""} if aimed else {})
        if data.get("name") == "remove":
            left = [one for one in text_ids(ids) if one != data.get("id")]
            return {session.sources: left}
        return gr.skip()

    seen = [session.sources, w.about_sources]
    gr.on([part.change for part in seen], draw, seen, w.source, **LATEST)
    w.source.act(
        act, [session.sources, w.aim], [session.sources, w.about_sources, w.aim, w.preset, w.prompt], **EVERY
    )
