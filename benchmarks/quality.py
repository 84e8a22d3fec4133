"""Density and coverage of generated images among real ones (Naeem et al. 2020), in features of an independent network."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist


def density_and_coverage(real: np.ndarray, made: np.ndarray, k: int = 5) -> tuple[float, float]:
    """How densely made samples lie among real ones, and the share of real samples with a made one nearby.

    Args:
        real: (N, D) features.
        made: (M, D) features.
        k: The ball of a real sample reaches to its k-th nearest real neighbour.

    Returns:
        Density (1 is that of real data; may be more) and coverage (0 to 1; it grows with M).
    """
    radius = np.sort(cdist(real, real), axis=1)[:, k]
    inside = cdist(real, made) <= radius[:, None]
    return float(inside.sum() / (k * len(made))), float(inside.any(axis=1).mean())
