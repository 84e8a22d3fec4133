"""What is wrong with a data set before anybody trusts a number on it: copies, leaks, contradictions, odd images."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from ltg_core.data.datasets import open_source
from ltg_core.data.images import content_hash, read_image
from ltg_core.data.looks import known_looks, looks_of, remember
from ltg_core.data.near import Array, groups, look_of, stacked
from ltg_core.data.records import REAL, Filter
from ltg_core.data.sources import closing
from ltg_core.data.workspace import Workspace
from ltg_core.errors import DatasetError, InputError
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress

ODD = {
    "dark": "nearly all of it is black",
    "bright": "nearly all of it is white",
    "blank": "it has next to no content",
    "blurred": "it has no sharp edge",
    "tiny": "a side has fewer than 8 pixels",
    "narrow": "one side is more than 4 times the other",
    "grey": "it has no colour, and most others do",
}
"""What makes an image odd, and why it is listed."""
_DARK, _BRIGHT = 25, 230  # of 255: the 95th and the 5th percentile of brightness
_BLANK = 4.0  # standard deviation of brightness, of 255
_BLURRED = 2.5  # standard deviation of the Laplacian at 64 pixels
_SIDE = 64
_KEY = "data-check-measures-1"
_MEASURES = np.dtype([("hash", "S32"), ("low", "f4"), ("high", "f4"), ("spread", "f4"), ("edges", "f4"),
                      ("colour", "f4"), ("width", "i4"), ("height", "i4")])  # fmt: skip
_CHUNK = 512


@dataclasses.dataclass(frozen=True)
class DataCheck:
    """What was found. An image is named by its sample id, or by its place in a data set that is not imported.

    Attributes:
        images: How many were looked at.
        corrupt: (name, reason) of those that cannot be read.
        duplicates: Groups of images with the same pixels.
        near: Groups of near copies, exact copies counted once.
        leaks: Groups of either kind that lie in more than one split.
        contradictions: Groups of either kind whose images have different classes.
        odd: Kind (see ``ODD``) → images.
        details: Image → (source, split, class), of all images named above.
    """

    images: int
    corrupt: list[tuple[str, str]]
    duplicates: list[list[str]]
    near: list[list[str]]
    leaks: list[list[str]]
    contradictions: list[list[str]]
    odd: dict[str, list[str]]
    details: dict[str, tuple[str, str, str]]

    def summary(self) -> str:
        """Some lines for a terminal or a page."""
        lines = [f"{self.images:,} images looked at."]
        copies = sum(len(group) - 1 for group in self.duplicates)
        near = sum(len(group) - 1 for group in self.near)
        counted = (
            (len(self.corrupt), "cannot be read"),
            (copies, f"are exact copies of another ({len(self.duplicates):,} groups)"),
            (near, f"are near copies of another ({len(self.near):,} groups)"),
        )
        lines += [f"{count:,} {what}." for count, what in counted if count]
        if self.leaks:
            lines.append(
                f"{len(self.leaks):,} groups of copies lie in more than one split; results there are too good."
            )
        if self.contradictions:
            lines.append(
                f"{len(self.contradictions):,} groups of copies have different classes: some label is wrong."
            )
        lines += [f"{len(some):,} are odd ({kind}): {ODD[kind]}." for kind, some in self.odd.items() if some]
        return "\n".join(lines if len(lines) > 1 else [*lines, "Nothing to complain about."])

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


@dataclasses.dataclass
class _Seen:
    """One readable image, without its pixels."""

    name: str
    source: str
    split: str
    label: str
    hash: str


def check_data(
    ws: Workspace, *, on_progress: ProgressFn = no_progress, cancel: CancelToken | None = None
) -> DataCheck:
    """Look through the real images of a workspace; what was read once is kept, so that the next check is quick.

    Args:
        ws: The workspace; images that could not be imported are taken from the records of its imports.
        on_progress: Told about every few hundred.
        cancel: Checked at every chunk.

    Raises:
        DatasetError: There are no images.
    """
    token = cancel or CancelToken()
    ids = [id for chunk in ws.iterate(Filter(origin=REAL)) for id in chunk]
    if not ids:
        raise DatasetError("there are no images to check; import some, or name a data set")
    known = known_looks(ws)
    before = len(known)
    read, looks = looks_of(ws, ids, known, on_progress, token)
    if len(known) > before:
        remember(ws, known)
    seen = []
    for start in range(0, len(read), _CHUNK):
        for sample in ws.samples(read[start : start + _CHUNK]):
            seen.append(
                _Seen(sample.id, sample.source, sample.split, sample.label_name or "", sample.image_hash)
            )
    measures = _kept_measures(ws, seen, on_progress, token)
    absent = set(ids) - set(read)
    corrupt = [(sample.id, "its file cannot be read") for sample in ws.samples(sorted(absent))]
    for run in ws.runs("import"):
        corrupt += [(str(name), str(reason)) for name, reason in run.result.get("first_skipped", [])]
    return _checked(seen, looks, measures, list(dict.fromkeys(corrupt)), token)


def check_source(
    path: str | Path,
    *,
    online: bool = False,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> DataCheck:
    """Look through a data set that is not imported; one image at a time is held in memory.

    Args:
        path: As ``import_data`` reads it.
        online: Whether ``hf:owner/name`` may be fetched.
        on_progress: Told about every few hundred.
        cancel: Checked at every image.

    Raises:
        DatasetError: It is none.
    """
    token = cancel or CancelToken()
    seen: list[_Seen] = []
    looks: list[Array] = []
    measures: list[tuple[float, ...]] = []
    corrupt: list[tuple[str, str]] = []
    place = path if str(path).startswith("hf:") else Path(path).expanduser()
    with closing(open_source(place, online=online)) as source:
        keys = source.keys()
        for row in source.rows(None):
            token.check()
            if row.index % _CHUNK == 0:
                on_progress(Progress(row.index, len(keys), "looking at images"))
            try:
                if row.data is None:
                    raise InputError(row.error)
                image = read_image(row.data)
            except InputError as error:
                corrupt.append((row.source, str(error)))
                continue
            key = keys[row.index]
            label = (
                key.class_name if key.class_name is not None else "" if key.label is None else str(key.label)
            )
            seen.append(_Seen(f"#{row.index}", row.source, key.split, label, content_hash(image)))
            looks.append(look_of(image))
            measures.append(measure(image))
    table = np.array([(s.hash.encode(), *m) for s, m in zip(seen, measures, strict=True)], _MEASURES)
    return _checked(seen, stacked(looks), table, corrupt, token)


def measure(image: Image.Image) -> tuple[float, ...]:
    """Dark and bright ends of brightness, its spread, sharpness, colour, width and height."""
    small = image.copy()
    small.thumbnail((_SIDE, _SIDE))
    grey = small.convert("L")
    values = np.asarray(grey, dtype=np.float32)
    edges = np.asarray(
        grey.filter(ImageFilter.Kernel((3, 3), (0, 1, 0, 1, -4, 1, 0, 1, 0), scale=1, offset=128))
    )
    inner = edges[1:-1, 1:-1].astype(np.float32) if min(edges.shape) > 2 else np.zeros((1, 1), np.float32)
    colour = np.asarray(small, dtype=np.float32)
    low, high = np.percentile(values, [5, 95])
    saturation = float(np.abs(colour - colour.mean(axis=2, keepdims=True)).mean())
    return (
        float(low),
        float(high),
        float(values.std()),
        float(inner.std()),
        saturation,
        image.width,
        image.height,
    )


def _kept_measures(
    ws: Workspace, seen: Sequence[_Seen], on_progress: ProgressFn, cancel: CancelToken
) -> np.ndarray[Any, Any]:
    array = ws.array(_KEY)
    fits = array is not None and array.dtype == _MEASURES
    known = {row["hash"]: row for row in array} if fits and array is not None else {}
    before = len(known)
    for place, one in enumerate(seen):
        if place % _CHUNK == 0:
            cancel.check()
            on_progress(Progress(place, len(seen), "looking for odd images"))
        key = one.hash.encode()
        if key not in known:
            known[key] = np.array((key, *measure(ws.image(one.name))), _MEASURES)
    if len(known) > before:
        ws.put_array(_KEY, np.array([tuple(row.item()) for row in known.values()], _MEASURES))
    return np.array([tuple(known[one.hash.encode()].item()) for one in seen], _MEASURES)


def _checked(
    seen: Sequence[_Seen],
    looks: Array,
    measures: np.ndarray[Any, Any],
    corrupt: list[tuple[str, str]],
    cancel: CancelToken,
) -> DataCheck:
    by_hash: defaultdict[str, list[int]] = defaultdict(list)
    for row, one in enumerate(seen):
        by_hash[one.hash].append(row)
    same = [rows for rows in by_hash.values() if len(rows) > 1]
    first = [rows[0] for rows in by_hash.values()]
    near = [[first[row] for row in rows] for rows in groups(looks[first], cancel)]
    whole = [[row for lead in rows for row in by_hash[seen[lead].hash]] for rows in near]
    merged = {row for rows in whole for row in rows}
    together = whole + [rows for rows in same if rows[0] not in merged]

    def differ(get: Callable[[_Seen], str]) -> list[list[int]]:
        return [rows for rows in together if len({get(seen[row]) for row in rows} - {""}) > 1]

    odd = {kind: rows.tolist() for kind, rows in _odd(measures).items()}
    named = {row for rows in (*together, *odd.values()) for row in rows}

    def names(rows: Sequence[int]) -> list[str]:
        return [seen[row].name for row in rows]

    return DataCheck(
        images=len(seen) + len(corrupt),
        corrupt=corrupt,
        duplicates=[names(rows) for rows in same],
        near=[names(rows) for rows in near],
        leaks=[names(rows) for rows in differ(lambda one: one.split)],
        contradictions=[names(rows) for rows in differ(lambda one: one.label)],
        odd={kind: names(rows) for kind, rows in odd.items()},
        details={seen[r].name: (seen[r].source, seen[r].split, seen[r].label) for r in sorted(named)},
    )


def _odd(table: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    sides = np.stack([table["width"], table["height"]], axis=1) if len(table) else np.ones((0, 2), int)
    blank = table["spread"] < _BLANK
    grey = table["colour"] < 0.5
    found = {
        "dark": table["high"] < _DARK,
        "bright": table["low"] > _BRIGHT,
        "blank": blank,
        "blurred": (table["edges"] < _BLURRED) & ~blank,
        "tiny": sides.min(axis=1) < 8 if len(table) else np.zeros(0, bool),
        "narrow": sides.max(axis=1) > 4 * sides.min(axis=1) if len(table) else np.zeros(0, bool),
        "grey": grey if grey.mean() < 0.1 else np.zeros(len(table), bool),
    }
    return {kind: np.flatnonzero(where) for kind, where in found.items() if where.any()}
