"""Everything known about how a sample came to be, as plain values for a manifest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ltg_core.data import reading
from ltg_core.data.records import Run, Sample
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.export.base import class_of


def records(
    ws: Workspace, samples: Sequence[Sample], runs: dict[str, dict[str, Any] | None]
) -> list[dict[str, Any]]:
    """One record a sample.

    Args:
        ws: The workspace.
        samples: A batch.
        runs: Runs already looked up, by id; filled here.
    """
    ids = [sample.id for sample in samples]
    scores = reading.all_scores(ws.database, ids)
    predictions = reading.all_predictions(ws.database, ids)
    names = ws.label_names()
    found = []
    for sample in samples:
        record = _sample(sample)
        record["scores"] = {
            model: {name: score._asdict() for name, score in signals.items()}
            for model, signals in scores.get(sample.id, {}).items()
        }
        record["predictions"] = {
            model: {**p._asdict(), "class_name": names[p.pred] if 0 <= p.pred < len(names) else None}
            for model, p in predictions.get(sample.id, {}).items()
        }
        record["run"] = None if sample.real else _run(ws, sample.origin, runs)
        record["made_from"] = _made_from(ws, sample)
        found.append(record)
    return found


def png_text(sample: Sample) -> dict[str, str]:
    """What the picture itself says about its origin, when it is found without its manifest."""
    text = {
        "Software": "longtail",
        "longtail:id": sample.id,
        "longtail:origin": sample.origin,
        "longtail:class": class_of(sample),
        "longtail:source": sample.source,
        "longtail:prompt": sample.meta.get("prompt"),
        "longtail:seed": sample.meta.get("seed"),
        "Description": sample.caption,
    }
    return {key: str(value) for key, value in text.items() if value not in (None, "")}


def _sample(sample: Sample) -> dict[str, Any]:
    return {
        "id": sample.id,
        "image_hash": sample.image_hash,
        "label": sample.label,
        "class_name": class_of(sample),
        "origin": sample.origin,
        "original_split": sample.split,
        "source": sample.source,
        "caption": sample.caption,
        "prompt": sample.meta.get("prompt"),
        "seed": sample.meta.get("seed"),
        "control": sample.meta.get("control"),
        "meta": sample.meta,
        "belief": sample.belief,
        "belief_reason": sample.belief_reason,
        "verdict": sample.verdict,
        "rating": sample.rating,
        "tags": list(sample.tags),
        "note": sample.note,
        "created": sample.created,
    }


def _run(ws: Workspace, run_id: str, runs: dict[str, dict[str, Any] | None]) -> dict[str, Any] | None:
    if run_id not in runs:
        try:
            run: Run = ws.run(run_id)
            kept = ("id", "kind", "settings", "seed", "hashes", "versions", "started", "parent")
            runs[run_id] = {key: getattr(run, key) for key in kept}
        except InputError:  # samples of a run that another tool wrote
            runs[run_id] = None
    return runs[run_id]


def _made_from(ws: Workspace, sample: Sample) -> dict[str, Any] | None:
    source_id = sample.meta.get("source")
    if sample.real or not isinstance(source_id, str):
        return None
    source = ws.sample(source_id)
    return {
        "id": source.id,
        "image_hash": source.image_hash,
        "origin": source.origin,
        "split": source.split,
        "source": source.source,
    }
