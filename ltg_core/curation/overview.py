"""Figures that a curator sees beside the samples."""

from __future__ import annotations

import dataclasses

from ltg_core.data.filters import where
from ltg_core.data.records import VERDICTS, Filter
from ltg_core.data.workspace import Workspace


def progress(ws: Workspace, chosen: Filter) -> tuple[int, int]:
    """How many of the samples are decided, and how many there are; the filter's verdict does not count."""
    every = dataclasses.replace(chosen, verdict=None)
    total = ws.count(every)
    return total - ws.count(dataclasses.replace(every, verdict="undecided")), total


def verdict_counts(ws: Workspace) -> dict[str, int]:
    """Samples by verdict, of those that have one."""
    rows = ws.database.rows(
        "SELECT verdict, count(*) FROM verdicts WHERE verdict <> 'undecided' GROUP BY verdict"
    )
    found = dict(tuple(row) for row in rows)
    return {verdict: found.get(verdict, 0) for verdict in VERDICTS if verdict != "undecided"}


def rating_counts(ws: Workspace, chosen: Filter) -> dict[int, int]:
    """Samples that have at least so many stars, 1 to 5, and 0 for those without; the filter's rating does not count."""
    every = dataclasses.replace(chosen, rating=None)
    condition, values = where(every)
    rows = ws.database.rows(
        "SELECT v.rating, count(*) FROM verdicts v CROSS JOIN samples s ON s.seq = v.sample"
        f" {condition} AND v.rating IS NOT NULL GROUP BY 1",
        values,
    )
    found = {int(row[0]): int(row[1]) for row in rows}
    found[0] = ws.count(every) - sum(found.values())
    return {0: found[0]} | {
        stars: sum(n for rating, n in found.items() if rating >= stars) for stars in range(1, 6)
    }


def ahead(ws: Workspace) -> tuple[str, str]:
    """What undo would take back and what redo would repeat, in words; "" where there is nothing."""
    undo = ws.database.row("SELECT description FROM actions WHERE undone = 0 ORDER BY id DESC LIMIT 1")
    redo = ws.database.row("SELECT description FROM actions WHERE undone = 1 ORDER BY id LIMIT 1")
    return (str(undo[0]) if undo else "", str(redo[0]) if redo else "")
