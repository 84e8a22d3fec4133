"""Putting a retrained classifier to use: asked once more, done in the worker, and then its head."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from app.components import View
from app.context import AppContext
from app.render import Node, h, view
from app.session import EVERY, QUICK, Session, clicked, polite
from ltg_core.errors import InputError
from ltg_core.jobs import Job

if TYPE_CHECKING:
    from ltg_core.data.records import Run


def build() -> SimpleNamespace:
    """One place for both parts."""
    return SimpleNamespace(asked=gr.State(""), view=View(elem_id="retrain-use"))


class Target(NamedTuple):
    """A classifier that can be put to use.

    Attributes:
        ref: A training's run, or the hash of what a training started from.
        hash: Of the classifier.
        name: For people.
        seeds: Of how many it is the best.
    """

    ref: str
    hash: str
    name: str
    seeds: int = 1


def targets(ctx: AppContext) -> dict[str, Target]:
    """By what they are called in an event: finished trainings, and what the trainings started from."""
    runs = [run for run in ctx.workspace.runs("retrain") if run.result.get("best")]
    made = {
        run.id: Target(run.id, run.result["best"], name_of_run(run), len(run.result["seeds"])) for run in runs
    }
    known = {one["classifier"] for run in runs for one in run.result["seeds"]}
    first = {str(run.settings["classifier"]): str(run.result.get("from") or "the first one") for run in runs}
    return made | {hash: Target(hash, hash, name) for hash, name in first.items() if hash not in known}


def target(ctx: AppContext, ref: Any) -> Target:
    """The classifier that somebody wants to use.

    Raises:
        InputError: There is none, or it is in use.
    """
    found = targets(ctx).get(str(ref))
    if found is None:
        raise InputError("this classifier is not there any more; look at the list again")
    if found.hash == ctx.model_hash:
        raise InputError("this classifier is in use already")
    return found


def name_of_run(run: Run) -> str:
    """What a training is called: the common part of the names of its seeds."""
    seeds = run.result.get("seeds") or []
    names = [str(one.get("name") or "") for one in seeds]
    if names and names[0]:
        return names[0].rpartition(", seed ")[0] if len(names) > 1 else names[0]
    return str(run.settings.get("name") or run.settings.get("free") or "retraining")


def shown(ctx: AppContext, asked: str) -> Node:
    """The question, the progress, or what comes next; mostly nothing."""
    one = targets(ctx).get(asked)
    if one is not None and one.hash != ctx.model_hash:
        return view(_question(ctx, one))
    job = ctx.followed("adopt")
    if job is None:
        return view()
    if job.state != "done":
        return view(ctx.bar(job))
    made, classifier = str(job.about.get("hash", "")), ctx.classifier()
    if classifier is None or (made and made != classifier.hash):
        return view()  # another one is in use by now
    return view(_next(ctx, classifier.name))


def _question(ctx: AppContext, one: Target) -> Node:
    now = ctx.classifier()
    best = (
        f" Of its {one.seeds} seeds the one with the best figure on real validation images is taken."
        if one.seeds > 1
        else ""
    )
    instead = f" instead of “{now.name}”" if now is not None else ""
    return h(
        "div.panel.ask.takes-focus",
        h("h3", "Use this classifier?"),
        h(
            "p",
            f"“{one.name}” becomes the classifier of this workspace, for everybody who works in it{instead}."
            f"{best} All samples are scored again, and its epistemic head is to be fitted. Nothing is deleted: the "
            "other one stays stored, and you can go back to it in the same way.",
        ),
        h(
            "div.actions",
            h("button.primary", "Use it", act=("use-now", {"ref": one.ref}), type="button"),
            h("button", "Keep the present one", act=("keep", {}), type="button"),
        ),
        key=f"ask-{one.ref}",
        tabindex="-1",
    )


def _next(ctx: AppContext, name: str) -> Node:
    from ltg_core import workflows

    classifier = ctx.need_classifier()
    if workflows.reference(ctx.workspace, classifier) is None:
        return h(
            "div.panel.ask",
            h("h3", "It is in use"),
            h(
                "p",
                f"“{name}” is the classifier of this workspace now. Its epistemic head is not fitted yet; rankings by "
                "what it does not know, percentiles and guidance come with it.",
            ),
            h("div.actions", h("button.primary", "Fit its head", act=("fit", {}), type="button")),
        )
    return h(
        "div.panel.ask",
        h("h3", "The loop starts again"),
        h("p", f"“{name}” is in use and its head is fitted. What does it not know now?"),
        h(
            "div.actions",
            h("button.primary", "Look for its blind spots", act=("go", {"tab": "browse"}), type="button"),
            h("button", "Imagine more", act=("go", {"tab": "imagine"}), type="button"),
        ),
    )


def adopt(ctx: AppContext, ref: str) -> Job:
    """Queue the change.

    Raises:
        InputError: There is no such classifier, it is in use, or a change is under way.
    """
    one, job = target(ctx, ref), ctx.followed("adopt")
    if job is not None and not job.ended:
        raise InputError("another classifier is being put to use; wait until that is done")
    title = f"Putting “{one.name[:80]}” to use"
    return ctx.run("adopt", title, "adopt", {"ref": one.ref}, about={"hash": one.hash})


def fit(ctx: AppContext) -> Job:
    """Queue the head of the classifier in use.

    Raises:
        InputError: It is being fitted.
    """
    job = ctx.followed("adopt")
    if job is not None and not job.ended:
        raise InputError("that is under way already")
    about = {"hash": ctx.need_classifier().hash}
    return ctx.run("adopt", "Fitting the epistemic head", "bring_head", {}, about=about)


def wire(ctx: AppContext, session: Session, w: SimpleNamespace) -> None:
    """Connect the buttons of the one place; the lists open it through ``ask``."""

    @polite
    def act(event: gr.EventData) -> Any:
        data = clicked(event)
        name = data.get("name")
        if name == "use-now":
            adopt(ctx, str(data.get("ref", "")))
        elif name == "fit":
            fit(ctx)
        elif name == "cancel":
            ctx.jobs.cancel(str(data.get("job")))
            return gr.skip()
        elif name == "again":
            ctx.again(str(data.get("job")))
        elif name == "go" and data.get("tab") in ("browse", "imagine"):
            return {session.tabs: gr.Tabs(selected=data["tab"])}
        elif name != "keep":
            return gr.skip()
        return {w.asked: "", w.view: shown(ctx, "")}

    @polite
    def follow(asked: str) -> Any:
        return gr.skip() if asked else shown(ctx, "")

    w.view.act(act, None, [w.asked, w.view, session.tabs], **EVERY)
    session.beats["adopt"].change(follow, w.asked, w.view, **QUICK)


def ask(ctx: AppContext, w: SimpleNamespace, ref: Any) -> dict[Any, Any]:
    """Open the question; outputs are ``w.asked`` and ``w.view``."""
    one = target(ctx, ref)
    return {w.asked: one.ref, w.view: shown(ctx, one.ref)}
