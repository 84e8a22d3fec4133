"""Tar shards as WebDataset streams them: the files of a sample share a name."""

from __future__ import annotations

import dataclasses
import io
import tarfile
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from ltg_core.export.base import ClassTable, Exporter, Item, by_split
from ltg_core.export.rows import typed_row
from ltg_core.export.text import json_line
from ltg_core.params import param


@dataclasses.dataclass(frozen=True)
class WebDatasetExporter(Exporter):
    """``train-000000.tar`` with ``<id>.png``, ``<id>.cls``, ``<id>.txt`` (caption) and ``<id>.json`` (provenance)."""

    NAME = "webdataset"
    HELP = "Tar shards for large trainings that stream their data (WebDataset)."
    NEEDS_LABEL = True

    per_shard: int = param(1000, "Samples in one tar file.", low=1, high=1_000_000)

    def write(self, folder: Path, items: Iterator[Item], labels: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Write shard after shard; ``classes.json`` names the numbers in the ``.cls`` files."""
        classes = ClassTable(labels)
        for split, group in by_split(items):
            for shard, first in enumerate(group):
                name = f"{split}-{shard:06d}.tar"
                with tarfile.open(folder / name, "w", format=tarfile.PAX_FORMAT) as tar:
                    for item in chain([first], islice(group, self.per_shard - 1)):
                        for ending, content in _files(item, classes).items():
                            entry = tarfile.TarInfo(f"{item.sample.id}.{ending}")
                            entry.size, entry.mtime = len(content), int(item.sample.created)
                            tar.addfile(entry, io.BytesIO(content))
                        yield {"file_name": f"{name}#{item.sample.id}.png", **item.record}
        classes.write(folder)

    def card(self, splits: Sequence[str]) -> tuple[str, str]:
        """How it is loaded."""
        load = (
            "```python\nimport glob\nimport webdataset\n\n"
            'data = webdataset.WebDataset(sorted(glob.glob("train-*.tar")), shardshuffle=False)\n'
            'data = data.decode("pil").to_tuple("png", "cls")\n```\n\n'
            "`classes.json` names the class of each number."
        )
        return "\n".join(f'  - split: {split}\n    path: "{split}-*.tar"' for split in splits), load


def _files(item: Item, classes: ClassTable) -> dict[str, bytes]:
    values = typed_row(item, f"{item.sample.id}.png", classes)
    return {
        "png": item.png,
        "cls": str(values["label"]).encode(),
        "txt": item.sample.caption.encode("utf-8"),
        "json": json_line(values).encode("utf-8"),
    }
