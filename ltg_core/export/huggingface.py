"""Hugging Face's image folder with metadata: PNG files beside a ``metadata.jsonl``, one folder a split."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ltg_core.export.base import ClassTable, Exporter, Item, by_split
from ltg_core.export.rows import typed_row
from ltg_core.export.text import json_line


@dataclasses.dataclass(frozen=True)
class HuggingFaceExporter(Exporter):
    """``train/<id>.png`` and ``train/metadata.jsonl`` with class name, caption and provenance."""

    NAME = "huggingface"
    HELP = "PNG files with a metadata.jsonl; load_dataset of Hugging Face reads the folder."
    NEEDS_LABEL = True

    def write(self, folder: Path, items: Iterator[Item], labels: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Write the files; ``label`` is the class in words, ``classes.json`` has the order."""
        classes = ClassTable(labels)
        for split, group in by_split(items):
            place = folder / split
            place.mkdir()
            with open(place / "metadata.jsonl", "w", encoding="utf-8") as metadata:
                for item in group:
                    name = f"{item.sample.id}.png"
                    (place / name).write_bytes(item.png)
                    line = typed_row(item, name, classes)
                    line["label"] = line.pop("class_name")
                    metadata.write(json_line(line))
                    yield {"file_name": f"{split}/{name}", **item.record}
        classes.write(folder)

    def card(self, splits: Sequence[str]) -> tuple[str, str]:
        """How it is loaded."""
        load = (
            "```python\nimport json\nfrom datasets import ClassLabel, load_dataset\n\n"
            'data = load_dataset(".")  # this folder\n'
            'names = [c["class_name"] for c in json.load(open("classes.json"))]\n'
            'data = data.cast_column("label", ClassLabel(names=names))\n```'
        )
        return "\n".join(f'  - split: {split}\n    path: "{split}/**"' for split in splits), load
