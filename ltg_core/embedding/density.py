"""How densely the real samples lie on a map, as a picture behind the points."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from ltg_core.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class Density:
    """A grid over the map.

    Attributes:
        x: (bins,) centres of the columns.
        y: (bins,) centres of the rows.
        level: (bins, bins) float32, rows along y. The share of samples that lie where it is no denser than here: 1 at
            the densest place; the line at 0.05 surrounds the densest area that holds 95 % of the samples.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    level: NDArray[np.float32]


def density(
    x: NDArray[np.floating], y: NDArray[np.floating], *, bins: int = 72, blur: float = 1.6
) -> Density | None:
    """Highest-density regions of a cloud of points (Hyndman 1996), from a smoothed histogram.

    Args:
        x: (N,).
        y: (N,).
        bins: Columns and rows.
        blur: Standard deviation of the smoothing, in cells.

    Returns:
        None for fewer than five points: nothing can be said about their density.

    Raises:
        InputError: The lengths differ.
    """
    if x.shape != y.shape or x.ndim != 1:
        raise InputError(f"x has shape {x.shape} and y {y.shape}; expected two columns of equal length")
    if len(x) < 5:
        return None
    edges = [_edges(values, bins) for values in (x, y)]
    counts, _, _ = np.histogram2d(y, x, bins=(edges[1], edges[0]))
    smooth = _smoothed(counts, blur)
    order = np.argsort(smooth, axis=None)
    level = np.empty(smooth.size)
    level[order] = np.cumsum(smooth.reshape(-1)[order]) / smooth.sum()
    centres = [(e[:-1] + e[1:]) / 2 for e in edges]
    return Density(centres[0], centres[1], level.reshape(smooth.shape).astype(np.float32))


def _edges(values: NDArray[np.floating], bins: int) -> NDArray[np.float64]:
    """With a margin, so that the outermost line closes inside the picture."""
    low, high = float(values.min()), float(values.max())
    margin = 0.08 * (high - low) or 1.0
    return np.linspace(low - margin, high + margin, bins + 1)


def _smoothed(counts: NDArray[np.float64], blur: float) -> NDArray[np.float64]:
    """Gaussian along both axes."""
    reach = max(1, int(np.ceil(3 * blur)))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / blur) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        counts = np.apply_along_axis(np.convolve, axis, counts, kernel, mode="same")
    return counts
