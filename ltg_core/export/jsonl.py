"""One line of JSON a sample beside the images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ltg_core.export.base import ClassTable, Exporter, Item
from ltg_core.export.rows import row
from ltg_core.export.text import json_line


@dataclasses.dataclass(frozen=True)
class JsonlExporter(Exporter):
    """``images/<id>.png`` and ``metadata.jsonl``."""

    NAME = "jsonl"
    HELP = "PNG files and one line of JSON for each; for own scripts."
    NEEDS_LABEL = False

    def write(self, folder: Path, items: Iterator[Item], labels: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Write the files."""
        classes = ClassTable(labels)
        (folder / "images").mkdir()
        with open(folder / "metadata.jsonl", "w", encoding="utf-8") as file:
            for item in items:
                name = f"images/{item.sample.id}.png"
                (folder / name).write_bytes(item.png)
                file.write(json_line(row(item, name, classes)))
                yield {"file_name": name, **item.record}
        classes.write(folder)

    def card(self, splits: Sequence[str]) -> tuple[str, str]:
        """How it is loaded."""
        load = (
            '```python\nimport pandas\n\ndata = pandas.read_json("metadata.jsonl", lines=True)\n```\n\n'
            "`classes.json` names the class of each number in `label`."
        )
        return "", load
