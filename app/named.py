"""Findings and their words: the jobs that search and check, and what stands below a slice whose cause was checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app.context import AppContext
from app.controls import words
from app.render import Node, cut, h, ordinal, percent
from ltg_core.errors import InputError
from ltg_core.jobs import Job

if TYPE_CHECKING:
    from ltg_core.data.records import Run
    from ltg_core.workflows import Slice

PAIRS = 16
"""Pairs of images of a causal check."""
_SHOWN = 6
_HABITS = 12
_COLUMNS = 6
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


def find_habits(ctx: AppContext, column: str = "") -> Job:
    """Queue the search for spurious correlations, among words or the values of a metadata column.

    Raises:
        InputError: No such column can be context.
    """
    from ltg_core import workflows

    model = ctx.need_classifier().hash
    arguments: dict[str, Any] = {"classifier": model, "signal": _signal(ctx, model)}
    if column:
        if column not in [name for name, _ in workflows.coverage_columns(ctx.workspace)]:
            raise InputError(
                f"the column {column!r} is not here any more, or has too many values to be context"
            )
        arguments["columns"] = [column]
    return ctx.run("slices", "Looking for habits", "find_habits", arguments)


def _signal(ctx: AppContext, model: str) -> str:
    return "epistemic" if "epistemic" in ctx.workspace.score_names(model) else "entropy"


def effect(evidence: Mapping[str, Any]) -> list[str]:
    """How much more often guided images show a term, and what the classifier makes of those that do, in words."""
    lines = []
    if evidence.get("log_odds"):
        odds, low, high = evidence["log_odds"]
        lines.append(f"log-odds {odds:+.1f} ({low:+.1f} to {high:+.1f}) against their controls")
    got = evidence.get("effect") or {}
    parts = []
    if None not in got.get("errors", [None]):
        parts.append("read wrongly {}, without the words {}".format(*(percent(one) for one in got["errors"])))
    if None not in got.get("percentiles", [None]):
        means = " and ".join(ordinal(one) for one in got["percentiles"])
        parts.append(f"mean {words(got['signal']).lower()} {means}")
    return [*lines, "; ".join(parts)] if parts else lines


def habits(ctx: AppContext, *, words: bool, busy: bool) -> Node | None:
    """Context that makes the classifier say a class: the buttons, and what the last search found.

    Args:
        ctx: The process.
        words: Whether a generator here knows words.
        busy: Whether a search runs.
    """
    from ltg_core import workflows

    off = {"disabled": "true"} if busy else {}
    run = next((run for run in ctx.workspace.runs("habits") if run.state == "done"), None)
    columns = [name for name, _ in workflows.coverage_columns(ctx.workspace)]
    if not words and not columns and run is None:
        return None
    buttons = [h("button", "Find habits in words", act=("habits", {}), type="button", **off)] if words else []
    buttons += [
        h("button", f"By {cut(column, 24)}", act=("habits", {"column": column}), type="button",
          title=f"Which values of the column {column} go with an answer", **off)
        for column in columns[:_COLUMNS]
    ]  # fmt: skip
    return h(
        "section.slices-search",
        h("div.slices-head", h("h3", "Habits"), *buttons),
        h(
            "p.soft",
            "Does the classifier say a class because of what surrounds or covers the object? Among held-out samples of "
            "other classes, words or metadata that go with an answer, compared within each true class and corrected "
            "for all that were tried. In training: how often samples of that class, and of the others, show them.",
        ),
        None if run is None else _habit_table(run.result["habits"]),
        None if run is None else _lift_table(run),
    )


def _habit_table(found: Sequence[Mapping[str, Any]]) -> Node:
    if not found:
        return h("p.soft", "None: nothing makes an answer more frequent than chance explains.")
    head = ("Others", "are read as", "so often", "else", "in training, own / others", "q")
    rows = [
        h(
            "tr",
            h("td", one["term"]),
            h("td", h("b", one["answer"])),
            h("td", f"{one['said']:,} of {one['n']:,}"),
            h("td", percent(one["rest"], 1)),
            h("td", "–" if one["trained"] is None else f"{percent(one['trained'])} / {_trained(one)}"),
            h("td.soft", small(one["q"])),
        )
        for one in found[:_HABITS]
    ]
    return _framed(head, rows)


def _trained(one: Mapping[str, Any]) -> str:
    return "–" if one["trained_others"] is None else percent(one["trained_others"])


def _lift_table(run: Run) -> Node | None:
    """What moves the signal among samples of the same class; nothing where nothing does."""
    found = run.result.get("lifts") or []
    if not found:
        return None
    signal = words(str(run.settings.get("signal", ""))).lower()
    rows = [
        h(
            "tr",
            h("td", one["term"]),
            h("td", f"{one['n']:,}"),
            h(
                "td",
                h("b", _signed(one["change"])),
                h("span.soft", f" ({_signed(one['low'])} to {_signed(one['high'])})"),
            ),
            h("td.soft", small(one["q"])),
        )
        for one in found[:_HABITS]
    ]
    return h(
        "div.lifts",
        h(
            "p.soft",
            f"What moves the {signal} signal within a class, in percentiles against samples without it:",
        ),
        _framed(("Shown", "samples", "percentiles", "q"), rows),
    )


def _signed(value: float) -> str:
    return f"{value:+.0f}".replace("-", "−")


def _framed(head: Sequence[str], rows: Sequence[Node]) -> Node:
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
