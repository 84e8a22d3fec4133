"""Similar-image search: the nearest samples in the features of the classifier, exact, for a million samples.

The features are kept once more as one file of unit vectors that is mapped into memory and multiplied block by block: a
search reads each row once and needs 4 bytes a sample beside it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from ltg_core.data.column_reading import Base
from ltg_core.data.images import content_hash, read_image, to_tensor
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.models.classifier import Classifier
from ltg_core.workflows.breakdown import Ranked
from ltg_core.workflows.store import FeatureStore, Model

UPLOAD = "u"
"""Begins the key of a picture that is no sample; the hash of its pixels follows."""
_BLOCK = 65_536


@dataclasses.dataclass(frozen=True, eq=False)
class Likeness:
    """How like one picture all samples are.

    Attributes:
        like: The sample's id, or the key of an uploaded picture.
        values: (N,) float32 by place in the workspace's columns: the cosine of the standardised features, -1 to 1; NaN
            for samples without features and for the sample itself.
        base: The columns at that time.
    """

    like: str
    values: np.ndarray
    base: Base

    def ranked(self, ws: Workspace, chosen: Filter) -> Ranked:
        """The samples that pass a filter and have features, the most similar first."""
        keep = ws.columns.mask(chosen, self.base) & ~np.isnan(self.values)
        places = np.flatnonzero(keep)
        return Ranked(ws, places[np.argsort(-self.values[places], kind="stable")])

    def of(self, ranked: Ranked, start: int = 0, stop: int | None = None) -> list[float]:
        """Similarities of a part of ``ranked``."""
        found: list[float] = self.values[ranked.places[start:stop]].tolist()
        return found


def likeness(ws: Workspace, classifier: Classifier, like: str) -> Likeness:
    """Compare one picture with all samples.

    Args:
        ws: The workspace.
        classifier: Scored on it.
        like: Id of a sample, or what ``upload`` gave.

    Raises:
        InputError: It is not known, or has not been scored yet.
    """
    base = ws.columns.base()
    store = FeatureStore(ws, classifier)
    unit, ids, scale = _unit_vectors(ws, store)
    mine = np.flatnonzero(ids == like.encode())
    vector = np.array(unit[mine[0]]) if len(mine) else _vector(ws, store, like, scale)
    near = np.empty(len(unit), dtype=np.float32)
    for start in range(0, len(unit), _BLOCK):
        near[start : start + _BLOCK] = unit[start : start + _BLOCK] @ vector
    places = ws.columns.places_of(ids, base, key=f"units-{classifier.hash}-{store.stamp}")
    values = np.full(len(base), np.nan, dtype=np.float32)
    values[places[places >= 0]] = near[places >= 0].clip(-1, 1)
    values[base.ids == like.encode()] = np.nan
    return Likeness(like, values, base)


def upload(ws: Workspace, classifier: Classifier, source: str | Path | bytes | Image.Image) -> str:
    """Keep a picture that is no sample for searches; returns its key.

    Raises:
        InputError: It is not an image.
    """
    image = source if isinstance(source, Image.Image) else read_image(source)
    hash = content_hash(image)
    ws.blobs.write_thumb(hash, image)
    features = classifier.outputs(to_tensor(image)[None]).features[0]
    ws.put_array(_query_key(classifier, hash), features.float().cpu().numpy())
    return UPLOAD + hash


def picture_of(ws: Workspace, like: str) -> Path | None:
    """The thumbnail of an uploaded picture, None where ``like`` is a sample or is not known."""
    hash = like.removeprefix(UPLOAD)
    path = ws.blobs.thumb_path(hash)
    return path if like.startswith(UPLOAD) and hash.isalnum() and path.is_file() else None


def feature_scale(ws: Workspace, classifier: Classifier) -> np.ndarray:
    """Mean and deviation (2, D) of all features that are stored, by which likeness standardises."""
    return _unit_vectors(ws, FeatureStore(ws, classifier))[2]


def _vector(ws: Workspace, store: FeatureStore, like: str, scale: np.ndarray) -> np.ndarray:
    """The unit vector (D,) of a sample or an uploaded picture."""
    if like.startswith(UPLOAD):
        raw = ws.array(_query_key(store.classifier, like.removeprefix(UPLOAD)))
        if raw is None:
            raise InputError(
                "this picture is not known here, or to another classifier; choose the file again"
            )
        rows = raw[None]
    else:
        ws.sample(like)
        rows = store.features([like])
    unit: np.ndarray = to_units(rows, scale)[0]
    return unit


def _query_key(classifier: Model, hash: str) -> str:
    return f"query-{classifier.hash}-{hash}"


def _unit_vectors(ws: Workspace, store: FeatureStore) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors (M, D), mapped; ids (M,); mean and deviation (2, D). Made again when there are new features."""
    prefix = f"units-{store.classifier.hash}-"
    key = prefix + store.stamp
    kept = ws.array(key, mmap=True), ws.array(f"{key}-ids"), ws.array(f"{key}-scale")
    if kept[0] is not None and kept[1] is not None and kept[2] is not None:
        return kept[0], kept[1], kept[2]
    ids, scale = _spread(store)
    _write(ws, key, store, scale, len(ids))
    ws.put_array(f"{key}-scale", scale)
    ws.put_array(f"{key}-ids", ids)
    for old in (ws.path / "arrays").glob(f"{prefix}*.npy"):
        if not old.stem.startswith(key):
            old.unlink(missing_ok=True)
    made = ws.array(key, mmap=True)
    if made is None:
        raise InputError("the features could not be written for the search; look for space on the disk")
    return made, ids, scale


def _spread(store: FeatureStore) -> tuple[np.ndarray, np.ndarray]:
    """Ids in the order of storage, and mean and standard deviation of the features."""
    ids: list[np.ndarray] = [np.empty(0, dtype="S20")]
    n, total, squares = 0, np.zeros(1), np.zeros(1)
    for some, features in store.blocks():
        ids.append(some)
        n, rows = n + len(some), features.astype(np.float64)
        total, squares = total + rows.sum(axis=0), squares + (rows**2).sum(axis=0)
    mean = total / max(1, n)
    deviation = np.sqrt(np.maximum(squares / max(1, n) - mean**2, 0))
    return np.concatenate(ids), np.stack([mean, np.where(deviation > 1e-6, deviation, np.inf)]).astype(
        np.float32
    )


def _write(ws: Workspace, key: str, store: FeatureStore, scale: np.ndarray, count: int) -> None:
    """The file of unit vectors, one chunk after another: they may be more than memory holds."""

    def fill(file: BinaryIO) -> None:
        shape = (count, scale.shape[1])
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for _, features in store.blocks():
            file.write(np.ascontiguousarray(to_units(features, scale), dtype="<f4").tobytes())

    ws.blobs.write(ws.blobs.array_path(key), fill)


def to_units(features: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(n, D) standardised, of length 1."""
    x = (features - scale[0]) / scale[1]
    length = np.linalg.norm(x, axis=1, keepdims=True)
    unit: np.ndarray = (x / np.maximum(length, 1e-12)).astype(np.float32)
    return unit
