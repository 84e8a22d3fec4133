"""How good a set of images is beside real ones, in any feature space: fidelity, diversity, closeness; nothing to fetch.

precision and recall: Kynkaanniemi et al. 2019; density and coverage: Naeem et al. 2020; Vendi score: Friedman and Dieng
2023; kernel distance (KID): Binkowski et al. 2018; Frechet distance: Heusel et al. 2017 (FID with other features).

Published figures of these kinds are in the features of Inception or VGG. Those here are in whatever space the
caller gives, so they compare sets in one space and say nothing beside published ones.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from ltg_core.errors import InputError
from ltg_core.jobs import CancelToken

Array = np.ndarray[Any, Any]
NEIGHBOURS = 5
"""Neighbours that span the ball around an image, as Naeem et al. have it."""
BLOCK = 2**25
"""Bytes of a block of distances or products."""


class Prdc(NamedTuple):
    """Shares and a ratio.

    Attributes:
        precision: Share of made images within the ball of any real one.
        recall: Share of real images within the ball of any made one.
        density: Real balls that a made image lies in, on average, divided by the neighbours; may exceed 1.
        coverage: Share of real images whose ball holds a made one.
    """

    precision: float
    recall: float
    density: float
    coverage: float


@dataclasses.dataclass(frozen=True)
class Quality:
    """Everything about one set.

    Attributes:
        real: Real images.
        made: Made ones.
        neighbours: Of the balls.
        precision: See `Prdc`; also recall, density and coverage.
        vendi: Effective number of different images among the made ones, from 1 to ``made``.
        vendi_real: Of as many real ones, the first in the given order, or of all where there are fewer.
        kid: Squared kernel distance; unbiased, so it may be below 0 where the sets are alike.
        frechet: Frechet distance; None where there are not more images than features, for then it says little.
    """

    real: int
    made: int
    neighbours: int
    precision: float
    recall: float
    density: float
    coverage: float
    vendi: float
    vendi_real: float
    kid: float
    frechet: float | None

    def record(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


def quality(
    real: Array, made: Array, *, neighbours: int = NEIGHBOURS, cancel: CancelToken | None = None
) -> Quality:
    """Compare made images with real ones.

    Args:
        real: (N, D) features of real images.
        made: (M, D) of made ones, in the same space and scale.
        neighbours: Of the balls around images.
        cancel: Checked between blocks.

    Raises:
        InputError: Not more images than neighbours on one side, or features that are no numbers.
    """
    token = cancel or CancelToken()
    real, made = checked(real, "real", neighbours + 1), checked(made, "made", neighbours + 1)
    if real.shape[1] != made.shape[1]:
        raise InputError(
            f"{real.shape[1]} features of real and {made.shape[1]} of made images; give one space"
        )
    found = prdc(real, made, neighbours=neighbours, cancel=token)
    token.check()
    enough = min(len(real), len(made)) > real.shape[1]
    return Quality(
        len(real),
        len(made),
        neighbours,
        *found,
        vendi=vendi(made),
        vendi_real=vendi(real[: len(made)]),
        kid=kid(real, made, cancel=token),
        frechet=frechet(real, made) if enough else None,
    )


def checked(features: Array, which: str, least: int) -> Array:
    """Features (N, D) as float64.

    Raises:
        InputError: Another shape, values that are no numbers, or fewer than ``least`` images; says how many.
    """
    found: Array = np.asarray(features, dtype=np.float64)
    if found.ndim != 2 or not found.shape[1]:
        raise InputError(f"features have the shape {found.shape}; expected (images, features)")
    if len(found) < least:
        raise InputError(
            f"only {len(found)} {which} images; at least {least} are needed, and hundreds for figures to rest on"
        )
    if not np.isfinite(found).all():
        raise InputError(f"features of {which} images hold values that are no numbers")
    return found


def prdc(
    real: Array, made: Array, *, neighbours: int = NEIGHBOURS, cancel: CancelToken | None = None
) -> Prdc:
    """Precision, recall, density and coverage. Balls are closed and reach to the k-th nearest image of the same set.

    An image is no neighbour of itself. Memory: a few blocks of ``BLOCK`` bytes, whatever the numbers.

    Raises:
        InputError: As `quality`.
    """
    token = cancel or CancelToken()
    real, made = checked(real, "real", neighbours + 1), checked(made, "made", neighbours + 1)
    near_real, near_made = (_radii(x, neighbours, token) for x in (real, made))
    inside = np.zeros(len(made))
    covered, recalled = np.zeros(len(real), dtype=bool), np.zeros(len(real), dtype=bool)
    for rows in _blocks(len(real), len(made)):
        token.check()
        d = _distances(real[rows], made)
        ball = d <= near_real[rows, None]
        inside += ball.sum(axis=0)
        covered[rows] = ball.any(axis=1)
        recalled[rows] = (d <= near_made[None, :]).any(axis=1)
    return Prdc(
        float((inside > 0).mean()),
        float(recalled.mean()),
        float(inside.sum() / (neighbours * len(made))),
        float(covered.mean()),
    )


def vendi(features: Array) -> float:
    """exp of the entropy of the eigenvalues of K / N, K the cosines: how many different images there are in effect.

    The eigenvalues of the smaller of the two products are taken, so memory is at most (D, D).

    Raises:
        InputError: No image, or one whose features are all zero.
    """
    x = checked(features, "", 1)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    if (length == 0).any():
        raise InputError("an image has features that are all zero; cosines are not defined for it")
    unit = x / length
    product = unit @ unit.T if len(unit) <= unit.shape[1] else unit.T @ unit
    p = np.clip(np.linalg.eigvalsh(product / len(unit)), 0, None)
    p = p[p > 1e-12]
    return float(np.exp(-(p * np.log(p)).sum()))


def kid(real: Array, made: Array, *, cancel: CancelToken | None = None) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x'y / D + 1)^3, over all pairs, in blocks.

    Raises:
        InputError: Fewer than two images on one side.
    """
    token = cancel or CancelToken()
    real, made = checked(real, "real", 2), checked(made, "made", 2)
    within = [
        (_kernel_sum(x, x, token) - _kernel(np.square(x).sum(axis=1), x.shape[1]).sum())
        / (len(x) * (len(x) - 1))
        for x in (real, made)
    ]
    across = _kernel_sum(real, made, token) / (len(real) * len(made))
    return float(within[0] + within[1] - 2 * across)


