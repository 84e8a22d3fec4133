"""What an export format is, and what it is given."""

from __future__ import annotations

import abc
import dataclasses
import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

from ltg_core.data.records import Sample
from ltg_core.export.text import json_line
from ltg_core.params import Params

SPLITS = ("train", "val", "test")
"""Where a sample may go, in the order in which they are written."""
_RESERVED = {"con", "prn", "aux", "nul", *(f"com{i}" for i in range(10)), *(f"lpt{i}" for i in range(10))}
_MAX_NAME = 80


@dataclasses.dataclass(frozen=True)
class Item:
    """One sample on its way out.

    Attributes:
        sample: The sample.
        png: Its picture as PNG, with its origin in text chunks and XMP.
        record: Its provenance, JSON values; the format adds ``file_name``.
        split: One of ``SPLITS``; other than "train" only where held-out samples were asked for.
    """

    sample: Sample
    png: bytes
    record: dict[str, Any]
    split: str = "train"


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What an export did.

    Attributes:
        path: The folder.
        n: Samples in it.
        left_out: (sample id, reason) of those that were not written.
        fmt: Name of the format.
        classes: Number of samples by class name.
        splits: Number of samples by split.
    """

    path: Path
    n: int
    left_out: list[tuple[str, str]]
    fmt: str
    classes: dict[str, int]
    splits: dict[str, int]


class Exporter(Params, abc.ABC):
    """A format. Its fields are its settings."""

    NAME: ClassVar[str]
    HELP: ClassVar[str]
    NEEDS_LABEL: ClassVar[bool]

    @abc.abstractmethod
    def write(self, folder: Path, items: Iterator[Item], labels: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Write the items one by one.

        Args:
            folder: Empty.
            items: Lazily made, one split after the other; only a few may be held at a time.
            labels: All class names by index.

        Yields:
            Each item's record with ``file_name``, the place of its picture relative to the folder.
        """

    @abc.abstractmethod
    def card(self, splits: Sequence[str]) -> tuple[str, str]:
        """For the dataset card: YAML lines under ``data_files`` ("" for none), and how to load it (Markdown)."""


class ClassTable:
    """A number for every class: the classifier's own, then classes it does not know in order of appearance."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.names = list(labels)
        self._numbers = {name: number for number, name in enumerate(labels)}
        self._known = len(labels)

    def number(self, sample: Sample) -> int | None:
        """The class index of a sample, None where it has no class."""
        name = class_of(sample)
        if name is None:
            return None
        if name not in self._numbers:
            self._numbers[name] = len(self.names)
            self.names.append(name)
        return self._numbers[name]

    def write(self, folder: Path) -> None:
        """``classes.json``: index, name, and whether the classifier knows the class."""
        rows = [
            {"label": number, "class_name": name, "known": number < self._known}
            for number, name in enumerate(self.names)
        ]
        (folder / "classes.json").write_text(json_line(rows), encoding="utf-8")


class FolderNames:
    """A file name for each class, safe on every system, distinct even where case does not count."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._taken: set[str] = set()

    def __getitem__(self, label: str) -> str:
        if label not in self._names:
            base = safe_file_name(label)
            name, number = base, 2
            while name.casefold() in self._taken:
                name, number = f"{base}_{number}", number + 1
            self._taken.add(name.casefold())
            self._names[label] = name
        return self._names[label]

    def items(self) -> Iterator[tuple[str, str]]:
        """Class names and their file names."""
        yield from self._names.items()


def by_split(items: Iterator[Item]) -> Iterator[tuple[str, Iterator[Item]]]:
    """The items split by split, still lazily."""
    return groupby(items, key=lambda item: item.split)


def safe_file_name(text: str) -> str:
    """Letters, digits, dots, dashes and underscores of a text; never empty, reserved or hidden."""
    # Compatibility forms: Windows takes "COM¹" for "COM1".
    name = re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFKC", text))
    name = name.encode("utf-8", "ignore")[:_MAX_NAME].decode("utf-8", "ignore").strip("._- ")
    stem, dot, rest = name.partition(".")
    if stem.casefold() in _RESERVED:
        name = f"{stem}_{dot}{rest}"
    return name or "class"


def class_of(sample: Sample) -> str | None:
    """The class in words, None where it has none."""
    if sample.label_name:
        return sample.label_name
    return None if sample.label is None else f"class {sample.label}"
