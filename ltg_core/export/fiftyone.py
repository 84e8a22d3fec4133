"""FiftyOne's image classification layout: ``data/`` and ``labels.json``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ltg_core.export.base import ClassTable, Exporter, Item, by_split
from ltg_core.export.text import json_line


@dataclasses.dataclass(frozen=True)
class FiftyOneExporter(Exporter):
    """``data/<id>.png`` and ``labels.json`` (FiftyOneImageClassificationDataset); held-out splits in own folders."""

    NAME = "fiftyone"
    HELP = "data/ and labels.json, to open in FiftyOne."
    NEEDS_LABEL = False

    def write(self, folder: Path, items: Iterator[Item], labels: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Write the files; a sample without a class has null, as FiftyOne expects it."""
        classes = ClassTable(labels)
        for split, group in by_split(items):
            inner = "" if split == "train" else f"{split}/"
            place = folder / inner
            (place / "data").mkdir(parents=True)
            with open(place / "labels.json", "w", encoding="utf-8") as file:
                file.write('{"labels": {')
                for number, item in enumerate(group):
                    (place / "data" / f"{item.sample.id}.png").write_bytes(item.png)
                    target = json_line(classes.number(item.sample)).strip()
                    file.write(f'{"," * (number > 0)}\n"{item.sample.id}": {target}')
                    yield {"file_name": f"{inner}data/{item.sample.id}.png", **item.record}
                file.write(f'\n}}, "classes": {json_line(classes.names).strip()}}}\n')

    def card(self, splits: Sequence[str]) -> tuple[str, str]:
        """How it is loaded."""
        load = (
            "```python\nimport fiftyone\n\n"
            "data = fiftyone.Dataset.from_dir(\n"
            '    dataset_dir=".", dataset_type=fiftyone.types.FiftyOneImageClassificationDataset\n)\n```'
        )
        return "", load
