"""What a data set on disk looks like to the importer, and the forms made of image files: folder and zip."""

from __future__ import annotations

import abc
import contextlib
import errno
import io
import lzma
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from ltg_core.data.images import IMAGE_SUFFIXES, MAX_FILE_BYTES
from ltg_core.errors import DatasetError

SPLITS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
MAX_ZIP_ENTRIES = 500_000
MAX_TABLE_BYTES = 512 * 2**20
DAMAGED = (
    struct.error,
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
)
"""What reading an entry of a damaged zip file raises beside OSError."""
_ENTRY = b"PK\x01\x02"
MAX_ZIP_BYTES = 200 * 1024**3
MAX_ZIP_RATIO = 100
"""Unpacked over packed size of the whole file, above 100 MB. Image files barely shrink."""
_RATIO_FROM_BYTES = 100 * 1024**2


class Key(NamedTuple):
    """What a row says about its split and class before any name has been given a number."""

    split: str
    label: int | None
    class_name: str | None


@dataclass(frozen=True)
class Row:
    """One image of a data set.

    Attributes:
        index: Its place in the data set.
        source: Its name there, for people and for recognising it later.
        data: The bytes of its file, or None.
        error: Why there are none.
    """

    index: int
    source: str
    data: bytes | None
    error: str = ""
    caption: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)


class Source(abc.ABC):
    """A data set that can say cheaply what is in it and then be read once, in order."""

    declared: Sequence[str] | None = None
    """Class names by index where the file itself states them."""

    @abc.abstractmethod
    def keys(self) -> list[Key]:
        """Split and class of every row."""

    @abc.abstractmethod
    def rows(self, chosen: Collection[int] | None) -> Iterator[Row]:
        """The rows with these indices (None: all) in order; one that cannot be read carries its error."""

    def columns(self) -> list[str]:
        """Names of the metadata columns; image files alone have none."""
        return []

    def close(self) -> None:  # noqa: B027  # most sources hold nothing open
        """Release the files."""


class Tree(abc.ABC):
    """Named files."""

    @abc.abstractmethod
    def names(self) -> list[str]:
        """Names of all files with "/" between folders, sorted."""

    @abc.abstractmethod
    def read(self, name: str) -> bytes:
        """The bytes of one; OSError or ValueError where that fails."""

    def close(self) -> None:  # noqa: B027  # a folder holds nothing open
        """Release the file."""


