"""How far somebody has come with bringing their own, as a stepper."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from app.context import AppContext
from app.render import Node, h, percent, view
from ltg_core.errors import DatasetError

if TYPE_CHECKING:
    from ltg_core.workflows import Examination

CLASSIFIER, DATA, CHECK, HEAD, GENERATOR = STEPS = ("classifier", "data", "check", "head", "generator")
TITLES = {
    CLASSIFIER: "Classifier",
    DATA: "Data",
    CHECK: "Check",
    HEAD: "Epistemic head",
    GENERATOR: "Generator",
}
DONE, OPEN, ATTENTION = "done", "open", "attention"
_MARKS = {DONE: "✓", ATTENTION: "!", OPEN: ""}
_WORDS = {DONE: "done", ATTENTION: "needs attention", OPEN: "to do"}


@dataclasses.dataclass(frozen=True)
class StepState:
    """One step.

    Attributes:
        state: "done", "open" or "attention".
        text: What came out of it, or what it will be, in a few words.
    """

    state: str
    text: str


@dataclasses.dataclass
class Place:
    """Where a visitor is; a state that is changed in place, so that an event under way sees where somebody has gone.

    Attributes:
        step: Name of the step; "" until the page knows where to begin.
        filled: Which generator's options the form was last filled with.
    """

    step: str = ""
    filled: str = ""


def examination(ctx: AppContext) -> Examination | None:
    """The check on labelled real samples; None where there is nothing to check."""
    from ltg_core import workflows

    classifier = ctx.classifier()
    if classifier is None or not ctx.workspace.count():
        return None

    def found() -> Examination | None:
        try:
            return workflows.examine(ctx.workspace, classifier)
        except DatasetError:
            return None

    made: Examination | None = ctx.cached(("examination", classifier.labels), found)
    return made


def states(ctx: AppContext) -> dict[str, StepState]:
    """The state of every step."""
    from ltg_core import workflows
    from ltg_core.data.records import Filter

    ws, classifier = ctx.workspace, ctx.classifier()
    found: dict[str, StepState] = {}
    if classifier is None:
        found[CLASSIFIER] = StepState(OPEN, "weights and class names")
    else:
        found[CLASSIFIER] = StepState(DONE, f"{classifier.name}, {classifier.num_classes:,} classes")
    real = ws.count(Filter(origin="real"))
    unknown = any(not row.label for row in workflows.name_rows(ws)) if real and classifier else False
    found[DATA] = StepState(DONE, f"{real:,} real images") if real else StepState(OPEN, "images with labels")
    found[CHECK] = _check(ctx, unknown)
    fitted = classifier is not None and workflows.reference(ws, classifier) is not None
    found[HEAD] = StepState(DONE, "fitted") if fitted else StepState(OPEN, "seconds to minutes")
    name = ctx.generator_name()
    found[GENERATOR] = StepState(DONE, name) if name else StepState(OPEN, "optional; for Imagine")
    return found


def _check(ctx: AppContext, unknown: bool) -> StepState:
    from ltg_core import workflows

    classifier, check = ctx.classifier(), examination(ctx)
    if classifier is None or check is None:
        return StepState(ATTENTION, "no label is known") if unknown else StepState(OPEN, "on real samples")
    accuracy = percent(check.accuracy.value, 1)
    if check.suspicious and not workflows.check_accepted(ctx.workspace, classifier):
        return StepState(ATTENTION, f"only {accuracy} right")
    return StepState(DONE, f"{accuracy} right")


def first_open(found: dict[str, StepState]) -> str:
    """Where to go on: the first step that is not done, the check where everything is."""
    needed = (CLASSIFIER, DATA, CHECK, HEAD)
    return next((step for step in needed if found[step].state != DONE), CHECK)


def stepper(found: dict[str, StepState], current: str) -> Node:
    """All steps in a row; a click goes to one, and nothing that was entered is lost."""
    return view(
        h("ol.steps", *[_step(place, step, found[step], current) for place, step in enumerate(STEPS, 1)])
    )


def _step(place: int, step: str, found: StepState, current: str) -> Node:
    here = {"aria_current": "step"} if step == current else {}
    return h(
        f"li.step.is-{found.state}" + (".is-current" if step == current else ""),
        h(
            "button",
            h("span.step-mark", _MARKS[found.state] or str(place)),
            h("span.step-name", h("b", TITLES[step]), h("span.step-note", found.text)),
            act=("step", {"to": step}),
            type="button",
            aria_label=f"Step {place}, {TITLES[step]}: {_WORDS[found.state]}, {found.text}",
            **here,
        ),
        key=step,
    )


def onward(step: str, *, off: bool = False, why: str = "") -> Node:
    """The button to the next step."""
    to = STEPS[STEPS.index(step) + 1]
    attrs = {"disabled": "true"} if off else {}
    return h(
        "div.onward",
        h(
            "button.primary",
            f"Continue: {TITLES[to][:1].lower()}{TITLES[to][1:]} →",
            act=None if off else ("step", {"to": to}),
            type="button",
            title=why,
            **attrs,
        ),
    )
