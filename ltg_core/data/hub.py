"""Data sets of Hugging Face's hub by name, where there is a network and somebody asked for it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from ltg_core.data.sources import Key, Row, canonical_split
from ltg_core.data.tables import Roles, Table, label_feature, roles_of
from ltg_core.errors import DatasetError, MissingExtra

PREFIX = "hf:"


class HubData(Table):
    """``hf:owner/name`` or ``hf:owner/name@revision``, all splits; it is downloaded into the library's own cache.

    Only data files are read: ``datasets`` runs no scripts of repositories.

    Raises:
        DatasetError: No network, no such data set, or one without images.
        MissingExtra: ``datasets`` is not installed.
    """

    def __init__(self, given: str) -> None:
        super().__init__(Path("."))
        name, _, revision = given.removeprefix(PREFIX).partition("@")
        try:
            import datasets  # type: ignore[import-untyped]
        except ModuleNotFoundError as error:
            raise MissingExtra(
                "data sets by name need the package datasets; install it with: pip install datasets"
            ) from error
        try:
            loaded = datasets.load_dataset(name, revision=revision or None)
        except Exception as error:  # its errors, those of the hub and those of the network
            first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise DatasetError(
                f"the data set {name!r} could not be fetched ({type(error).__name__}: {first}). Is there a network, "
                "and is the name right? A data set on disk (save_to_disk, Parquet, an image folder) needs neither"
            ) from error
        self._parts: list[tuple[str, Any, Roles]] = []
        for split, table in loaded.items():
            features = table.features.to_dict() if hasattr(table.features, "to_dict") else {}
            images = [n for n, kind in table.features.items() if type(kind).__name__ == "Image"]
            roles = dict(roles_of(table.column_names, name, images))
            label = label_feature(features, roles)
            if label is not None:
                roles["label"], self.declared = label[0], label[1] or self.declared
            self._parts.append((canonical_split(str(split)), _undecoded(table, datasets, images), roles))

    def keys(self) -> list[Key]:
        """From the label columns."""
        found: list[Key] = []
        known: dict[Key, Key] = {}
        for split, table, roles in self._parts:
            columns = [roles[role] for role in ("label", "class_name") if role in roles]
            if not columns:
                found += [Key(split, None, None)] * len(table)
                continue
            for record in table.select_columns(columns):
                key = self._key(record, roles, split)
                found.append(known.setdefault(key, key))
        return found

    def rows(self, chosen: Collection[int] | None) -> Iterator[Row]:
        """One row at a time."""
        wanted = None if chosen is None else set(chosen)
        index = 0
        for split, table, roles in self._parts:
            for record in table:
                if wanted is None or index in wanted:
                    yield self._row(index, record, roles, split)
                index += 1

    def columns(self) -> list[str]:
        """Those that play no other part."""
        return list(
            dict.fromkeys(
                name
                for _, table, roles in self._parts
                for name in table.column_names
                if name not in roles.values()
            )
        )


def _undecoded(table: Any, datasets: Any, images: list[str]) -> Any:
    """With the bytes of image files instead of pictures."""
    for name in images:
        table = table.cast_column(name, datasets.Image(decode=False))
    return table
