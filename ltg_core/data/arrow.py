"""Data sets as Hugging Face's ``datasets`` writes them (``save_to_disk``): Arrow files, read in batches."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from ltg_core.data.sources import Key, Row, canonical_split, split_of
from ltg_core.data.tables import Roles, Table, kept_record, label_feature, roles_of
from ltg_core.errors import DatasetError

_LIMIT = 16 * 2**20


def is_saved(path: Path) -> bool:
    """Whether a folder was written by ``save_to_disk``."""
    return (path / "dataset_dict.json").is_file() or (
        (path / "state.json").is_file() and (path / "dataset_info.json").is_file()
    )


class SavedToDisk(Table):
    """A ``Dataset`` or ``DatasetDict`` on disk; the names of its splits are kept.

    Raises:
        DatasetError: Damaged, without an image column, or with an order that is kept in another file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._parts: list[tuple[Path, str, Roles]] = []
        self._columns: dict[str, None] = {}
        folders = [(path, "")]
        if (path / "dataset_dict.json").is_file():
            splits = _json(path / "dataset_dict.json").get("splits", [])
            folders = [(path / _inside(path, name), canonical_split(str(name))) for name in splits]
        for folder, split in folders:
            self._add(folder, split)
        if not self._parts:
            raise DatasetError(f"'{path.name}' has no rows")

    def keys(self) -> list[Key]:
        """From the few columns that say it."""
        found: list[Key] = []
        known: dict[Key, Key] = {}
        for file, split, roles in self._parts:
            columns = [roles[role] for role in ("label", "class_name", "split") if role in roles]
            for batch in _batches(file):
                if not columns:
                    found += [
                        known.setdefault(Key(split, None, None), Key(split, None, None))
                    ] * batch.num_rows
                    continue
                for record in batch.select(columns).to_pylist():
                    key = self._key(record, roles, split)
                    found.append(known.setdefault(key, key))
        return found

    def rows(self, chosen: Collection[int] | None) -> Iterator[Row]:
        """Batches as they lie in the files, a few rows at a time."""
        wanted = None if chosen is None else set(chosen)
        index = 0
        for file, _, roles in self._parts:
            for batch in _batches(file):
                for place in range(batch.num_rows):
                    if wanted is None or index in wanted:
                        yield self._row(index, batch.slice(place, 1).to_pylist()[0], roles, file.name)
                    index += 1

    def columns(self) -> list[str]:
        """Those that play no other part."""
        used = {name for _, _, roles in self._parts for name in roles.values()}
        return [name for name in self._columns if name not in used]

    def _add(self, folder: Path, split: str) -> None:
        state, info = _json(folder / "state.json"), _json(folder / "dataset_info.json")
        if state.get("_indices_files"):
            raise DatasetError(
                f"'{folder.name}' keeps its order in another file; call dataset.flatten_indices() before save_to_disk"
            )
        features = info.get("features")
        for given in state.get("_data_files") or []:
            name = given.get("filename") if isinstance(given, dict) else None
            file = folder / _inside(folder, name)
            schema = _schema(file)
            roles = dict(roles_of(schema.names, file.name, _image_columns(features)))
            label = label_feature(features, roles)
            if label is not None:
                roles["label"], self.declared = label[0], label[1] or self.declared
            self._columns |= dict.fromkeys(schema.names)
            self._parts.append(
                (file, split or canonical_split(str(state.get("_split") or split_of(name or ""))), roles)
            )


def _image_columns(features: Any) -> list[str]:
    found = features.items() if isinstance(features, dict) else ()
    return [name for name, kind in found if isinstance(kind, dict) and kind.get("_type") == "Image"]


def _inside(folder: Path, name: Any) -> str:
    text = str(name)
    if not text or Path(text).name != text or text in (".", ".."):
        raise DatasetError(f"'{folder.name}' names the file {text!r:.80}, which is not in it")
    return text


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LIMIT:
            raise DatasetError(f"'{path.name}' is larger than {_LIMIT // 2**20} MB")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetError(f"'{path.parent.name}/{path.name}' cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"'{path.name}' is no JSON: {error}") from error
    return kept_record(content, path.name)


def _schema(file: Path) -> Any:
    import pyarrow as arrow

    try:
        with arrow.memory_map(str(file)) as source:
            return arrow.ipc.open_stream(source).schema
    except (arrow.ArrowException, OSError) as error:
        raise DatasetError(f"'{file.name}' cannot be read as Arrow: {error}") from error


def _batches(file: Path) -> Iterator[Any]:
    import pyarrow as arrow

    try:
        with arrow.memory_map(str(file)) as source:
            for batch in arrow.ipc.open_stream(source):
                batch.validate(full=True)
                yield batch
    except (arrow.ArrowException, OSError) as error:
        raise DatasetError(f"'{file.name}' is damaged: {error}") from error
