"""The slices of Browse: those that were saved, and those that a search for weak ones has found."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app import named
from app.context import AppContext
from app.controls import words
from app.discreet import discreet
from app.render import Node, empty, h, ordinal, percent, view
from ltg_core.errors import InputError

if TYPE_CHECKING:
    from ltg_core.data.records import Run
    from ltg_core.workflows import Slice

PICTURES = 6


@dataclasses.dataclass(frozen=True)
class Undo:
    """What was done to a slice, and the click that takes it back.

    Attributes:
        told: In words.
        act: Name of the click.
        id: Of the slice.
        name: That it is given back, where it was renamed.
    """

    told: str
    act: str
    id: str
    name: str = ""


def listing(ctx: AppContext, signal: str, undo: Undo | None = None) -> Node:
    """All slices, and the button that searches for more.

    Args:
        ctx: The process.
        signal: By which samples are ranked; "" for none.
        undo: What was just done to one of them.
    """
    from ltg_core import workflows

    found = workflows.slices(ctx.workspace, signal=signal)
    saved = [one for one in found if one.kind == "saved"]
    weak = [one for one in found if one.kind == "found"]
    run = next((run for run in ctx.workspace.runs("slices") if run.state == "done"), None)
    return view(
        h("div.slices-head", h("h3", "Saved"), _undo(undo)),
        *[_saved(ctx, one, signal) for one in saved],
        None
        if saved
        else h(
            "p.soft",
            "Set filters or select pictures under Samples, then press Save as slice; the slice appears here "
            "and in the other tabs.",
        ),
        _search(ctx, run, signal),
        _causes(ctx, weak),
        named.without_pool(weak),
        *[_weak(ctx, one, signal, busy=_busy(ctx)) for one in weak],
        _nothing(run) if run is not None and not weak else None,
        named.habits(ctx, words=_words_known(ctx), busy=_busy(ctx)),
        classes="slices",
    )


def _causes(ctx: AppContext, weak: Sequence[Slice]) -> Node | None:
    """The button that tests all causes, where there is more than one to test."""
    from ltg_core import workflows

    count = len(workflows.untested(weak))
    if count < 2:
        return None
    return h(
        "p.slices-causes",
        h(
            "button",
            f"Test all {count} causes",
            act=("causes", {}),
            type="button",
            title=f"Draws {named.PAIRS} pairs of images for each, one finding after another; what is done is kept",
            **({"disabled": "true"} if _busy(ctx) else {}),
        ),
        h("span.soft", " Which of these words make the classifier err, and which only go along with it?"),
    )


def _undo(undo: Undo | None) -> Node | None:
    if undo is None:
        return None
    sent = {"id": undo.id, "text": undo.name}
    return h(
        "span.soft.told",
        undo.told + " ",
        h("button.link", "Undo", act=(undo.act, sent), type="button"),
        role="status",
    )


def _search(ctx: AppContext, run: Run | None, signal: str) -> Node:
    """What the search does, its buttons, and how the last one went."""
    off = {"disabled": "true"} if _busy(ctx) else {}
    by_signal = (
        h(
            "button",
            f"By {words(signal).lower()}",
            act=("find", {"outcome": signal}),
            type="button",
            title="Slices with more samples at its 90th percentile and above; needs no labels",
            **off,
        )
        if signal
        else None
    )
    return h(
        "section.slices-search",
        h(
            "div.slices-head",
            h("h3", "Weak slices"),
            h("button.primary", "Find by errors", act=("find", {"outcome": "errors"}), type="button", **off),
            by_signal,
            *_in_words(ctx, off),
        ),
        h("p.soft", _told(run) if run is not None else _WHAT),
    )


def _busy(ctx: AppContext) -> bool:
    return any(job.kind == "slices" for job in ctx.running())


def _words_known(ctx: AppContext) -> bool:
    """Whether there is a generator that understands text; the workers see whether it has an encoder."""
    return (ctx.workspace.get_state("generator") or {}).get("language") == "text"


def _in_words(ctx: AppContext, off: Mapping[str, str]) -> list[Node]:
    """The searches that call what they find by words, where somebody here knows words."""
    from ltg_core.data.records import Filter

    if not _words_known(ctx):
        return []
    shown = [
        h(
            "button",
            "Name in words",
            act=("find", {"outcome": "errors", "words": "vocabulary"}),
            type="button",
            title="Classes and words of a vocabulary that a text-image encoder sees in the pictures; needs no metadata",
            **off,
        ),
        h(
            "button",
            "In my own words",
            act=("ask", {"what": "terms"}),
            type="button",
            title="The same with words that you write",
            **off,
        ),
    ]
    shown.append(_asking(ctx, off))
    captions = _from_captions(off)
    if captions is not None:
        shown.append(captions)
    if ctx.workspace.count(Filter(origin="generated", meta={"role": "control"})):
        shown.append(
            h(
                "button",
                "From imagined images",
                act=("find", {"outcome": "imagined", "words": "vocabulary"}),
                type="button",
                title="Words that guided images show more often than their controls of the same seeds",
                **off,
            )
        )
    return shown


def _asking(ctx: AppContext, off: Mapping[str, str]) -> Node:
    """The search that asks a generator, with how much it draws."""
    from ltg_core import workflows

    classes, terms = len(ctx.workspace.label_names()), workflows.words_to_ask(ctx.workspace)
    images = workflows.images_of(classes, terms)
    title = (
        f"Draws every class with and without each of {terms:,} words, up to {images:,} images, and tests which words "
        "make the classifier err; finds what no real picture shows yet"
    )
    if images > workflows.MOST_ASKED:
        off = {"disabled": "true"}
        title = (
            f"{classes:,} classes with {terms:,} words are up to {images:,} images, more than "
            f"{workflows.MOST_ASKED:,}; name some on the command line: name --asked --classes …"
        )
    sent = {"outcome": "asked", "words": "vocabulary"}
    return h("button", "By asking for every word", act=("find", sent), type="button", title=title, **off)


def _from_captions(off: Mapping[str, str]) -> Node | None:
    """The search by captions of an endpoint; None where the operator has named none."""
    from ltg_core.llm import Endpoint

    try:
        found = Endpoint.from_environment()
    except InputError as error:
        title, off = (
            f"The endpoint of this server cannot be used: {discreet(str(error))}",
            {"disabled": "true"},
        )
    else:
        if found is None:
            return None
        title = (
            f"Sends up to 400 held-out pictures, drawn by lot, to {found.host}, which the operator of this server has "
            "named, and takes the words from its captions"
        )
    sent = {"outcome": "errors", "words": "captions"}
    return h("button", "From captions", act=("find", sent), type="button", title=title, **off)


_WHAT = (
    "Looks at held-out samples for values of class, prediction and metadata, alone and in pairs, and for groups of "
    "images that look alike to the classifier, in which it errs more than elsewhere."
)


def _told(run: Run) -> str:
    """How the last search went, in words."""
    got: Mapping[str, Any] = run.result
    outcome = str(got.get("outcome", "errors"))
    if outcome == "imagined":
        return _told_imagined(got)
    if outcome == "asked":
        return _told_asked(got)
    what = "errors" if outcome == "errors" else f"samples at P 90 of {words(outcome).lower()} or above"
    text = (
        f"{got['tried']:,} candidates were tested for {what} on {got['samples']:,} held-out samples "
        f"({' and '.join(got['splits'])}; {got['bad']:,} {'wrong' if outcome == 'errors' else 'rare'}), each against "
        "the rest (Fisher's exact test). All of them are corrected for: of the slices below at most "
        f"{100 * got['alpha']:.0f} % are expected to be chance, and their intervals are widened for having been chosen."
    )
    return text + _left_out(got)


def _told_imagined(got: Mapping[str, Any]) -> str:
    """The same of a search among generated images."""
    return (
        f"{got['samples']:,} guided images were compared with their controls of the same seeds: {got['tried']:,} words "
        "of classes, tested by exchanging the images of pairs (exact), all of them corrected for. Bars show how many "
        "guided images have the words, the mark how many controls." + _left_out(got)
    )


def _told_asked(got: Mapping[str, Any]) -> str:
    """The same of a search that asked a generator."""
    return (
        f"Nothing here was guided: every class was drawn {got['first']} times with and without every word, from the "
        f"same seeds ({got['tried']:,} classes with words, {got['images']:,} images in all). The {got['again']:,} with "
        f"most errors were drawn again with {got['second']} new seeds, and only these pairs are tested (McNemar's "
        "exact test), all of them corrected for. Bars show how many images with the words are read wrongly, the mark "
        "how many without." + _left_out(got)
    )


def _left_out(got: Mapping[str, Any]) -> str:
    skipped = got.get("skipped") or []
    return f" Not tried: {', '.join(skipped[:5])}." if skipped else ""


def _nothing(run: Run) -> Node:
    if run.result.get("outcome") == "asked":
        return empty(
            "No word makes errors",
            f"None of the {run.result['again']:,} classes with words that were asked for again is read wrongly more "
            "often with the words than without, by more than chance explains.",
        )
    return empty(
        "No slice stands out",
        f"None of the {run.result['tried']:,} candidates is worse than the rest by more than chance explains. "
        "More held-out samples or metadata columns would show smaller differences.",
    )


def _saved(ctx: AppContext, one: Slice, signal: str) -> Node:
    there = {"id": one.id}
    wrong = f"{one.wrong:,} of {one.judged:,} wrong" if one.judged else "no labels"
    return _row(
        ctx,
        one,
        signal,
        _figure(one.error, one.low, one.high, math.nan, wrong)
        if one.judged
        else h("div.slice-figure.soft", wrong),
        h("button.link", "Rename", act=("ask", {"what": "rename", **there}), type="button"),
        h("button.link", "Remove", act=("slice-remove", there), type="button"),
    )


def _weak(ctx: AppContext, one: Slice, signal: str, *, busy: bool) -> Node:
    got = one.evidence
    kind = {"errors": "wrong", "asked": "wrong", "imagined": "guided show it"}.get(got["outcome"], "rare")
    rest = "without" if got["outcome"] == "asked" else "others"
    text = f"{got['bad']:,} of {got['n']:,} {kind}"
    return _row(
        ctx,
        one,
        signal,
        _figure(got["bad"] / got["n"], got["low"], got["high"], got["rest"], text, rest),
        h(
            "span.soft",
            f"q {named.small(got['q'])}",
            title=f"p {named.small(got['p'])}, corrected for {got['tried']:,} candidates",
        ),
        h(
            "button.link",
            "Keep",
            act=("slice-keep", {"id": one.id}),
            type="button",
            title="The next search leaves it",
        ),
        named.action(one, busy=busy),
        named.more(one) if _words_known(ctx) else None,
        below=named.evidence(ctx, one),
    )


def _row(
    ctx: AppContext, one: Slice, signal: str, figure: Node, *actions: Node | None, below: Node | None = None
) -> Node:
    there = {"id": one.id}
    median = f" · median {words(signal).lower()} {ordinal(one.median)}" if ordinal(one.median) else ""
    said = f"{one.n:,} samples{median}"
    return h(
        "div.slice",
        h(
            "div.slice-text",
            h(
                "button.slice-name",
                one.name,
                act=("slice-open", there),
                type="button",
                title="Show its samples",
            ),
            h("span.soft", said),
            h("span.soft", one.description) if one.description and one.kind == "saved" else None,
            *[h("span.soft", line) for line in named.effect(one.evidence)],
        ),
        h(
            "button.slice-pictures",
            *[h("img", src=f"thumb:{sample}", alt="") for sample in _examples(ctx, one, signal)],
            act=("slice-open", there),
            type="button",
            aria_label=f"Show the samples of {one.name}",
        ),
        figure,
        h("div.slice-actions", *actions),
        below,
        key=one.id,
    )


def _examples(ctx: AppContext, one: Slice, signal: str) -> Sequence[str]:
    from ltg_core import workflows

    return workflows.ranked(ctx.workspace, one.filter, signal).ids(0, PICTURES)


def _figure(rate: float, low: float, high: float, rest: float, text: str, what: str = "others") -> Node:
    """A share with its interval, and that of what it is compared with as a mark."""
    marks = [
        h("rect.track", x=0, y=5, width=100, height=4),
        h("rect.range", x=f"{100 * low:.1f}", y=5, width=f"{100 * (high - low):.1f}", height=4),
        h("rect.point", x=f"{100 * rate - 0.9:.1f}", y=1, width=1.8, height=12),
    ]
    if not math.isnan(rest):
        marks.append(h("rect.rest", x=f"{100 * rest - 0.4:.1f}", y=3, width=0.8, height=8))
    others = "" if math.isnan(rest) else f", {what} {percent(rest, 1)}"
    span = f"{100 * low:.0f} to {100 * high:.0f} %"
    return h(
        "div.slice-figure",
        h("span", h("b", percent(rate)), h("span.soft", f" {span}")),
        h(
            "svg.interval",
            *marks,
            viewBox="0 0 100 14",
            preserveAspectRatio="none",
            role="img",
            aria_label=f"{percent(rate)}, {span}",
        ),
        h("span.soft", text + others),
    )