def frechet(real: Array, made: Array) -> float:
    """|m - m'|^2 + tr(S + S' - 2 (S S')^(1/2)) of the Gaussians through both sets; biased upwards by small sets.

    Raises:
        InputError: Fewer than two images on one side.
    """
    real, made = checked(real, "real", 2), checked(made, "made", 2)
    a, b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (real, made))
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    shared = np.sqrt(np.clip(np.linalg.eigvalsh(root @ b @ root), 0, None)).sum()
    shift = np.square(real.mean(axis=0) - made.mean(axis=0)).sum()
    return float(max(0.0, shift + np.trace(a) + np.trace(b) - 2 * shared))


def _blocks(rows: int, columns: int) -> list[slice]:
    size = max(1, BLOCK // (8 * max(1, columns)))
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


def _distances(x: Array, y: Array) -> Array:
    from scipy.spatial.distance import cdist

    found: Array = cdist(x, y)
    return found


def _radii(x: Array, k: int, cancel: CancelToken) -> Array:
    """Distance of each image to its k-th nearest other one, (N,)."""
    found = np.empty(len(x))
    for rows in _blocks(len(x), len(x)):
        cancel.check()
        d = _distances(x[rows], x)
        d[np.arange(len(d)), np.arange(rows.start, rows.stop)] = -1.0  # itself comes first
        found[rows] = np.partition(d, k, axis=1)[:, k]
    return found


def _kernel(products: Array, width: int) -> Array:
    found: Array = (products / width + 1.0) ** 3
    return found


def _kernel_sum(x: Array, y: Array, cancel: CancelToken) -> float:
    total = 0.0
    for rows in _blocks(len(x), len(y)):
        cancel.check()
        total += float(_kernel(x[rows] @ y.T, x.shape[1]).sum())
    return total
