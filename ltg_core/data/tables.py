"""Data sets as tables: Parquet (image bytes or paths), CSV and JSONL (paths). Read in batches."""

from __future__ import annotations

import csv
import json
import posixpath
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ltg_core.data.images import MAX_FILE_BYTES
from ltg_core.data.sources import DAMAGED, Key, Row, Source, ZipTree, canonical_split, split_of
from ltg_core.errors import DatasetError

COLUMNS = {
    "image": ("image", "img", "path", "file_name", "filename", "file", "image_path"),
    "label": ("label", "class_id", "labels", "target", "fine_label"),
    "class_name": ("class_name", "label_name", "class"),
    "split": ("split",),
    "caption": ("caption", "text"),
}
"""What a column may be called, by role; every other column becomes metadata."""
_BATCH_ROWS = 64
_MAX_GROUP_BYTES = 8 * 1024**3
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,15})(\.\d+)?")
Roles = Mapping[str, str]


def roles_of(columns: Sequence[str], name: str, images: Sequence[str] = ()) -> Roles:
    """Which column plays which part; ``images`` are known to hold images, whatever they are called.

    Raises:
        DatasetError: No column holds images.
    """
    lower = {column.lower().strip(): column for column in reversed(list(columns))}
    found = {
        role: next(lower[alias] for alias in aliases if alias in lower)
        for role, aliases in COLUMNS.items()
        if any(alias in lower for alias in aliases)
    }
    if images and found.get("image") not in images:
        found["image"] = images[0]
    if "image" not in found:
        shown = ", ".join(repr(c) for c in list(columns)[:12]) or "no columns"
        raise DatasetError(
            f"'{name}' has no column with images (one of {', '.join(COLUMNS['image'])}); it has {shown}"
        )
    return found


def key_of_record(record: Mapping[str, Any], roles: Roles, split: str) -> Key:
    """Split and class of one row."""
    value = record.get(roles.get("label", ""))
    name = record.get(roles.get("class_name", ""))
    given = record.get(roles.get("split", ""))
    number = _whole(value)
    if name in (None, ""):
        name = value if isinstance(value, str) and value and number is None else None
    where = canonical_split(str(given)) if given not in (None, "") else split
    return Key(where, number, None if name is None else str(name))


def label_feature(features: Any, roles: Roles) -> tuple[str, list[str] | None] | None:
    """The label column and its names, from the features that Hugging Face's ``datasets`` writes.

    The column in the role of the label; where there is none, the only one whose values are classes.
    """
    if not isinstance(features, dict):
        return None
    kinds = {
        str(name): kind
        for name, kind in features.items()
        if isinstance(kind, dict) and (kind.get("_type") == "ClassLabel" or "names" in kind)
    }
    column = roles.get("label") or (next(iter(kinds)) if len(kinds) == 1 else None)
    if column is None:
        return None
    names = kinds.get(column, {}).get("names")
    return column, [str(name) for name in names] if isinstance(names, list) and names else None


