"""What Browse shows, as one value: it is the filter, the order and the page, and it is the address of the page."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from app.brief import LONGEST, WHOLE, brief
from app.controls import ANY

if TYPE_CHECKING:
    from ltg_core.data.records import Filter

SAMPLES, CONFUSION, CLASSES, SLICES = "samples", "confusion", "classes", "slices"
SIZES = (60, 120, 200)
"""Samples on a page."""
OR = " or "
"""Between the names of several splits."""
NONE = "none"
"""Stands in the address for samples without a split."""
_META = "meta."
_ADDRESS = 16_000  # characters
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
    "of": "of",
    "slice": "slice",
    "like": "like",
}
_ALLOWED = {
    "shown": (SAMPLES, CONFUSION, CLASSES, SLICES),
    "answer": ("right", "wrong"),
    "verdict": ("accepted", "rejected", "flagged", "undecided"),
    "belief": ("believed", "quarantined"),
}
FILTERS = ("label", "prediction", "answer", "split", "origin", "verdict", "belief", "tag", "slice")
_IDS = ("slice", "like")


@dataclasses.dataclass(frozen=True)
class Query:
    """One view of Browse; "" where a field says nothing.

    Attributes:
        shown: The samples, the confusion matrix, the table of classes or the slices.
        rank: A signal or an order of ``Workspace.query``; "" for the first signal there is.
        label: Name of a class.
        prediction: Name of the class that the classifier says.
        answer: "right" or "wrong".
        split: Name of a split, several with " or " between them, "none" for samples without.
        origin: "real", "generated", a run or "any".
        verdict: As in the workspace.
        belief: "believed" or "quarantined".
        tag: A tag.
        text: Words that must all occur.
        by: Column by which the table of classes is sorted; a leading "-" turns it round.
        of: Name of the class whose calibration is drawn below that table; "" for all.
        slice: Id of a slice that holds its samples one by one.
        like: Id of the sample, or key of the uploaded picture, to which the others are compared.
        size: Samples on a page.
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
    of: str = ""
    slice: str = ""
    like: str = ""
    size: int = SIZES[0]
    page: int = 1
    meta: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def toggled(self, field: str, value: str) -> Query:
        """With one condition set, or taken away where it is set to this; from the first page on.

        A field is one of ``FILTERS``, "text" or "meta.<column>"; anything else changes nothing.
        """
        value = value[:WHOLE]
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
        if field == "split" and OR in self.split and value in self.split.split(OR):
            left = [name for name in self.split.split(OR) if name != value]
            return dataclasses.replace(self, split=OR.join(left), page=1)
        nothing = ANY if field == "origin" else ""
        new = nothing if getattr(self, field) == value or not value else value
        return dataclasses.replace(self, **{field: new}, page=1)

    def cleared(self) -> Query:
        """Without conditions; the order and the kind of view stay."""
        return Query(shown=self.shown, rank=self.rank, by=self.by, of=self.of, like=self.like, size=self.size)

    def conditions(self) -> list[tuple[str, str]]:
        """What narrows it down: (field, value)."""
        plain = [(name, getattr(self, name)) for name in (*FILTERS, "text")]
        found = [(name, value) for name, value in plain if value and (name, value) != ("origin", ANY)]
        return [*found, *[(_META + column, value) for column, value in self.meta.items()]]


def read_address(text: str) -> tuple[dict[str, str], str]:
    """Names and values from ``?…``, and the name of the tab that it shows; never an error.

    Without a tab the address means Browse where it names a view, and the start page where it names nothing.
    """
    try:
        given = dict(parse_qsl(text.lstrip("?")[:_ADDRESS], max_num_fields=100))
    except ValueError:  # more fields than any page writes
        given = {}
    names_view = any(name not in ("tab", "key") and not name.startswith("__") for name in given)
    return given, given.get("tab") or ("browse" if names_view else "start")


def from_address(text: str) -> tuple[Query, str, str]:
    """A query, the id of a sample ("" for none) and the name of a tab from ``?…``; never an error."""
    given, tab = read_address(text)
    return (*from_names(given), tab)


