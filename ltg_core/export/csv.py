"""A spreadsheet beside the images."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ltg_core.export.base import ClassTable, Exporter, Item
from ltg_core.export.rows import row
from ltg_core.export.text import cell


@dataclasses.dataclass(frozen=True)
class CsvExporter(Exporter):
    """``images/<id>.png`` and ``metadata.csv``, safe to open in a spreadsheet."""

    NAME = "csv"
    HELP = "PNG files and one CSV table; opens in a spreadsheet or pandas."
    NEEDS_LABEL = False

    def write(self, folder: Path, items: Iterator[Item], labels: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Write the files; a cell that a spreadsheet would calculate begins with an apostrophe."""
        classes, writer = ClassTable(labels), None
        (folder / "images").mkdir()
        with open(folder / "metadata.csv", "w", encoding="utf-8", newline="") as file:
            for item in items:
                name = f"images/{item.sample.id}.png"
                (folder / name).write_bytes(item.png)
                values = row(item, name, classes)
                if writer is None:
                    writer = csv.DictWriter(file, list(values), quoting=csv.QUOTE_NONNUMERIC)
                    writer.writeheader()
                writer.writerow({key: cell(value) for key, value in values.items()})
                yield {"file_name": name, **item.record}
        classes.write(folder)

    def card(self, splits: Sequence[str]) -> tuple[str, str]:
        """How it is loaded."""
        load = (
            '```python\nimport pandas\n\ndata = pandas.read_csv("metadata.csv")\n```\n\n'
            "A text that a spreadsheet would take for a formula has an apostrophe before it, and characters that hide "
            "or reorder text are written as escapes; `manifest.jsonl` has every text as it was. `classes.json` names "
            "the class of each number in `label`."
        )
        return "", load
