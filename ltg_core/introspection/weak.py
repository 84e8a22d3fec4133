"""Weak slices: sets of held-out samples with more errors, or more rare samples, than the rest.

Which sets are tried is decided without the outcome; every one of them is tested and all tests are corrected together
(Benjamini and Hochberg 1995). The intervals of those that are shown are widened for having been chosen among all
(false coverage rate, Benjamini and Yekutieli 2005), so nothing is set aside to confirm them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ltg_core.errors import InputError
from ltg_core.introspection.candidates import Candidates, Column, Condition, clusters, gather
from ltg_core.introspection.statistics import corrected, excess, wilson
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.params import Params, param

Array = np.ndarray[Any, Any]
_SAME = 0.7  # share of the union that two slices have in common, from which they are one
_NOT_MORE = (
    0.05  # a part is shown beside the whole only if it is worse than the rest of it, tested at this level
)


@dataclasses.dataclass(frozen=True)
class WeakSettings(Params):
    """What counts as a slice, and as weak."""

    smallest: int = param(12, "A slice has at least so many held-out samples.", low=5, high=10_000)
    alpha: float = param(
        0.05, "Expected share of false findings among those shown, at most.", low=1e-6, high=0.5
    )
    most: int = param(24, "Show at most so many.", low=1, high=500)
    use_clusters: bool = param(True, "Also try groups of samples that look alike to the classifier.")
    seed: int = param(0, "Of the first centres of the groups.", low=0, high=2**31 - 1)


@dataclasses.dataclass(frozen=True, eq=False)
class WeakSlice:
    """One finding.

    Attributes:
        conditions: Column and value, one or two; none for a cluster.
        typical: Of a cluster, what is more frequent in it than elsewhere, with the share inside.
        mask: (N,) bool, which samples.
        n: How many.
        bad: How many of them are bad.
        low: Lower end of the interval of bad / n, widened for the choice.
        high: Upper end.
        rest: Share of bad ones among all others.
        p: Of the test against all others.
        q: The same, corrected for all that were tried.
    """

    conditions: tuple[Condition, ...]
    typical: tuple[tuple[Condition, float], ...]
    mask: Array
    n: int
    bad: int
    low: float
    high: float
    rest: float
    p: float
    q: float

    @property
    def rate(self) -> float:
        """Share of bad samples."""
        return self.bad / self.n


@dataclasses.dataclass(frozen=True, eq=False)
class Findings:
    """All that was found, and how.

    Attributes:
        slices: Those with the highest certain rate first.
        tried: How many sets were tested.
        significant: How many passed the corrected test; parts, wholes and duplicates are then put together, and what
            is left is corrected for all that were tried once more.
        n: Samples.
        bad: Bad ones among them.
        skipped: Columns that were not tried, in words.
    """

    slices: tuple[WeakSlice, ...]
    tried: int
    significant: int
    n: int
    bad: int
    skipped: tuple[str, ...]


def find_weak(
    outcome: Array,
    columns: Sequence[Column],
    features: Array | None = None,
    settings: WeakSettings | None = None,
    *,
    apart: Sequence[frozenset[str]] = (),
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Findings:
    """Slices in which the outcome is more frequent than in the rest.

    Args:
        outcome: (N,) bool, the samples that are bad: wrong, say.
        columns: Of the same samples.
        features: (N, D), for clusters; None for none.
        settings: None for the defaults.
        apart: Pairs of columns that are not combined, because together they say the outcome.
        on_progress: Told about every stage.
        cancel: Checked between stages.

    Raises:
        InputError: Arrays of different lengths.
        Cancelled: On request.
    """
    settings, token, n = settings or WeakSettings(), cancel or CancelToken(), len(outcome)
    sizes = {len(column.codes) for column in columns} | ({len(features)} if features is not None else set())
    if sizes - {n}:
        raise InputError(f"{n} outcomes came with columns or features of {sorted(sizes)} samples")
    bad = int(outcome.sum())
    if not 0 < bad < n:
        return Findings((), 0, 0, n, bad, ())
    on_progress(Progress(0, 3, "groups of samples that look alike"))
    groups: list[Array] = []
    if features is not None and settings.use_clusters:
        groups = clusters(features, settings.smallest, settings.seed)
    token.check()
    on_progress(Progress(1, 3, "values and pairs of values"))
    found = gather(columns, groups, n, settings.smallest, apart)
    if not len(found.n):
        return Findings((), 0, 0, n, bad, found.skipped)
    token.check()
    on_progress(Progress(2, 3, f"testing {len(found.n):,} slices"))
    hits = found.bad(outcome)
    p = excess(hits, found.n, bad, n)
    passed = np.flatnonzero(corrected(p) <= settings.alpha)
    limit = settings.alpha * max(1, len(passed)) / len(p)  # what a single p has to stay below
    made = [_slice(found, place, outcome, hits, p) for place in passed.tolist()]
    kept = _tested(_put_together(made, outcome, limit), len(p), settings.alpha)
    on_progress(Progress(3, 3, "done"))
    named = tuple(
        one if one.conditions else dataclasses.replace(one, typical=_typical(one.mask, columns))
        for one in kept[: settings.most]
    )
    return Findings(named, len(p), len(passed), n, bad, found.skipped)


def _slice(found: Candidates, place: int, outcome: Array, hits: Array, p: Array) -> WeakSlice:
    mask, n, bad = found.mask(place), int(found.n[place]), int(hits[place])
    low, high = wilson(bad, n)
    rest = (int(outcome.sum()) - bad) / max(1, len(outcome) - n)
    value = float(p[place])
    return WeakSlice(found.conditions[place], (), mask, n, bad, low, high, rest, value, value)


def _tested(found: Sequence[WeakSlice], tried: int, alpha: float) -> list[WeakSlice]:
    """Those that pass the correction on their own: many parts of one bad slice must not carry others along.

    The intervals get the level 1 - alpha · shown / tried.
    """
    all_p = np.ones(tried)
    all_p[: len(found)] = [one.p for one in found]
    q = corrected(all_p)[: len(found)]
    shown = [(one, float(value)) for one, value in zip(found, q, strict=True) if value <= alpha]
    level = 1 - alpha * len(shown) / tried
    made = []
    for one, value in shown:
        low, high = wilson(one.bad, one.n, level)
        made.append(dataclasses.replace(one, low=low, high=high, q=value))
    return made


def _put_together(found: Sequence[WeakSlice], outcome: Array, limit: float) -> list[WeakSlice]:
    """Of a whole and its parts, and of slices that overlap, those that say something of their own.

    A part stays if it is worse than the rest of the whole; what overlaps with slices that are kept stays if it would
    have been found without what it shares with them.
    """
    wholes = {one.conditions[0]: one for one in found if len(one.conditions) == 1}
    parts = [one for one in found if len(one.conditions) == 2]
    specific = [
        part
        for part in parts
        if all(
            _worse(outcome, part.mask, wholes[condition].mask, _NOT_MORE)
            for condition in part.conditions
            if condition in wholes
        )
    ]
    others = [one for one in found if len(one.conditions) != 2]
    kept: list[WeakSlice] = []
    taken = np.zeros(len(outcome), dtype=bool)
    # What can be said in words comes before groups, then what is certainly bad; of equals, what takes fewer words.
    for one in sorted(
        [*specific, *others], key=lambda one: (not one.conditions, -one.low, len(one.conditions))
    ):
        if any((one.mask & other.mask).sum() > _SAME * (one.mask | other.mask).sum() for other in kept):
            continue
        left = one.mask & ~taken
        if (one.mask & taken).any() and not _worse(outcome, left, ~taken, limit):
            continue
        kept.append(one)
        taken |= one.mask
    return sorted(kept, key=lambda one: -one.low)


def _worse(outcome: Array, part: Array, whole: Array, limit: float) -> bool:
    """Whether a part has more bad samples than the rest of the whole, tested at this level."""
    some = outcome[part & whole]
    return bool(excess(int(some.sum()), len(some), int(outcome[whole].sum()), int(whole.sum())) <= limit)


def _typical(mask: Array, columns: Sequence[Column]) -> tuple[tuple[Condition, float], ...]:
    """What half of a cluster has and is twice as frequent in it as elsewhere, the most surprising of two columns."""
    n, total = int(mask.sum()), len(mask)
    found: list[tuple[float, Array, tuple[Condition, float]]] = []
    for column in columns:
        inside = np.bincount(column.codes[mask] + 1, minlength=len(column.values) + 1)[1:]
        all_ = np.bincount(column.codes + 1, minlength=len(column.values) + 1)[1:]
        if not len(inside):
            continue
        code = int(inside.argmax())
        share, usual = inside[code] / n, (all_[code] - inside[code]) / max(1, total - n)
        if share >= 0.5 and share >= 2 * usual:
            p = float(excess(int(inside[code]), n, int(all_[code]), total))
            found.append((p, column.codes[mask] == code, ((column.name, column.values[code]), float(share))))
    kept: list[tuple[float, Array, tuple[Condition, float]]] = []
    for one in sorted(found, key=lambda item: item[0]):  # two columns may say the same
        if all((one[1] & other[1]).sum() < 0.9 * (one[1] | other[1]).sum() for other in kept):
            kept.append(one)
    return tuple(typical for _, _, typical in kept[:2])
