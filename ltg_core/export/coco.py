"""COCO JSON for classification: one category an image, no boxes."""

from __future__ import annotations

import dataclasses
import io
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ltg_core.export.base import ClassTable, Exporter, Item, by_split
from ltg_core.export.text import json_line


@dataclasses.dataclass(frozen=True)
class CocoExporter(Exporter):
    """``images/train/<id>.png`` and ``annotations/labels_train.json``."""

    NAME = "coco"
    HELP = "COCO annotations with one category for each image, for tools that read COCO."
    NEEDS_LABEL = True

    def write(self, folder: Path, items: Iterator[Item], labels: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Write the files; a category's id is the class index plus one, as COCO counts from one."""
        classes = ClassTable(labels)
        (folder / "annotations").mkdir()
        for split, group in by_split(items):
            place = folder / "images" / split
            place.mkdir(parents=True)
            annotations: list[dict[str, int]] = []
            with open(folder / "annotations" / f"labels_{split}.json", "w", encoding="utf-8") as file:
                file.write('{"info": ' + json_line({"description": "exported with longtail"}).strip())
                file.write(', "licenses": [], "images": [\n')
                for number, item in enumerate(group, start=1):
                    name = f"{item.sample.id}.png"
                    (place / name).write_bytes(item.png)
                    file.write(",\n" * (number > 1) + json_line(_image(number, name, item)).strip())
                    category = (classes.number(item.sample) or 0) + 1
                    annotations.append({"id": number, "image_id": number, "category_id": category})
                    yield {"file_name": f"images/{split}/{name}", **item.record}
                categories = [
                    {"id": number, "name": label, "supercategory": ""}
                    for number, label in enumerate(classes.names, start=1)
                ]
                file.write(f'\n], "annotations": {json_line(annotations).strip()}')
                file.write(f', "categories": {json_line(categories).strip()}}}\n')

    def card(self, splits: Sequence[str]) -> tuple[str, str]:
        """How it is loaded."""
        load = (
            "```python\nfrom pycocotools.coco import COCO\n\n"
            'data = COCO("annotations/labels_train.json")  # pictures in images/train\n```\n\n'
            "Annotations name a category for the whole image and have no boxes. A category's id is the "
            "classifier's index plus one."
        )
        return "", load


def _image(number: int, name: str, item: Item) -> dict[str, Any]:
    with Image.open(io.BytesIO(item.png)) as image:
        width, height = image.size
    return {
        "id": number,
        "file_name": name,
        "width": width,
        "height": height,
        "date_captured": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(item.sample.created)),
        "longtail": {
            key: item.record[key] for key in ("id", "origin", "synthetic", "prompt", "seed", "made_from")
        },
    }
