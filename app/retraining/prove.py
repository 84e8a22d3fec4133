"""Compare: which classifiers, on which images; the last comparison, regressions first."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import gradio as gr

from app.components import Forest, View
from app.context import AppContext
from app.render import cut, view
from app.retraining import outcome
from app.retraining.order import under_way
from app.retraining.trained import how
from app.retraining.using import ask, name_of_run
from app.session import BESIDE, EVERY, QUICK, Session, clicked, polite
from ltg_core.errors import InputError
from ltg_core.jobs import Job

ORIGIN, ACTIVE = "", "active"
_MOST = 40


def build() -> SimpleNamespace:
    """The choice on the left, the comparison on the right."""
    w = SimpleNamespace(run=gr.State(""), arm=gr.State(0), told=gr.State(""))
    with gr.Row(elem_classes="two retrain"):
        with gr.Column(elem_classes="rail wide"):
            w.arms = gr.Dropdown(
                [], value=[], multiselect=True, label="Compare", info="The seeds of one training count together",
                elem_id="compare-arms", interactive=True,
            )  # fmt: skip
            w.base = gr.Dropdown(
                [("What the first was trained from", ORIGIN), ("The classifier in use", ACTIVE)], value=ORIGIN,
                label="With", elem_id="compare-base", interactive=True,
            )  # fmt: skip
            w.free = gr.Checkbox(
                True, label="And with what needs no training", elem_id="compare-free",
                info="Logit adjustment and temperature scaling: free, so a training must beat them",
            )  # fmt: skip
            w.split = gr.Dropdown(
                [("Test, or validation where there is none", "")], value="", label="On the real images of",
                elem_id="compare-split", interactive=True,
            )  # fmt: skip
            w.column = gr.Dropdown(
                [("None", "")], value="", label="Condition", elem_id="compare-column", interactive=True,
                info="Pairs of class and value are groups; the worst of them is a figure of its own",
            )  # fmt: skip
            with gr.Accordion("All settings", open=False, elem_id="compare-all"):
                w.smallest = gr.Number(
                    5, label="Smallest", info="Classes and groups with fewer images cannot be the worst",
                    precision=0, minimum=1, elem_id="compare-smallest",
                )  # fmt: skip
                w.rounds = gr.Number(
                    2000, label="Rounds", info="Resamples of the bootstrap", precision=0, minimum=100,
                    maximum=100_000, elem_id="compare-rounds",
                )  # fmt: skip
                w.seed = gr.Number(0, label="Seed", info="Of the resamples", precision=0, minimum=0,
                                   elem_id="compare-seed")  # fmt: skip
            with gr.Row():
                w.start = gr.Button("Compare", variant="primary", elem_id="compare-start")
                w.cancel = gr.Button("Cancel", elem_id="compare-cancel", interactive=False)
        with gr.Column(elem_classes="middle"):
            w.progress = View(elem_id="compare-progress")
            w.runs = gr.Dropdown([], label="Shown comparison", visible=False, interactive=True,
                                 elem_id="compare-runs")  # fmt: skip
            w.head = View(elem_id="compare-head")
            w.figure = Forest(elem_id="compare-figure")
            w.rest = View(elem_id="compare-rest")
    w.inputs = {w.arms, w.base, w.free, w.split, w.column, w.smallest, w.rounds, w.seed}
    w.shown = [w.runs, w.head, w.figure, w.rest, w.run, w.arm]
    w.bars = [w.progress, w.start, w.cancel]
    w.offers = [w.arms, w.base, w.split, w.column]
    return w


def offered(ctx: AppContext, w: SimpleNamespace, values: Mapping[Any, Any]) -> dict[Any, Any]:
    """Trainings, splits and columns to choose from, as they are now; what was chosen stays."""
    runs = [run for run in ctx.workspace.runs("retrain") if run.state == "done"][:_MOST]
    arms = [(f"{cut(name_of_run(run), 60)} · {how(run)}", run.id) for run in runs]
    known = [value for _, value in arms]
    kept = [one for one in values[w.arms] or [] if one in known] or known[:1]
    bases = [("What the first was trained from", ORIGIN), ("The classifier in use", ACTIVE), *arms]
    splits = [
        ("Test, or validation where there is none", ""),
        *[(one, one) for one in ctx.workspace.splits()],
    ]
    names = ctx.workspace.meta_columns()
    columns = [("None", ""), *[(cut(name, 60), name) for name in names[:300]]]

    def still(box: Any, among: list[tuple[str, str]]) -> Any:
        return values[box] if values[box] in [value for _, value in among] else ""

    return {
        w.arms: gr.Dropdown(arms, value=kept),
        w.base: gr.Dropdown(bases, value=still(w.base, bases)),
        w.split: gr.Dropdown(splits, value=still(w.split, splits)),
        w.column: gr.Dropdown(columns, value=still(w.column, columns)),
    }


def submit(ctx: AppContext, w: SimpleNamespace, values: Mapping[Any, Any]) -> Job:
    """Queue the comparison that the controls stand for.

    Raises:
        LtgError: Nothing to compare, or a value out of bounds.
    """
    from ltg_core import workflows

    settings = {
        name: values[getattr(w, name)] for name in ("split", "column", "smallest", "rounds", "seed", "free")
    }
    settings["split"], settings["column"] = str(settings["split"] or ""), str(settings["column"] or "")
    checked = workflows.CompareSettings.from_dict(settings).to_dict()
    return begin(ctx, [str(one) for one in values[w.arms] or []], str(values[w.base] or ""), checked)


def begin(ctx: AppContext, arms: list[str], base: str, settings: Mapping[str, Any] | None = None) -> Job:
    """Queue a comparison.

    Raises:
        InputError: One of the trainings is not there or not done, or nothing is left to compare.
    """
    done = {run.id for run in ctx.workspace.runs("retrain") if run.state == "done"}
    lost = [one for one in [*arms, base] if one not in done | {ORIGIN, ACTIVE}]
    if lost or ORIGIN in arms or ACTIVE in arms:
        raise InputError("one of the trainings is not there or not done; choose from the list again")
    if len(arms) > _MOST:
        raise InputError(f"{len(arms)} trainings were chosen; compare at most {_MOST} at a time")
    if not arms and settings is not None and not settings["free"]:
        raise InputError("choose a training to compare, or what needs no training")
    ctx.need_classifier()
    order = {"arms": list(dict.fromkeys(arms)), "base": base, "settings": dict(settings or {})}
    if any(job.spec and job.spec.arguments == order for job in ctx.running() if job.kind == "compare"):
        raise InputError("exactly this comparison is under way already")
    number = len(order["arms"])
    what = f"{number} trainings" if number > 1 else "a training" if number else "what needs no training"
    return ctx.run("compare", f"Comparing {what}", "compare", order)


def show(ctx: AppContext, w: SimpleNamespace, ref: str, place: Any) -> dict[Any, Any]:
    """A comparison, the newest where ``ref`` is none; of an arm that is not there the first."""
    run = outcome.find(ctx, ref)
    if run is None:
        return {
            w.runs: gr.Dropdown(visible=False),
            w.head: outcome.nothing(),
            w.figure: {},
            w.rest: view(),
            w.run: "",
            w.arm: 0,
        }
    arms = run.result["arms"]
    at = place if isinstance(place, int) and not isinstance(place, bool) and 0 <= place < len(arms) else 0
    offers = outcome.choices(ctx)
    return {
        w.runs: gr.Dropdown(offers, value=run.id, visible=len(offers) > 1),
        w.head: outcome.head(ctx, run, at),
        w.figure: outcome.figure(run, at),
        w.rest: outcome.rest(ctx, run, at),
        w.run: run.id,
        w.arm: at,
    }


def place(ctx: AppContext, ref: str, at: int) -> dict[str, str]:
    """What the address keeps: the comparison where it is not the newest, and the arm."""
    newest = outcome.find(ctx, "")
    return {"of": "" if newest is None or newest.id == ref else ref, "arm": str(at + 1) if at else ""}


def following(ctx: AppContext, w: SimpleNamespace) -> dict[Any, Any]:
    """The progress of the visitor's comparison, and which buttons make sense."""
    job = ctx.followed("compare")
    if job is None:
        return {w.progress: view(), w.cancel: gr.Button(interactive=False)}
    stops = job.token.cancelled and not job.ended
    return {
        w.progress: view(ctx.bar(job, cancel=False)) if job.state != "done" else view(),
        w.start: gr.Button("Compare" if job.ended else "Add to the queue"),
        w.cancel: gr.Button("Stopping …" if stops else "Cancel", interactive=not job.ended and not stops),
    }


