"""What could be a slice: values of columns, pairs of them, clusters of features. None of it looks at the outcome."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Condition = tuple[str, Any]
"""Name of a column and a value of it."""

_MOST_VALUES = 60
_MOST_CONDITIONS = 600


@dataclasses.dataclass(frozen=True, eq=False)
class Column:
    """What is known about each sample.

    Attributes:
        name: Of the column.
        codes: (N,) int, the place of the sample's value in ``values``, -1 where it has none.
        values: The different values.
    """

    name: str
    codes: Array
    values: tuple[Any, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Candidates:
    """Sets of samples, M of them.

    Attributes:
        conditions: What each is: one or two conditions, none for a cluster.
        members: For each the rows of ``masks`` whose intersection it is; twice the same row for a single one.
        masks: (S, N) bool.
        n: (M,) size of each.
        skipped: Columns with too many values, in words.
    """

    conditions: list[tuple[Condition, ...]]
    members: Array
    masks: Array
    n: Array
    skipped: tuple[str, ...] = ()

    def mask(self, place: int) -> Array:
        """Which samples belong to one of them, (N,) bool."""
        first, second = self.members[place]
        found: Array = self.masks[first] & self.masks[second]
        return found

    def bad(self, outcome: Array) -> Array:
        """(M,) how many of each are bad."""
        some = self.masks[:, outcome].astype(np.float32)
        both = (some @ some.T).round().astype(np.int64)
        found: Array = both[self.members[:, 0], self.members[:, 1]]
        return found


def gather(
    columns: Sequence[Column],
    clusters: Sequence[Array],
    total: int,
    smallest: int,
    apart: Sequence[frozenset[str]] = (),
) -> Candidates:
    """All values with enough samples, all pairs of values of two columns, and the clusters.

    Args:
        columns: Of N samples.
        clusters: (N,) bool each.
        total: N.
        smallest: Fewer samples make no candidate; nor do more than half of all.
        apart: Pairs of columns that are not combined.
    """
    conditions, masks, skipped = _conditions(columns, total, smallest)
    if len(masks) > _MOST_CONDITIONS:
        rows = np.argsort([-mask.sum() for mask in masks], kind="stable")[:_MOST_CONDITIONS]
        skipped.append(f"{len(masks) - _MOST_CONDITIONS:,} rare values")
        conditions, masks = [conditions[i] for i in rows], [masks[i] for i in rows]
    singles = len(masks)
    stacked = np.array([*masks, *clusters], dtype=bool).reshape(singles + len(clusters), total)
    sizes = stacked.sum(axis=1)
    fit = (sizes >= smallest) & (sizes * 2 <= total)
    alone = np.flatnonzero(fit)
    some = stacked[:singles].astype(np.float32)
    both = (some @ some.T).round().astype(np.int64)
    names = np.array([name for name, _ in conditions], dtype=object)
    wanted = np.triu(names[:, None] != names[None, :], k=1) if singles else np.zeros((0, 0), dtype=bool)
    for pair in apart:
        inside = np.isin(names, list(pair))
        wanted &= ~(inside[:, None] & inside[None, :])
    # A pair that is all of one of its values, or nearly, is that value again.
    smaller = np.minimum(sizes[:singles, None], sizes[None, :singles])
    wanted &= (both >= smallest) & (both * 2 <= total) & (both < 0.95 * smaller)
    first, second = np.nonzero(wanted)
    members = np.concatenate([np.stack([alone, alone], axis=1), np.stack([first, second], axis=1)])
    found: list[tuple[Condition, ...]] = [(conditions[i],) if i < singles else () for i in alone.tolist()]
    found += [(conditions[i], conditions[j]) for i, j in zip(first.tolist(), second.tolist(), strict=True)]
    return Candidates(
        found, members, stacked, np.concatenate([sizes[alone], both[first, second]]), tuple(skipped)
    )


def _conditions(
    columns: Sequence[Column], total: int, smallest: int
) -> tuple[list[Condition], list[Array], list[str]]:
    conditions: list[Condition] = []
    masks: list[Array] = []
    skipped: list[str] = []
    for column in columns:
        sizes = np.bincount(column.codes[column.codes >= 0], minlength=len(column.values))
        kept = np.flatnonzero((sizes >= smallest) & (sizes < total))
        if len(kept) > _MOST_VALUES:
            skipped.append(f"{column.name} ({len(column.values):,} values)")
            continue
        for code in kept.tolist():
            conditions.append((column.name, column.values[code]))
            masks.append(column.codes == code)
    return conditions, masks, skipped


def clusters(features: Array, smallest: int, seed: int) -> list[Array]:
    """Groups of near features, (N,) bool each: k-means on the main directions, coarse and fine.

    Args:
        features: (N, D).
        smallest: Groups get twice as many samples on average at least.
        seed: Of the first centres.
    """
    import warnings

    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.exceptions import ConvergenceWarning

    spread = features.std(axis=0)
    x = (features[:, spread > 0] - features.mean(axis=0)[spread > 0]) / spread[spread > 0]
    if not x.shape[1] or len(x) < 4 * smallest:
        return []
    if min(x.shape) > 16:
        x = PCA(16, random_state=seed).fit_transform(x)
    found: list[Array] = []
    for k in (8, 16, 32):
        if len(x) < 2 * smallest * k:
            break
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different points than groups
            group = KMeans(k, n_init=3, random_state=seed).fit_predict(x)
        found += [group == one for one in range(k)]
    return found
