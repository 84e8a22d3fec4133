"""Near copies: pictures that were encoded again, resized, brightened or trimmed a little.

How a picture looks is kept as 16 × 16 pixels. Up to ``EXACT`` pictures every pair is compared; beyond that only those
whose perceptual hashes (ImageHash's ``phash``, 64 bits in four parts) share a part, as all do that differ in fewer
than four bits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from ltg_core.jobs import CancelToken

COARSE, FINE = 0.98, 0.94
"""Correlation of two pictures at 8 × 8 and at 16 × 16 pixels from which they count as one; both must be reached.

Measured on the demo's signs: of 7.5 million independent pairs none reach both, at 64 pixels or at 32. Found are all
that were resized, brightened a little or have less contrast, and as JPEG 99 % (64 pixels, quality 50) and 96 % (32
pixels, quality 80). Mirrored, turned and shifted pictures are not.
"""
SIDE = 16
WIDTH = SIDE * SIDE * 3
EXACT = 20_000
_FLAT = 2.0  # standard deviation, of 255, below which there is nothing to compare
_CHUNK = 512
_BANDS = 4
_CROWD = 2_000  # of pictures that share a part of their hash; they are plain, and not compared by it
Array = np.ndarray[Any, Any]


def look_of(image: Image.Image) -> Array:
    """How a picture looks: (768,) uint8."""
    small = image.resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small.convert("RGB"), dtype=np.uint8).reshape(-1)


def unit(pixels: Array, side: int) -> Array:
    """(N, 16 · 16 · 3) uint8 → (N, side² · 3) float32 of mean 0 and length 1; flat pictures become all zero."""
    step = SIDE // side
    blocks = pixels.reshape(-1, side, step, side, step, 3).astype(np.float32)
    values = blocks.mean(axis=(2, 4)).reshape(len(pixels), side * side * 3)
    values -= values.mean(axis=1, keepdims=True)
    deviation = values.std(axis=1, keepdims=True)
    scale = np.where(deviation < _FLAT, np.inf, deviation * np.sqrt(values.shape[1]))
    scaled: Array = (values / scale).astype(np.float32)
    return scaled


def nearest(ours: Array, theirs: Array, cancel: CancelToken) -> list[tuple[int, int]]:
    """(row of ``ours``, row of ``theirs``) of near copies: for each of ours the one that is most like it."""
    coarse = unit(theirs, SIDE // 2)
    found: list[tuple[int, int]] = []
    for begin in range(0, len(ours), _CHUNK):
        some = ours[begin : begin + _CHUNK]
        small, fine = unit(some, SIDE // 2), unit(some, SIDE)
        best = np.full(len(some), FINE)
        chosen: dict[int, int] = {}
        for first in range(0, len(theirs), 16 * _CHUNK):
            cancel.check()
            alike = small @ coarse[first : first + 16 * _CHUNK].T
            closest = alike.argmax(axis=1)
            rows = np.flatnonzero(alike[np.arange(len(some)), closest] >= COARSE)
            places = first + closest[rows]
            values = (fine[rows] * unit(theirs[places], SIDE)).sum(axis=1)
            for row, place, value in zip(rows, places, values, strict=True):
                if value >= best[row]:
                    best[row], chosen[int(row)] = value, int(place)
        found += [(begin + row, place) for row, place in sorted(chosen.items())]
    return found


def groups(looks: Array, cancel: CancelToken) -> list[list[int]]:
    """Rows that are near copies of each other, directly or through others; groups of two and more."""
    parent = list(range(len(looks)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    pairs = _all_pairs(looks, cancel) if len(looks) <= EXACT else _hashed_pairs(looks, cancel)
    for left, right in pairs:
        first, second = sorted((root(left), root(right)))
        parent[second] = first
    together: defaultdict[int, list[int]] = defaultdict(list)
    for row in range(len(looks)):
        together[root(row)].append(row)
    return [rows for rows in together.values() if len(rows) > 1]


def _all_pairs(looks: Array, cancel: CancelToken) -> Iterator[tuple[int, int]]:
    coarse, fine = unit(looks, SIDE // 2), unit(looks, SIDE)
    for begin in range(0, len(looks), _CHUNK):
        cancel.check()
        left, right = np.nonzero(coarse[begin : begin + _CHUNK] @ coarse[begin:].T >= COARSE)
        keep = right > left
        yield from _confirmed(fine, begin + left[keep], begin + right[keep])


def _hashed_pairs(looks: Array, cancel: CancelToken) -> Iterator[tuple[int, int]]:
    hashes = np.stack([_phash(look) for look in looks])
    fine = unit(looks, SIDE)
    coarse = unit(looks, SIDE // 2)
    for band in range(_BANDS):
        order = np.argsort(hashes[:, band], kind="stable")
        edges = np.flatnonzero(np.diff(hashes[order, band])) + 1
        for rows in np.split(order, edges):
            cancel.check()
            if not 1 < len(rows) <= _CROWD:
                continue
            left, right = np.nonzero(np.triu(coarse[rows] @ coarse[rows].T >= COARSE, 1))
            yield from _confirmed(fine, rows[left], rows[right])


def _confirmed(fine: Array, left: Array, right: Array) -> Iterator[tuple[int, int]]:
    if len(left):
        values = (fine[left] * fine[right]).sum(axis=1)
        for one, other in zip(left[values >= FINE], right[values >= FINE], strict=True):
            yield int(one), int(other)


def _phash(look: Array) -> Array:
    """The perceptual hash as four numbers of 16 bits."""
    import imagehash

    image = Image.fromarray(look.reshape(SIDE, SIDE, 3))
    bits = np.asarray(imagehash.phash(image, hash_size=8, highfreq_factor=2).hash).reshape(_BANDS, 16)
    weights: Array = 1 << np.arange(16)
    parts: Array = (bits * weights).sum(axis=1).astype(np.int64)
    return parts


def keep_looks(known: dict[bytes, Array]) -> Array:
    """Looks by image hash as one array."""
    kept = np.zeros(len(known), LOOKS)
    if known:
        kept["hash"], kept["pixels"] = list(known), np.stack(list(known.values()))
    return kept


def kept_looks(array: Array | None) -> dict[bytes, Array]:
    """What ``keep_looks`` made, {} of anything else."""
    if array is None or array.dtype != LOOKS:
        return {}
    return dict(zip(array["hash"].tolist(), array["pixels"], strict=True))


LOOKS = np.dtype([("hash", "S32"), ("pixels", "u1", (WIDTH,))])


def stacked(rows: Sequence[Array]) -> Array:
    """(N, 768) uint8."""
    return np.stack(rows) if rows else np.zeros((0, WIDTH), np.uint8)
