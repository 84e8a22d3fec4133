"""What is known about one sample, and about the classifier as a whole, as nodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from app.context import AppContext
from app.controls import signal_choices, words
from app.pins import pin_button
from app.render import (
    QUIET_META,
    Node,
    card,
    empty,
    facts,
    h,
    label_of,
    meter,
    name_of,
    percent,
    picture,
    view,
)
from ltg_core.errors import LtgError

if TYPE_CHECKING:
    from ltg_core.data.records import Sample

GONE = (
    "This sample is gone",
    "Somebody has deleted it from the workspace. Everything else goes on; choose another one.",
)
NO_PICTURE = (
    "The picture of this sample is no longer on the disk. Its numbers are still known; to have it back, put the file "
    "back or import the data again."
)
_MARKS = {
    "accepted": "✓ accepted",
    "rejected": "✕ rejected",
    "flagged": "⚑ flagged",
    "undecided": "undecided",
}


def cards(
    ctx: AppContext, ids: Sequence[str], signal: str | None = None, likes: Sequence[float] | None = None
) -> list[dict[str, Any]]:
    """Thumbnails of samples: three queries, whatever their number.

    Args:
        ctx: The process.
        ids: Of the samples.
        signal: Whose percentile is the bar below each.
        likes: Similarities that are the bar instead.
    """
    workspace, model = ctx.workspace, ctx.model_hash
    labels = workspace.label_names()
    predictions = workspace.predictions(ids, model) if model else {}
    scores = workspace.scores(ids, model, signal) if model and signal else {}
    found = workspace.there(ids)
    made = [card(s, labels, predictions.get(s.id), scores.get(s.id), words(signal or "")) for s in found]
    cosines = dict(zip(ids, likes or (), strict=False))
    for item in made if cosines else ():
        value = cosines[item["id"]]
        item["p"], item["pt"] = round(100 * max(0.0, value), 1), f"similarity {value:.3f}"
        said = (
            item.get("s", "").rpartition(" ")[0].rpartition(" ")[0]
        )  # an answer that is wrong, without its percent
        item["s"] = f"{value:.2f} {said or 'similar'}"
    return made


def sample_panel(ctx: AppContext, sample_id: str, *, back: bool = True) -> Node:
    """Picture, prediction against label, percentiles, factors, and what to do next; or that it is gone."""
    sample = next(iter(ctx.workspace.there([sample_id])), None)
    labels = ctx.workspace.label_names()
    way_back = h("button.link.back", "← Overview", act=("overview", {}), type="button") if back else None
    if sample is None:
        return view(way_back, empty(*GONE), classes="panel")
    return view(
        way_back,
        h("div.hero", picture(sample.id, label_of(sample, labels)), _badges(sample)),
        h("p.warn", NO_PICTURE) if ctx.workspace.without_picture([sample.id]) else None,
        _verdict(ctx, sample, labels),
        _actions(ctx, sample),
        _signals(ctx, sample),
        h("h4", "Factors") if sample.meta or sample.caption else None,
        facts(_factors(sample)),
        classes="panel",
    )


def _badges(sample: Sample) -> Node:
    marks = [h(f"span.badge.badge-{sample.verdict}", _MARKS[sample.verdict])]
    marks.append(h("span.badge", f"real · {sample.split or 'no split'}" if sample.real else "generated"))
    if sample.belief:
        marks.append(h(f"span.badge.badge-{sample.belief}", sample.belief, title=sample.belief_reason or ""))
    return h("div.badges", *marks, *[h("span.badge.badge-tag", tag) for tag in sample.tags])


def _verdict(ctx: AppContext, sample: Sample, labels: Sequence[str]) -> Node:
    model = ctx.model_hash
    said = ctx.workspace.predictions([sample.id], model).get(sample.id) if model else None
    truth = label_of(sample, labels)
    if said is None:
        return h("div.says", h("div", h("span.soft", "Label "), h("b", truth)))
    kind = {True: "right", False: "wrong", None: ""}[said.correct]
    return h(
        f"div.says.{kind}",
        h("div", h("span.soft", "Asked for " if not sample.real else "Label "), h("b", truth)),
        h(
            "div",
            h("span.soft", "Prediction "),
            h("b", name_of(said.pred, labels)),
            h("span.soft", f" {percent(said.confidence)}"),
        ),
    )


def _actions(ctx: AppContext, sample: Sample) -> Node:
    there = {"id": sample.id}
    return h(
        "div.actions",
        h("button.primary", "Explain", act=("explain", there), type="button"),
        h("button", "Imagine from this", act=("imagine", there), type="button") if sample.real else None,
        h("button", "More like this", act=("like", there), type="button"),
        h("button", "Show on the map", act=("map", there), type="button"),
        pin_button(ctx, sample.id),
    )


def _signals(ctx: AppContext, sample: Sample) -> Node | None:
    model = ctx.model_hash
    rows = []
    for shown, name in signal_choices(ctx):
        score = ctx.workspace.scores([sample.id], model or "", name).get(sample.id)
        if score is not None:
            rows.append(
                meter(shown, score.percentile, "no data" if math.isnan(score.value) else f"{score.value:.2f}")
            )
    if not rows:
        return None
    return h("div.signals", h("h4", "Rarer than … % of held-out real data"), *rows)


def _factors(sample: Sample) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = [("Caption", sample.caption)]
    if sample.meta.get("prompt"):
        rows.append(("Prompt", sample.meta["prompt"]))
    if "seed" in sample.meta:
        rows.append(("Seed", sample.meta["seed"]))
    for key, value in sample.meta.items():
        if key not in QUIET_META and isinstance(value, (str, int, float)) and not isinstance(value, bool):
            rows.append((words(key), value))
    return [*rows, ("Source", sample.source), ("Note", sample.note)]


def overview(ctx: AppContext) -> Node:
    """How the classifier does on real samples, class by class, and which signal finds its errors."""
    classifier = ctx.classifier()
    if classifier is None:
        return view(
            empty("No classifier yet", "Add one under Setup; its accuracy appears here."), classes="panel"
        )
    check = ctx.cached("check", lambda: _checked(ctx))
    if check is None:
        return view(
            empty("Not scored yet", "As soon as the samples are scored, the accuracy appears here."),
            classes="panel",
        )
    return view(
        h("h3", "How it does"),
        h(
            "div.figures",
            _figure(
                percent(check["accuracy"], 1), f"accuracy, {check['n']:,} {check['split'] or 'real'} samples"
            ),
            _figure(percent(check.get("balanced_accuracy"), 1), "mean over classes"),
        ),
        h("p.warn", check["warning"]) if check.get("warning") else None,
        h("h4", "By class"),
        h("div.bars", *[_class_bar(row) for row in check["per_class"]]),
        *_finders(ctx),
        classes="panel",
    )


def _checked(ctx: AppContext) -> dict[str, Any] | None:
    """The check on the split that is most worth it: test, else validation, else all."""
    from ltg_core import workflows

    classifier = ctx.need_classifier()
    splits = ctx.workspace.splits()
    for split in (*[s for s in ("test", "val") if s in splits], None):
        try:
            found = dict(workflows.check_classifier(ctx.workspace, classifier, split))
        except LtgError:
            continue
        if found.get("n"):
            return {**found, "split": split}
    return None


def accuracy(ctx: AppContext) -> dict[str, Any] | None:
    """The check behind the header's figure; None where nothing is scored."""
    return None if ctx.classifier() is None else ctx.cached("check", lambda: _checked(ctx))


