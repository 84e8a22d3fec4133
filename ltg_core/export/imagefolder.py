"""One folder a class, as torchvision, timm and Hugging Face's ``datasets`` read it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ltg_core.export.base import Exporter, FolderNames, Item, by_split, class_of
from ltg_core.export.text import json_line


@dataclasses.dataclass(frozen=True)
class ImageFolderExporter(Exporter):
    """``train/<class>/<id>.png``, with captions and class names in ``train/metadata.jsonl``."""

    NAME = "imagefolder"
    HELP = "One folder a class with PNG files; any training script reads it."
    NEEDS_LABEL = True

    def write(self, folder: Path, items: Iterator[Item], labels: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Write the files; ``classes.json`` says which class and index a folder stands for."""
        names, numbers = FolderNames(), {name: number for number, name in enumerate(labels)}
        for split, group in by_split(items):
            place = folder / split
            place.mkdir()
            with open(place / "metadata.jsonl", "w", encoding="utf-8") as metadata:
                for item in group:
                    label = class_of(item.sample) or "unlabelled"
                    name = f"{names[label]}/{item.sample.id}.png"
                    (place / names[label]).mkdir(exist_ok=True)
                    (place / name).write_bytes(item.png)
                    line = {
                        "file_name": name,
                        "label": label,
                        "caption": item.sample.caption,
                        "sample_id": item.sample.id,
                    }
                    metadata.write(json_line(line))
                    yield {"file_name": f"{split}/{name}", **item.record}
        classes = [
            {"folder": name, "class_name": label, "label": numbers.get(label)}
            for label, name in sorted(names.items(), key=lambda pair: pair[1])
        ]
        (folder / "classes.json").write_text(json_line(classes), encoding="utf-8")

    def card(self, splits: Sequence[str]) -> tuple[str, str]:
        """How it is loaded."""
        load = (
            '```python\nfrom torchvision.datasets import ImageFolder\n\ndata = ImageFolder("train")\n```\n\n'
            "`classes.json` maps each folder to its class name and to the index that the classifier gives "
            "the class; `ImageFolder` numbers the folders alphabetically instead."
        )
        return "\n".join(f'  - split: {split}\n    path: "{split}/**"' for split in splits), load
