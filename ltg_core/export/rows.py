"""One flat row a sample: what a table can hold of its provenance."""

from __future__ import annotations

from typing import Any

from ltg_core.export.base import ClassTable, Item, class_of
from ltg_core.export.text import json_line


def row(item: Item, file_name: str, classes: ClassTable) -> dict[str, Any]:
    """Columns by name: texts, whole numbers, True or False, None; what is nested is JSON text.

    Args:
        item: The sample.
        file_name: The place of its picture, relative to the table.
        classes: Gives the class index.
    """
    sample, record = item.sample, item.record
    run, made_from = record["run"] or {}, record["made_from"] or {}
    prompt, seed = record["prompt"], record["seed"]
    return {
        "file_name": file_name,
        "label": classes.number(sample),
        "class_name": class_of(sample),
        "split": item.split,
        "caption": sample.caption,
        "sample_id": sample.id,
        "synthetic": not sample.real,
        "origin": sample.origin,
        "source": sample.source,
        "source_sample": made_from.get("id"),
        "prompt": None if prompt is None else str(prompt),
        "seed": None if seed is None else str(seed),  # up to 63 bits: a spreadsheet would round the number
        "settings": _json(run.get("settings")),
        "model_hashes": _json(run.get("hashes")),
        "versions": _json(run.get("versions")),
        "belief": sample.belief,
        "verdict": sample.verdict,
        "rating": sample.rating,
        "tags": ", ".join(sample.tags),
        "note": sample.note,
        "image_hash": sample.image_hash,
        "meta": _json(sample.meta),
    }


def typed_row(item: Item, file_name: str, classes: ClassTable) -> dict[str, Any]:
    """As ``row`` for a sample with a class, without None: each column has one type in every row.

    Hugging Face's ``datasets`` takes a column's type from the first rows and refuses a file where it differs.
    """
    values = row(item, file_name, classes)
    values["rating"] = values["rating"] or 0
    return {key: "" if value is None else value for key, value in values.items()}


def _json(value: Any) -> str | None:
    return json_line(value).strip() if value else None
