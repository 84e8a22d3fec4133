"""Practise: the whole loop by itself. Its few controls, what it would do, its place in the queue, and its rounds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import gradio as gr

from app.components import View
from app.context import AppContext
from app.controls import control, controls, settings_from
from app.discreet import discreet
from app.imagining import ABOUT
from app.render import view
from app.retraining import rounds
from app.retraining.form import about
from app.retraining.order import LOSSES, SCOPES
from app.session import BESIDE, LATEST, QUICK, Session, clicked, polite
from ltg_core.errors import InputError, LtgError
from ltg_core.jobs import CancelToken, Job, Spec, no_progress
from ltg_core.params import specs
from ltg_core.training.settings import LoopSettings, MixSettings, TrainSettings

KIND = "loop"
START = "Start practising"
SPECS = {spec.name: spec for spec in specs(LoopSettings)}
_WORDS = {
    "rounds": ("Rounds at most", "It may end earlier"),
    "number": ("Images a round", "Most where it errs"),
    "patience": ("Patience", "Rounds without a gain"),
    "seeds": ("Trainings a round", "Their mean counts"),
    "seed": ("First seed", "Of the first image and the first training"),
    "resamples": ("Resamples", "Of each interval"),
}
_REST = ("scope", "epochs")


def build() -> SimpleNamespace:
    """Controls on the left; on the right what it does, what it would cost, the start, and the rounds."""
    w = SimpleNamespace()
    with gr.Row(elem_classes="two retrain"):
        with gr.Column(elem_classes="rail wide"):
            _form(w)
        with gr.Column(elem_classes="middle"):
            w.plan = View(rounds.waiting(), elem_id="practise-plan")
            with gr.Row(elem_classes="retrain-start"):
                w.start = gr.Button(START, variant="primary", elem_id="practise-start")
                w.cancel = gr.Button("Cancel", elem_id="practise-cancel", interactive=False)
            w.progress = View(elem_id="practise-progress")
            w.rounds = View(elem_id="practise-list")
    w.inputs = {w.preset, w.loss, w.weight, *w.loop.values(), *w.train.values()}
    w.bars = [w.progress, w.start, w.cancel]
    return w


def _form(w: SimpleNamespace) -> None:
    def number(name: str) -> gr.Number:
        (label, info), (low, high) = _WORDS[name], _bounds(name)
        return gr.Number(
            SPECS[name].default, label=label, info=info, precision=0, minimum=low, maximum=high,
            elem_id=f"practise-{name}",
        )  # fmt: skip

    w.preset = gr.Dropdown(
        [(ABOUT[name][0], name) for name in SPECS["preset"].choices],
        value=SPECS["preset"].default,
        label="What images are looked for", elem_id="practise-preset",
    )  # fmt: skip
    w.about_preset = View(about(ABOUT, str(SPECS["preset"].default)), elem_id="practise-about-preset")
    w.loop = {}
    for pair in (("rounds", "patience"), ("number", "seeds")):
        with gr.Row():
            w.loop |= {name: number(name) for name in pair}
    w.loop["seed"] = number("seed")
    with gr.Accordion("All settings", open=False, elem_id="practise-all"):
        menus = (("scope", "What learns", SCOPES, "head"), ("loss", "Loss", LOSSES, "balanced-softmax"))
        made = {
            name: gr.Dropdown(
                [(words, key) for key, (words, _) in known.items()], value=value, label=title,
                elem_id=f"practise-{name}",
            )
            for name, title, known, value in menus
        }  # fmt: skip
        w.loss = made["loss"]
        w.weight = control(next(spec for spec in specs(MixSettings) if spec.name == "synthetic_weight"))
        w.weight.label, w.weight.info, w.weight.maximum = "Weight of a generated image", "A real one has 1", 2
        w.weight.elem_id = "practise-weight"
        epochs = gr.Number(
            30, label="Epochs at most", precision=0, minimum=1, maximum=10_000, elem_id="practise-epochs"
        )
        w.loop["resamples"] = number("resamples")
        w.train = {"scope": made["scope"], "epochs": epochs, **controls(TrainSettings, without=_REST)}
        w.train["patience"].label = "Patience of a training"
        for name, box in w.train.items():
            box.elem_id = box.elem_id or f"practise-train-{name.replace('_', '-')}"


def arguments(w: SimpleNamespace, values: Mapping[Any, Any]) -> dict[str, Any]:
    """The arguments of the task "loop" that the controls stand for.

    Raises:
        LtgError: A value out of bounds or a name that is not known.
    """

    given = {name: _whole(values[box], _WORDS[name][0], _bounds(name)) for name, box in w.loop.items()}
    settings = LoopSettings.from_dict({**given, "preset": str(values[w.preset])})
    loss = str(values[w.loss])
    if loss not in LOSSES:
        raise InputError(f"there is no loss {loss[:60]!r}; choose one of the list")
    train: Any = settings_from(TrainSettings, w.train, dict(values))
    mix: Any = settings_from(MixSettings, {"synthetic_weight": w.weight}, dict(values))
    return {
        "settings": settings.to_dict(),
        "train": train.to_dict(),
        "loss": {"name": loss},
        "mix": mix.to_dict(),
    }


def _bounds(name: str) -> tuple[int, int]:
    spec = SPECS[name]
    return int(spec.low or 0), int(spec.high if spec.high is not None else 2**31 - 1)


def _whole(value: Any, name: str, bounds: tuple[int, int]) -> int:
    whole = isinstance(value, (int, float)) and not isinstance(value, bool) and value == value // 1
    if not whole or not bounds[0] <= value <= bounds[1]:
        raise InputError(f"{name} is {value!r}; give a whole number from {bounds[0]:,} to {bounds[1]:,}")
    return int(value)


def planned(ctx: AppContext, w: SimpleNamespace, values: Mapping[Any, Any]) -> dict[str, Any]:
    """What stands above the start button; an error says what to do."""
    classifier = ctx.classifier()
    if classifier is None or not ctx.workspace.count():
        return rounds.nothing()
    try:
        given = arguments(w, values)
        return rounds.plan(_asked(ctx, given), given, classifier)
    except LtgError as error:
        return rounds.refused(discreet(str(error)))


def _asked(ctx: AppContext, given: Mapping[str, Any]) -> dict[str, Any]:
    """What such a loop would do; asked of the worker that holds no models, and kept until data change."""
    from ltg_core import workflows

    order = {**given, "classifier": ctx.need_classifier().hash}
    key = ("loop plan", json.dumps(order, sort_keys=True), workflows.stamp(ctx.workspace))

    def made() -> dict[str, Any]:
        spec, here = Spec("plan_loop", order), ctx.settings.workspace
        found: dict[str, Any] = ctx.lanes.run("data", here, spec, no_progress, CancelToken())
        return found

    found: dict[str, Any] = ctx.cached(key, made)
    return found


def submit(ctx: AppContext, given: Mapping[str, Any]) -> Job:
    """Check what can be checked now, then queue the work.

    Raises:
        InputError: Something that it needs is not there, or a loop is under way already.
    """
    from ltg_core import workflows

    classifier = ctx.need_classifier()
    workflows.loop_needs(ctx.workspace, classifier)
    _alone(ctx)
    most, preset = given["settings"]["rounds"], given["settings"]["preset"]
    title = f"Practising: {most} round{'s' if most != 1 else ''} at most, {ABOUT[preset][0].lower()}"
    return ctx.run(KIND, title, "loop", {**given, "classifier": classifier.hash})


def resume(ctx: AppContext, run: str) -> Job:
    """Queue what a stopped loop still lacks.

    Raises:
        InputError: It is none, it is done, or one is under way.
    """
    found = next((one for one in ctx.workspace.runs(KIND) if one.id == run), None)
    if found is None or found.state == "done":
        raise InputError("this loop is not there, or it is done; look at the list again")
    _alone(ctx)
    if found.state == "running":
        raise InputError("this loop is under way already")
    return ctx.run(KIND, "Going on with practising", "resume_loop", {"run": run})


def _alone(ctx: AppContext) -> None:
    """Two loops at once would accept images for each other.

    Raises:
        InputError: One of the visitor's is under way.
    """
    if under_way(ctx):
        raise InputError("a loop is under way already; wait until it has ended, or cancel it")


def under_way(ctx: AppContext) -> list[Job]:
    """The visitor's loops that run or wait."""
    return [job for job in ctx.jobs.all() if job.kind == KIND and not job.ended]


