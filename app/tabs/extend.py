"""Extend: classes that look like weak ones are proposed, decided about by a person, and given images."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gradio as gr

from app import extending
from app.components import View
from app.context import AppContext
from app.render import view
from app.session import CARRIED, EVERY, QUICK, Session, clicked, polite
from app.steps.paths import local_path
from ltg_core.errors import InputError
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
    shown = [w.list, w.outcome, w.classes, w.pool]

    def started(job: Job) -> dict[Any, Any]:
        return {
            w.progress: view(ctx.bar(job)),
            **{button: gr.Button(interactive=False) for button in buttons},
        }

    @polite
    def propose(classes: list[str] | None, source: str, pool: str | None) -> Any:
        return started(start_proposal(ctx, classes or [], source, pool or ""))

    @polite
    def images(where: str, folder: str, pool: str | None, number: float) -> Any:
        return started(start_images(ctx, where, folder or "", pool or "", int(number)))

    @polite
    def measure() -> Any:
        ctx.need_classifier()
        return started(ctx.run("extend", "Measuring how fine the classes are", "extend_granularity", {}))

    @polite
    def turned(where: str) -> dict[Any, Any]:
        return {
            w.folder: gr.Textbox(visible=where == "folder" and ctx.settings.local),
            w.pool: gr.Dropdown(visible=where in ("pool", "random")),
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
        propose, [w.classes, w.source, w.pool], [w.progress, *buttons], api_name="extend_propose",
        show_progress="hidden",
    )  # fmt: skip
    w.images.click(
        images, [w.where, w.folder, w.pool, w.number], [w.progress, *buttons], api_name="extend_images",
        show_progress="hidden",
    )  # fmt: skip
    w.measure.click(measure, None, [w.progress, *buttons], show_progress="hidden")
    w.where.change(turned, w.where, [w.folder, w.pool, w.number], **QUICK)
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

    def leave() -> Any:
        return gr.Row(visible=False)

    w.list.act(act, None, [w.list, w.outcome, *renaming], **EVERY)
    w.progress.act(cancel, None, None, **CARRIED)
    gr.on([w.save.click, w.name.submit], save, [w.key, w.name], [w.renaming, w.list, w.outcome], **EVERY)
    w.leave.click(leave, None, w.renaming, **QUICK)


def decide(ctx: AppContext, w: SimpleNamespace, data: dict[str, Any]) -> Any:
    """What a button in the list does."""
    from ltg_core.curation import auxiliary, journal

    name, key = data.get("name"), data.get("key")
    if name == "undo":
        last = next((one for one in journal.history(ctx.workspace, 1)), None)
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
    return {
        w.classes: gr.Dropdown([one.name for one in extending.weak_classes(ctx)]),
        w.pool: gr.Dropdown(splits, value=splits[0] if splits else None),
    }


def start_proposal(ctx: AppContext, classes: list[str], source: str, pool: str) -> Job:
    """Check what can be checked now, then queue the work."""
    from ltg_core.extension import wordnet
    from ltg_core.llm import Endpoint

    ctx.need_classifier()
    if source == "llm" and Endpoint.from_environment() is None:
        raise InputError(
            "no language model is named: start the server with LTG_LLM_BASE_URL and LTG_LLM_MODEL set, or propose from "
            "WordNet or a pool, which need none"
        )
    if source == "wordnet":
        wordnet.found_at(None)
    arguments = {"source": source, "classes": classes, **({"pool": pool} if pool else {})}
    return ctx.run("extend", "Looking for classes that stand beside weak ones", "extend_propose", arguments)


def start_images(ctx: AppContext, where: str, folder: str, pool: str, number: int) -> Job:
    """The same for images."""
    ctx.need_classifier()
    if where == "random":
        return ctx.run("extend", "Choosing random images as the control", "extend_random", {"pool": pool})
    arguments: dict[str, Any] = {
        "folder": {"folder": str(local_path(ctx, folder).resolve())} if where == "folder" else {},
        "pool": {"pool": pool},
        "generate": {"generate": max(1, min(_MOST, number))},
    }.get(where, {})
    if not arguments:
        raise InputError("choose where the images come from")
    return ctx.run("extend", "Adding images of auxiliary classes", "extend_images", arguments)
