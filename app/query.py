"""What Browse shows, as one value: it is the filter, the order and the page, and it is the address of the page."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from app.controls import ANY

if TYPE_CHECKING:
    from ltg_core.data.records import Filter

SAMPLES, CONFUSION, CLASSES = "samples", "confusion", "classes"
NONE = "none"
"""Stands in the address for samples without a split."""
LONGEST = 300
_META = "meta."
_NOBODY = -9  # a class that no sample has: what a link to a class of another data set finds
# Field of the query → name in the address. "view" would open Gradio's own pages.
_NAMES = {
    "shown": "show",
    "rank": "rank",
    "label": "class",
    "prediction": "predicted",
    "answer": "answer",
    "split": "split",
    "origin": "origin",
    "verdict": "verdict",
    "belief": "belief",
    "tag": "tag",
    "text": "find",
    "by": "by",
}
_ALLOWED = {
    "shown": (SAMPLES, CONFUSION, CLASSES),
    "answer": ("right", "wrong"),
    "verdict": ("accepted", "rejected", "flagged", "undecided"),
    "belief": ("believed", "quarantined"),
}
FILTERS = ("label", "prediction", "answer", "split", "origin", "verdict", "belief", "tag")


@dataclasses.dataclass(frozen=True)
class Query:
    """One view of Browse; "" where a field says nothing.

    Attributes:
        shown: The samples, the confusion matrix or the table of classes.
        rank: A signal or an order of ``Workspace.query``; "" for the first signal there is.
        label: Name of a class.
        prediction: Name of the class that the classifier says.
        answer: "right" or "wrong".
        split: Name of a split, "none" for samples without.
        origin: "real", "generated", a run or "any".
        verdict: As in the workspace.
        belief: "believed" or "quarantined".
        tag: A tag.
        text: Words that must all occur.
        by: Column by which the table of classes is sorted; a leading "-" turns it round.
        page: From 1.
        meta: Metadata values by column, as text.
    """

    shown: str = SAMPLES
    rank: str = ""
    label: str = ""
    prediction: str = ""
    answer: str = ""
    split: str = ""
    origin: str = "real"
    verdict: str = ""
    belief: str = ""
    tag: str = ""
    text: str = ""
    by: str = ""
    page: int = 1
    meta: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def toggled(self, field: str, value: str) -> Query:
        """With one condition set, or taken away where it is set to this; from the first page on.

        A field is one of ``FILTERS``, "text" or "meta.<column>"; anything else changes nothing.
        """
        value = value[:LONGEST]
        if field.startswith(_META):
            column = field.removeprefix(_META)
            meta = {key: given for key, given in self.meta.items() if key != column}
            if value and self.meta.get(column) != value:
                meta[column] = value
            return dataclasses.replace(self, meta=meta, page=1)
        if field not in (*FILTERS, "text"):
            return self
        if field in _ALLOWED and value not in ("", *_ALLOWED[field]):
            return self
        nothing = ANY if field == "origin" else ""
        new = nothing if getattr(self, field) == value or not value else value
        return dataclasses.replace(self, **{field: new}, page=1)

    def cleared(self) -> Query:
        """Without conditions; the order and the kind of view stay."""
        return Query(shown=self.shown, rank=self.rank, by=self.by)

    def conditions(self) -> list[tuple[str, str]]:
        """What narrows it down: (field, value)."""
        plain = [(name, getattr(self, name)) for name in (*FILTERS, "text")]
        found = [(name, value) for name, value in plain if value and (name, value) != ("origin", ANY)]
        return [*found, *[(_META + column, value) for column, value in self.meta.items()]]


def from_address(text: str) -> tuple[Query, str, str]:
    """A query, the id of a sample and the name of a tab ("" each where not given) from ``?…``; never an error."""
    given = {key: value[:LONGEST] for key, value in parse_qsl(text.lstrip("?")[:8000], max_num_fields=100)}
    fields: dict[str, Any] = {}
    for field, name in _NAMES.items():
        value = given.get(name, "")
        if value and value in _ALLOWED.get(field, (value,)):
            fields[field] = value
    page = given.get("page", "1")
    fields["page"] = max(1, int(page)) if page.isascii() and page.isdigit() and len(page) < 9 else 1
    meta = {key.removeprefix(_META): v for key, v in given.items() if key.startswith(_META)}
    fields["meta"] = {column: value for column, value in meta.items() if column and value}
    sample = given.get("sample", "")
    return Query(**fields), sample if sample.isalnum() and len(sample) <= 64 else "", given.get("tab", "")


def address(query: Query, sample: str) -> dict[str, str]:
    """Names and values for the address; what is as it is at first is left out."""
    first = Query()
    found = {
        name: getattr(query, field)
        for field, name in _NAMES.items()
        if getattr(query, field) != getattr(first, field)
    }
    if query.page > 1:
        found["page"] = str(query.page)
    if sample:
        found["sample"] = sample
    return found | {_META + column: value for column, value in query.meta.items()}


def as_filter(query: Query, labels: list[str], model_hash: str | None) -> Filter:
    """The samples that a query means.

    Args:
        query: With names.
        labels: Class names by index; a name that is not among them finds nothing.
        model_hash: Of the classifier whose predictions count, or None.
    """
    from ltg_core.data.records import Filter

    def index(name: str) -> int | None:
        return None if not name else labels.index(name) if name in labels else _NOBODY

    return Filter(
        split=None if not query.split else "" if query.split == NONE else query.split,
        label=index(query.label),
        origin=None if query.origin in ("", ANY) else query.origin,
        prediction=index(query.prediction),
        correct=None if not query.answer else query.answer == "right",
        verdict=query.verdict or None,
        tag=query.tag or None,
        believed=None if not query.belief else query.belief == "believed",
        text=query.text,
        meta=dict(query.meta),
        model_hash=model_hash,
    )