def from_names(given: Mapping[str, str]) -> tuple[Query, str]:
    """A query and the id of a sample ("" for none) from the names and values of an address."""
    given = {name: text[:LONGEST] for name, text in given.items()}
    fields: dict[str, Any] = {}
    for field, name in _NAMES.items():
        value = given.get(name, "")
        if value and value in _ALLOWED.get(field, (value,)) and (field not in _IDS or is_id(value)):
            fields[field] = value
    fields["size"] = next((size for size in SIZES if given.get("size") == str(size)), SIZES[0])
    page = given.get("page", "1")
    fields["page"] = max(1, int(page)) if page.isascii() and page.isdigit() and len(page) < 9 else 1
    meta = {key.removeprefix(_META): v for key, v in given.items() if key.startswith(_META)}
    fields["meta"] = {column: value for column, value in meta.items() if column and value}
    sample = given.get("sample", "")
    return Query(**fields), sample if is_id(sample) else ""


def is_id(text: str) -> bool:
    """Whether a text from outside may be the id of something."""
    return text.isascii() and text.isalnum() and len(text) <= 64


def address(query: Query, sample: str) -> dict[str, str]:
    """Names and values for the address, the long ones in brief; what is as it is at first is left out."""
    first = Query()
    found = {
        name: brief(getattr(query, field))
        for field, name in _NAMES.items()
        if getattr(query, field) != getattr(first, field)
    }
    if query.size != first.size:
        found["size"] = str(query.size)
    if query.page > 1:
        found["page"] = str(query.page)
    if sample:
        found["sample"] = sample
    return found | {_META + brief(column): brief(value) for column, value in query.meta.items()}


def as_filter(
    query: Query, labels: list[str], model_hash: str | None, members: tuple[str, ...] | None = None
) -> Filter:
    """The samples that a query means.

    Args:
        query: With names.
        labels: Class names by index; a name that is not among them finds nothing.
        model_hash: Of the classifier whose predictions count, or None.
        members: Ids of ``query.slice``.
    """
    from ltg_core.data.records import Filter, Range

    def index(name: str) -> int | None:
        return None if not name else labels.index(name) if name in labels else _NOBODY

    return Filter(
        split=_splits(query.split),
        label=index(query.label),
        origin=None if query.origin in ("", ANY) else query.origin,
        prediction=index(query.prediction),
        correct=None if not query.answer else query.answer == "right",
        verdict=query.verdict or None,
        tag=query.tag or None,
        believed=None if not query.belief else query.belief == "believed",
        text=query.text,
        meta={column: Range.read(value) or value for column, value in query.meta.items()},
        ids=members,
        model_hash=model_hash,
    )


def as_query(chosen: Filter, labels: list[str], slice_id: str) -> Query:
    """The view that shows the samples of a slice: its conditions one by one where a query can say them all."""
    split = chosen.split if chosen.split is None or isinstance(chosen.split, tuple) else (chosen.split,)
    query = Query(
        label=_name(chosen.label, labels),
        prediction=_name(chosen.prediction, labels),
        answer="" if chosen.correct is None else "right" if chosen.correct else "wrong",
        split="" if split is None else OR.join(one or NONE for one in split),
        origin=chosen.origin or ANY,
        verdict=chosen.verdict or "",
        belief="" if chosen.believed is None else "believed" if chosen.believed else "quarantined",
        tag=chosen.tag or "",
        text=chosen.text,
        meta={column: _text(value) for column, value in chosen.meta.items()},
    )
    said = as_filter(query, labels, chosen.model_hash)
    single = not any(isinstance(value, (list, tuple, set, frozenset)) for value in chosen.meta.values())
    if chosen.ids is None and single and _same_but_meta(said, chosen):
        return query
    return Query(origin=ANY, slice=slice_id)


def _same_but_meta(one: Filter, other: Filter) -> bool:
    split = {f.name for f in dataclasses.fields(one)} - {"meta", "split"}
    return all(getattr(one, name) == getattr(other, name) for name in split) and _as_tuple(one) == _as_tuple(
        other
    )


def _as_tuple(chosen: Filter) -> tuple[str, ...] | None:
    return (chosen.split,) if isinstance(chosen.split, str) else chosen.split


def _name(index: int | None, labels: list[str]) -> str:
    return "" if index is None else labels[index] if 0 <= index < len(labels) else "?"


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _splits(text: str) -> str | tuple[str, ...] | None:
    if not text:
        return None
    names = tuple("" if name == NONE else name for name in text.split(OR))
    return names if len(names) > 1 else names[0]
