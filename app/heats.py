"""Heat maps side by side: rows are samples, columns are methods. Nodes for the tab Explain."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app.context import AppContext
from app.details import GONE
from app.evidence import SIDES, evidence, layers, method_words
from app.render import Node, empty, h, label_of, name_of, percent, view

if TYPE_CHECKING:
    from ltg_core.data.records import Sample
    from ltg_core.workflows import Explanation

Place = tuple[str, str]
"""Id of a sample, name of a method."""
_MODES = (("heat", "Heat"), ("outline", "Outline"), ("image", "Image only"))


@dataclasses.dataclass(frozen=True)
class Shown:
    """What the page shows of an answer.

    Attributes:
        ids: Samples, one a row.
        methods: Names, one a column.
        words: The question.
        found: Maps.
        refused: Why there is none.
        where: The part of the selection that this is, in words.
        more: Whether there are samples before and after.
        alone: Whether a single sample is shown large.
        opened: The map whose evidence is shown, or None.
        busy: Whether the missing ones are being computed.
    """

    ids: Sequence[str]
    methods: Sequence[str]
    words: str
    found: Mapping[Place, Explanation]
    refused: Mapping[Place, Mapping[str, Any]]
    where: str = ""
    more: tuple[bool, bool] = (False, False)
    alone: bool = True
    opened: Place | None = None
    busy: bool = False


def matrix(ctx: AppContext, shown: Shown) -> dict[str, Any]:
    """The value of a ``Heats``."""
    labels = ctx.workspace.label_names()
    samples = ctx.workspace.there(list(shown.ids))
    said = ctx.workspace.predictions(list(shown.ids), ctx.model_hash or "")
    rows: list[Node | None] = []
    charts: dict[str, Any] = {}
    if not shown.alone:
        rows.append(h("div.heat-corner", "Sample"))
        rows += [_column(name) for name in shown.methods]
    for sample in samples:
        rows.append(_head(sample, labels, said.get(sample.id), shown.alone))
        rows += [_cell(ctx, sample.id, name, shown) for name in shown.methods]
        if shown.opened and shown.opened[0] == sample.id and _checked(shown, shown.opened):
            rows.append(evidence(shown.found[shown.opened], charts))
    kind = "is-alone" if shown.alone else "is-table"
    table = h(
        f"div.heat-table.{kind}", *rows, w=str(len(shown.methods)), role="group", aria_label=shown.words
    )
    if not samples:
        return view(_bar(shown), empty(*GONE), classes="answers")
    lost = len(shown.ids) - len(samples)
    parts = (_bar(shown), _legend(shown), _announced(shown), _gone(lost) if lost else None, table)
    return view(*parts, classes="answers") | {"charts": charts}


def _gone(count: int) -> Node:
    what = "1 of these samples was" if count == 1 else f"{count} of these samples were"
    return h("p.warn", f"{what} deleted from the workspace meanwhile and cannot be shown.")


def _checked(shown: Shown, place: Place) -> bool:
    return place in shown.found and shown.found[place].evidence is not None


def _bar(shown: Shown) -> Node:
    """The question, where we are, and how the overlay is drawn."""
    modes = [
        h(
            "button.mode" + (".is-on" if mode == "heat" else ""),
            text,
            act=("mode", {"mode": mode}),
            type="button",
        )
        for mode, text in _MODES
    ]
    slider = h(
        "label.fader",
        h("span", "Overlay"),
        h(
            "input",
            type="range",
            min="0",
            max="1",
            step="0.05",
            value="0.8",
            name="heat",
            aria_label="Overlay",
        ),
    )
    return h(
        "div.heat-bar",
        h("h3", shown.words),
        _steps(shown),
        h("div.heat-tools", h("div.modes", *modes), slider),
    )


def _steps(shown: Shown) -> Node | None:
    def step(text: str, by: int, there: bool, name: str) -> Node:
        off = {} if there else {"disabled": "true"}
        act = ("step", {"by": by}) if there else None
        return h("button", text, act=act, type="button", aria_label=name, title=f"{name} ({text} key)", **off)

    if not shown.where:
        return None
    back = h("button.link", "All samples", act=("back", {}), type="button") if any(shown.more) else None
    return h(
        "div.heat-steps",
        step("←", -1, shown.more[0], "Previous"),
        h("span.soft", shown.where),
        step("→", 1, shown.more[1], "Next"),
        back if shown.alone else None,
    )


def _legend(shown: Shown) -> Node | None:
    """What the colours mean: of the signed maps, and of those without a sign."""
    kinds = {one.signed for one in shown.found.values()}
    signed = h(
        "span.heat-scale",
        h("span", "lowers it"),
        h("i.heat-ramp.is-signed"),
        h("span", "raises it"),
    )
    plain = h("span.heat-scale", h("span", "little"), h("i.heat-ramp"), h("span", "much, without a sign"))
    parts = [scale for scale, there in ((signed, True in kinds), (plain, False in kinds)) if there]
    if not parts:
        return None
    outline = h("span.heat-scale.only-outline", "The lines surround the hottest 15 % of the picture.")
    return h("div.heat-legend", *parts, outline)


def _announced(shown: Shown) -> Node | None:
    """What happened on the way that the reader should know."""
    notes = {note for one in shown.found.values() for note in one.notes if note.startswith("memory")}
    if not notes:
        return None
    return h(
        "p.warn",
        "Memory was short, so the work was done in smaller parts; the maps are the same. "
        + "; ".join(sorted(notes))
        + ".",
    )


def _column(name: str) -> Node:
    return h("div.heat-column", h("b", method_words(name)), title=_help(name))


def _help(name: str) -> str:
    from ltg_core.attribution import ATTRIBUTIONS

    return str(ATTRIBUTIONS[name].HELP)


def _head(sample: Sample, labels: Sequence[str], guess: Any, alone: bool) -> Node:
    """The sample itself: its picture, label and prediction."""
    truth = label_of(sample, labels)
    kind = {True: ".right", False: ".wrong"}.get(guess.correct if guess else None, "")
    read = (
        f"read as {name_of(guess.pred, labels)} {percent(guess.confidence)}" if guess else "no prediction yet"
    )
    picture = h("img", src=f"image:{sample.id}", alt=f"sample, label {truth}")
    text = h("div.heat-said", h("b", truth, title=truth), h(f"span.soft{kind}", read, title=read))
    if alone:
        return h(
            "figure.heat-cell.is-sample", h("div.heat-name", h("b", "Sample")), h("div.heat", picture), text
        )
    button = h(
        "button.heat-open",
        picture,
        act=("only", {"id": sample.id}),
        type="button",
        aria_label=f"Show {truth} alone",
    )
    return h("div.heat-head", button, text, key=sample.id)


def _cell(ctx: AppContext, sample_id: str, method: str, shown: Shown) -> Node:
    """One map, or why there is none."""
    one, place = shown.found.get((sample_id, method)), (sample_id, method)
    name = h("div.heat-name", h("b", method_words(method), title=_help(method))) if shown.alone else None
    key = f"{sample_id}:{method}"
    if one is None:
        return h("figure.heat-cell", name, _nothing(shown.refused.get(place), method, shown.busy), key=key)
    side = SIDES[shown.alone]
    heat, rim = ctx.cached(("layers", place, one.target, side, ctx.model_hash), lambda: layers(one, side))
    stacked = h(
        "div.heat",
        h("img", src=f"image:{sample_id}", alt=""),
        h("img.over", src=heat, alt=f"{method_words(method)}: {shown.words}"),
        h("img.rim", src=rim, alt=""),
    )
    broken = [note for note in one.notes if "undefined values" in note]
    notes = h("p.soft.note", *broken) if broken else None
    return h("figure.heat-cell", name, stacked, _badge(one, shown), notes, key=key)


def _nothing(refusal: Mapping[str, Any] | None, method: str, busy: bool) -> Node:
    """A cell without a map."""
    if refusal is None:
        text = "computing …" if busy else "not computed"
        return h("div.heat-none" + (".is-busy" if busy else ""), h("span.soft", text))
    offer = dict(refusal.get("offer") or {})
    button = None
    if offer.get("method"):
        text = f"Use {method_words(offer['method'])}"
        button = h("button", text, act=("instead", {"method": offer["method"], "of": method}), type="button")
    elif offer.get("target"):
        text = {"prediction": "Explain the prediction", "runner-up": "Compare with the runner-up"}.get(
            offer["target"], "Ask another question"
        )
        button = h("button", text, act=("ask", {"target": offer["target"]}), type="button")
    return h("div.heat-none.is-refused", h("b", "Not possible here"), h("p", str(refusal["reason"])), button)


def _badge(one: Explanation, shown: Shown) -> Node:
    """The two checks of a map; a click opens what they rest on."""
    there = {"id": one.sample_id, "method": one.method}
    opened = (one.sample_id, one.method) == shown.opened
    if one.trust is None and shown.busy and opened:
        return h("button.trust.is-open", "Checking …", type="button", disabled="true")
    if one.trust is None:
        title = "Randomise the network and remove pixels: does this map deserve belief?"
        return h("button.trust.is-open", "Check this map", act=("check", there), type="button", title=title)
    judged = math.isfinite(one.trust.deletion)
    marks = [
        _mark("Randomisation", one.trust.depends_on_network if judged else None),
        _mark("Faithfulness", one.trust.faithful if judged else None),
    ]
    return h(
        "button.trust",
        *marks,
        act=("evidence", there),
        type="button",
        title=f"This map {one.trust.verdict}. Click for the evidence.",
        aria_expanded=str(opened).lower(),
    )


def _mark(name: str, passed: bool | None) -> Node:
    sign, kind = {True: ("✓", "is-good"), False: ("✕", "is-bad"), None: ("?", "is-unknown")}[passed]
    said = {True: "passed", False: "failed", None: "cannot be judged"}[passed]
    return h(f"span.trust-mark.{kind}", f"{sign} {name}", role="img", aria_label=f"{name} {said}")
