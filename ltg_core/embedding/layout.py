"""From features to two coordinates: the arithmetic that runs in the worker process."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltg_core.errors import InputError
from ltg_core.params import Params, param

Coordinates = NDArray[np.float32]
MINIMUM = 5
"""Fewest samples that make a map."""


@dataclasses.dataclass(frozen=True)
class MapSettings(Params):
    """How the map is laid out."""

    neighbours: int = param(
        15, "Samples that count as near: few show detail, many the whole.", low=2, high=200
    )
    min_dist: float = param(0.1, "How tightly samples may be packed, in map units.", low=0.0, high=0.99)
    metric: str = param("euclidean", "How features are compared.", choices=("euclidean", "cosine"))
    seed: int = param(0, "The same seed gives the same map.", low=0, high=2**31 - 1)
    max_points: int = param(
        20000,
        "Samples that are laid out, evenly by class; others can be placed among them.",
        low=50,
        high=1_000_000,
    )
    pca: int = param(50, "Principal components that are kept before; 0 for all.", low=0, high=1000)


def lay_out(
    features: NDArray[np.float32], settings: MapSettings, on_stage: Callable[[int, str], None]
) -> Coordinates:
    """UMAP (McInnes et al. 2018) of the features; above ``max_points`` of a subset, the others placed in it.

    Args:
        features: (N, D), at least five rows, finite.
        settings: As declared.
        on_stage: Called with the stage (0 to 3) and what it does.

    Returns:
        (N, 2).
    """
    on_stage(0, "preparing features")
    points = compare_space(features, settings.metric)
    chosen = subset(len(points), settings)
    points = _principal(points, points if chosen is None else points[chosen], settings)
    if chosen is None:
        return _umap(points, settings, on_stage)
    fitted = points[chosen]
    on_stage(0, f"{len(chosen)} of {len(points)} samples drawn for the layout")
    coords = _umap(fitted, settings, on_stage)
    rest = np.setdiff1d(np.arange(len(points)), chosen)
    on_stage(3, f"placing the other {len(rest)} samples")
    placed = np.empty((len(points), 2), dtype=np.float32)
    placed[chosen] = coords
    placed[rest] = place(points[rest], fitted, coords)
    return placed


def place(
    features_new: NDArray[Any],
    features_fit: NDArray[Any],
    coords_fit: NDArray[Any],
    k: int = 10,
    *,
    metric: str = "euclidean",
) -> Coordinates:
    """Coordinates for samples that join a map: the mean of their nearest fitted neighbours [ours].

    Neighbours are weighted by the inverse of their distance; a sample equal to fitted ones takes their place.

    Args:
        features_new: (M, D).
        features_fit: (N, D), the samples of the map.
        coords_fit: (N, 2), where they are.
        k: Neighbours that count.
        metric: As the map was made.

    Returns:
        (M, 2).

    Raises:
        InputError: The shapes do not fit together.
    """
    new, fit = np.asarray(features_new), np.asarray(features_fit)
    coords = np.asarray(coords_fit, dtype=np.float64)
    if new.ndim != 2 or fit.ndim != 2 or new.shape[1] != fit.shape[1]:
        raise InputError(
            f"features have shapes {new.shape} and {fit.shape}; both need the same number of columns"
        )
    if coords.shape != (len(fit), 2) or len(fit) == 0:
        raise InputError(
            f"coordinates have shape {coords.shape}; expected one pair for each of {len(fit)} samples"
        )
    if len(new) == 0:
        return np.empty((0, 2), dtype=np.float32)
    indices, distances = _nearest(compare_space(fit, metric), min(k, len(fit)), compare_space(new, metric))
    same = distances <= 1e-6 * (1.0 + distances.max(axis=1, keepdims=True))
    weights = np.where(same.any(axis=1, keepdims=True), same, 1.0 / np.maximum(distances, 1e-12))
    weights = weights / weights.sum(axis=1, keepdims=True)
    return np.asarray((coords[indices] * weights[..., None]).sum(axis=1), dtype=np.float32)


def compare_space(features: NDArray[Any], metric: str) -> NDArray[np.float32]:
    """Features in the space whose Euclidean distance orders samples as the metric does.

    On unit vectors the squared Euclidean distance is twice the cosine distance.
    """
    points = np.ascontiguousarray(features, dtype=np.float32)
    if metric == "euclidean":
        return points
    length = np.linalg.norm(points, axis=1, keepdims=True)
    return np.asarray(points / np.maximum(length, 1e-12), dtype=np.float32)


def subset(count: int, settings: MapSettings) -> NDArray[np.int64] | None:
    """The samples that are laid out, sorted; None for all."""
    if count <= settings.max_points:
        return None
    drawn = np.random.default_rng(settings.seed).choice(count, settings.max_points, replace=False)
    return np.sort(drawn).astype(np.int64)


def _principal(
    points: NDArray[np.float32], fitted: NDArray[np.float32], settings: MapSettings
) -> NDArray[np.float32]:
    components = min(settings.pca, len(fitted) - 1)
    if settings.pca == 0 or points.shape[1] <= components:
        return points
    from sklearn.decomposition import PCA

    pca = PCA(n_components=components, random_state=settings.seed).fit(fitted)
    return np.asarray(pca.transform(points), dtype=np.float32)


def _umap(
    points: NDArray[np.float32], settings: MapSettings, on_stage: Callable[[int, str], None]
) -> Coordinates:
    neighbours = min(settings.neighbours, len(points) - 1)
    on_stage(1, f"finding the {neighbours} nearest neighbours of {len(points)} samples")
    knn = _nearest(points, neighbours)
    on_stage(2, "laying out the map (the first one after a start takes longer)")
    with warnings.catch_warnings():
        # About one job because of the seed, no index for later transforms, separate groups: all meant.
        warnings.simplefilter("ignore")
        import umap

        _keep_compiled()
        model = umap.UMAP(
            n_neighbors=neighbours,
            min_dist=settings.min_dist,
            n_components=2,
            metric="euclidean",
            precomputed_knn=(*knn, None),
            # A spectral start asks for more eigenvectors than a handful of samples has.
            init="spectral" if len(points) > 10 else "random",
            random_state=settings.seed,
            n_jobs=1,
        )
        coords = np.asarray(model.fit_transform(points), dtype=np.float32)
    return np.asarray(np.nan_to_num(coords - coords.mean(axis=0)), dtype=np.float32)


def _keep_compiled() -> None:
    """Let numba keep the functions that UMAP compiles anew in every process: most of the first fit."""
    import umap.layouts
    import umap.umap_

    compiled: tuple[Any, ...] = (
        getattr(umap.umap_, "smooth_knn_dist", None),
        getattr(umap.umap_, "compute_membership_strengths", None),
        getattr(umap.layouts, "_nb_optimize_layout_euclidean_single_epoch", None),
    )
    for function in compiled:
        if hasattr(function, "enable_caching"):
            with contextlib.suppress(RuntimeError):  # no writable place: compiled anew, as without this
                function.enable_caching()


def _nearest(
    points: NDArray[np.float32], count: int, queries: NDArray[np.float32] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Indices and distances (rows, count) of the nearest points; each point is its own first neighbour."""
    from sklearn.neighbors import NearestNeighbors

    finder = NearestNeighbors(n_neighbors=count, algorithm="auto", n_jobs=1).fit(points)
    distances, indices = finder.kneighbors(points if queries is None else queries)
    return indices.astype(np.int64), distances.astype(np.float32)
