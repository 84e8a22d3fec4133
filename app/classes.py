"""Class by class: the confusion matrix and the table, whose cells open the samples behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from app.controls import words
from app.render import Node, empty, h, percent, view

if TYPE_CHECKING:
    from app.query import Query

MOST = 24
ROWS = 200
PAIRS = 8
_COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("label", "Class", "Sort by name"),
    ("n", "Samples", "Labelled samples with a prediction; click a number to see them"),
    ("accuracy", "Accuracy", "Share of the class that is recognised; click to see the errors"),
    ("precision", "Precision", "Share of these answers that are right; click to see the wrong ones"),
    ("ece", "Calibration error", "Mean gap of confidence and accuracy; click for the most confident errors"),
    ("median", "Median", "Median percentile against held-out real data; click to rank the class by it"),
)
_DOWN = ("n", "ece", "median")
"""Columns whose largest value comes first; of the others the smallest does."""


def matrix(counts: np.ndarray, labels: Sequence[str], note: Node | None) -> Node:
    """The confusion matrix and its largest cells in words.

    Args:
        counts: (C, C), true classes as rows.
        labels: C names.
        note: What is counted.
    """
    if not counts.sum():
        return view(
            empty("Nothing to compare", "No labelled sample with a prediction passes these filters."),
            classes="confusion",
        )
    wrong = counts - np.diag(np.diag(counts))
    order = _worst(wrong)
    left_out = len(labels) - len(order)
    return view(
        h(
            "p.soft",
            "Rows: what a sample is. Columns: what the classifier says. Click a number to see the samples.",
        ),
        note,
        h("p.soft", f"The {MOST} classes with the most errors; {left_out:,} more are not shown.")
        if left_out
        else None,
        h(
            "div.matrix-and-pairs",
            h("div.matrix-box", _table(counts, order, labels)),
            h("div.pairs", h("h4", "Confused most often"), *_pairs(counts, wrong, labels)),
        ),
        classes="confusion",
    )


def _worst(wrong: np.ndarray) -> list[int]:
    """All classes in their order, or those with the most errors where they are too many to read."""
    errors = wrong.sum(axis=0) + wrong.sum(axis=1)
    return sorted(np.argsort(-errors, kind="stable")[:MOST].tolist())


def _table(counts: np.ndarray, order: Sequence[int], labels: Sequence[str]) -> Node:
    head = h("tr", h("th"), *[h("th.said", h("span", labels[c]), title=labels[c]) for c in order])
    rows = [
        h(
            "tr",
            h("th.true", labels[r], title=labels[r]),
            *[_cell(int(counts[r, c]), int(counts[r].sum()), labels[r], labels[c]) for c in order],
        )
        for r in order
    ]
    return h("table.matrix", h("thead", head), h("tbody", *rows))


def _cell(n: int, all_: int, label: str, said: str) -> Node:
    kind = "right" if label == said else "wrong"
    if not n:
        return h(f"td.{kind}.is-none")
    share = n / all_
    strength = 12 + 70 * (share if kind == "right" else min(1.0, math.sqrt(4 * share)))
    button = h(
        "button.cell",
        f"{n:,}",
        act=("cell", {"label": label, "prediction": said}),
        type="button",
        w=f"{strength:.0f}%",
        title=f"{n:,} of {all_:,} {label} ({percent(share, 1)}) read as {said}",
    )
    return h(f"td.{kind}", button)


def _pairs(counts: np.ndarray, wrong: np.ndarray, labels: Sequence[str]) -> list[Node]:
    if not wrong.any():
        return [h("p.soft", "No errors among these samples.")]
    found = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    rows = []
    for r, c in zip(*np.unravel_index(found, wrong.shape), strict=True):
        n, all_ = int(wrong[r, c]), int(counts[r].sum())
        if n:
            rows.append(
                h(
                    "button.pair",
                    h("span", h("b", labels[r]), h("span.soft", " read as "), h("b", labels[c])),
                    h("span.pair-count", f"{n:,} · {percent(n / all_, 1)}"),
                    act=("cell", {"label": labels[r], "prediction": labels[c]}),
                    type="button",
                )
            )
    return rows


def table(
    rows: Sequence[Mapping[str, Any]],
    labels: Sequence[str],
    query: Query,
    signal: str,
    note: Node | None,
    drawn: Node | None = None,
) -> Node:
    """The figures of ``class_table``, the worst class first.

    Args:
        rows: One record a class.
        labels: Names by index.
        query: ``by`` says how it is sorted.
        signal: Whose median stands in the last column, "" for none.
        note: What is counted.
        drawn: What stands below the table.
    """
    shown = [row for row in rows if row["n"] or row["predicted"]]
    if not shown:
        return view(
            empty("Nothing to count", "No labelled sample with a prediction passes these filters."),
            classes="classes",
        )
    columns = [column for column in _COLUMNS if signal or column[0] != "median"]
    shown = _sorted(shown, labels, query.by)
    head = [
        _head(name, f"{title} {words(signal).lower()}" if name == "median" else title, hint, query.by)
        for name, title, hint in columns
    ]
    return view(
        h(
            "p.soft",
            "Click a figure to see the samples behind it, a class to see its calibration, a heading to sort.",
        ),
        note,
        h(
            "div.matrix-box",
            h(
                "table.by-class",
                h("thead", h("tr", *head)),
                h("tbody", *[_row(row, labels[row["label"]], signal, query.of) for row in shown[:ROWS]]),
            ),
        ),
        h("p.soft", f"The first {ROWS} of {len(shown):,} classes.") if len(shown) > ROWS else None,
        drawn,
        classes="classes",
    )


def _sorted(rows: list[Mapping[str, Any]], labels: Sequence[str], by: str) -> list[Mapping[str, Any]]:
    name, turned = by.removeprefix("-") or "accuracy", by.startswith("-")
    if name == "label":
        return sorted(rows, key=lambda row: labels[row["label"]].casefold(), reverse=turned)
    known = name if name in [column[0] for column in _COLUMNS] else "accuracy"
    sign = -1.0 if (known in _DOWN) != turned else 1.0
    return sorted(rows, key=lambda row: (math.isnan(row[known]), sign * row[known], row["label"]))


def _head(name: str, title: str, hint: str, by: str) -> Node:
    current = by.removeprefix("-") or "accuracy"
    falls = (name in _DOWN) != by.startswith("-")
    mark = ("↓" if falls else "↑") if name == current else ""
    turned = f"-{name}" if name == current and not by.startswith("-") else name
    button = h(
        "button.link", f"{title} {mark}".strip(), act=("sort", {"by": turned}), title=hint, type="button"
    )
    return h("th" + (".is-sorted" if mark else ""), button)


def _row(row: Mapping[str, Any], label: str, signal: str, drawn: str) -> Node:
    def figure(name: str, text: str, share: float | None, what: dict[str, str], title: str) -> Node:
        level = "" if share is None else ".low" if share >= 0.9 else ".mid" if share >= 0.75 else ".high"
        bar = None if share is None else h("span.meter-bar", h("span.meter-fill"), w=f"{100 * share:.1f}%")
        return h(
            f"td.{name}{level}",
            h("button.figure-cell", h("span", text), bar, act=("cell", what), type="button", title=title),
        )

    def known(value: float) -> float | None:
        return None if math.isnan(value) else value

    wrong, missed = row["n"] - row["right"], row["predicted"] - row["right"]
    own = {"label": label}
    name = h(
        "button.class-name" + (".is-on" if label == drawn else ""),
        label,
        act=("of", {"label": "" if label == drawn else label}),
        type="button",
        title=f"Draw the calibration of {label}",
        aria_pressed=str(label == drawn).lower(),
    )
    cells = [
        h("th.true", name, title=label),
        figure("n", f"{row['n']:,}", None, own, f"All {row['n']:,} samples of {label}"),
        figure(
            "accuracy",
            percent(row["accuracy"], 1),
            known(row["accuracy"]),
            own | {"answer": "wrong"},
            f"{wrong:,} of {row['n']:,} {label} are read as something else",
        ),
        figure(
            "precision",
            percent(row["precision"], 1),
            None,
            {"prediction": label, "answer": "wrong"},
            f"{missed:,} of {row['predicted']:,} samples read as {label} are something else",
        ),
        figure(
            "ece",
            percent(row["ece"], 1),
            None,
            own | {"answer": "wrong", "rank": "confidence"},
            f"Mean confidence {percent(row['confidence'], 1)}, accuracy {percent(row['accuracy'], 1)}",
        ),
    ]
    if signal:
        text = "–" if math.isnan(row["median"]) else f"{row['median']:.0f}"
        cells.append(figure("median", text, None, own | {"rank": signal}, f"{label}, the rarest first"))
    return h("tr", *cells, key=label)