def following(ctx: AppContext, w: SimpleNamespace) -> dict[Any, Any]:
    """The progress of the visitor's loop, and which buttons make sense."""
    job = ctx.followed(KIND)
    if job is None:
        return {
            w.progress: view(),
            w.start: gr.Button(interactive=True),
            w.cancel: gr.Button(interactive=False),
        }
    stops = job.token.cancelled and not job.ended
    return {
        w.progress: view(ctx.bar(job, cancel=False)) if job.state != "done" else view(),
        w.start: gr.Button(interactive=job.ended),
        w.cancel: gr.Button("Stopping …" if stops else "Cancel", interactive=not job.ended and not stops),
    }


def listing(ctx: AppContext) -> dict[str, Any]:
    """The rounds of the newest loop and, folded away, of those before it."""
    busy = {
        run
        for job in under_way(ctx)
        for run in (job.run, (job.spec.arguments if job.spec else {}).get("run"))
    }
    return rounds.shown(ctx, ctx.workspace.runs(KIND), busy)


def wire(ctx: AppContext, session: Session, w: SimpleNamespace) -> None:
    """Connect the events; what the buttons beside the rounds do is the tab's."""

    @polite
    def described(preset: str) -> Any:
        return about(ABOUT, preset)

    @polite
    def count(values: dict[Any, Any]) -> dict[str, Any]:
        return planned(ctx, w, values)

    @polite
    def start(values: dict[Any, Any]) -> Any:
        job = submit(ctx, arguments(w, values))
        if ctx.before(job):
            gr.Info(f"{job.title}: queued; it starts by itself.", duration=5)
        return following(ctx, w)

    @polite
    def cancel() -> Any:
        job = ctx.followed(KIND)
        if job is not None and not job.ended:
            ctx.jobs.cancel(job.id)
        return following(ctx, w)

    @polite
    def follow() -> Any:
        return following(ctx, w) | {w.rounds: listing(ctx)}

    @polite
    def again(event: gr.EventData) -> Any:
        if clicked(event).get("name") == "again":
            ctx.again(str(clicked(event).get("job")))

    w.preset.input(described, w.preset, w.about_preset, **QUICK)
    gr.on([box.input for box in w.inputs - {w.loop["seed"]}], count, w.inputs, w.plan, **LATEST)
    w.start.click(start, w.inputs, w.bars, api_name="practise", show_progress="hidden")
    w.cancel.click(cancel, None, w.bars, **QUICK)
    w.progress.act(again, None, None, **BESIDE)
    session.beats[KIND].change(follow, None, [*w.bars, w.rounds], **QUICK)
