"""One folder a class, as torchvision, timm and Hugging Face's ``datasets`` read it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ltg_core.data.runs import dump
from ltg_core.export.base import Exporter, FolderNames, Item, class_of


@dataclasses.dataclass(frozen=True)
class ImageFolderExporter(Exporter):
    """``train/<class>/<id>.png``, with captions and class names in ``train/metadata.jsonl``."""

    NAME = "imagefolder"
    HELP = "One folder a class with PNG files; any training script reads it."
    NEEDS_LABEL = True

    def write(self, folder: Path, items: Iterator[Item], labels: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Write the files; ``classes.json`` says which class and index a folder stands for."""
        names, numbers = FolderNames(), {name: number for number, name in enumerate(labels)}
        train = folder / "train"
        train.mkdir()
        with open(train / "metadata.jsonl", "w", encoding="utf-8") as metadata:
            for item in items:
                label = class_of(item.sample) or "unlabelled"
                place = f"{names[label]}/{item.sample.id}.png"
                (train / names[label]).mkdir(exist_ok=True)
                (train / place).write_bytes(item.png)
                line = {
                    "file_name": place,
                    "label": label,
                    "caption": item.sample.caption,
                    "sample_id": item.sample.id,
                }
                metadata.write(dump(line) + "\n")
                yield {"file_name": f"train/{place}", **item.record}
        classes = [
            {"folder": name, "class_name": label, "label": numbers.get(label)}
            for label, name in sorted(names.items(), key=lambda pair: pair[1])
        ]
        (folder / "classes.json").write_text(dump(classes) + "\n", encoding="utf-8")

    def card(self) -> tuple[str, str]:
        """How it is loaded."""
        load = (
            '```python\nfrom torchvision.datasets import ImageFolder\n\ndata = ImageFolder("train")\n```\n\n'
            "`classes.json` maps each folder to its class name and to the index that the classifier gives "
            "the class; `ImageFolder` numbers the folders alphabetically instead."
        )
        return '  - split: train\n    path: "train/**"', load
