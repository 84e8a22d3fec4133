"""Blind second reviews: somebody else decides again without seeing the first verdict; then, how well the two agree.

The answers are kept apart from the verdicts, in a random order that the recorded seed gives.
"""

from __future__ import annotations

import dataclasses
import json
import math
import secrets
import sqlite3
import time
from collections.abc import Mapping, Sequence

import torch

from ltg_core.curation import journal
from ltg_core.curation.verdicts import clean, samples
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError

CHOICES = ("accepted", "rejected", "flagged")
"""What a reviewer can answer, and what a first verdict must be to be reviewed."""
_MAX_NAME = 60
_RESAMPLES = 4000
_FEW = 30
_Z = 1.959963984540054  # 97.5th percentile of the normal distribution


@dataclasses.dataclass(frozen=True)
class Review:
    """A second look at samples that were decided.

    Attributes:
        id: Twelve hex digits.
        reviewer: Who looks again.
        about: What was chosen, in words.
        seed: Of the choice and the order.
        created: Seconds since 1970.
        n: Samples.
        answered: Of these, with an answer.
    """

    id: str
    reviewer: str
    about: str
    seed: int
    created: float
    n: int
    answered: int


@dataclasses.dataclass(frozen=True)
class Question:
    """One sample of a review: the answer is None until there is one; the first verdict is not in it."""

    sample: str
    answer: str | None


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How well the answers of a review agree with the first verdicts.

    Attributes:
        n: Samples with an answer.
        agreed: Of these, with the same answer.
        raw: Their share, NaN without answers.
        raw_interval: 95 % (Wilson).
        kappa: Cohen's kappa, NaN where it is not defined.
        kappa_interval: 95 % (percentile bootstrap over samples); NaN where kappa is not defined.
        table: Samples by (first verdict, answer).
        disagreements: (sample id, first verdict, answer).
        notes: What limits these figures, in words.
    """

    n: int
    agreed: int
    raw: float
    raw_interval: tuple[float, float]
    kappa: float
    kappa_interval: tuple[float, float]
    table: dict[tuple[str, str], int]
    disagreements: tuple[tuple[str, str, str], ...]
    notes: tuple[str, ...]


def start(
    ws: Workspace,
    ids: Sequence[str],
    reviewer: str,
    *,
    number: int | None = None,
    seed: int = 0,
    about: str = "",
    author: str = "",
) -> Review:
    """Begin a review of those of the samples that are accepted, rejected or flagged.

    Args:
        ws: The workspace.
        ids: Samples to choose from; undecided ones are left out.
        reviewer: Who will look again.
        number: So many of them, drawn at random; None for all.
        seed: Of the draw and of the order.
        about: What ``ids`` are, in words.
        author: Who does it.

    Raises:
        InputError: Nothing is decided among them, no name, or a number below 1.
    """
    name = " ".join(clean(reviewer).split())
    if not name or len(name) > _MAX_NAME:
        raise InputError(f"the reviewer's name has 1 to {_MAX_NAME} characters; got {name[:80]!r}")
    if number is not None and number < 1:
        raise InputError(f"{number} samples were asked for; give 1 or more, or leave the number out for all")
    unique = list(dict.fromkeys(ids))
    decided = [
        (sample.id, sample.verdict)
        for start in range(0, len(unique), 1000)
        for sample in ws.samples(unique[start : start + 1000])
        if sample.verdict in CHOICES
    ]
    if not decided:
        raise InputError("none of these samples is decided yet; a second review needs a first verdict")
    order = torch.randperm(len(decided), generator=torch.Generator().manual_seed(seed)).tolist()
    picked = [decided[i] for i in order[:number]]
    review_id = secrets.token_hex(6)
    with ws.database.write() as connection:
        key = connection.execute(
            "INSERT INTO reviews (id, reviewer, about, seed, created) VALUES (?, ?, ?, ?, ?)",
            (review_id, name, about, seed, time.time()),
        ).lastrowid
        assert key is not None
        connection.executemany(
            "INSERT INTO answers (review, sample, first) VALUES (?, ?, ?)", [(key, *one) for one in picked]
        )
        words = f"began a review of {samples(len(picked))} by {name}"
        journal.record(connection, words, {"reviews": {key: 1}}, {"reviews": {key: 0}}, author)
    return get(ws, review_id)


def every(ws: Workspace) -> list[Review]:
    """All reviews, the newest first."""
    return [
        _review(row) for row in ws.database.rows(_SELECT.format("r.deleted = 0") + " ORDER BY r.key DESC")
    ]


def get(ws: Workspace, review_id: str) -> Review:
    """One review.

    Raises:
        InputError: There is none.
    """
    row = ws.database.row(_SELECT.format("r.deleted = 0 AND r.id = ?"), (review_id,))
    if row is None:
        raise InputError(f"there is no review {review_id[:40]!r} (any more)")
    return _review(row)


def delete(ws: Workspace, review_id: str, *, author: str = "") -> str:
    """Take a review away; ``undo`` brings it back. Returns what was done."""
    review = get(ws, review_id)
    description = f"deleted the review by {review.reviewer}"
    with ws.database.write() as connection:
        key = _key(connection, review_id)
        journal.record(connection, description, {"reviews": {key: 0}}, {"reviews": {key: 1}}, author)
    return description


def questions(ws: Workspace, review_id: str) -> list[Question]:
    """The samples in the reviewer's order; those that are gone from the workspace are left out."""
    get(ws, review_id)
    rows = ws.database.rows(
        "SELECT a.sample, a.answer FROM answers a JOIN reviews r ON r.key = a.review JOIN samples s ON s.id = a.sample"
        " WHERE r.id = ? ORDER BY a.key",
        (review_id,),
    )
    return [Question(row[0], row[1]) for row in rows]


