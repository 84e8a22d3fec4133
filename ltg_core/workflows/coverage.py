"""Where the data is thin and the classifier errs: a grid of class by condition, one pass of the database."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ltg_core.data.filters import where
from ltg_core.data.records import REAL, Filter
from ltg_core.data.workspace import Workspace
from ltg_core.generators.judge import phrases_of
from ltg_core.workflows.setup import plain_prompt
from ltg_core.workflows.units import OWN_META

SLICE = "slice"
"""Metadata column in which images that were made for a saved slice carry its name."""
_FEW, _MANY = 2, 40  # a column with fewer values parts nothing, one with more is no list of conditions
_EACH = 4  # and one with fewer samples a value is a list of samples
RARE = 0.01
_PRIOR = 10.0
_MOST_WANTED, _UNIT = 64, 8
_MODEL = "(SELECT key FROM models WHERE hash = ?)"
_COUNTS = """
SELECT coalesce(s.label, -1), {value}, sum(s.origin = '{real}'), sum(s.origin = '{real}' AND s.split = 'train'),
    sum(s.origin = '{real}' AND p.pred IS NOT NULL AND (? IS NULL OR s.split = ?)),
    sum(s.origin = '{real}' AND p.pred <> s.label AND (? IS NULL OR s.split = ?)),
    sum(s.origin <> '{real}' AND coalesce(v.verdict, '') = 'accepted'),
    sum(s.origin <> '{real}' AND coalesce(v.verdict, 'undecided') IN ('undecided', 'flagged'))
