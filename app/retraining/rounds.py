"""Practise in nodes: what a loop would do, and its rounds while it goes on and afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app.context import AppContext
from app.controls import run_time
from app.discreet import discreet
from app.imagining import ABOUT
from app.pricing import duration
from app.render import Node, cut, empty, h, view
from app.retraining.outcome import interval, points, share

if TYPE_CHECKING:
    from ltg_core.data.records import Run
    from ltg_core.models.classifier import Classifier

_EARLIER = 8
_NAMED = 4
_LONG = 1800.0
_STEPS = {"images": "making images …", "training": "training …", "comparing": "comparing …"}
_MEASURE = "balanced_accuracy"
_WHAT = (
    "Practising goes round by itself: it makes images of what the classifier gets wrong, accepts those that are "
    "believed, trains copies on them and measures these on real images, until that brings nothing more. What people "
    "decided stays, and so does the classifier in use."
)


def waiting() -> Node:
    """Until it is counted."""
    return _panel("What it would do", h("p", _WHAT), h("p.soft", "Counting …"))


def refused(text: str) -> Node:
    """It cannot begin; says what to do."""
    return _panel(
        "This cannot begin yet",
        h("p", _WHAT),
        h("p.warn", text[:1].upper() + text[1:] + ("" if text.endswith((".", ")")) else "."), role="status"),
    )


def nothing() -> Node:
    """There is no classifier."""
    return view(
        empty(
            "Nothing to practise with yet",
            "Practising starts from a classifier, labelled real images and a generator. Bring them under Setup, or "
            "wait until the demo is open.",
        )
    )


def _panel(title: str, *children: Node | None) -> Node:
    return view(h("div.panel.plan", h("h3", title), *children))


def plan(found: Mapping[str, Any], given: Mapping[str, Any], classifier: Classifier) -> Node:
    """Images, trainings and what is measured on, and how long it takes at most.

    Args:
        found: As ``plan_loop`` gives it.
        given: The arguments of the loop.
        classifier: Where it starts.
    """
    if found["problem"]:
        return refused(str(found["problem"]))
    asked = given["settings"]
    rounds = _count(asked["rounds"], "round")
    twins = ", and as many unguided twins" if found["twins"] else ""
    test = found["test"]
    figures = [
        (f"{found['images']:,}", "images at most", f"{rounds} of {asked['number']:,}{twins}"),
        (
            f"{found['trainings']:,}",
            f"training{'s' if found['trainings'] != 1 else ''} at most",
            f"{rounds} of {asked['seeds']}",
        ),
        (f"{found['validation']:,}", "real images measure each round", "val"),
        (f"{test:,}", "are looked at once, at the end", "test") if test else None,
    ]
    return _panel(
        "What it would do",
        h("p", _WHAT),
        h(
            "div.figures",
            *[
                h("div.figure", h("b", one[0]), h("span", one[1]), h("span.soft.figure-note", one[2]))
                for one in figures
                if one
            ],
        ),
        h("p", _ends(asked)),
        h("p.soft.note", f"The first round asks for {_by_class(found['first'], classifier.labels)}.")
        if found["first"]
        else None,
        h("p", _price(found)),
        None
        if test
        else h(
            "p.warn",
            "There are no labelled test images, so there will be no last comparison: the validation images choose the "
            "rounds, and figures on them are too good.",
        ),
        h(
            "p.warn",
            "That is long. Fewer images or rounds make it shorter; a loop that is cancelled goes on later where it "
            "stopped.",
        )
        if (found["making"] or 0) + (found["training"] or 0) > _LONG
        else None,
    )


def _ends(asked: Mapping[str, Any]) -> str:
    number, patience = asked["rounds"], asked["patience"]
    if patience >= number:
        return f"It ends after {_count(number, 'round')}."
    what = "a round" if patience == 1 else f"{patience} rounds in a row"
    better = "did not improve balanced accuracy by more than the 95 % interval"
    return f"It ends when {what} {better}, else after {number} rounds."


def _price(found: Mapping[str, Any]) -> str:
    making, training = found["making"], found["training"]
    parts = [f"about {duration(making)} for the images"] if making is not None else []
    parts += [f"about {duration(training)} for the trainings"] if training is not None else []
    unknown = " How long the images take is measured once, in a few seconds." if making is None else ""
    return f"At most {' and '.join(parts)}.{unknown}" if parts else unknown.strip()


def _by_class(counts: Sequence[int], labels: Sequence[str]) -> str:
    """The classes of which most is asked for, in words."""
    asked = [k for k in range(len(counts)) if counts[k]]
    if len(asked) > _NAMED and len({counts[k] for k in asked}) == 1:
        return f"{counts[asked[0]]} of each of {len(asked)} classes"
    order = sorted(asked, key=lambda k: -counts[k])
    some = [f"{counts[k]} × {cut(labels[k], 40)}" for k in order[:_NAMED]]
    rest = sum(counts[k] for k in order[_NAMED:])
    return ", ".join(some) + (
        f" and {rest} more of {_count(len(order) - _NAMED, 'other class', 'es')}" if rest else ""
    )


def _count(number: int, what: str, plural: str = "s") -> str:
    return f"{number:,} {what}{plural if number != 1 else ''}"


def shown(ctx: AppContext, runs: Sequence[Run], busy: set[str]) -> Node:
    """The newest loop, and folded away those before it.

    Args:
        ctx: The workspace.
        runs: Loops, the newest first.
        busy: Ids of those that a job does or will do.
    """
    if not runs:
        return view()
    earlier = [_loop(ctx, run, run.id in busy) for run in runs[1 : 1 + _EARLIER]]
    more = f", the last {_EARLIER}" if len(runs) - 1 > _EARLIER else ""
    return view(
        _loop(ctx, runs[0], runs[0].id in busy),
        h(
            "details.more",
            h("summary", f"Practised before ({len(runs) - 1:,}{more})"),
            *earlier,
            key="earlier",
        )
        if earlier
        else None,
        classes="compared",
    )


def _loop(ctx: AppContext, run: Run, busy: bool) -> Node:
    """One loop: its rounds, why it ended, and what to do with what came out."""
    from ltg_core import workflows

    state, asked = workflows.loop_state(ctx.workspace, run), run.settings["loop"]
    goes_on, done = busy or run.state == "running", run.state == "done"
    labels = ctx.workspace.label_names()
    lines = [_round(k + 1, one, labels, goes_on) for k, one in enumerate(state["rounds"])]
    preset = ABOUT.get(asked["preset"], (asked["preset"],))[0].lower()
    return h(
        "section.loop",
        h(
            "div.row-head",
            h("h3", f"{'Practising since' if goes_on else 'Practised'} {run_time(run.started)}"),
            h("span.soft", f"{preset}, {_count(asked['number'], 'image')} a round"),
            h("span.badge.badge-flagged", "under way" if goes_on else run.state) if not done else None,
        ),
        _table(lines) if lines else h("p.soft", "The first round begins." if goes_on else "No round had begun."),
        _outcome(ctx, state) if done else None,
        h("p.soft", cut(discreet(run.reason), 300)) if run.reason and not done and not goes_on else None,
        h(
            "div.actions",
            h("button", "Resume", act=("resume", {"run": run.id}), type="button",
              title="It goes on in the step in which it stopped"),
        )
        if not done and not goes_on
        else None,
        key=run.id,
    )  # fmt: skip


def _table(lines: Sequence[Node]) -> Node:
    heads = (
        "Round",
        "Images asked for",
        "Accepted",
        "Balanced accuracy",
        "Change",
        "95 % interval",
        "Improved",
    )
    return h(
        "div.table-box",
        h(
            "table.before-after.rounds",
            h("thead", h("tr", *[h("th", name, scope="col") for name in heads])),
            h("tbody", *lines),
        ),
        tabindex="0",
        role="region",
        aria_label="Rounds",
    )


def _round(number: int, one: Mapping[str, Any], labels: Sequence[str], goes_on: bool) -> Node:
    from ltg_core.workflows import step_of

    wanted, step, change = one.get("wanted") or [], step_of(dict(one)), one.get("change")
    cells = [
        h("td.rounds-asked", _by_class(wanted, labels) if wanted else "–"),
        h("td", f"{one['accepted']:,} of {sum(wanted):,}" if "accepted" in one else "–"),
    ]
    if change is None:
        said = _STEPS[step] if goes_on else f"stopped while {_STEPS[step].removesuffix(' …')}"
        cells += [h("td.rounds-step", said, colspan="4")]
    else:
        cells += [
            h("td", f"{share(change['before'])} → {share(change['after'])}"),
            h("td", points(change["after"] - change["before"])),
            h("td", interval(change) or "too few images"),
            h("td.moved", "▲ yes" if one["improved"] else "no"),
        ]
    return h("tr.good" if one.get("improved") else "tr", h("th", str(number), scope="row"), *cells)


def _outcome(ctx: AppContext, state: Mapping[str, Any]) -> Node:
    """Why it ended, what the test split says, and the two buttons."""
    best, compared = state["best"], state["compare"]
    texts = [f"It ended: {state['ended']}."]
    if not best:
        texts += ["Nothing was better beyond its interval, so there is nothing to put to use."]
    texts += [_last(ctx, compared)] if compared else []
    texts += [f"{note[:1].upper()}{note[1:]}." for note in state["notes"]]
    accepted = sum(one.get("accepted", 0) for one in state["rounds"])
    if accepted:
        were = "was" if accepted == 1 else "were"
        texts += [
            f"{_count(accepted, 'image')} {were} accepted: Curate & Export shows them, and undo takes that back."
        ]
    used = bool(best) and any(
        one["classifier"] == ctx.model_hash for one in ctx.workspace.run(best).result.get("seeds", [])
    )
    buttons = [
        h("button.primary", "Use the best classifier", act=("use", {"ref": best}), type="button")
        if best and not used
        else None,
        h("span.badge.badge-accepted", "in use") if used else None,
        h("button", "Open the last comparison", act=("open", {"run": compared}), type="button")
        if compared
        else None,
    ]
    return h(
        "div.loop-outcome",
        *[h("p", text) for text in texts],
        h("div.actions", *buttons) if any(buttons) else None,
    )


def _last(ctx: AppContext, compared: str) -> str:
    """What the last comparison says of balanced accuracy."""
    result = ctx.workspace.run(compared).result
    arms, images = result.get("arms") or [{}], result.get("images", {})
    found = next((one for one in arms[0].get("differences", []) if one["name"] == _MEASURE), None)
    if found is None:
        return ""
    change = f"{points(found['change'])} points"
    span = f", 95 % interval {interval(found)}" if interval(found) else ""
    return (
        f"On {images['n']:,} real test images, looked at once: balanced accuracy {share(found['before'])} → "
        f"{share(found['after'])} ({change}{span})."
    )
