"""Data sets as numpy arrays: ``.npz`` with images and labels by name, ``.npy`` with the labels beside it."""

from __future__ import annotations

import math
import re
import struct
import zipfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from ltg_core.data.images import MAX_PIXELS, encode_png
from ltg_core.data.sources import SPLITS, Key, Row, Source, checked_zip
from ltg_core.errors import DatasetError

_IMAGES = ("images", "image", "x", "data", "arr_0", "imgs", "pixels")
_LABELS = ("labels", "label", "y", "targets", "target", "arr_1", "classes")
_NAMES = ("class_names", "label_names", "names")
_MAX_LABELS = 50_000_000
_MAX_NAMES = 100_000


class Block(NamedTuple):
    """Images of one split: where they are, and their labels (empty where there are none)."""

    member: str
    split: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    labels: np.ndarray[Any, Any]


class Arrays(Source):
    """Images (N, H, W) or (N, H, W, 3), also (N, 3, H, W), as uint8 or as floats in [0, 1]; read one after the other.

    Names in an ``.npz``: ``images`` and ``labels``, ``x`` and ``y``, also with a split (``x_train``, ``test_labels``).
    A ``.npy`` takes its labels from ``<stem>_labels.npy`` or ``labels.npy`` beside it.

    Raises:
        DatasetError: No such arrays, arrays of objects (which are pickles), or headers that do not fit the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._zip: zipfile.ZipFile | None = None
        if path.suffix.lower() == ".npz":
            self._zip = checked_zip(path)
        try:
            self._blocks = self._found()
            self.declared = self._class_names()
        except BaseException:
            self.close()
            raise

    def keys(self) -> list[Key]:
        """Labels are small; images are not touched."""
        found: list[Key] = []
        known: dict[Any, Key] = {}
        for block in self._blocks:
            for place in range(block.shape[0]):
                value = block.labels[place].item() if len(block.labels) else None
                key = (block.split, value)
                if key not in known:
                    named = isinstance(value, str)
                    number = None if named or value is None or int(value) < 0 else int(value)
                    known[key] = Key(block.split, number, value if named else None)
                found.append(known[key])
        return found

    def rows(self, chosen: Collection[int] | None) -> Iterator[Row]:
        """One picture at a time, as PNG."""
        wanted = None if chosen is None else set(chosen)
        start = 0
        for block in self._blocks:
            with self._opened(block.member) as file:
                _header(file, block.member)
                size = math.prod(block.shape[1:]) * block.dtype.itemsize
                for place in range(block.shape[0]):
                    data = file.read(size)
                    index = start + place
                    if wanted is not None and index not in wanted:
                        continue
                    name = f"{self._path.name}/{block.member.removesuffix('.npy')}#{place}"
                    if len(data) < size:
                        yield Row(index, name, None, "the file ends before it")
                        continue
                    picture = np.frombuffer(data, block.dtype).reshape(block.shape[1:])
                    yield Row(index, name, encode_png(_as_rgb(picture)))
            start += block.shape[0]

    def close(self) -> None:
        """Close the file."""
        if self._zip is not None:
            self._zip.close()

    def _members(self) -> dict[str, str]:
        """Array name → entry."""
        if self._zip is None:
            return {"images": self._path.name}
        return {n.removesuffix(".npy"): n for n in self._zip.namelist() if n.endswith(".npy")}

    def _opened(self, member: str) -> IO[bytes]:
        try:
            if self._zip is not None:
                return self._zip.open(member)
            return open(self._path, "rb")
        except (OSError, zipfile.BadZipFile, RuntimeError, ValueError, struct.error) as error:
            raise DatasetError(f"'{self._path.name}' cannot be read: {error}") from error

    def _found(self) -> list[Block]:
        members = self._members()
        blocks = []
        for name, member in sorted(members.items(), key=lambda item: _order(item[0])):
            base, split = _role(name)
            if base not in _IMAGES:
                continue
            with self._opened(member) as file:
                shape, dtype = _header(file, member)
                if len(shape) in (3, 4) and dtype.kind in "uifb":
                    self._check_size(file, member, shape, dtype)
                    _check_pictures(member, shape)
                    blocks.append(Block(member, split, shape, dtype, self._labels(members, split, shape[0])))
        if not blocks:
            shown = ", ".join(sorted(members)[:8]) or "none"
            raise DatasetError(
                f"'{self._path.name}' holds no array of images; expected one called {', '.join(_IMAGES[:4])} (also "
                f"x_train and the like) of shape (N, height, width) or (N, height, width, 3); it has {shown}"
            )
        return blocks

    def _check_size(self, file: IO[bytes], member: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """A header may claim anything; the file says how much there is."""
        there = (
            self._zip.getinfo(member).file_size if self._zip is not None else self._path.stat().st_size
        ) - file.tell()
        claimed = math.prod(shape) * dtype.itemsize
        if claimed > there:
            raise DatasetError(
                f"the array {member!r:.80} claims {claimed:,} bytes, but the file holds {there:,}; it is damaged"
            )

    def _labels(self, members: dict[str, str], split: str, count: int) -> np.ndarray[Any, Any]:
        none = np.zeros(0, np.int64)
        if self._zip is None:
            for name in (f"{self._path.stem}_labels.npy", "labels.npy", f"{self._path.stem}.labels.npy"):
                file = self._path.with_name(name)
                if file.is_file() and file != self._path:
                    with open(file, "rb") as opened:
                        return _vector(opened, name, count)
            return none
        for name, member in members.items():
            base, own = _role(name)
            if base in _LABELS and own == split:
                with self._opened(member) as opened:
                    return _vector(opened, member, count)
        return none

    def _class_names(self) -> Sequence[str] | None:
        member = next((m for n, m in self._members().items() if n in _NAMES), None)
        if member is None or self._zip is None:
            return None
        with self._opened(member) as file:
            shape, dtype = _header(file, member)
            if dtype.kind != "U" or len(shape) != 1 or shape[0] > _MAX_NAMES:
                return None
            data = file.read(shape[0] * dtype.itemsize)
        if len(data) < shape[0] * dtype.itemsize:
            return None
        return [str(name) for name in np.frombuffer(data, dtype)]


def _role(name: str) -> tuple[str, str]:
    """("x", "train") of "x_train" and "train_x"."""
    parts = [part for part in re.split(r"[_\-.]", name.lower()) if part]
    splits = [part for part in parts if part in SPLITS]
    rest = "_".join(part for part in parts if part not in SPLITS)
    return (rest if name.lower() not in (*_IMAGES, *_LABELS) else name.lower()), SPLITS[
        splits[0]
    ] if splits else ""


def _order(name: str) -> tuple[int, str]:
    return ({"train": 0, "val": 1, "test": 2}.get(_role(name)[1], 0), name)


def _header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type; the file stands at the first number afterwards.

    Raises:
        DatasetError: No array, one of objects, or one in Fortran's order.
    """
    try:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read(file, max_header_size=10_000)
    except Exception as error:  # numpy evaluates the header as a literal, which fails in many ways
        raise DatasetError(f"{name!r:.80} is no numpy array: {type(error).__name__}") from error
    if dtype.hasobject:
        raise DatasetError(
            f"the array {name!r:.80} holds Python objects, which are pickles and could run code; it was refused. "
            "Save it as numbers"
        )
    if fortran and len(shape) > 1:
        raise DatasetError(f"the array {name!r:.80} is in Fortran's order; save np.ascontiguousarray(array)")
    return tuple(int(n) for n in shape), dtype