def kept_record(content: Any, name: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        DatasetError: It is something else.
    """
    if not isinstance(content, dict):
        raise DatasetError(f"'{name}' holds a {type(content).__name__}; expected an object")
    return content


class Table(Source):
    """Rows with columns.

    Args:
        root: Folder that paths are relative to, and that no path may leave: a table from somebody else must
            not name files elsewhere on this machine. With ``inside`` a folder in there.
        inside: The zip file in which the images lie.
    """

    def __init__(self, root: Path | PurePosixPath, inside: ZipTree | None = None) -> None:
        self._root = root.resolve() if isinstance(root, Path) else root
        self._inside = inside

    def _key(self, record: Mapping[str, Any], roles: Roles, split: str) -> Key:
        return key_of_record(record, roles, split)

    def _row(self, index: int, record: Mapping[str, Any], roles: Roles, file: str) -> Row:
        source, data, error = self._image(record.get(roles["image"]), f"{file}#{index}")
        caption = record.get(roles.get("caption", ""))
        used = set(roles.values())
        meta = {
            key: v for key, v in record.items() if key not in used and kept_value(v) and isinstance(key, str)
        }
        return Row(index, source, data, error, "" if caption is None else str(caption), meta)

    def _image(self, value: Any, place: str) -> tuple[str, bytes | None, str]:
        if isinstance(value, Mapping):  # the layout of Hugging Face: {bytes, path}
            data, path = value.get("bytes"), value.get("path")
            source = str(path) if path else place
            return (source, data, "") if isinstance(data, bytes) else self._file(path, place)
        if isinstance(value, bytes):
            return place, value, ""
        return self._file(value, place)

    def _file(self, path: Any, place: str) -> tuple[str, bytes | None, str]:
        if not isinstance(path, str) or not path:
            return place, None, "has no image"
        if "\0" in path:
            return place, None, "has an impossible path"
        if self._inside is not None:
            return self._zipped(path, self._inside)
        file = Path(self._root / path).resolve()
        if not file.is_relative_to(self._root):
            return path, None, "lies outside the data set's folder"
        try:
            if file.stat().st_size > MAX_FILE_BYTES:
                return path, None, f"is larger than {MAX_FILE_BYTES // 1_048_576} MB"
            return path, file.read_bytes(), ""
        except OSError as error:
            return path, None, f"cannot be read: {error.strerror or error}"

    def _zipped(self, path: str, inside: ZipTree) -> tuple[str, bytes | None, str]:
        name = posixpath.normpath(posixpath.join(str(self._root), path.replace("\\", "/")))
        if name.startswith(("/", "..")) or not PurePosixPath(name).is_relative_to(self._root):
            return path, None, "lies outside the data set's folder"
        try:
            return path, inside.read(name), ""
        except (OSError, ValueError) as error:
            return path, None, f"cannot be read: {getattr(error, 'strerror', None) or error}"


class Parquet(Table):
    """One or several Parquet files; the split is a column or the start of the file name.

    Raises:
        DatasetError: A file is damaged, empty of rows, or has no column with images.
    """

    def __init__(self, paths: Sequence[Path], root: Path) -> None:
        import pyarrow as arrow
        import pyarrow.parquet as parquet

        super().__init__(root)
        self._damaged: tuple[type[Exception], ...] = (arrow.ArrowException, OSError)
        self._files = []
        for path in paths:
            try:
                file = parquet.ParquetFile(path, pre_buffer=False)
            except self._damaged as error:
                raise DatasetError(f"'{path.name}' cannot be read as Parquet: {error}") from error
            self._files.append((path, file, roles_of(file.schema_arrow.names, path.name)))
            for group in range(file.num_row_groups):
                if file.metadata.row_group(group).total_byte_size > _MAX_GROUP_BYTES:
                    raise DatasetError(
                        f"'{path.name}' has a row group above 8 GB; write it with smaller row groups"
                    )
        self.declared = next(
            (names for _, f, r in self._files if (names := _declared(f.schema_arrow, r))), None
        )

    def keys(self) -> list[Key]:
        """From the few columns that say it; images are not touched."""
        found: list[Key] = []
        known: dict[Key, Key] = {}  # a million rows share a few of them
        for path, file, roles in self._files:
            columns = [roles[role] for role in ("label", "class_name", "split") if role in roles]
            split = split_of(path.name)
            if not columns:
                found += [Key(split, None, None)] * file.metadata.num_rows
                continue
            for records in self._batches(path, file, columns, None):
                for record in records:
                    key = self._key(record, roles, split)
                    found.append(known.setdefault(key, key))
        return found

    def rows(self, chosen: Collection[int] | None) -> Iterator[Row]:
        """Batches of 64 rows; row groups without a chosen row are not read."""
        wanted = None if chosen is None else set(chosen)
        start = 0
        for path, file, roles in self._files:
            for group in range(file.num_row_groups):
                size = file.metadata.row_group(group).num_rows
                if wanted is None or not wanted.isdisjoint(range(start, start + size)):
                    index = start
                    for records in self._batches(path, file, None, group):
                        for record in records:
                            if wanted is None or index in wanted:
                                yield self._row(index, record, roles, path.name)
                            index += 1
                start += size

    def columns(self) -> list[str]:
        """Those that play no other part."""
        return list(
            dict.fromkeys(
                name
                for _, file, roles in self._files
                for name in file.schema_arrow.names
                if name not in roles.values()
            )
        )

    def close(self) -> None:
        """Close the files."""
        for _, file, _ in self._files:
            file.close()

    def _batches(
        self, path: Path, file: Any, columns: Sequence[str] | None, group: int | None
    ) -> Iterator[list[dict[str, Any]]]:
        groups = None if group is None else [group]
        size = _BATCH_ROWS if columns is None else 8192
        try:
            for batch in file.iter_batches(
                batch_size=size, row_groups=groups, columns=columns, use_threads=False
            ):
                yield batch.to_pylist()
        except self._damaged as error:
            raise DatasetError(f"'{path.name}' is damaged: {error}") from error


class Lines(Table):
    """A CSV (comma, semicolon or tab) or JSONL file whose rows name image files.

    Args:
        path: The file; with ``inside`` its name in there.
        root: Folder that its paths are relative to.
        inside: The zip file in which it lies.

    Raises:
        DatasetError: The file is no text, has no rows, or has no column with images.
    """

    def __init__(
        self, path: Path | PurePosixPath, root: Path | PurePosixPath, inside: ZipTree | None = None
    ) -> None:
        super().__init__(root, inside)
        self._path = path
        first = next((record for _, record in self._records() if record is not None), None)
        if first is None:
            raise DatasetError(f"'{path.name}' has no rows that can be read")
        self._roles = roles_of([column for column in first if isinstance(column, str)], path.name)

    def keys(self) -> list[Key]:
        """From a first pass over the text; no image is read."""
        split = split_of(self._path.name)
        known: dict[Key, Key] = {}
        found = []
        for _, record in self._records():
            key = Key(split, None, None) if record is None else self._key(record, self._roles, split)
            found.append(known.setdefault(key, key))
        return found

    def rows(self, chosen: Collection[int] | None) -> Iterator[Row]:
        """One row a line."""
        wanted = None if chosen is None else set(chosen)
        for index, record in self._records():
            if wanted is not None and index not in wanted:
                continue
            if record is None:
                yield Row(index, f"{self._path.name}#{index}", None, "is no JSON object")
            else:
                yield self._row(index, record, self._roles, self._path.name)

    def columns(self) -> list[str]:
        """Those that play no other part, in any row."""
        used = set(self._roles.values())
        names = dict.fromkeys(name for _, record in self._records() for name in record or ())
        return [name for name in names if isinstance(name, str) and name not in used]

    def roles(self) -> set[str]:
        """The roles that have a column."""
        return set(self._roles)

    def close(self) -> None:
        """Close the zip file."""
        if self._inside is not None:
            self._inside.close()

    def _opened(self) -> IO[str]:
        if self._inside is not None:
            return self._inside.text(str(self._path))
        return open(self._path, encoding="utf-8-sig", newline="")

    def _records(self) -> Iterator[tuple[int, dict[str, Any] | None]]:
        try:
            with self._opened() as file:
                if self._path.suffix.lower() in (".jsonl", ".ndjson"):
                    yield from enumerate(_json_lines(file))
                else:
                    header = file.readline()
                    file.seek(0)
                    delimiter = max(",;\t", key=header.count)
                    for index, record in enumerate(csv.DictReader(file, delimiter=delimiter)):
                        yield index, {k: _typed(v) for k, v in record.items() if isinstance(k, str)}
        except UnicodeDecodeError as error:
            raise DatasetError(f"'{self._path.name}' is not UTF-8 text: {error}") from error
        except (OSError, csv.Error, *DAMAGED) as error:
            raise DatasetError(f"'{self._path.name}' cannot be read: {error}") from error


def _json_lines(lines: Iterator[str]) -> Iterator[dict[str, Any] | None]:
    for line in lines:
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            record = None
        yield record if isinstance(record, dict) else None


def _typed(value: Any) -> Any:
    """Numbers where the text is one; "007" and "" stay text."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value) if "." in value else int(value)
    return value


def _whole(value: Any) -> int | None:
    """A class index out of 3, 3.0 or "3"; None for anything else. Negative numbers mean no class."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"\d{1,9}", value) else None
    if isinstance(value, (int, float)) and value == value and float(value).is_integer() and value >= 0:
        return int(value)
    return None


def kept_value(value: Any) -> bool:
    """Whether a value is worth a metadata column."""
    return value is not None and value != "" and not isinstance(value, bytes)


def _declared(schema: Any, roles: Roles) -> list[str] | None:
    """Class names from the metadata that Hugging Face's ``datasets`` writes into a Parquet schema."""
    raw = (schema.metadata or {}).get(b"huggingface", b"")
    try:
        names = json.loads(raw)["info"]["features"][roles["label"]]["names"]
    except (TypeError, KeyError, ValueError):
        return None
    return [str(name) for name in names] if isinstance(names, list) and names else None
