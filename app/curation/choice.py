"""Which samples Decide shows, as one value, and the rail of filters with their counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app.context import AppContext
from app.controls import origin_choices, words
from app.render import Node, cut, h, name_of, view

if TYPE_CHECKING:
    from ltg_core.data.records import Filter
    from ltg_core.workflows import Tally

_LONGEST = 300
_SHOWN = 12
_BELIEFS = ("believed", "quarantined")
_VERDICTS = ("undecided", "accepted", "rejected", "flagged")
_STARS = {"0": "No stars", **{str(n): "★" * n + (" and more" if n < 5 else "") for n in range(5, 0, -1)}}
_TITLES = {
    "origin": "Origin",
    "verdict": "Verdict",
    "belief": "Belief",
    "label": "Class",
    "tag": "Tag",
    "rating": "Rating",
}
_PLACES = {
    "origin": "origin",
    "verdict": "verdict",
    "belief": "belief",
    "label": "class",
    "tag": "tag",
    "rating": "rating",
}
Row = tuple[str, str, int]
"""Words, value, number of samples."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """Samples to decide on; "" where a field says nothing.

    Attributes:
        origin: "generated", "real" or a run.
        verdict: A verdict.
        belief: "believed" or "quarantined".
        label: Name of a class.
        tag: A tag.
        rating: "0" to "5", at least so many stars.
        ids: Only these, such as the disagreements of a review.
        about: What ``ids`` are, in words.
    """

    origin: str = "generated"
    verdict: str = ""
    belief: str = ""
    label: str = ""
    tag: str = ""
    rating: str = ""
    ids: tuple[str, ...] = ()
    about: str = ""

    def toggled(self, field: str, value: str) -> Choice:
        """With one filter set, or taken away where it is set to this; anything unknown changes nothing."""
        allowed = {"verdict": _VERDICTS, "belief": _BELIEFS, "rating": tuple(_STARS)}
        if field == "ids":
            return dataclasses.replace(self, ids=(), about="")
        if field not in _TITLES or (field in allowed and value not in allowed[field]):
            return self
        new = "" if getattr(self, field) == value and field != "origin" else value[:_LONGEST]
        return dataclasses.replace(self, **{field: new})

    def place(self) -> dict[str, str]:
        """What the address keeps; samples that were picked one by one are not in it."""
        first = Choice()
        given = {name: getattr(self, name) for name in _PLACES}
        return {_PLACES[name]: text for name, text in given.items() if text != getattr(first, name)}

    @staticmethod
    def from_place(given: Mapping[str, str]) -> Choice:
        """The filters that an address names; what no filter can be is left out."""
        wanted = {name: given.get(text, "") for name, text in _PLACES.items()}
        choice = Choice(origin=wanted.pop("origin") or Choice().origin)
        for name, value in wanted.items():
            choice = choice.toggled(name, value) if value else choice
        return choice

    def cleared(self) -> Choice:
        """Without filters; the origin stays."""
        return Choice(origin=self.origin)

    def as_filter(self, labels: Sequence[str]) -> Filter:
        """The samples that it means; a class that is not there finds nothing."""
        from ltg_core.data.records import Filter

        nobody = -9
        names = [name[:_LONGEST] for name in labels]
        return Filter(
            origin=None if self.ids else self.origin or None,
            verdict=self.verdict or None,
            believed=None if not self.belief else self.belief == "believed",
            label=None if not self.label else names.index(self.label) if self.label in names else nobody,
            tag=self.tag or None,
            rating=int(self.rating) if self.rating in _STARS else None,
            # The unguided twins are there for comparison; they are no candidates.
            meta={"role": "guided"} if self.origin not in ("", "real") and not self.ids else {},
            ids=self.ids or None,
        )

    def words(self) -> str:
        """For a record of what was chosen."""
        if self.ids:
            return self.about
        parts = [(name, getattr(self, name)) for name in _TITLES]
        return ", ".join(f"{_TITLES[name].lower()} {value}" for name, value in parts if value) or "everything"


def rail(ctx: AppContext, choice: Choice) -> Node:
    """The filters, each value with the number of samples that it would leave."""
    from ltg_core import workflows
    from ltg_core.curation import overview

    ws, labels = ctx.workspace, ctx.workspace.label_names()
    chosen = choice.as_filter(labels)
    tally = _tally(ctx, chosen)
    names = {True: "believed", False: "quarantined"}
    verdicts = dict(tally.facet("verdict"))
    stars = overview.rating_counts(ws, chosen)
    groups: list[tuple[str, list[Row]]] = [
        ("verdict", [(words(v), v, verdicts.get(v, 0)) for v in _VERDICTS]),
        ("belief", [(words(names[b]), names[b], n) for b, n in tally.facet("believed")]),
        (
            "label",
            [(cut(name_of(i, labels)), name_of(i, labels)[:_LONGEST], n) for i, n in tally.facet("label")],
        ),
        (
            "tag",
            [(tag, tag, n) for tag, n in workflows.tag_counts(ws, dataclasses.replace(chosen, tag=None))],
        ),
        ("rating", [(text, value, stars[int(value)]) for value, text in _STARS.items()]),
    ]
    shown = [_group(field, rows, getattr(choice, field)) for field, rows in groups]
    only = h("p.only", h("b", choice.about), h("button.link", "Show all", act=_act("ids", ""), type="button"))
    clear = h("button.link", "Clear filters", act=("clear", {}), type="button")
    return view(
        only if choice.ids else _group("origin", _origins(ctx, choice, labels), choice.origin),
        *shown,
        clear if choice != choice.cleared() else None,
        classes="facets",
    )


def _tally(ctx: AppContext, chosen: Filter) -> Tally:
    """The groups of a filter; a click on a plain value needs no new pass of the database."""
    from ltg_core import workflows
    from ltg_core.workflows.breakdown import FACETS

    base = dataclasses.replace(chosen, **dict.fromkeys(FACETS))
    key = ("curate tally", repr(base), workflows.stamp(ctx.workspace))
    found: Tally = ctx.cached(key, lambda: workflows.tally(ctx.workspace, base))
    return found.narrowed(chosen)


def _origins(ctx: AppContext, choice: Choice, labels: Sequence[str]) -> list[Row]:
    """Real, generated, and the runs; each as the other filters leave it."""

    def under(origin: str) -> Filter:
        return dataclasses.replace(choice, origin=origin).as_filter(labels)

    made = dict(_tally(ctx, under("generated")).facet("origin"))
    runs = {value: text for text, value in origin_choices(ctx)}
    rows: list[Row] = [("Generated", "generated", int(made.pop("generated", 0)))]
    rows.append(("Real", "real", ctx.workspace.count(under("real"))))
    found = [(runs.get(run, run), run, int(n)) for run, n in made.items()]
    order = {value: place for place, value in enumerate(runs)}
    return rows + sorted(found, key=lambda row: order.get(row[1], len(order)))


def _group(field: str, rows: list[Row], value: str) -> Node | None:
    if value and value not in [row[1] for row in rows]:
        rows = [*rows, (value, value, 0)]
    if not rows:
        return None
    kept = [row for place, row in enumerate(rows) if place < _SHOWN or row[1] == value]
    rest = len(rows) - len(kept)
    most = max((n for _, _, n in rows), default=0) or 1
    unfolded: dict[str, Any] = {"open": "true"} if field in ("origin", "verdict") or value else {}
    return h(
        "details.facet",
        h("summary", _TITLES[field]),
        h("div.facet-rows", *[_row(field, row, row[1] == value, most) for row in kept],
          h("p.soft", f"and {rest:,} more") if rest else None),
        key=field,
        **unfolded,
    )  # fmt: skip


def _row(field: str, row: Row, on: bool, most: int) -> Node:
    text, value, n = row
    return h(
        "button.facet-row" + (".is-on" if on else "") + ("" if n else ".is-empty"),
        h("span.facet-fill"),
        h("span.facet-value", text),
        h("span.facet-count", "✕" if on and field != "origin" else f"{n:,}"),
        act=_act(field, value),
        w=f"{100 * n / most:.1f}%",
        type="button",
        title=f"{text[:300]}: {n:,} samples",
        aria_pressed=str(on).lower(),
        key=value,
    )


def _act(field: str, value: str) -> tuple[str, dict[str, str]]:
    return ("filter", {"field": field, "value": value})