def answer(ws: Workspace, review_id: str, given: Mapping[str, str | None], *, author: str = "") -> str:
    """Record answers by sample id (None takes one back); returns what was done. The verdicts stay as they are.

    Raises:
        InputError: Another answer, or a sample that is not in the review.
    """
    wrong = [value for value in given.values() if value is not None and value not in CHOICES]
    if wrong:
        raise InputError(f"there is no answer {wrong[0]!r}; known: {', '.join(CHOICES)}")
    reviewer = get(ws, review_id).reviewer
    with ws.database.write() as connection:
        rows = connection.execute(
            "SELECT key, sample, answer FROM answers WHERE review = ?"
            " AND sample IN (SELECT value FROM json_each(?))",
            (_key(connection, review_id), json.dumps(list(given))),
        ).fetchall()
        if len(rows) != len(given):
            raise InputError(f"{len(given) - len(rows)} of {len(given)} samples are not in this review")
        before = {row["key"]: row["answer"] for row in rows if row["answer"] != given[row["sample"]]}
        after = {row["key"]: given[row["sample"]] for row in rows if row["key"] in before}
        description = f"{reviewer} answered for {samples(len(given))}"
        if before:
            journal.record(connection, description, {"answers": before}, {"answers": after}, author)
    return description


def agreement(ws: Workspace, review_id: str) -> Agreement:
    """How well the answers agree with the first verdicts; those that are not answered do not count."""
    review = get(ws, review_id)
    rows = ws.database.rows(
        "SELECT a.sample, a.first, a.answer FROM answers a JOIN reviews r ON r.key = a.review"
        " WHERE r.id = ? AND a.answer IS NOT NULL ORDER BY a.key",
        (review_id,),
    )
    pairs = [(row["first"], row["answer"]) for row in rows]
    n, agreed = len(pairs), sum(a == b for a, b in pairs)
    table = {(a, b): pairs.count((a, b)) for a in CHOICES for b in CHOICES if (a, b) in pairs}
    value = kappa([a for a, _ in pairs], [b for _, b in pairs])
    low, high, lost = _bootstrap(pairs, review.seed)
    differ = tuple(
        (row["sample"], row["first"], row["answer"]) for row in rows if row["first"] != row["answer"]
    )
    return Agreement(
        n,
        agreed,
        agreed / n if n else math.nan,
        wilson(agreed, n),
        value,
        (low, high),
        table,
        differ,
        tuple(_notes(n, review.n, value, lost)),
    )


