"""Auxiliary classes as nodes: what is weak, what was proposed beside it, what the last job left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app.context import AppContext
from app.render import Node, cut, empty, h, percent, view

if TYPE_CHECKING:
    from ltg_core.curation.auxiliary import Auxiliary
    from ltg_core.curation.journal import Action
    from ltg_core.workflows.weak_classes import Weak

SOURCES = {
    "llm": "language model",
    "wordnet": "WordNet",
    "clusters": "pool",
    "hand": "by hand",
    "random": "control",
}
_PICTURES, _CLASSES = 6, 60
_WHAT = (
    "A class with few images may be learned better beside classes that look like it. Propose some, accept what makes "
    "sense, give them images, and retrain: the copy learns to tell them apart, and answers with the classifier's own "
    "classes only."
)


def weak_classes(ctx: AppContext) -> list[Weak]:
    """All classes, the weakest first; none without a classifier."""
    from ltg_core import workflows

    classifier = ctx.classifier()
    if classifier is None or not ctx.workspace.count():
        return []
    key = ("weakness", classifier.hash, workflows.stamp(ctx.workspace))
    found: list[Weak] = ctx.cached(key, lambda: workflows.weakness(ctx.workspace, classifier))
    return found


def waiting() -> Node:
    """Until the classes were looked at."""
    return view(h("p.soft", _WHAT), h("p.soft", "Looking for weak classes …"))


def listing(ctx: AppContext) -> Node:
    """Everything in the middle: the weak classes, and beside each what was proposed."""
    from ltg_core.curation import auxiliary

    every = auxiliary.every(ctx.workspace)
    weak = weak_classes(ctx)
    if not weak:
        return view(
            empty("No classifier and data yet", "Bring both under Setup, or wait until the demo is open.")
        )
    about = {one.name: one for one in weak}
    fine = measured(ctx)
    parents = list(dict.fromkeys([*(one.name for one in weak if one.why), *(one.parent for one in every)]))
    if not parents:
        return view(
            h("p.soft", _WHAT),
            empty(
                "No class is weak",
                "Each has 100 training images or more and is recognised in 60 % of its validation images or more. "
                "Choose classes on the left to propose something beside them all the same.",
            ),
        )
    sections = [
        _section(ctx, name, about.get(name), fine.get(name), [one for one in every if one.parent == name])
        for name in parents[:_CLASSES]
    ]
    more = len(parents) - len(sections)
    return view(
        h("p.soft.extend-what", _WHAT),
        _undo(ctx),
        *sections,
        h("p.soft", f"and {more:,} more classes; extend list shows all") if more > 0 else None,
        _how_to_read() if fine else None,
    )


def measured(ctx: AppContext) -> dict[str, Mapping[str, Any]]:
    """The last measurement of how fine the classes are, by class, of the classifier in use."""
    for run in ctx.workspace.runs("granularity"):
        if run.state == "done" and run.hashes.get("classifier") == ctx.model_hash:
            return {one["name"]: one for one in run.result["classes"]}
    return {}


def _section(
    ctx: AppContext, name: str, weak: Weak | None, fine: Mapping[str, Any] | None, beside: Sequence[Auxiliary]
) -> Node:
    shown = [one for one in beside if one.status != "rejected"]
    rejected = [one for one in beside if one.status == "rejected"]
    why = weak.why if weak is not None and weak.why else f"{weak.train:,} training images" if weak else ""
    return h(
        "section.extend-class",
        h(
            "div.extend-head",
            h("h3", cut(name, 80)),
            h("span.soft", why),
            h("span.extend-fine", *_fine(fine)) if fine else None,
        ),
        *[_row(ctx, one) for one in shown],
        h("p.soft", "Nothing stands beside it yet.") if not shown else None,
        h(
            "details.more",
            h("summary", f"{len(rejected)} rejected"),
            *[_row(ctx, one) for one in rejected],
        )
        if rejected
        else None,
        key=name,
    )


def _fine(fine: Mapping[str, Any]) -> list[Node]:
    ratio = float(fine["ratio"])
    kind = ".is-near" if ratio >= 1 else ""
    nearest = ", ".join(f"{cut(str(other), 24)} {cosine:.2f}" for other, cosine in fine["near"][:3])
    return [
        h("b" + kind, f"{ratio:.2f}", title="width of the class over the way to its neighbours"),
        h("span.soft", f"width / gap · {percent(float(fine['mixed']))} mixed · nearest: {nearest}"),
    ]


def _how_to_read() -> Node:
    return h(
        "p.soft",
        "Width over gap: how far a class's training images lie from their mean, over how far the means of the nearest "
        "five classes lie from it (1 - cosine, in the classifier's features; accepted auxiliary classes with images "
        "count). Below 1 the class stands alone, and classes beside it can teach what it is not; above 1 they are near "
        "already. Mixed: the share of other classes among the images nearest to its own.",
    )


def _row(ctx: AppContext, one: Auxiliary) -> Node:
    from ltg_core.curation import auxiliary

    ids = auxiliary.images_of(ctx.workspace, one.key, _PICTURES)
    members = [] if ids else ctx.workspace.there([str(id) for id in one.about.get("members", [])[:_PICTURES]])
    there = {"key": one.key}
    buttons = [
        h("button", "Accept", act=("accept", there), type="button", aria_label=f"Accept {one.name}")
        if one.status != "accepted"
        else None,
        h("button", "Reject", act=("reject", there), type="button", aria_label=f"Reject {one.name}")
        if one.status != "rejected"
        else None,
        h("button.link", "Rename", act=("rename", there), type="button", aria_label=f"Rename {one.name}"),
    ]
    return h(
        f"div.extend-row.is-{one.status}",
        h(
            "div.extend-text",
            h(
                "span.row-head",
                h("b", one.name),
                h("span.extend-from", SOURCES.get(one.source, one.source)),
                h("span.extend-status", "accepted") if one.status == "accepted" else None,
            ),
            h("span.soft", " · ".join(part for part in (one.relation, one.difference) if part)),
        ),
        h(
            "div.extend-pictures",
            *[h("img", src=f"thumb:{id}", alt="") for id in ids or [sample.id for sample in members]],
            h("span.soft", f"{one.images:,} images") if one.images else None,
        ),
        h("div.extend-buttons", *buttons),
        key=str(one.key),
    )


def last_action(ctx: AppContext) -> Action | None:
    """The last action that is not undone, which is what undoing takes back."""
    from ltg_core.curation import journal

    return next((one for one in journal.history(ctx.workspace) if not one.undone), None)


def _undo(ctx: AppContext) -> Node | None:
    """Takes back the last decision, where it was one about auxiliary classes."""
    last = last_action(ctx)
    if last is None or "auxiliary class" not in last.description:
        return None
    return h(
        "div.extend-undo",
        h("span.soft", cut(last.description[:1].upper() + last.description[1:])),
        h("button.link", "Undo", act=("undo", {"id": last.id}), type="button"),
    )


def outcome(ctx: AppContext) -> Node:
    """What the last proposal or the last images left out, and why."""
    runs = [run for kind in ("propose", "extend", "extend-control") for run in ctx.workspace.runs(kind)]
    run = max(runs, key=lambda one: one.started, default=None)
    if run is None or run.state != "done":
        return view()
    got = run.result
    lines: list[str] = []
    if run.kind == "propose":
        lines.append(f"{len(got['added'])} proposed beside {cut(', '.join(got['classes']), 120)}")
        lines += [
            f"Left out: {name or 'one'} beside {parent}, {why}" for parent, name, why in got["dropped"][:12]
        ]
    elif run.kind == "extend":
        lines.append(f"{got['added']:,} images added")
        for one in got["classes"]:
            lines += [f"{one['name']}: {count:,} left out, {why}" for why, count in one["left_out"].items()]
    else:
        lines.append(f"{got['added']:,} random images stand beside {_classes(got['classes'])} as the control")
    lines += got.get("notes", [])
    return view(
        h("h4", "Last time"),
        h("ul.read", *[h("li", cut(line, 300)) for line in lines[:24]]),
    )


def _classes(count: int) -> str:
    return f"{count:,} class" + ("es" if count != 1 else "")