def make_classifier(ctx: AppContext, data: Mapping[str, Any]) -> Job:
    """Queue writing a free baseline of a comparison into a classifier's last layer.

    Raises:
        InputError: There is no such arm, or it is under way.
    """
    run, at = outcome.find(ctx, str(data.get("run"))), data.get("place")
    arms = run.result["arms"] if run is not None and run.id == data.get("run") else []
    arm = arms[at] if isinstance(at, int) and 0 <= at < len(arms) else None
    if arm is None or arm.get("free") is None:
        raise InputError("this comparison is not there any more; look at the list again")
    order = {**arm["free"], "classifier": arm["classifiers"][0]}
    if any(job.spec and job.spec.arguments == order for job in under_way(ctx)):
        raise InputError("that is under way already")
    return ctx.run("retrain", f"Making a classifier: {arm['name'][:60]}", "without_training", order)


def wire(ctx: AppContext, session: Session, w: SimpleNamespace, use: SimpleNamespace, told: Any) -> None:
    """Connect the events; ``told`` makes the value of the address from what ``place`` keeps."""

    @polite
    def start(values: dict[Any, Any]) -> Any:
        job = submit(ctx, w, values)
        if ctx.before(job):
            gr.Info(f"{job.title}: queued; it starts by itself.", duration=5)
        return following(ctx, w)

    @polite
    def cancel() -> Any:
        job = ctx.followed("compare")
        if job is not None and not job.ended:
            ctx.jobs.cancel(job.id)
        return following(ctx, w)

    @polite
    def follow(seen: str) -> Any:
        job, update = ctx.followed("compare"), following(ctx, w)
        if job is None or job.state != "done" or job.id == seen:
            return update
        run = str((job.result or {}).get("run", ""))
        return update | show(ctx, w, run, 0) | {w.told: job.id, session.address: told(place(ctx, run, 0))}

    @polite
    def choose(ref: str) -> Any:
        found = show(ctx, w, ref, 0)
        return found | {session.address: told(place(ctx, found[w.run], 0))}

    @polite
    def act(ref: str, event: gr.EventData) -> Any:
        data = clicked(event)
        name = data.get("name")
        if name == "arm":
            found = show(ctx, w, ref, data.get("place"))
            return found | {session.address: told(place(ctx, found[w.run], found[w.arm]))}
        if name == "use":
            return ask(ctx, use, data.get("ref"))
        if name == "free":
            job = make_classifier(ctx, data)
            gr.Info(f"{job.title}. It will stand among the trained classifiers under Retrain.", duration=6)
        return gr.skip()

    @polite
    def again(event: gr.EventData) -> None:
        if clicked(event).get("name") == "again":
            ctx.again(str(clicked(event).get("job")))

    w.progress.act(again, None, None, **BESIDE)
    w.start.click(start, w.inputs, w.bars, api_name="compare", show_progress="hidden")
    w.cancel.click(cancel, None, w.bars, **QUICK)
    session.beats["compare"].change(follow, w.told, [*w.bars, *w.shown, w.told, session.address], **QUICK)
    w.runs.input(choose, w.runs, [*w.shown, session.address], **QUICK)
    for part in (w.head, w.rest):
        part.act(act, w.run, [*w.shown, session.address, use.asked, use.view], **EVERY)