def _figure(value: str, text: str) -> Node:
    return h("div.figure", h("b", value), h("span", text))


def _class_bar(row: dict[str, Any]) -> Node:
    value = row.get("accuracy")
    known = value is not None and not math.isnan(value)
    level = "low" if known and value >= 0.9 else "mid" if known and value >= 0.75 else "high"
    return h(
        f"button.class-bar.{level}",
        h("span.meter-name", str(row["label"])),
        h("span.meter-bar", h("span.meter-fill"), w=f"{100 * value:.1f}%" if known else "0%"),
        h("span.meter-value", percent(value)),
        act=("errors", {"label": str(row["label"])}),
        type="button",
        title=f"{row.get('n', 0):,} samples; click for the errors of this class",
    )


def _finders(ctx: AppContext) -> list[Node]:
    from ltg_core import workflows

    def found() -> list[dict[str, Any]]:
        try:
            return list(workflows.discovery(ctx.workspace, ctx.need_classifier()))
        except LtgError:
            return []

    rows = ctx.cached("discovery", found)
    if not rows:
        return []
    ranked = sorted(rows, key=lambda row: -float(row["auroc_errors"]))
    return [
        h("h4", "Which signal finds its errors"),
        h("p.soft", "AUROC: 50 % is chance, 100 % ranks every error first. Click to rank by it."),
        h("div.bars", *[_finder(row) for row in ranked]),
    ]


def _finder(row: dict[str, Any]) -> Node:
    value = float(row["auroc_errors"])
    return h(
        "button.class-bar.plain",
        h("span.meter-name", words(str(row["signal"]))),
        h("span.meter-bar", h("span.meter-fill"), w=f"{100 * max(0.0, 2 * value - 1):.1f}%"),
        h("span.meter-value", percent(value, 1)),
        act=("rank", {"signal": str(row["signal"])}),
        type="button",
    )
