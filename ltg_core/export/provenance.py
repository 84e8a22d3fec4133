"""Everything known about how a sample came to be, as plain values for a manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from ltg_core.data import reading
from ltg_core.data.records import Run, Sample
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.export.base import class_of

RUNS_FILE = "runs.jsonl"
_LONG = 16
_PLACES = ("generator", "generator_options", "path", "dest")
"""Settings that are, or hold, folders of this machine; their last part says enough."""
Runs = dict[str, dict[str, Any] | None]


def records(ws: Workspace, samples: Sequence[Sample], runs: Runs) -> list[dict[str, Any]]:
    """One record a sample.

    Args:
        ws: The workspace.
        samples: A batch.
        runs: Runs already looked up, by id and whole; filled here. A record has its run without the long lists,
            which say something for each image of the run.
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
        record["run"] = None if sample.real else shortened(_run(ws, sample.origin, runs))
        record["made_from"] = _made_from(ws, sample)
        found.append(record)
    return found


def shortened(value: Any) -> Any:
    """The value with long lists replaced by a word on where they are."""
    if isinstance(value, Mapping):
        return {key: shortened(inner) for key, inner in value.items()}
    if isinstance(value, list) and len(value) > _LONG:
        return f"{len(value)} values, see {RUNS_FILE}"
    return value


def _sample(sample: Sample) -> dict[str, Any]:
    return {
        "id": sample.id,
        "image_hash": sample.image_hash,
        "label": sample.label,
        "class_name": class_of(sample),
        "origin": sample.origin,
        "synthetic": not sample.real,
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


def _run(ws: Workspace, run_id: str, runs: Runs) -> dict[str, Any] | None:
    if run_id not in runs:
        try:
            run: Run = ws.run(run_id)
            kept = ("id", "kind", "seed", "hashes", "versions", "started", "parent")
            settings = {
                key: _last_part(value) if key in _PLACES else value for key, value in run.settings.items()
            }
            runs[run_id] = {**{key: getattr(run, key) for key in kept}, "settings": settings}
        except InputError:  # samples of a run that another tool wrote
            runs[run_id] = None
    return runs[run_id]


def _last_part(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _last_part(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_last_part(inner) for inner in value]
    return PurePath(value).name if isinstance(value, str) else value


def _made_from(ws: Workspace, sample: Sample) -> dict[str, Any] | None:
    source_id = sample.meta.get("source")
    if sample.real or not isinstance(source_id, str):
        return None
    source = next(iter(ws.there([source_id])), None)
    if source is None:
        return None
    return {
        "id": source.id,
        "image_hash": source.image_hash,
        "origin": source.origin,
        "split": source.split,
        "source": source.source,
    }
