"""The answers of Explain: asked for where they are missing, shown where they are there."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import gradio as gr

from app.asked import PER_PAGE, Asked, place
from app.context import AppContext
from app.heats import Shown, matrix
from app.places import kept
from app.render import Node, empty, h, label_of, name_of, percent, view
from ltg_core.errors import InputError
from ltg_core.jobs import Job

NOTHING = empty(
    "Nothing explained yet",
    "Choose samples in Browse or on the Map and press Explain there. One sample is shown large, several as a table.",
)


def ask(
    ctx: AppContext, ids: Sequence[str], methods: Sequence[str], target: str, checked: Sequence[str]
) -> Job:
    """Queue the work; the same question that is under way already is not asked twice."""
    classifier = ctx.need_classifier()
    if not ids:
        raise InputError("no sample is chosen; click one in Browse and press Explain")
    if not methods:
        raise InputError("choose at least one method")
    asked = {"ids": list(ids), "methods": list(methods), "target": target, "checked": list(checked)}
    before = ctx.latest("explain")
    if before is not None and not before.ended and ctx.about(before) == asked:
        return before
    title = f"Explaining {len(ids)} samples" if len(ids) > 1 else "Explaining"
    return ctx.run("explain", title, "explain", asked | {"classifier": classifier.hash}, about=asked)


def answer(
    ctx: AppContext, w: SimpleNamespace, asked: Asked, checked: Sequence[str] = (), *, replace: bool = False
) -> dict[Any, Any]:
    """Show what is there, and tell the address; compute what is not.

    Args:
        ctx: The process.
        w: Of the tab; ``w.address`` is the page's.
        asked: The question.
        checked: Methods whose maps are to be checked.
        replace: Whether this is no step to go back to.
    """
    from ltg_core import workflows

    if not asked.ids or not asked.methods:
        ask(ctx, asked.ids, asked.methods, asked.target, checked)  # says what is missing
    ctx.need_classifier()
    told = {w.address: kept("explain", place(asked, ctx.workspace.label_names()), replace=replace)}
    found = workflows.stored_matrix(ctx.workspace, asked.window, asked.methods, target=asked.target)
    wanted = [(one, name) for one in asked.window for name in asked.methods]
    missing = [p for p in wanted if p not in found or (p[1] in checked and found[p].trust is None)]
    if not missing:
        return told | shown(ctx, w, dataclasses.replace(asked, job="", refused=()), None)
    job = ask(ctx, asked.window, asked.methods, asked.target, checked)
    return told | shown(ctx, w, dataclasses.replace(asked, job=job.id, refused=()), job)


def job_of(ctx: AppContext, asked: Asked | None) -> Job | None:
    """The job of this page, None where there is none or it was forgotten."""
    if not asked or not asked.job:
        return None
    return next((job for job in ctx.jobs.all() if job.id == asked.job), None)


def shown(
    ctx: AppContext, w: SimpleNamespace, asked: Asked, job: Job | None, *, again: bool = False
) -> dict[Any, Any]:
    """The bar of a job, and the table; while a job runs the table is sent once, not ``again`` and again."""
    from ltg_core import workflows

    busy = job is not None and not job.ended
    bar = view(ctx.bar(job) if job is not None and job.state != "done" else None)
    update: dict[Any, Any] = {w.progress: bar, w.start: gr.Button(interactive=not busy), w.asked: asked}
    if busy and again:
        return update
    if job is not None and job.state == "done":
        asked = dataclasses.replace(asked, refused=tuple(job.result["refused"]))
    found = workflows.stored_matrix(ctx.workspace, asked.window, asked.methods, target=asked.target)
    refused = {(one["sample"], one["method"]): one for one in asked.refused}
    single, count = asked.single, len(asked.ids)
    place = asked.ids.index(single) if single else asked.page
    last = count - 1 if single else (count - 1) // PER_PAGE
    first = asked.page * PER_PAGE
    where = f"{place + 1} of {count}" if single else f"{first + 1}–{first + len(asked.window)} of {count}"
    value = matrix(
        ctx,
        Shown(
            ids=asked.window,
            methods=asked.methods,
            words=workflows.question_words(ctx.workspace, asked.target),
            found=found,
            refused=refused,
            where=where if count > 1 else "",
            more=(place > 0, place < last),
            alone=bool(single),
            opened=asked.opened,
            busy=busy,
        ),
    )
    return update | {w.asked: asked, w.results: value}


def chosen_view(ctx: AppContext, ids: list[str]) -> Node:
    """The samples in question: the first ones by name, the others as pictures."""
    if not ids:
        return view(h("div.sources.is-none", h("span.soft", "No sample chosen. Click one in Browse.")))
    samples = ctx.workspace.there(ids[:24])
    labels = ctx.workspace.label_names()
    said = ctx.workspace.predictions(ids[:24], ctx.model_hash or "")
    if len(ids) > 3:
        rest = f"and {len(ids) - len(samples):,} more" if len(ids) > len(samples) else ""
        return view(
            h("div.count", h("b", f"{len(ids):,} samples"), h("span.soft", rest)),
            h("div.strip", *[_thumb(sample, label_of(sample, labels)) for sample in samples]),
        )
    rows = []
    for sample in samples:
        guess = said.get(sample.id)
        kind = "wrong" if guess and guess.correct is False else "right"
        read = (
            h(f"span.soft.{kind}", f"read as {name_of(guess.pred, labels)} {percent(guess.confidence)}")
            if guess
            else None
        )
        rows.append(
            h(
                "div.sources",
                h("img.thumb", src=f"thumb:{sample.id}", alt=""),
                h("div", h("b", label_of(sample, labels)), read),
                h("button.link", "Remove", act=("remove", {"id": sample.id}), type="button"),
                key=sample.id,
            )
        )
    return view(*rows)


def _thumb(sample: Any, name: str) -> Node:
    picture = h("img.thumb", src=f"thumb:{sample.id}", alt=name)
    return h(
        "button.strip-one",
        picture,
        act=("only", {"id": sample.id}),
        type="button",
        title=f"Show {name} alone",
    )
