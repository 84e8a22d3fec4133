"""Step 3: the check; do the classifier and the data fit together, before anything is built on them?"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import gradio as gr

from app.components import Grid, View
from app.context import AppContext
from app.details import cards
from app.render import Node, empty, h, percent, view
from app.session import EVERY, clicked, polite
from app.steps import mapping
from app.steps.classifier import revise
from app.steps.reliability import diagram
from app.steps.states import CHECK, Place, examination, onward
from ltg_core.errors import InputError
from ltg_core.jobs import Job

if TYPE_CHECKING:
    from ltg_core.workflows import Alternative, Examination, Share

_GRID = 36
_MODES = (("mixed", "As they come"), ("wrong", "Wrong first"), ("right", "Right first"))
_OFFERED = 3


def build(ctx: AppContext, w: SimpleNamespace) -> None:
    """Figures on the left, real samples and the mapping on the right."""
    w.mode = gr.State("mixed")
    with gr.Row(elem_classes="boxes check"):
        with gr.Column(elem_classes="box"):
            w.check = View(elem_id="setup-check")
        with gr.Column(elem_classes="box wide"):
            w.check_modes = View(elem_id="setup-check-modes")
            w.check_grid = Grid({"items": []}, elem_id="setup-check-grid")
            w.mapping = View(elem_id="setup-mapping")


def wire(ctx: AppContext, w: SimpleNamespace, started: Any, outputs: list[Any], go: Any) -> None:
    """Order of the samples, the mapping, what is tried, and the way on.

    Args:
        ctx: The process.
        w: The tab's widgets.
        started: What a page shows when a job was queued.
        outputs: The components of that, and of ``go``.
        go: What a page shows at another step.
    """

    @polite
    def choose(event: gr.EventData) -> Any:
        mode = str(clicked(event).get("mode"))
        if mode not in [name for name, _ in _MODES]:
            return gr.skip()
        return {w.mode: mode, w.check_modes: modes(ctx, mode), w.check_grid: grid(ctx, mode)}

    @polite
    def act(place: Place, event: gr.EventData) -> Any:
        data = clicked(event)
        name = data.get("name")
        if name == "step":
            return go(place, str(data.get("to")))
        if name == "accept":
            return accept(ctx, bool(data.get("on"))) or go(place, CHECK)
        if name == "try":
            return started(attempt(ctx))
        if name == "adopt":
            return started(revise(ctx, offered(ctx, str(data.get("alternative")))))
        if name == "map":
            return started(mapping.submit(ctx, data))
        return gr.skip()

    w.check_modes.act(choose, None, [w.mode, w.check_modes, w.check_grid], **EVERY)
    for part in (w.check, w.mapping):
        part.act(act, w.place, outputs, **EVERY)


def accept(ctx: AppContext, on: bool) -> None:
    """Note that somebody has looked and wants to go on."""
    from ltg_core import workflows

    workflows.accept_check(ctx.workspace, ctx.need_classifier(), on)


def attempt(ctx: AppContext) -> Job:
    """Try what is usually wrong."""
    ctx.need_classifier()
    return ctx.run("setup", "Looking for the cause", "alternatives", {})


def offered(ctx: AppContext, name: str) -> dict[str, Any]:
    """What an alternative changes."""
    from ltg_core import workflows

    known = workflows.known_alternatives(ctx.workspace, ctx.need_classifier()) or []
    found = next((one for one in known if one.name == name), None)
    if found is None:
        raise InputError("this was tried with another classifier; look for the cause again")
    return found.change


def figures(ctx: AppContext) -> Node:
    """Accuracy, calibration, the extremes, and what to do where something is wrong."""
    from ltg_core import workflows

    check, classifier = examination(ctx), ctx.classifier()
    if check is None or classifier is None:
        text = "Accuracy appears as soon as there are a classifier and labelled images."
        if classifier is not None and ctx.workspace.count():
            text = "Not one image has a class that the classifier knows. Say in the table which class each name means."
        return view(h("h3", "Nothing to check yet"), empty("What is needed", text))
    ok = not check.suspicious or workflows.check_accepted(ctx.workspace, classifier)
    where = (
        f"{check.accuracy.whole:,} images of the split {check.split}" if check.split else "all real images"
    )
    return view(
        h("h3", f"On {where}"),
        _stop(ctx, check) if check.suspicious else None,
        h(
            "div.figures",
            _figure(
                percent(check.accuracy.value, 1), f"right; {_between(check.accuracy)} with 95 % confidence"
            ),
            _figure(percent(check.balanced, 1), "mean over classes"),
            _figure(percent(check.constant.value, 1), f"by always saying {check.constant_label}"),
            _figure(percent(check.ece, 1), "calibration error (ECE, 15 bins)"),
        ),
        h("h4", "Is its confidence worth anything?"),
        diagram(check.bins),
        h("p.soft", "Bars on the dotted line: of the answers given with 80 % confidence, 80 % are right."),
        *_extremes(check),
        h("h4", "Preprocessing in use"),
        h("p.soft", f"{classifier.preprocess.describe()}."),
        None
        if check.suspicious
        else h(
            "p.soft", "If this is what you know of the classifier, preprocessing and class names are right."
        ),
        onward(CHECK, off=not ok, why="" if ok else "Tick above that you want to go on"),
    )


def _stop(ctx: AppContext, check: Examination) -> Node:
    """What is wrong, what usually causes it, what was tried, and an explicit way on."""
    from ltg_core import workflows

    classifier = ctx.need_classifier()
    on = workflows.check_accepted(ctx.workspace, classifier)
    title = "No better than always giving the same answer" if check.at_chance else "This does not look right"
    reason = (
        f"{check.accuracy.part:,} of {check.accuracy.whole:,} right; always saying “{check.constant_label}” gives "
        f"{percent(check.constant.value, 1)}."
        if check.at_chance
        else f"{check.warning[:1].upper()}{check.warning[1:]}."
    )
    return h(
        "section.stop",
        h("b.stop-title", title),
        h("p", reason),
        *_tried(workflows.known_alternatives(ctx.workspace, classifier)),
        h(
            "details.causes",
            h("summary", "What usually causes this"),
            h("ul", *[h("li", cause) for cause in workflows.CAUSES]),
        ),
        h(
            "button.tickbox" + (".is-on" if on else ""),
            h("span.tick-mark", "✓" if on else ""),
            h("span", "I have looked at this and want to go on with it as it is"),
            act=("accept", {"on": not on}),
            type="button",
            role="checkbox",
            aria_checked=str(on).lower(),
        ),
    )


def _tried(found: list[Alternative] | None) -> list[Node]:
    if found is None:
        return [h("button", "Look for the cause", act=("try", {}), type="button")]
    better = [one for one in found if one.better]
    if not better:
        return [
            h(
                "p",
                f"{len(found)} other ways were tried on up to 300 images (class order, channel order, normalisation, "
                "0 to 255, resizing, input size); none would help. Then the weights are probably of another task or "
                "architecture.",
            )
        ]
    now = better[0].before
    return [
        h(
            "p",
            f"Tried on up to 300 images, where {percent(now.value)} are right as it is now. This would help:",
        ),
        *[
            h(
                "div.alternative",
                h("div.alternative-text", h("b", percent(one.accuracy.value)), h("span", f" {one.text}")),
                h("button.primary", "Use this", act=("adopt", {"alternative": one.name}), type="button"),
                key=one.name,
            )
            for one in better[:_OFFERED]
        ],
    ]


def _figure(value: str, text: str) -> Node:
    return h("div.figure", h("b", value), h("span", text))


def _between(value: Share) -> str:
    return f"{100 * value.low:.1f} to {percent(value.high, 1)}"


def _extremes(check: Examination) -> list[Node | None]:
    rows = [*check.worst, *check.best]
    bars = [
        h(
            f"div.meter.rate.{'low' if value.value >= 0.9 else 'mid' if value.value >= 0.75 else 'high'}",
            h("span.meter-name", name, title=name),
            h("span.meter-bar", h("span.meter-fill"), w=f"{100 * value.value:.1f}%"),
            h("span.meter-value", f"{value.part:,} of {value.whole:,}"),
        )
        for name, value in rows
    ]
    return [h("h4", "The worst classes and the best"), h("div.bars", *bars)]


def modes(ctx: AppContext, mode: str) -> Node:
    """How the samples are ordered."""
    buttons = [
        h(
            "button.mode" + (".is-on" if name == mode else ""),
            text,
            act=("order", {"mode": name}),
            type="button",
            aria_pressed=str(name == mode).lower(),
        )
        for name, text in _MODES
    ]
    return view(h("div.check-head", h("h3", "Given and predicted"), h("div.modes", *buttons)))


def grid(ctx: AppContext, mode: str) -> dict[str, Any]:
    """Real samples, each with what the data says and what the classifier says."""
    from ltg_core.data.records import Filter

    nothing = {"items": [], "empty": ["No samples yet", "They appear with the classifier and the data."]}
    model, ws = ctx.model_hash, ctx.workspace
    if model is None:
        return nothing
    check = examination(ctx)
    split = (check.split or None) if check else None
    parts: tuple[bool | None, ...] = {"wrong": (False, True), "right": (True, False)}.get(mode, (None,))
    ids: list[str] = []
    for correct in parts:
        some = Filter(split=split, origin="real", correct=correct, model_hash=model)
        ids += ws.query(some, sort="id" if correct is None else "confidence", limit=_GRID - len(ids))
    said, labels = ws.predictions(ids, model), ws.label_names()
    items = cards(ctx, ids)
    for item in items:
        guess = said.get(item["id"])
        if guess is not None:
            name = labels[guess.pred] if 0 <= guess.pred < len(labels) else f"class {guess.pred}"
            item["s"] = f"→ {name} {percent(guess.confidence)}"
    return {**nothing, "items": items, "label": "Real samples: given label, predicted class"}
