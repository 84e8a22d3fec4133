"""What the coverage planner counts: its columns, its cells, and the samples behind them. No nodes."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from app import cells
from app.brief import WHOLE
from app.context import AppContext
from app.controls import words
from app.imagining import SLICE
from app.query import Query, as_query
from ltg_core.errors import InputError

if TYPE_CHECKING:
    from ltg_core.workflows import Coverage, Slice
    from ltg_core.workflows.coverage import Cell

GRID, NEED = "grid", "need"
"""Kinds of view."""
SAVED = "@slices"
"""Stands in the list of columns for the saved slices; no column of a file begins with it by chance."""
_REAL = "real"


def counted(ctx: AppContext, column: str) -> Coverage:
    """The grid of a column; counted again when something has changed."""
    from ltg_core import workflows

    slices = {one.name: one.filter for one in saved(ctx)} if column == SAVED else None
    key = ("coverage", column, repr(slices), workflows.stamp(ctx.workspace))
    classes = len(ctx.workspace.label_names())
    given: dict[str, Any] = {"model_hash": ctx.model_hash, "slices": slices}
    found: Coverage = ctx.cached(
        key, lambda: workflows.coverage(ctx.workspace, classes, "" if slices else column, **given)
    )
    return found


def saved(ctx: AppContext) -> list[Slice]:
    """The slices that can be columns, the oldest first: a new one does not move the others."""
    from ltg_core import workflows

    return workflows.slices(ctx.workspace, "saved")[::-1]


def columns(ctx: AppContext) -> list[tuple[str, str]]:
    """What can stand against the classes: (words, name)."""
    from ltg_core import workflows

    found = ctx.cached("coverage columns", lambda: workflows.coverage_columns(ctx.workspace))
    slices = [("Saved slices", SAVED)] if saved(ctx) else []
    return [(words(name), name) for name, _ in found] + slices


def query_of(
    ctx: AppContext, found: Coverage, cell: Cell, labels: list[str], *, wrong: bool = False
) -> Query:
    """The samples of a cell in Browse; those of a slice by its conditions where they can be said.

    Raises:
        InputError: The slice was removed.
    """
    if found.column != SLICE:
        return cells.query_of(found, cell, labels, wrong=wrong)
    one = next((one for one in saved(ctx) if one.name == cell.value), None)
    if one is None:
        raise InputError("this slice is no longer there; choose another cell")
    whole = dataclasses.replace(one.filter, origin=_REAL, split=None)
    query = dataclasses.replace(as_query(whole, labels, one.id), origin=_REAL, label=labels[cell.label])
    return dataclasses.replace(query, answer="wrong", split=found.split or "") if wrong else query


def cell_of(found: Coverage, labels: list[str], chosen: dict[str, Any]) -> Cell | None:
    """The cell that names mean; None where there is no such cell (any more)."""
    label, value = chosen.get("label"), chosen.get("value")
    if label not in labels or not isinstance(value, str) or len(value) > WHOLE:
        return None
    index = labels.index(label)
    return next((c for c in found.cells.values() if c.label == index and json.dumps(c.value) == value), None)


def place(ctx: AppContext, column: str | None, mode: str, chosen: dict[str, Any]) -> dict[str, str]:
    """What the address keeps."""
    offered = [name for _, name in columns(ctx)]
    cell = {"class": str(chosen.get("label") or ""), "value": str(chosen.get("value") or "")}
    by = column if column in offered[1:] else ""
    return {"by": by, "show": mode if mode == NEED else "", **cell}


def has_words(ctx: AppContext, found: Coverage, cell: Cell) -> bool:
    """Whether a prompt can ask for the cell: not for samples that were picked one by one, say."""
    from ltg_core import workflows

    picked = (workflows.condition_of(one.filter) for one in saved(ctx) if one.name == cell.value)
    return found.column != SLICE or next(picked, None) is not None
