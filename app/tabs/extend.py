"""Extend: classes that look like weak ones are proposed, decided about by a person, and given images."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gradio as gr

from app import extending
from app.components import View
from app.context import AppContext
from app.controls import controls, settings_from
from app.render import view
from app.session import CARRIED, EVERY, QUICK, Session, clicked, polite
from app.steps.paths import local_path
from ltg_core.errors import InputError
from ltg_core.extension.space import Band
from ltg_core.jobs import Job

TITLE = "Extend"
ID = "extend"
_FROM = [("WordNet", "wordnet"), ("Language model", "llm"), ("Unlabelled pool", "clusters")]
_IMAGES = [("Folder", "folder"), ("Pool", "pool"), ("Generator", "generate"), ("Random control", "random")]
_MOST = 200


def build(ctx: AppContext) -> SimpleNamespace:
    """What is asked for on the left, the classes on the right."""
    w = SimpleNamespace(key=gr.State(0))
    with gr.Row(elem_classes="two extend"):
        with gr.Column(elem_classes="rail wide"):
            with gr.Column(elem_classes="box"):
                w.classes = gr.Dropdown(
                    [], value=[], multiselect=True, label="Beside these classes", elem_id="extend-classes",
                    info="None chosen: those that are weak", interactive=True,
                )  # fmt: skip
                w.source = gr.Radio(_FROM, value="wordnet", label="Proposals from", elem_id="extend-source")
                w.most = gr.Slider(
                    1, 20, value=8, step=1, label="New classes beside each at most", elem_id="extend-most"
                )
                w.propose = gr.Button("Propose", variant="primary", elem_id="extend-propose")
            with gr.Column(elem_classes="box"):
                w.where = gr.Radio(_IMAGES, value="folder", label="Images from", elem_id="extend-where")
                w.folder = gr.Textbox(
                    label="A folder on this machine", placeholder="its class folders have the names", max_length=4000,
                    visible=ctx.settings.local, elem_id="extend-folder",
                )  # fmt: skip
                w.pool = gr.Dropdown(
                    [], label="Split that is the pool", elem_id="extend-pool", visible=False, interactive=True
                )
                w.number = gr.Slider(
                    1,
                    _MOST,
                    value=16,
                    step=1,
                    label="Images of each class",
                    elem_id="extend-number",
                    visible=False,
                )
                w.images = gr.Button("Add images", elem_id="extend-images")
            with gr.Column(elem_classes="box"):
                with gr.Accordion("How like the class", open=False, elem_id="extend-band"):
                    w.band = controls(Band)
                    for name, widget in w.band.items():
                        widget.elem_id = f"extend-{name}"
                    w.limit = gr.Number(
                        0, label="Images of each class at most", info="Those that are there included; 0: any number",
                        precision=0, minimum=0, elem_id="extend-limit",
                    )  # fmt: skip
                with gr.Accordion("Name one yourself", open=False, elem_id="extend-own"):
                    w.parent = gr.Dropdown(
                        [], label="Beside this class", elem_id="extend-parent", interactive=True
                    )
                    w.own = gr.Textbox(
                        label="A class that looks like it", max_length=60, elem_id="extend-own-name"
                    )
                    w.add = gr.Button("Add this class", elem_id="extend-add")
            w.measure = gr.Button("Measure how fine the classes are", elem_id="extend-measure")
            w.outcome = View(elem_id="extend-outcome")
        with gr.Column(elem_classes="middle"):
            w.progress = View(elem_id="extend-progress")
            with gr.Row(visible=False, elem_classes="extend-rename") as w.renaming:
                w.name = gr.Textbox(label="New name", max_length=60, elem_id="extend-name", scale=3)
                w.save = gr.Button("Rename", variant="primary", elem_id="extend-save", scale=0, min_width=110)
                w.leave = gr.Button("Cancel", elem_id="extend-leave", scale=0, min_width=90)
            w.list = View(extending.waiting(), elem_id="extend-list")
    return w


def wire(ctx: AppContext, session: Session, widgets: dict[str, SimpleNamespace]) -> None:
    """Connect the events."""
    w = widgets[ID]
    buttons = [w.propose, w.images, w.measure]
    shown = [w.list, w.outcome, w.classes, w.pool, w.parent]
    band = set(w.band.values())

    def started(job: Job) -> dict[Any, Any]:
        return {
            w.progress: view(ctx.bar(job)),
            **{button: gr.Button(interactive=False) for button in buttons},
        }

    @polite
    def propose(values: dict[Any, Any]) -> Any:
        return started(start_proposal(ctx, w, values))

    @polite
    def images(values: dict[Any, Any]) -> Any:
        return started(start_images(ctx, w, values))

    @polite
    def measure() -> Any:
        ctx.need_classifier()
        return started(ctx.run("extend", "Measuring how fine the classes are", "extend_granularity", {}))

    @polite
    def turned(where: str, source: str) -> dict[Any, Any]:
        return {
            w.folder: gr.Textbox(visible=where == "folder" and ctx.settings.local),
            w.pool: gr.Dropdown(visible=where in ("pool", "random") or source == "clusters"),
            w.number: gr.Slider(visible=where == "generate"),
        }

    @polite
    def follow(revision: int) -> Any:
        job = ctx.latest("extend")
        if job is None:
            return gr.skip()
        bar = view(ctx.bar(job)) if job.state != "done" else view()
        found = {w.progress: bar, **{button: gr.Button(interactive=job.ended) for button in buttons}}
        return found | (drawn(ctx, w) if job.ended and revision >= 0 else {})

    @polite
    def refresh() -> dict[Any, Any]:
        return drawn(ctx, w) | offered(ctx, w)

    w.propose.click(
        propose, {w.classes, w.source, w.pool, w.most, *band}, [w.progress, *buttons], api_name="extend_propose",
        show_progress="hidden",
    )  # fmt: skip
    w.images.click(
        images, {w.where, w.folder, w.pool, w.number, w.limit, *band}, [w.progress, *buttons],
        api_name="extend_images", show_progress="hidden",
    )  # fmt: skip
    w.measure.click(measure, None, [w.progress, *buttons], show_progress="hidden")
    gr.on(
        [w.where.change, w.source.change], turned, [w.where, w.source], [w.folder, w.pool, w.number], **QUICK
    )
    session.beats["extend"].change(
        follow, session.drawn[ID], [w.progress, *buttons, w.list, w.outcome], **QUICK
    )
    w.refresh, w.refresh_inputs, w.refresh_outputs, w.always = refresh, [], shown, True
    _wire_decisions(ctx, w)


def _wire_decisions(ctx: AppContext, w: SimpleNamespace) -> None:
    """Accept, reject, rename, undo; and the button of the bar."""
    renaming = [w.renaming, w.name, w.key]

    @polite
    def act(event: gr.EventData) -> Any:
        return decide(ctx, w, clicked(event))

    @polite
    def cancel(event: gr.EventData) -> None:
        data = clicked(event)
        if data.get("name") == "cancel":
            ctx.jobs.cancel(str(data.get("job")))

    @polite
    def save(key: int, name: str) -> dict[Any, Any]:
        from ltg_core import workflows

        workflows.rename_auxiliary(ctx.workspace, ctx.need_classifier(), int(key), name or "")
        return {w.renaming: gr.Row(visible=False), **drawn(ctx, w)}

    @polite
    def add(parent: str | None, name: str) -> dict[Any, Any]:
        from ltg_core import workflows

        if not parent:
            raise InputError("choose the class beside which it stands")
        workflows.add_by_hand(ctx.workspace, ctx.need_classifier(), parent, name or "")
        return {w.own: gr.Textbox(""), **drawn(ctx, w)}

    def leave() -> Any:
        return gr.Row(visible=False)

    w.list.act(act, None, [w.list, w.outcome, *renaming], **EVERY)
    w.progress.act(cancel, None, None, **CARRIED)
    gr.on([w.save.click, w.name.submit], save, [w.key, w.name], [w.renaming, w.list, w.outcome], **EVERY)
    gr.on([w.add.click, w.own.submit], add, [w.parent, w.own], [w.own, w.list, w.outcome], **EVERY)
    w.leave.click(leave, None, w.renaming, **QUICK)


def decide(ctx: AppContext, w: SimpleNamespace, data: dict[str, Any]) -> Any:
    """What a button in the list does."""
    from ltg_core.curation import auxiliary, journal

    name, key = data.get("name"), data.get("key")
    if name == "undo":
        last = extending.last_action(ctx)
        if last is None or last.id != data.get("id"):
            raise InputError("something else was done since; undo that in Curate first")
        journal.undo(ctx.workspace)
        return drawn(ctx, w)
    if name not in ("accept", "reject", "rename") or not isinstance(key, int):
        return gr.skip()
    if name == "rename":
        one = next((one for one in auxiliary.every(ctx.workspace) if one.key == key), None)
        if one is None:
            raise InputError("this auxiliary class is not here any more")
        row = gr.Row(visible=True)
        return {w.renaming: row, w.name: gr.Textbox(one.name, label=f"New name for {one.name!r}"), w.key: key}
    auxiliary.decide(ctx.workspace, [key], {"accept": "accepted", "reject": "rejected"}[name])
    return drawn(ctx, w)


def drawn(ctx: AppContext, w: SimpleNamespace) -> dict[Any, Any]:
    """The classes and what was left out, as they are now."""
    return {w.list: extending.listing(ctx), w.outcome: extending.outcome(ctx)}


def offered(ctx: AppContext, w: SimpleNamespace) -> dict[Any, Any]:
    """Classes and pools to choose from."""
    from ltg_core.export.guard import protected

    splits = [split for split in ctx.workspace.splits() if not protected(split)]
    splits = sorted(splits, key=lambda split: split != "pool")
    names = [one.name for one in extending.weak_classes(ctx)]
    return {
        w.classes: gr.Dropdown(names),
        w.parent: gr.Dropdown(names),
        w.pool: gr.Dropdown(splits, value=splits[0] if splits else None),
    }


def start_proposal(ctx: AppContext, w: SimpleNamespace, values: dict[Any, Any]) -> Job:
    """Check what can be checked now, then queue the work."""
    from ltg_core.extension import wordnet
    from ltg_core.llm import Endpoint

    ctx.need_classifier()
    source, pool = values[w.source], values[w.pool]
    if source == "llm" and Endpoint.from_environment() is None:
        raise InputError(
            "no language model is named: start the server with LTG_LLM_BASE_URL and LTG_LLM_MODEL set, or propose from "
            "WordNet or a pool, which need none"
        )
    if source == "wordnet":
        wordnet.found_at(None)
    arguments: dict[str, Any] = {
        "source": source, "classes": values[w.classes] or [], "most": int(values[w.most] or 1),
        "band": settings_from(Band, w.band, values).to_dict(), **({"pool": pool} if pool else {}),
    }  # fmt: skip
    return ctx.run("extend", "Looking for classes that stand beside weak ones", "extend_propose", arguments)


def start_images(ctx: AppContext, w: SimpleNamespace, values: dict[Any, Any]) -> Job:
    """The same for images."""
    ctx.need_classifier()
    where, pool = values[w.where], values[w.pool] or ""
    if where == "random":
        return ctx.run("extend", "Choosing random images as the control", "extend_random", {"pool": pool})
    if where == "folder":
        arguments: dict[str, Any] = {"folder": str(local_path(ctx, values[w.folder] or "").resolve())}
    elif where == "pool":
        arguments = {"pool": pool}
    elif where == "generate":
        arguments = {"generate": max(1, min(_MOST, int(values[w.number] or 1)))}
    else:
        raise InputError("choose where the images come from")
    arguments |= {
        "limit": max(0, int(values[w.limit] or 0)),
        "band": settings_from(Band, w.band, values).to_dict(),
    }
    return ctx.run("extend", "Adding images of auxiliary classes", "extend_images", arguments)
