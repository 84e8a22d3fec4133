"""The map: two coordinates per sample, computed once per set of features and settings."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltg_core.embedding.layout import MINIMUM, Coordinates, MapSettings, place
from ltg_core.embedding.umap_worker import UmapWorker
from ltg_core.errors import InputError, WorkspaceError
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress

__all__ = ["MapResult", "MapSettings", "compute_map", "place", "shared_worker"]

log = logging.getLogger(__name__)

VERSION = 1
"""Raised when the same features and settings would give another map, so that older files are not used."""

# The one worker of this process: its compiled code makes the second map quick. Nothing starts before its use.
_shared = UmapWorker()


def shared_worker() -> UmapWorker:
    """The worker that all maps of this process share."""
    return _shared


@dataclasses.dataclass(frozen=True, eq=False)
class MapResult:
    """A map.

    Attributes:
        coords: (N, 2) float32, in the order of the features.
        notes: What the reader should know: fewer neighbours than asked for, samples placed afterwards.
        cached: Whether it was read from a file.
    """

    coords: Coordinates
    notes: tuple[str, ...]
    cached: bool


def compute_map(
    features: NDArray[Any],
    settings: MapSettings | None = None,
    *,
    cache_dir: Path,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
    worker: UmapWorker | None = None,
) -> MapResult:
    """Lay samples out in two dimensions so that near ones stay near.

    Args:
        features: (N, D), real and generated samples together.
        settings: None for the defaults.
        cache_dir: Folder of finished maps, keyed by the hash of features and settings; made when missing.
        on_progress: Called at every stage.
        cancel: Ends the worker at once.
        worker: None for the one that this process shares.

    Raises:
        InputError: Fewer than five samples, or values that are not finite.
        MissingExtra: UMAP is not installed.
        WorkspaceError: The folder cannot be written.
        Cancelled: Asked for through ``cancel``.
    """
    settings = settings or MapSettings()
    points = _checked(features)
    notes = _notes(len(points), settings)
    path = Path(cache_dir) / f"map-{map_key(points, settings)}.npy"
    found = _read(path, len(points))
    if found is not None:
        on_progress(Progress(4, 4, "map read from the cache"))
        return MapResult(found, notes, cached=True)
    _writable(path.parent)
    coords = (worker or shared_worker()).run(
        points, settings, compiled=path.parent / "compiled", on_progress=on_progress, cancel=cancel
    )
    _write(path, coords)
    return MapResult(coords, notes, cached=False)


def map_key(features: NDArray[np.float32], settings: MapSettings) -> str:
    """SHA-256 over version, settings, shape and the bytes of the features."""
    head = {"version": VERSION, "settings": settings.to_dict(), "shape": list(features.shape)}
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(features).data)
    return digest.hexdigest()


def _checked(features: NDArray[Any]) -> NDArray[np.float32]:
    points = np.ascontiguousarray(features, dtype=np.float32)
    if points.ndim != 2 or points.shape[1] == 0:
        raise InputError(f"features have shape {points.shape}; expected (samples, dimensions)")
    if len(points) < MINIMUM:
        raise InputError(
            f"a map needs at least {MINIMUM} samples and {len(points)} were given; "
            "choose a wider filter or add samples"
        )
    broken = int((~np.isfinite(points)).any(axis=1).sum())
    if broken:
        raise InputError(
            f"{broken} of {len(points)} samples have features that are not finite; leave them out"
        )
    return points


def _notes(count: int, settings: MapSettings) -> tuple[str, ...]:
    notes = []
    fitted = min(count, settings.max_points)
    if settings.neighbours > fitted - 1:
        notes.append(
            f"{settings.neighbours} neighbours were asked for; {fitted} samples have {fitted - 1} at most"
        )
    if count > fitted:
        notes.append(
            f"{fitted} of {count} samples, drawn at random, were laid out; the other {count - fitted} stand "
            "at the weighted mean of their nearest neighbours among those"
        )
    return tuple(notes)


def _read(path: Path, count: int) -> Coordinates | None:
    """A finished map, or None; a damaged file counts as missing and is replaced."""
    try:
        coords = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        log.warning("the cached map %s cannot be read (%s); it is made anew", path.name, error)
        return None
    if coords.shape != (count, 2) or coords.dtype != np.float32:
        log.warning("the cached map %s has shape %s; it is made anew", path.name, coords.shape)
        return None
    return np.asarray(coords, dtype=np.float32)


def _writable(folder: Path) -> None:
    """Make the folder before the work, so that a full or read-only disk costs no minutes."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkspaceError(f"the folder for maps cannot be made: {error}") from error


def _write(path: Path, coords: Coordinates) -> None:
    """Write beside and rename, so that a reader never meets half a file."""
    name = ""
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=".map-", suffix=".part", delete=False
        ) as part:
            name = part.name
            np.save(part, coords)
        os.replace(name, path)
    except OSError as error:
        if name:
            Path(name).unlink(missing_ok=True)
        raise WorkspaceError(f"the map cannot be written to {path.parent}: {error}") from error
