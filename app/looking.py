"""A query of Browse with all that it means here and now: its filter, counts, order, slice and likeness."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from app import facets
from app.brief import is_brief, whole
from app.context import AppContext
from app.controls import signal_choices
from app.query import Query, as_filter
from ltg_core.errors import LtgError

if TYPE_CHECKING:
    from ltg_core.data.records import Filter
    from ltg_core.workflows import Likeness, Ranked, Slice, Tally

ORDERS = [
    ("Confidence, lowest first", "-confidence"),
    ("Confidence, highest first", "confidence"),
    ("Newest", "created"),
]
_PLAIN = [name for _, name in ORDERS]


@dataclasses.dataclass(frozen=True, eq=False)
class Look:
    """A query with all that it means here and now.

    Attributes:
        query: With a page that exists and a ranking that is offered.
        chosen: The same as a filter.
        counts: Of it.
        ranked: Its samples in order.
        slice: ``query.slice``, or None.
        like: ``query.like`` compared with all samples, or None.
    """

    query: Query
    chosen: Filter
    counts: Tally
    ranked: Ranked
    slice: Slice | None
    like: Likeness | None

    @property
    def first(self) -> int:
        """Place of the first sample of the page."""
        return (self.query.page - 1) * self.query.size

    @property
    def pages(self) -> int:
        """How many there are, at least one."""
        return max(1, -(-len(self.ranked) // self.query.size))

    @property
    def signal(self) -> str:
        """By which the samples are ranked; "" where it is no signal."""
        return "" if self.query.rank in _PLAIN or self.like is not None else self.query.rank


def orders(ctx: AppContext) -> list[tuple[str, str]]:
    """What the samples can be ranked by: (words, name); a classifier that was just chosen has scored nothing yet."""
    scored = signal_choices(ctx)
    return [*scored, *(ORDERS if scored else ORDERS[-1:])]


def known(ctx: AppContext, query: Query) -> tuple[Query, str]:
    """The query without a slice or a picture that are not here, and what is missing, in words."""
    query, missing = unabridged(ctx, query), ""
    try:
        if query.like:
            _likeness(ctx, query.like)
    except LtgError as error:
        query, missing = dataclasses.replace(query, like=""), str(error)
    try:
        chosen_slice(ctx, query)
    except LtgError as error:
        query, missing = dataclasses.replace(query, slice=""), str(error)
    return query, missing


def unabridged(ctx: AppContext, query: Query) -> Query:
    """The query with the long values of this workspace where the address had only their beginnings and hashes."""

    def values(column: str) -> list[str]:
        return [str(value) for value in ctx.workspace.columns.meta(column).values]

    fields = {name: getattr(query, name) for name in ("label", "prediction", "of", "split", "tag")}
    given = [*fields.values(), *query.meta, *query.meta.values()]
    if not any(is_brief(text) for text in given):
        return query
    ws, columns = ctx.workspace, ctx.workspace.meta_columns()
    known = {"split": ws.splits(), "tag": ws.tags()}
    found = {name: whole(text, known.get(name) or ws.label_names()) for name, text in fields.items()}
    named = {whole(column, columns): text for column, text in query.meta.items()}
    meta = {column: whole(text, values(column) if is_brief(text) else ()) for column, text in named.items()}
    return dataclasses.replace(query, meta=meta, **found)


def chosen_slice(ctx: AppContext, query: Query) -> Slice | None:
    """The slice that a query names.

    Raises:
        InputError: It is not in this workspace.
    """
    from ltg_core import workflows

    return workflows.slice_of(ctx.workspace, query.slice) if query.slice else None


def filter_of(ctx: AppContext, query: Query) -> Filter:
    """The samples that a query means, those of its slice as well.

    Raises:
        InputError: The slice is not in this workspace.
    """
    found = chosen_slice(ctx, query)
    members = None
    if found is not None:
        whole = found.filter
        members = whole.ids if whole.ids is not None else tuple(ctx.workspace.query(whole))
    return as_filter(query, ctx.workspace.label_names(), ctx.model_hash, members)


def look(ctx: AppContext, query: Query) -> Look:
    """Everything that depends on a query.

    Raises:
        InputError: A condition on predictions, and there is no classifier; a slice or picture that is not here.
    """
    from ltg_core import workflows

    offered = [name for _, name in orders(ctx)]
    rank = query.rank if query.rank in offered else offered[0]
    chosen = filter_of(ctx, query)
    counts = facets.counted(ctx, chosen)
    like = _likeness(ctx, query.like) if query.like else None
    ranked = like.ranked(ctx.workspace, chosen) if like else workflows.ranked(ctx.workspace, chosen, rank)
    found = Look(
        dataclasses.replace(query, rank=rank), chosen, counts, ranked, chosen_slice(ctx, query), like
    )
    page = min(query.page, found.pages)
    return dataclasses.replace(found, query=dataclasses.replace(found.query, page=page))


def _likeness(ctx: AppContext, like: str) -> Likeness:
    from ltg_core import workflows

    key = ("like", like, id(ctx.workspace.columns.base()))  # kept with it, so that no other can have this id
    found: Likeness = ctx.cached(key, lambda: workflows.likeness(ctx.workspace, ctx.need_classifier(), like))
    return found