FROM samples s LEFT JOIN predictions p ON p.sample = s.seq AND p.model = {model}
LEFT JOIN verdicts v ON v.sample = s.seq {where} GROUP BY 1, 2
"""
_ANY_NAME = (
    "(SELECT CASE WHEN m.type IN ('true', 'false') THEN m.type ELSE json_quote(m.value) END FROM json_each(s.meta) m"
    " WHERE m.key = ?)"
)
_COLUMNS = """
SELECT m.key, count(DISTINCT m.value), min(m.type), max(m.type), count(*) FROM (
    SELECT meta FROM samples WHERE origin = ? ORDER BY seq % 7919, seq LIMIT 5000
) s, json_each(s.meta) m GROUP BY m.key
"""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One class under one condition.

    Attributes:
        label: Class index.
        value: The condition: a metadata value, or the name of a slice.
        real: Real samples.
        train: Those that the classifier was trained on; all real ones where there is no split "train".
        held: Held-out real samples with a prediction.
        wrong: Errors among them.
        accepted: Generated for this cell and accepted.
        waiting: Generated for this cell and not decided yet.
        need: How much the cell would gain from images, 0 to 1; see ``Coverage``.
        wanted: How many images would bring it to the goal, in units of eight, 0 to 64.
    """

    label: int
    value: Any
    real: int = 0
    train: int = 0
    held: int = 0
    wrong: int = 0
    accepted: int = 0
    waiting: int = 0
    need: float = 0.0
    wanted: int = 0

    @property
    def error(self) -> float:
        """Share of errors among the held-out samples; NaN without any."""
        return self.wrong / self.held if self.held else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the error (Wilson 1927); 0 to 1 without samples."""
        return wilson(self.wrong, self.held)


@dataclasses.dataclass(frozen=True)
class Coverage:
    """The grid.

    The need of a cell is its error rate, pulled toward the overall one by ten samples' worth where few held-out samples
    speak, times a factor from one half (as many training and accepted samples as the goal) to one (none at all).

    Attributes:
        column: Name of the metadata column, or ``SLICE``.
        values: The columns of the grid, the most samples first.
        cells: One a class and value, by (label, value's place).
        split: Held-out split of the error rates; None for all real samples.
        trained: Whether there is a split "train".
        overall: Error rate over the cells that are shown; NaN without predictions.
        goal: Training samples that a cell should have: the median of the cells that have any.
        left_out: Values of the column that are not shown.
    """

    column: str
    values: list[Any]
    cells: dict[tuple[int, int], Cell]
    split: str | None
    trained: bool
    overall: float
    goal: int
    left_out: int = 0

    def ranked(self) -> list[Cell]:
        """All cells, those in need first."""
        return sorted(
            self.cells.values(), key=lambda c: (-c.need, c.train + c.accepted, c.label, str(c.value))
        )


def coverage_columns(ws: Workspace) -> list[tuple[str, int]]:
    """Metadata columns whose values can stand for conditions, with how many there are; the likeliest first.

    A look at 5,000 real samples: text or whole numbers or true and false, 2 to 40 different values with four samples
    each on average, under a name that generated images do not use for something else.
    """
    found = []
    for name, count, low, high, n in ws.database.rows(_COLUMNS, [REAL]):
        kinds = {low, high}
        plain = kinds <= {"text"} or kinds <= {"true", "false"} or kinds <= {"integer"}
        if plain and name not in OWN_META and _FEW <= count <= min(_MANY, n / _EACH):
            found.append((str(name), int(count), "text" not in kinds))
    order = ("condition", "weather", "light", "scene", "domain", "background")
    found.sort(key=lambda c: (order.index(c[0]) if c[0] in order else len(order), c[2], c[0]))
    return [(name, count) for name, count, _ in found]


def coverage(
    ws: Workspace,
    classes: int,
    column: str = "",
    *,
    model_hash: str | None = None,
    slices: Mapping[str, Filter] | None = None,
    limit: int = 12,
    rare: float = RARE,
) -> Coverage:
    """Count real, held-out, wrong and accepted samples of every class under every condition.

    Args:
        ws: The workspace.
        classes: How many there are.
        column: Metadata column whose values are the conditions.
        model_hash: Of the classifier whose errors count; without one there are no error rates.
        slices: Saved filters by name, instead of a column; a sample may lie in several.
        limit: At most so many values, those with the most real samples.
        rare: Values with a smaller share of the real samples are left out.
    """
    split = next((name for name in ("test", "val") if name in ws.splits()), None)
    trained = "train" in ws.splits()
    counts: dict[tuple[int, str], list[int]] = {}
    if slices is None:
        counts = _counted(ws, *_text_of(column), Filter(), model_hash, split)
    for name, chosen in (slices or {}).items():
        own = dataclasses.replace(chosen, origin=REAL, split=None)
        for key, row in _counted(ws, "?", [json.dumps(name)], own, model_hash, split).items():
            counts[key] = row
    if slices is not None:
        for key, row in _counted(ws, *_text_of(SLICE), Filter(origin="generated"), None, None).items():
            if key[1] is not None and json.loads(key[1]) in slices:
                counts[key] = [*counts.get(key, [0] * 6)[:4], *row[4:]]
    values, left_out = _values(counts, list(slices or ()), limit, rare)
    places = {text: place for place, text in enumerate(values)}
    cells = {(c, p): Cell(c, json.loads(text)) for text, p in places.items() for c in range(classes)}
    for (label, text), row in counts.items():
        if text in places and (label, places[text]) in cells:
            real, train, held, wrong, accepted, waiting = row
            train = train if trained else real
            cells[label, places[text]] = Cell(
                label, json.loads(text), real, train, held, wrong, accepted, waiting
            )
    held, wrong = (sum(getattr(cell, name) for cell in cells.values()) for name in ("held", "wrong"))
    overall = wrong / held if held else math.nan
    goal = round(statistics.median([c.train for c in cells.values() if c.train] or [0]))
    judged = {key: _judged(cell, overall, goal) for key, cell in cells.items()}
    shown = [json.loads(text) for text in values]
    return Coverage(column or SLICE, shown, judged, split, trained, overall, goal, left_out)


def class_cells(ws: Workspace, classes: int) -> tuple[list[Cell], bool]:
    """One cell a class, whatever the condition (its value is None), and whether there is a split "train"."""
    trained = "train" in ws.splits()
    counts = _counted(ws, "?", [json.dumps("all")], Filter(), None, None)
    cells = [Cell(label, None) for label in range(classes)]
    for (label, _), (real, train, held, wrong, accepted, waiting) in counts.items():
        if 0 <= label < classes:
            train = train if trained else real
            cells[label] = Cell(label, None, real, train, held, wrong, accepted, waiting)
    return cells, trained


def shared_condition(ws: Workspace, ids: Sequence[str]) -> tuple[str, Any] | None:
    """The first column of ``coverage_columns`` in which all of these samples have the same value, and that value."""
    metas = [sample.meta for sample in ws.samples(list(ids))]
    for column, _ in coverage_columns(ws) if metas else ():
        values = [meta.get(column) for meta in metas]
        if values[0] is not None and all(value == values[0] for value in values):
            return column, values[0]
    return None


def condition_of(chosen: Filter) -> tuple[str, Any] | None:
    """The one metadata value that a saved filter asks for, in words that can stand in a prompt; None for any other."""
    if chosen.ids is not None or len(chosen.meta) != 1:
        return None
    ((column, value),) = chosen.meta.items()
    return (column, value) if isinstance(value, (str, bool, int)) else None


def _text_of(column: str) -> tuple[str, list[Any]]:
    """SQL of a metadata value as JSON text, and its parameters; a path is quicker, but cannot hold every name."""
    if any(sign in column for sign in '"\\') or not column.isprintable():
        return _ANY_NAME, [column]
    return "s.meta -> ?", [f'$."{column}"']


def _counted(
    ws: Workspace, value: str, given: list[Any], chosen: Filter, model_hash: str | None, split: str | None
) -> dict[tuple[int, str], list[int]]:
    """Six counts by class and JSON text of the value; lists and samples without the value are left out."""
    condition, values = where(chosen)
    sql = _COUNTS.format(value=value, model=_MODEL, where=condition, real=REAL)
    rows = ws.database.rows(sql, [*given, *[split] * 4, model_hash or "", *values])
    return {
        (int(row[0]), str(row[1])): [int(n or 0) for n in tuple(row)[2:]]
        for row in rows
        if row[1] is not None and row[1] != "null" and str(row[1])[:1] not in "[{"
    }


def _values(
    counts: Mapping[tuple[int, str], Sequence[int]], names: list[str], limit: int, rare: float
) -> tuple[list[str], int]:
    """JSON texts of the values that are shown, and how many are not."""
    if names:
        return [json.dumps(name) for name in names[:limit]], max(0, len(names) - limit)
    real: dict[str, int] = {}
    for (_, text), row in counts.items():
        real[text] = real.get(text, 0) + row[0]
    total = sum(real.values())
    ranked = sorted((text for text in real if real[text]), key=lambda text: (-real[text], text))
    kept = [text for text in ranked if real[text] >= rare * total][:limit]
    return kept, len(ranked) - len(kept)


def _judged(cell: Cell, overall: float, goal: int) -> Cell:
    short = max(0, goal - cell.train - cell.accepted)
    share = short / goal if goal else 0.0
    rate = 1.0 if math.isnan(overall) else (cell.wrong + _PRIOR * overall) / (cell.held + _PRIOR)
    wanted = min(_MOST_WANTED, -(-short // _UNIT) * _UNIT)
    return dataclasses.replace(cell, need=rate * (0.5 + 0.5 * share), wanted=wanted)


def wilson(hits: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927): (hits + z²/2 ± z √(hits (n - hits) / n + z²/4)) / (n + z²)."""
    if n <= 0:
        return 0.0, 1.0
    middle = (hits + z * z / 2) / (n + z * z)
    half = z * math.sqrt(hits * (n - hits) / n + z * z / 4) / (n + z * z)
    return max(0.0, middle - half), min(1.0, middle + half)


def prompt_for_cell(ws: Workspace, labels: Sequence[str], label: int, column: str, value: Any) -> str:
    """How to ask for a class under a condition, in the words that the active generator knows; nothing is loaded.

    In this order: the commonest caption of real samples of the cell; the commonest caption of another class under the
    condition, its class exchanged; the generator's caption of the class with the phrase that its card has for the
    condition; the same with the condition itself behind a comma. A generator that knows no text is asked for the
    class alone.
    """
    name = labels[label]
    record = ws.get_state("generator") or {}
    if record.get("language", "text") != "text":
        return plain_prompt(ws, name)
    if column != SLICE:
        other = None
        for index, caption in _captions(ws, column, value):
            if index == label:
                return caption
            if other is None and 0 <= index < len(labels):
                swapped, found = re.subn(rf"\b{re.escape(labels[index])}\b", lambda _: name, caption, count=1)
                other = swapped if found else None
        if other:
            return other
    plain, text = plain_prompt(ws, name), _words(value, column)
    phrases = phrases_of(record["path"]) if record else {}
    parts = [phrases.get(part) for part in re.split(r"\s*[+,;|/&]\s*", text)]
    if all(parts):
        return " ".join([plain, *(part for part in parts if part)])
    return f"{plain}, {text}"


def _captions(ws: Workspace, column: str, value: Any) -> list[tuple[int, str]]:
    """Captions of real samples under a condition by class, the commonest first."""
    condition, values = where(Filter(origin=REAL, meta={column: value}))
    rows = ws.database.rows(
        f"SELECT s.label, s.caption FROM samples s {condition} AND s.caption <> '' AND s.label IS NOT NULL"
        " GROUP BY 1, 2 ORDER BY count(*) DESC, length(s.caption), s.caption LIMIT 200",
        values,
    )
    return [(int(row[0]), str(row[1])) for row in rows]


def _words(value: Any, column: str) -> str:
    if isinstance(value, bool):
        name = column.replace("_", " ")
        return name if value else f"no {name}"
    return str(value) if isinstance(value, str) else f"{column.replace('_', ' ')} {value}"
