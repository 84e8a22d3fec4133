"""Near copies: pictures that were encoded again, resized, brightened or trimmed a little."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from ltg_core.data import reading
from ltg_core.data.images import read_image
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.jobs import CancelToken, Progress, ProgressFn

log = logging.getLogger(__name__)

COARSE, FINE = 0.98, 0.94
"""Correlation of two pictures at 8 × 8 and at 16 × 16 pixels from which they count as one; both must be reached.

Measured on the demo's signs: of 7.5 million independent pairs none reach both, at 64 pixels or at 32. Found are all
that were resized, brightened a little or have less contrast, and as JPEG 99 % (64 pixels, quality 50) and 96 % (32
pixels, quality 80). Mirrored, turned and shifted pictures are not.
"""
_SIDE = 16
_FLAT = 2.0  # standard deviation, of 255, below which there is nothing to compare
_CHUNK = 512
_KEY = f"export-looks-{_SIDE}"
_LOOKS = np.dtype([("hash", "S32"), ("pixels", "u1", (_SIDE * _SIDE * 3,))])
Array = np.ndarray[Any, Any]


def near_copies(
    ws: Workspace, ids: Sequence[str], against: Sequence[str], on_progress: ProgressFn, cancel: CancelToken
) -> dict[str, str]:
    """Those samples that are near copies of others.

    Args:
        ws: The workspace; it keeps how the others look, so that the next call is quick.
        ids: The samples.
        against: The others.
        on_progress: Told about every few hundred.
        cancel: Checked at every chunk.

    Returns:
        Sample id → id of the one among the others that is most like it.
    """
    if not ids or not against:
        return {}
    known = _kept(ws)
    before = len(known)
    others, theirs = _looks(ws, against, known, on_progress, cancel)
    if len(known) > before:
        kept = np.zeros(len(known), _LOOKS)
        kept["hash"], kept["pixels"] = list(known), np.stack(list(known.values()))
        ws.put_array(_KEY, kept)
    coarse = _unit(theirs, _SIDE // 2)
    found: dict[str, str] = {}
    for start in range(0, len(ids), _CHUNK):
        some, ours = _looks(ws, ids[start : start + _CHUNK], dict(known), None, cancel)
        small, fine = _unit(ours, _SIDE // 2), _unit(ours, _SIDE)
        best = np.full(len(some), FINE)
        for first in range(0, len(others), 16 * _CHUNK):
            cancel.check()
            alike = small @ coarse[first : first + 16 * _CHUNK].T
            closest = alike.argmax(axis=1)
            rows = np.flatnonzero(alike[np.arange(len(some)), closest] >= COARSE)
            places = first + closest[rows]
            values = (fine[rows] * _unit(theirs[places], _SIDE)).sum(axis=1)
            for row, place, value in zip(rows, places, values, strict=True):
                if value >= best[row]:
                    best[row], found[some[row]] = value, others[place]
    return found


def _unit(pixels: Array, side: int) -> Array:
    """(N, 16 · 16 · 3) uint8 → (N, side² · 3) float32 of mean 0 and length 1; flat pictures become all zero."""
    step = _SIDE // side
    blocks = pixels.reshape(-1, side, step, side, step, 3).astype(np.float32)
    values = blocks.mean(axis=(2, 4)).reshape(len(pixels), side * side * 3)
    values -= values.mean(axis=1, keepdims=True)
    deviation = values.std(axis=1, keepdims=True)
    scale = np.where(deviation < _FLAT, np.inf, deviation * np.sqrt(values.shape[1]))
    unit: Array = (values / scale).astype(np.float32)
    return unit


def _looks(
    ws: Workspace,
    ids: Sequence[str],
    known: dict[bytes, Array],
    on_progress: ProgressFn | None,
    cancel: CancelToken,
) -> tuple[list[str], Array]:
    """Ids of those that can be read, and their 16 × 16 RGB pixels, (N, 768) uint8."""
    read: list[str] = []
    rows: list[Array] = []
    unread = 0
    for start in range(0, len(ids), _CHUNK):
        cancel.check()
        if on_progress is not None:
            on_progress(Progress(start, len(ids), "looking for near copies"))
        chunk = ids[start : start + _CHUNK]
        for id, (hash, _) in zip(chunk, reading.image_files(ws.database, chunk), strict=True):
            key = hash.encode()
            try:
                if key not in known:
                    known[key] = _look(ws, id, hash)
            except (InputError, OSError):
                unread += 1
                continue
            read.append(id)
            rows.append(known[key])
    if unread:
        log.warning("%d pictures cannot be read and were not compared with those to export", unread)
    return read, np.stack(rows) if rows else np.zeros((0, _SIDE * _SIDE * 3), np.uint8)


def _look(ws: Workspace, id: str, hash: str) -> Array:
    thumb = ws.blobs.thumb_path(hash)
    image = read_image(thumb if thumb.exists() else ws.thumb_path(id))
    small = image.resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.uint8).reshape(-1)


def _kept(ws: Workspace) -> dict[bytes, Array]:
    array = ws.array(_KEY)
    if array is None or array.dtype != _LOOKS:
        return {}
    known: Mapping[bytes, Array] = dict(zip(array["hash"].tolist(), array["pixels"], strict=True))
    return dict(known)