class FolderTree(Tree):
    """A folder; links to other folders are not followed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """Names relative to the folder."""
        found = []
        for folder, _, files in os.walk(self.path):
            relative = Path(folder).relative_to(self.path)
            found += [(relative / name).as_posix() for name in files]
        return sorted(found)

    def read(self, name: str) -> bytes:
        """The bytes of one file."""
        path = self.path / name
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"larger than {MAX_FILE_BYTES // 1_048_576} MB")
        return path.read_bytes()


class ZipTree(Tree):
    """A zip file, read in place: nothing is ever unpacked to a path that the file chooses.

    Raises:
        DatasetError: No zip file, or one with names outside it, links, passwords or a size that only a bomb
        has.
    """

    def __init__(self, path: Path) -> None:
        self._zip = checked_zip(path)

    def names(self) -> list[str]:
        """Names inside the zip."""
        return sorted(info.filename for info in self._zip.infolist() if not info.is_dir())

    def read(self, name: str) -> bytes:
        """The bytes of one entry; never more than its header declares."""
        try:
            if self._zip.getinfo(name).file_size > MAX_FILE_BYTES:
                raise ValueError(f"larger than {MAX_FILE_BYTES // 1_048_576} MB")
            return self._zip.read(name)
        except KeyError as error:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from error
        except ValueError:
            raise
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
            raise ValueError(f"damaged in the zip file: {error}") from error
        except Exception as error:  # zlib, lzma and bz2 each raise their own
            raise ValueError(f"damaged in the zip file: {type(error).__name__}") from error

    def has(self, name: str) -> bool:
        """Whether there is such an entry."""
        return name in self._zip.NameToInfo

    def text(self, name: str) -> IO[str]:
        """A text file in it, as UTF-8, read as a stream.

        Raises:
            DatasetError: It is larger than any table of this many rows.
        """
        if self._zip.getinfo(name).file_size > MAX_TABLE_BYTES:
            raise DatasetError(
                f"the table {name!r:.120} is larger than {MAX_TABLE_BYTES // 2**20} MB; unpack the zip and import "
                "the folder"
            )
        return io.TextIOWrapper(self._zip.open(name), encoding="utf-8-sig", newline="")

    def close(self) -> None:
        """Close the zip file."""
        self._zip.close()


class ImageFolder(Source):
    """Images in folders named after their class, with or without split folders above them.

    Raises:
        DatasetError: There is no image in it.
    """

    def __init__(self, tree: Tree, name: str) -> None:
        self._tree = tree
        names = [n for n in tree.names() if _wanted(n)]
        if not names:
            tree.close()
            raise DatasetError(
                f"'{name}' holds no image; expected one folder a class with images "
                f"({', '.join(sorted(IMAGE_SUFFIXES))}), or a Parquet, CSV or JSONL manifest"
            )
        self._names = names
        self._keys = layout([PurePosixPath(n).parts for n in names])

    def keys(self) -> list[Key]:
        """Split and class from the folder names."""
        return self._keys

    def rows(self, chosen: Collection[int] | None) -> Iterator[Row]:
        """One row a file."""
        wanted = None if chosen is None else set(chosen)
        for index, name in enumerate(self._names):
            if wanted is not None and index not in wanted:
                continue
            try:
                yield Row(index, name, self._tree.read(name))
            except (OSError, ValueError) as error:
                yield Row(
                    index, name, None, error=f"cannot be read: {getattr(error, 'strerror', None) or error}"
                )

    def close(self) -> None:
        """Release the tree."""
        self._tree.close()


def split_of(name: str) -> str:
    """The split that a file name such as ``validation-00000-of-00002.parquet`` starts with, or ""."""
    first = Path(name).stem.lower().replace("_", "-").replace(".", "-").split("-")[0]
    return SPLITS.get(first, "")


def canonical_split(name: str) -> str:
    """ "valid" and "validation" become "val", "training" "train"; other names stay."""
    return SPLITS.get(name.strip().lower(), name.strip())


def _wanted(name: str) -> bool:
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return not hidden and PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def layout(paths: Sequence[tuple[str, ...]]) -> list[Key]:
    """Split and class of each path: ``[root/][split/]class/.../file``."""
    tops = {path[0] for path in paths}
    # A zip usually holds one folder with everything in it; it is no class, unless the images lie right in it.
    if len(tops) == 1 and min(map(len, paths)) >= 3 and next(iter(tops)).lower() not in SPLITS:
        paths = [path[1:] for path in paths]
        tops = {path[0] for path in paths}
    with_splits = all(len(path) > 1 for path in paths) and all(top.lower() in SPLITS for top in tops)
    keys = []
    for path in paths:
        split = SPLITS[path[0].lower()] if with_splits else ""
        rest = path[1:] if with_splits else path
        keys.append(Key(split, None, rest[0] if len(rest) > 1 else None))
    return keys


def checked_zip(path: Path) -> zipfile.ZipFile:
    """An open zip file whose table of contents was looked at first.

    Raises:
        DatasetError: No zip file, or one with names outside it, links, passwords or a size that only a bomb has.
    """
    _check_directory(path)
    try:
        opened = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        raise DatasetError(f"'{path.name}' cannot be read as a zip file: {error}") from error
    try:
        _check_zip(path.name, opened.infolist())
    except DatasetError:
        opened.close()
        raise
    return opened


def _check_directory(path: Path) -> None:
    """Count the entries before a record is made of each: a million of them take a gigabyte."""
    count, rest = 0, b""
    try:
        with open(path, "rb") as file:
            while block := file.read(2**20):
                count += (rest + block).count(_ENTRY)
                rest = block[-len(_ENTRY) + 1 :]
                if count > MAX_ZIP_ENTRIES:
                    raise DatasetError(
                        f"'{path.name}' has more than {MAX_ZIP_ENTRIES:,} entries; unpack it and import the folder"
                    )
    except OSError as error:
        raise DatasetError(f"'{path.name}' cannot be read: {error.strerror or error}") from error


def _check_zip(name: str, entries: Sequence[zipfile.ZipInfo]) -> None:
    if len(entries) > MAX_ZIP_ENTRIES:
        raise DatasetError(f"'{name}' has {len(entries):,} entries; the limit is {MAX_ZIP_ENTRIES:,}")
    for entry in entries:
        path = entry.filename.replace("\\", "/")
        if not path:
            raise DatasetError(f"'{name}' is damaged: it has an entry without a name; fetch it again")
        if path.startswith("/") or ".." in path.split("/") or path[1:2] == ":" or "\0" in path:
            raise DatasetError(
                f"'{name}' was refused: the entry {entry.filename!r} points outside the zip file"
            )
        mode = entry.external_attr >> 16
        if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise DatasetError(
                f"'{name}' was refused: the entry {entry.filename!r} is a link or device, not a file"
            )
        if entry.flag_bits & 0x1:
            raise DatasetError(f"'{name}' needs a password; unpack it and import the folder")
        if entry.file_size > MAX_FILE_BYTES and Path(path).suffix.lower() in IMAGE_SUFFIXES:
            raise DatasetError(
                f"'{name}' was refused: the entry {entry.filename!r} claims {entry.file_size:,} bytes"
            )
    total, packed = sum(e.file_size for e in entries), sum(e.compress_size for e in entries)
    if total > MAX_ZIP_BYTES or (total > _RATIO_FROM_BYTES and total > MAX_ZIP_RATIO * max(packed, 1)):
        raise DatasetError(
            f"'{name}' was refused: it unpacks from {packed:,} to {total:,} bytes, as no set of images does"
        )


@contextlib.contextmanager
def closing(source: Source) -> Iterator[Source]:
    """Close a source at the end, whatever happens."""
    try:
        yield source
    finally:
        source.close()
