"""Step 4: the epistemic head."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gradio as gr

from app.components import View
from app.context import AppContext
from app.controls import run_time, words
from app.render import Node, empty, facts, h, percent, view
from app.session import polite
from app.steps.states import HEAD, onward
from ltg_core.errors import LtgError
from ltg_core.jobs import Job

_WHAT = (
    "The head is a set of small networks beside the classifier, fitted on its features of your training images: they "
    "agree near what was seen and part ways elsewhere, and how much they part is the epistemic signal. The classifier "
    "itself is not changed, and every signal gets its percentile against images that were held out."
)


def build_head(w: SimpleNamespace) -> None:
    """The button on the left, what came out on the right."""
    with gr.Row(elem_classes="boxes"):
        with gr.Column(elem_classes="box"):
            w.head_what = View(
                view(
                    h("h3", "What it is"),
                    h("p", _WHAT),
                    h("p.soft", "Seconds for thousands of images, minutes for many."),
                ),
                elem_id="setup-head-what",
            )
            w.fit = gr.Button("Fit the head", variant="primary", elem_id="setup-fit")
        with gr.Column(elem_classes="box"):
            w.head_now = View(elem_id="setup-head-now")


def wire(ctx: AppContext, w: SimpleNamespace, started: Any, outputs: list[Any]) -> None:
    """One job."""

    @polite
    def fit() -> Any:
        return started(fit_head(ctx))

    w.fit.click(fit, None, outputs, api_name="fit_head", show_progress="hidden")


def fit_head(ctx: AppContext) -> Job:
    """Fit it, unless the check has found something that nobody looked at."""
    ctx.need_classifier()
    return ctx.run("setup", "Fitting the epistemic head", "bring_head", {}, lane="compute")


def head_shown(ctx: AppContext) -> Node:
    """Whether it is fitted, on what, and which signal finds the errors."""
    from ltg_core import workflows

    classifier = ctx.classifier()
    if classifier is None or workflows.reference(ctx.workspace, classifier) is None:
        text = "Percentiles and the epistemic signal appear after the fit. It needs labelled images of a split train."
        return view(h("h3", "Not fitted yet"), empty("What it gives", text))
    run = next(
        (
            one
            for one in ctx.workspace.runs("fit-head")
            if one.state == "done" and one.hashes.get("classifier") == classifier.hash
        ),
        None,
    )
    rows: list[tuple[str, Any]] = [("State", "It is fitted")]
    if run is not None:
        rows += [
            ("Fitted", run_time(run.started)),
            ("Training images", f"{run.result.get('fitted_on', 0):,}"),
            ("Held out", f"{run.result.get('held_out', 0):,}"),
            ("Took", f"{run.result.get('seconds', 0):.0f} s"),
        ]
    return view(h("h3", "In use"), facts(rows), *_finders(ctx), onward(HEAD))


def _finders(ctx: AppContext) -> list[Node]:
    from ltg_core import workflows

    def found() -> list[dict[str, Any]]:
        try:
            return list(workflows.discovery(ctx.workspace, ctx.need_classifier()))
        except LtgError:
            return []

    rows = ctx.cached("discovery", found)
    bars = [
        h(
            "div.meter.rate.plain",
            h("span.meter-name", words(str(row["signal"]))),
            h(
                "span.meter-bar",
                h("span.meter-fill"),
                w=f"{100 * max(0.0, 2 * row['auroc_errors'] - 1):.1f}%",
            ),
            h("span.meter-value", percent(row["auroc_errors"], 1)),
        )
        for row in sorted(rows, key=lambda row: -float(row["auroc_errors"]))
        if row["auroc_errors"] == row["auroc_errors"]
    ]
    if not bars:
        return []
    return [
        h("h4", "Which signal finds the errors"),
        h("p.soft", "AUROC on held-out images: 50 % is chance, 100 % ranks every error first."),
        h("div.bars", *bars),
    ]