def _vector(file: IO[bytes], name: str, count: int) -> np.ndarray[Any, Any]:
    shape, dtype = _header(file, name)
    if math.prod(shape) != count or count > _MAX_LABELS or dtype.kind not in "iuUb" or dtype.itemsize > 4096:
        raise DatasetError(
            f"the labels {name!r:.80} have shape {shape} and type {dtype}; expected one whole number or name for each "
            f"of the {count:,} images"
        )
    data = file.read(count * dtype.itemsize)
    if len(data) < count * dtype.itemsize:
        raise DatasetError(f"the labels {name!r:.80} end too early; the file is damaged")
    return np.frombuffer(data, dtype)


def _check_pictures(name: str, shape: tuple[int, ...]) -> None:
    height, width, channels = _sides(shape)
    if channels not in (1, 3, 4) or not 0 < height * width <= MAX_PIXELS:
        raise DatasetError(
            f"the array {name!r:.80} has shape {shape}; expected (N, height, width) or (N, height, width, 1, 3 or 4)"
        )


def _sides(shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) == 3:
        return shape[1], shape[2], 1
    first = shape[1] in (1, 3, 4) and shape[3] not in (1, 3, 4)
    return (shape[2], shape[3], shape[1]) if first else (shape[1], shape[2], shape[3])


def _as_rgb(picture: np.ndarray[Any, Any]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    if picture.ndim == 3 and picture.shape[0] in (1, 3, 4) and picture.shape[2] not in (1, 3, 4):
        picture = picture.transpose(1, 2, 0)
    if picture.ndim == 2:
        picture = picture[..., None]
    values = picture.astype(np.float32)
    if picture.dtype.kind == "f":
        values = np.nan_to_num(values)
        scale = 255.0 if float(values.max(initial=0)) <= 1.0 else 1.0
    else:
        scale = {1: 255.0 if picture.dtype.kind == "b" else 1.0, 2: 1 / 257}.get(picture.dtype.itemsize, 1.0)
    pixels = np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)
    if pixels.shape[2] == 4:
        alpha = pixels[..., 3:].astype(np.float32) / 255
        pixels = np.rint(pixels[..., :3] * alpha + 128 * (1 - alpha)).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels)
