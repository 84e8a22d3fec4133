"""The list of trainings: what each learned from, how it did on validation, and what can be done with it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from app.context import AppContext
from app.controls import run_time
from app.discreet import discreet
from app.render import Node, cut, empty, h, percent, view
from app.retraining.order import LOSSES, SCOPES, under_way_of
from app.retraining.using import name_of_run, targets

if TYPE_CHECKING:
    from ltg_core.data.records import Run

_SHOWN = 12
_FREE = {"logit-adjustment": "logit adjustment, not trained", "temperature": "temperature, not trained"}


def listing(ctx: AppContext) -> Node:
    """All trainings of the workspace, the newest first."""
    runs = ctx.workspace.runs("retrain")
    if not runs:
        return view(
            empty(
                "Nothing trained yet",
                "Press Start retraining. Copies of the classifier learn from the real images and from the generated "
                "ones that you accepted; then they are compared with it on real images that neither has seen, and what "
                "became worse is listed first.",
            )
        )
    from ltg_core import workflows

    waiting = {run.id for run in runs if under_way_of(ctx, run.id) is not None}
    rows = [
        _row(run, ctx.model_hash or "", run.id in waiting, workflows.resumable(ctx.workspace, run.id))
        for run in runs[:_SHOWN]
    ]
    more = h("p.soft", f"and {len(runs) - _SHOWN:,} older ones") if len(runs) > _SHOWN else None
    return view(h("h3", "Trained classifiers"), *rows, more, *_back(ctx, {run.id for run in runs}))


def _back(ctx: AppContext, runs: set[str]) -> list[Node]:
    """To the classifiers from which trainings started, where they are not in use."""
    found = [one for one in targets(ctx).values() if one.ref not in runs and one.hash != ctx.model_hash]
    return [
        h(
            "p.soft.go-back",
            h("span", f"Trained from “{cut(one.name, 120)}”. "),
            h("button.link", "Go back to it", act=("use", {"ref": one.ref}), type="button"),
            key=one.ref,
        )
        for one in found
    ]


def _row(run: Run, in_use: str, busy: bool, resumable: bool) -> Node:
    seeds: Sequence[dict[str, Any]] = run.result.get("seeds") or []
    done = run.state == "done"
    used = any(one["classifier"] == in_use for one in seeds)
    return h(
        f"div.trained.is-{run.state}",
        h(
            "div.trained-text",
            h(
                "div.row-head",
                h("b", cut(name_of_run(run), 120)),
                h("span.badge.badge-accepted", "in use") if used else None,
                h("span.badge.badge-flagged", _state(run, busy)) if not done else None,
            ),
            h("span.soft", how(run)),
            h("span.soft", _from(run)) if run.result.get("data") else None,
            h("span.soft", cut(discreet(run.reason), 300)) if run.reason and not done and not busy else None,
        ),
        _figures(seeds) if seeds else None,
        h(
            "div.trained-buttons",
            h("button", "Compare", act=("compare", {"run": run.id}), type="button",
              title="With what it came from, on real test images") if done else None,
            h("button", "Use this classifier", act=("use", {"ref": run.id}), type="button")
            if done and run.result.get("best") != in_use else None,
            h("button", "Resume", act=("resume", {"run": run.id}), type="button",
              title="It goes on where it stopped, to the same weights")
            if not done and run.state != "running" and resumable and not busy else None,
        ),
        key=run.id,
    )  # fmt: skip


def _state(run: Run, busy: bool) -> str:
    return "under way" if busy or run.state == "running" else run.state


def how(run: Run) -> str:
    given = run.settings
    parts = [run_time(run.started)]
    if "free" in given:
        return " · ".join([*parts, _FREE.get(str(given["free"]), str(given["free"]))])
    scope = str((given.get("train") or {}).get("scope", ""))
    loss = str((given.get("loss") or {}).get("name", ""))
    parts += [SCOPES[scope][0].lower() if scope in SCOPES else scope]
    parts += [LOSSES[loss][0].lower() if loss in LOSSES else loss]
    number = len(given.get("seeds") or [])
    return " · ".join([*parts, f"{number} seed{'s' if number != 1 else ''}"])


def _from(run: Run) -> str:
    data = run.result["data"]
    left = sum((data.get("left_out") or {}).values())
    text = f"from {data['real']:,} real and {data['synthetic']:,} generated images"
    return text + (f", {left:,} left out" if left else "")


def _figures(seeds: Sequence[dict[str, Any]]) -> Node:
    """Balanced accuracy on validation before and after, as the mean of the seeds."""

    def mean(when: str) -> float | None:
        values = [one[when]["balanced_accuracy"] for one in seeds if "balanced_accuracy" in one.get(when, {})]
        return statistics.fmean(values) if values else None

    before, after = mean("before"), mean("validation")
    return h(
        "div.trained-figures",
        h("b", f"{percent(before, 1)} → {percent(after, 1)}"),
        h("span.soft", "balanced accuracy on validation"),
    )
