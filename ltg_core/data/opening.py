"""Which kind of data set a path is."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath

from ltg_core.data.arrays import Arrays
from ltg_core.data.arrow import SavedToDisk, is_saved
from ltg_core.data.hub import PREFIX, HubData
from ltg_core.data.sources import SPLITS, FolderTree, ImageFolder, Key, Row, Source, ZipTree
from ltg_core.data.tables import Lines, Parquet
from ltg_core.data.tars import Tars, is_tar
from ltg_core.errors import DatasetError

_LINES = (".csv", ".tsv", ".jsonl", ".ndjson")
_METADATA = ("metadata.csv", "metadata.jsonl")
_KINDS = (
    "a folder (class folders, Parquet files, tar shards, save_to_disk), .zip, .parquet, .csv, .jsonl, .tar, .npz "
    "or .npy"
)


class Joined(Source):
    """Several data sets one after the other; what they say about splits counts, else where they lie."""

    def __init__(self, parts: Sequence[tuple[str, Source]]) -> None:
        self._parts = list(parts)
        self._sizes: list[int] = []
        self.declared = next((p.declared for _, p in self._parts if p.declared), None)

    def keys(self) -> list[Key]:
        """Those of the parts."""
        found: list[Key] = []
        self._sizes = []
        for split, part in self._parts:
            keys = [key if key.split else key._replace(split=split) for key in part.keys()]  # noqa: SIM118
            self._sizes.append(len(keys))
            found += keys
        return found

    def rows(self, chosen: Collection[int] | None) -> Iterator[Row]:
        """Those of the parts, counted on."""
        if not self._sizes:
            self.keys()
        start = 0
        for (split, part), size in zip(self._parts, self._sizes, strict=True):
            some = None if chosen is None else [i - start for i in chosen if start <= i < start + size]
            for row in part.rows(some):
                yield Row(
                    row.index + start, f"{split}/{row.source}" if split else row.source, row.data, row.error,
                    row.caption, row.meta,
                )  # fmt: skip
            start += size

    def columns(self) -> list[str]:
        """Those of all parts."""
        return list(dict.fromkeys(name for _, part in self._parts for name in part.columns()))

    def close(self) -> None:
        """Close all parts."""
        for _, part in self._parts:
            part.close()


def open_source(path: Path | str, *, online: bool = False) -> Source:
    """A data set in any of the known forms; the caller closes it.

    Args:
        path: A file or folder, or ``hf:owner/name``.
        online: Whether a name may be looked up in the network.

    Raises:
        DatasetError: It is none, or damaged.
    """
    if str(path).startswith(PREFIX):
        if not online:
            raise DatasetError(
                f"{str(path)!r} names a data set in the network, and nothing here fetches anything unasked; import it "
                "from the command line: python -m ltg_core import hf:owner/name"
            )
        return HubData(str(path))
    path = Path(path)
    suffix = path.suffix.lower()
    if path.is_dir():
        return _open_folder(path)
    if not path.exists():
        raise DatasetError(f"'{path}' does not exist")
    if suffix == ".zip":
        return _open_zip(path)
    if suffix == ".parquet":
        return Parquet([path], path.parent)
    if suffix in _LINES:
        return Lines(path, path.parent)
    if suffix in (".npz", ".npy"):
        return Arrays(path)
    if is_tar(path):
        return Tars([path])
    raise DatasetError(f"'{path.name}' is no data set that can be read; expected {_KINDS}")


def _open_folder(path: Path) -> Source:
    if is_saved(path):
        return SavedToDisk(path)
    described = _tables(path, [p.name for p in path.iterdir() if p.is_dir()])
    if described is not None:
        return described
    tables = sorted(file for file in path.rglob("*.parquet") if not file.name.startswith("."))
    if tables:
        return Parquet(tables, path)
    shards = sorted(file for file in path.rglob("*") if file.is_file() and is_tar(file))
    if shards:
        return Tars(shards)
    return ImageFolder(FolderTree(path), path.name)


def _open_zip(path: Path) -> Source:
    """Class folders, or image files with tables beside them; one folder around all of it does not count."""
    tree = ZipTree(path)
    try:
        names = [PurePosixPath(name).parts for name in tree.names() if not name.startswith("__MACOSX/")]
        around = {parts[0] for parts in names} if all(len(parts) > 1 for parts in names) else set()
        home = PurePosixPath(*around) if len(around) == 1 and around.isdisjoint(SPLITS) else PurePosixPath()
        depth = len(home.parts)
        tables = _tables(home, {parts[depth] for parts in names if len(parts) > depth + 1}, tree)
    except BaseException:
        tree.close()
        raise
    return ImageFolder(tree, path.name) if tables is None else tables


def _tables(
    folder: Path | PurePosixPath, within: Collection[str], inside: ZipTree | None = None
) -> Source | None:
    """Image files that tables beside them describe: one for all, or one in each split folder ``within``."""
    table = _described(folder, inside)
    if table is not None:
        return table
    splits = sorted(name for name in within if name.lower() in SPLITS)
    described = [(SPLITS[name.lower()], _described(folder / name, inside)) for name in splits]
    if described and all(part is not None for _, part in described):
        return Joined([(split, part) for split, part in described if part is not None])
    return None


def _described(folder: Path | PurePosixPath, inside: ZipTree | None) -> Lines | None:
    """Image files described by a table beside them, as Hugging Face's image folders have it."""
    for name in _METADATA:
        file = folder / name
        if inside.has(str(file)) if inside is not None else Path(file).is_file():
            table = Lines(file, folder, inside)
            if table.roles() & {"label", "class_name"}:
                return table
    return None
