"""Parquet with the image bytes inside, in the layout of Hugging Face's image data sets."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from ltg_core.data.runs import dump
from ltg_core.export.base import ClassTable, Exporter, Item, by_split, class_of
from ltg_core.export.rows import row as rows_row
from ltg_core.params import param

_GROUP_ROWS = 100  # a viewer reads a group to show a row
_TEXTS = ("id", "caption", "origin", "verdict", "belief", "prompt")
_MORE = ("source_sample", "settings", "model_hashes", "versions", "note", "image_hash")
"""Columns as other tables have them (``rows.row``)."""


@dataclasses.dataclass(frozen=True)
class ParquetExporter(Exporter):
    """``data/train-00000.parquet`` with image, label, class name, caption, provenance, verdict, meta."""

    NAME = "parquet"
    HELP = "Parquet files with the images inside, ready for Hugging Face datasets."
    NEEDS_LABEL = False

    rows_per_file: int = param(5000, "Samples in one file.", low=1, high=1_000_000)

    def write(self, folder: Path, items: Iterator[Item], labels: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Write file after file, a hundred rows at a time."""
        import pyarrow.parquet as parquet

        (folder / "data").mkdir()
        schema = _schema(labels)
        for split, group in by_split(items):
            for number, first in enumerate(group):
                name = f"data/{split}-{number:05d}.parquet"
                rest = chain([first], islice(group, self.rows_per_file - 1))
                with parquet.ParquetWriter(folder / name, schema, compression="zstd") as writer:
                    while rows := list(islice(rest, _GROUP_ROWS)):
                        writer.write_table(_table(rows, labels, schema))
                        for item in rows:
                            yield {"file_name": f"{name}#{item.sample.id}.png", **item.record}

    def card(self, splits: Sequence[str]) -> tuple[str, str]:
        """How it is loaded."""
        load = (
            '```python\nfrom datasets import load_dataset\n\ndata = load_dataset("parquet", '
            'data_files="data/train-*.parquet", split="train")\n```'
        )
        lines = [f'  - split: {split}\n    path: "data/{split}-*.parquet"' for split in splits]
        return "\n".join(lines), load


def _table(items: Sequence[Item], labels: Sequence[str], schema: Any) -> Any:
    import pyarrow as arrow

    rows, classes = [], ClassTable(labels)
    for item in items:
        sample, record = item.sample, item.record
        row: dict[str, Any] = {key: record[key] for key in _TEXTS}
        prompt, seed = row["prompt"], record["seed"]
        row["prompt"] = None if prompt is None else str(prompt)
        row["image"] = {"bytes": item.png, "path": f"{sample.id}.png"}
        known = sample.label is not None and 0 <= sample.label < len(labels)
        row["label"] = sample.label if known else None
        row["class_name"] = class_of(sample)
        row["seed"] = seed if isinstance(seed, int) and abs(seed) < 2**63 else None
        flat = rows_row(item, row["image"]["path"], classes)
        row |= {key: flat[key] for key in _MORE} | {"synthetic": not sample.real, "rating": sample.rating}
        row["tags"] = list(sample.tags)
        row["meta"] = dump(sample.meta)
        rows.append(row)
    return arrow.Table.from_pylist(rows, schema=schema)


def _schema(labels: Sequence[str]) -> Any:
    import pyarrow as arrow

    text = arrow.string()
    fields = [
        arrow.field("image", arrow.struct([("bytes", arrow.binary()), ("path", text)])),
        arrow.field("label", arrow.int64()),
        arrow.field("class_name", text),
        *(arrow.field(name, text) for name in _TEXTS),
        arrow.field("seed", arrow.int64()),
        arrow.field("synthetic", arrow.bool_()),
        *(arrow.field(name, text) for name in _MORE),
        arrow.field("rating", arrow.int64()),
        arrow.field("tags", arrow.list_(text)),
        arrow.field("meta", text),
    ]
    value = {"dtype": "string", "_type": "Value"}
    features: dict[str, Any] = {
        "image": {"_type": "Image"},
        "label": {"names": list(labels), "_type": "ClassLabel"}
        if labels
        else {"dtype": "int64", "_type": "Value"},
        "class_name": value,
        **dict.fromkeys(_TEXTS, value),
        "seed": {"dtype": "int64", "_type": "Value"},
        "synthetic": {"dtype": "bool", "_type": "Value"},
        **dict.fromkeys(_MORE, value),
        "rating": {"dtype": "int64", "_type": "Value"},
        "tags": {"feature": value, "_type": "List"},
        "meta": value,
    }
    # The key under which ``datasets`` keeps what its columns mean; other readers ignore it.
    return arrow.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})
