"""Findings and their words: the jobs that search and check, and what stands below a slice whose cause was checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app.context import AppContext
from app.controls import words
from app.render import Node, h, percent
from ltg_core.errors import InputError
from ltg_core.jobs import Job

if TYPE_CHECKING:
    from ltg_core.workflows import Slice

PAIRS = 16
"""Pairs of images of a causal check."""
_SHOWN = 6
_HABITS = 12
_NO_POOL = (
    "For real pictures beside these import unlabelled ones with the split “pool”, then test a cause again."
)


def search(ctx: AppContext, outcome: str, words: str = "", own: str = "") -> Job:
    """Queue the search for weak slices; with ``words`` those that can be named, also in words of one's ``own``.

    Raises:
        InputError: What was written are no words.
    """
    model = ctx.need_classifier().hash
    arguments: dict[str, Any] = {"outcome": outcome, "classifier": model}
    if words:
        arguments["words"] = {"source": words, "own": own}
    if own:
        from ltg_core.introspection.terms import written

        written(own)
    if outcome == "asked":
        arguments["ask"] = {"signal": _signal(ctx, model)}
        return ctx.run("slices", "Asking for every word", "find_slices", arguments, lane="compute")
    return ctx.run("slices", "Looking for weak slices", "find_slices", arguments)


def check_cause(ctx: AppContext, slice_id: str, pairs: int = PAIRS) -> Job:
    """Queue the causal check of a found slice."""
    from ltg_core import workflows

    workflows.cell_to_check(ctx.workspace, slice_id)
    model = ctx.need_classifier().hash
    signal = _signal(ctx, model)
    name = workflows.slice_of(ctx.workspace, slice_id).name
    arguments = {"slice": slice_id, "classifier": model, "signal": signal, "pairs": pairs}
    return ctx.run("slices", f"Testing the cause: {name}"[:120], "check_cause", arguments, lane="compute")


def check_causes(ctx: AppContext, pairs: int = PAIRS) -> Job:
    """Queue the causal check of all found slices that have none, the weakest first.

    Raises:
        InputError: There is none.
    """
    from ltg_core import workflows

    model = ctx.need_classifier().hash
    open_ = workflows.untested(workflows.slices(ctx.workspace, "found"))
    if not open_:
        raise InputError("the cause of every finding that can be asked for in words has been tested")
    arguments = {"slices": open_, "classifier": model, "signal": _signal(ctx, model), "pairs": pairs}
    return ctx.run(
        "slices", f"Testing the causes of {len(open_)} findings", "check_causes", arguments, lane="compute"
    )


def find_habits(ctx: AppContext) -> Job:
    """Queue the search for spurious correlations."""
    model = ctx.need_classifier().hash
    arguments = {"classifier": model, "signal": _signal(ctx, model)}
    return ctx.run("slices", "Looking for habits", "find_habits", arguments)


def _signal(ctx: AppContext, model: str) -> str:
    return "epistemic" if "epistemic" in ctx.workspace.score_names(model) else "entropy"


def habits(ctx: AppContext, *, busy: bool) -> Node:
    """Context that makes the classifier say a class: the button, and what the last search found."""
    off = {"disabled": "true"} if busy else {}
    run = next((run for run in ctx.workspace.runs("habits") if run.state == "done"), None)
    return h(
        "section.slices-search",
        h(
            "div.slices-head",
            h("h3", "Habits"),
            h("button", "Find habits", act=("habits", {}), type="button", **off),
        ),
        h(
            "p.soft",
            "Does the classifier say a class because of what surrounds or covers the object? Among held-out samples of "
            "other classes, words that go with an answer, compared within each true class and corrected for all that "
            "were tried. In training: how often samples of that class, and of the others, show the words.",
        ),
        None if run is None else _habit_table(run.result["habits"]),
    )


def _habit_table(found: Sequence[Mapping[str, Any]]) -> Node:
    if not found:
        return h("p.soft", "None: no words make an answer more frequent than chance explains.")
    head = ("Others", "are read as", "so often", "else", "in training, own / others", "q")
    rows = [
        h(
            "tr",
            h("td", one["term"]),
            h("td", h("b", one["answer"])),
            h("td", f"{one['said']:,} of {one['n']:,}"),
            h("td", percent(one["rest"], 1)),
            h("td", f"{percent(one['trained'])} / {percent(one['trained_others'])}"),
            h("td.soft", small(one["q"])),
        )
        for one in found[:_HABITS]
    ]
    table = h("table.habits", h("thead", h("tr", *[h("th", text) for text in head])), h("tbody", *rows))
    return h("div.habits-frame", table)


def small(value: float) -> str:
    """A p-value."""
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"


def action(one: Slice, *, busy: bool) -> Node | None:
    """The button that checks the cause; None for what cannot be asked for in words."""
    if not one.evidence.get("cell"):
        return None
    text = "Test again" if one.evidence.get("cause") else "Test the cause"
    return h(
        "button.link",
        text,
        act=("cause", {"id": one.id}),
        type="button",
        title=f"Draws {PAIRS} pairs of images, asked for with and without these words, everything else the same",
        **({"disabled": "true"} if busy else {}),
    )


def more(one: Slice) -> Node | None:
    """The button that imagines more of a finding; None where no words of one class ask for it."""
    if not (one.evidence.get("cell") or {}).get("class"):
        return None
    return h(
        "button.link",
        "Imagine more",
        act=("slice-imagine", {"id": one.id}),
        type="button",
        title="Opens Imagine with this class and these words",
    )


def evidence(ctx: AppContext, one: Slice) -> Node | None:
    """The verdict and the pictures, None before the check."""
    got: Mapping[str, Any] | None = one.evidence.get("cause")
    if not got:
        return None
    real: Mapping[str, Any] = one.evidence.get("real") or {}
    rows = [("Imagined without the words", got["without"]), ("Imagined with them", got["with"])]
    rows += [
        (title, [row["source"] for row in real[name]])
        for title, name in (
            ("Real, from the pool, by the words", "text"),
            ("Real, to the classifier like the failures", "likeness"),
        )
        if real.get(name)
    ]
    seen = _wrong(ctx, [sample for _, ids in rows for sample in ids[:_SHOWN]])
    return h(
        "div.cause",
        _verdict(got),
        h("div.cause-rows", *[_row(title, ids[:_SHOWN], seen) for title, ids in rows]),
        h("span.soft", str(real["missing"])) if real.get("missing") else None,
    )


def without_pool(found: Sequence[Slice]) -> Node | None:
    """Where real pictures of what was tested would come from, said once; None where there are some."""
    tested = [one.evidence for one in found if one.evidence.get("cause")]
    return None if not tested or any(got.get("real") for got in tested) else h("p.soft", _NO_POOL)


def _verdict(got: Mapping[str, Any]) -> Node:
    change, errors = got["change"], got["errors"]
    moves = got["verdict"] == "moves the signal"
    text = (
        f"{words(got['signal'])} {change['without']:.0f} → {change['with_']:.0f} in percentiles "
        f"({change['change']:+.0f}, {change['low']:+.0f} to {change['high']:+.0f}), wrong {errors['without']:.0%} → "
        f"{errors['with_']:.0%}, over {change['n']} pairs with the same seeds"
    ).replace("%", "\u00a0%")
    if got.get("seen"):
        text += f"; the words are seen in {got['seen'][1]:.0%} of the images".replace("%", "\u00a0%")
    return h(
        "p.cause-verdict",
        h("b.errs", "Makes errors") if got.get("errs") else None,
        h("b" + (".moves" if moves else ".stays"), "Moves the signal" if moves else "Associated, not causal"),
        h("span.soft", f" {text}."),
    )


def _row(title: str, ids: Sequence[str], seen: Mapping[str, str]) -> Node:
    pictures = [
        h(
            "button.cause-picture" + (".wrong" if seen.get(sample) else ""),
            h("img", src=f"thumb:{sample}", alt=""),
            act=("sample", {"id": sample}),
            type="button",
            title=seen.get(sample) or "Show it",
            aria_label=seen.get(sample) or "Show the picture",
        )
        for sample in ids
    ]
    return h("div.cause-row", h("span.soft", title), h("div.cause-pictures", *pictures))


def _wrong(ctx: AppContext, ids: Sequence[str]) -> dict[str, str]:
    """What is read wrongly, in words, by id; of pictures without a class nothing is known."""
    classifier, labels = ctx.model_hash, ctx.workspace.label_names()
    there = {sample.id: sample for sample in ctx.workspace.there(list(dict.fromkeys(ids)))}
    said = ctx.workspace.predictions(list(there), classifier) if classifier else {}
    return {
        id: f"Read as {labels[said[id].pred]}"
        for id, sample in there.items()
        if id in said and sample.label is not None and said[id].pred != sample.label
    }