def kappa(first: Sequence[str], second: Sequence[str]) -> float:
    """Cohen's kappa, (p_o - p_e) / (1 - p_e); NaN without pairs, or where both always gave one and the same answer.

    Source: Cohen, 1960, "A coefficient of agreement for nominal scales".
    """
    counts = _counts(list(zip(first, second, strict=True)))
    return float(_kappas(counts[None])[0])


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson, 1927); NaN without trials."""
    if not n:
        return math.nan, math.nan
    share, z2 = hits / n, _Z * _Z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def _counts(pairs: Sequence[tuple[str, str]]) -> torch.Tensor:
    counts = torch.zeros(len(CHOICES), len(CHOICES), dtype=torch.float64)
    for a, b in pairs:
        counts[CHOICES.index(a), CHOICES.index(b)] += 1
    return counts


def _kappas(counts: torch.Tensor) -> torch.Tensor:
    """(B, K, K) counts → (B,) kappas, NaN where chance alone agrees always."""
    share = counts / counts.sum(dim=(1, 2), keepdim=True)
    observed = share.diagonal(dim1=1, dim2=2).sum(dim=1)
    chance = (share.sum(dim=2) * share.sum(dim=1)).sum(dim=1)
    result = (observed - chance) / (1 - chance)
    return torch.where(chance > 1 - 1e-12, torch.nan, result)


def _bootstrap(pairs: Sequence[tuple[str, str]], seed: int) -> tuple[float, float, float]:
    """2.5th and 97.5th percentile of kappa over resampled pairs, and the share of resamples without a kappa."""
    counts = _counts(pairs).flatten()
    if not pairs or math.isnan(float(_kappas(counts.view(1, len(CHOICES), -1))[0])):
        return math.nan, math.nan, 0.0
    generator = torch.Generator().manual_seed(seed)
    # A multinomial as a chain of binomials: its cost does not grow with the number of pairs.
    left = torch.full((_RESAMPLES,), float(len(pairs)), dtype=torch.float64)
    columns = []
    for place, count in enumerate(counts):
        share = count / counts[place:].sum() if count else torch.zeros((), dtype=torch.float64)
        columns.append(torch.binomial(left, share.expand(_RESAMPLES), generator=generator))
        left = left - columns[-1]
    resampled = torch.stack(columns, dim=1)
    values = _kappas(resampled.view(_RESAMPLES, len(CHOICES), len(CHOICES)))
    known = values[~values.isnan()]
    edges = torch.quantile(known, torch.tensor([0.025, 0.975], dtype=torch.float64))
    return float(edges[0]), float(edges[1]), 1 - len(known) / _RESAMPLES


def _notes(n: int, total: int, value: float, lost: float) -> list[str]:
    notes = []
    if n < total:
        notes.append(f"{total - n:,} of {total:,} samples have no answer yet and do not count")
    if 0 < n < _FEW:
        notes.append(f"{samples(n)} tell little: read the intervals, not the figures alone")
    if n and math.isnan(value):
        notes.append("kappa is not defined here: both gave one and the same answer to every sample")
    if lost > 0.01:
        notes.append(f"{lost:.0%} of the resamples have no kappa, so its interval is too narrow")
    return notes


_SELECT = (
    "SELECT r.*, count(a.key) AS n, count(a.answer) AS answered FROM reviews r"
    " JOIN answers a ON a.review = r.key WHERE {} GROUP BY r.key"
)


def _key(connection: sqlite3.Connection, review_id: str) -> int:
    return int(connection.execute("SELECT key FROM reviews WHERE id = ?", (review_id,)).fetchone()[0])


def _review(row: sqlite3.Row) -> Review:
    return Review(
        row["id"], row["reviewer"], row["about"], row["seed"], row["created"], row["n"], row["answered"]
    )
