"""The map of a workspace: features of real and generated samples in two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ltg_core.data.images import content_hash
from ltg_core.data.records import Run
from ltg_core.data.workspace import Workspace
from ltg_core.embedding.maps import MapSettings, compute_map
from ltg_core.jobs import CancelToken, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.workflows.computing import compute_outputs
from ltg_core.workflows.recording import recorded
from ltg_core.workflows.scoring import refresh_scores
from ltg_core.workflows.store import FeatureStore

_PART = 10_000


def map_samples(
    ws: Workspace,
    classifier: Classifier,
    settings: MapSettings | None = None,
    *,
    ids: Sequence[str] | None = None,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Run:
    """Lay samples out by their features; samples that lack features are scored first.

    The same samples with the same settings are laid out once: the second time the map is read from a file.

    Args:
        ws: The workspace.
        classifier: Whose features.
        settings: None for the defaults.
        ids: None for all samples, real and generated.
        on_progress: Told about every stage.
        cancel: Ends the work at once; the last map stays.

    Returns:
        The run; ``map_points`` reads the map.

    Raises:
        InputError: Fewer than five samples.
        MissingExtra: UMAP is not installed.
        Cancelled: On request.
    """
    token, settings = cancel or CancelToken(), settings or MapSettings()
    chosen = [s for part in ws.iterate() for s in part] if ids is None else list(dict.fromkeys(ids))
    record = {
        **settings.to_dict(),
        "samples": len(chosen),
        "ids_hash": content_hash("\n".join(chosen).encode()),
    }
    with recorded(ws, "map", record, seed=settings.seed, hashes={"classifier": classifier.hash}) as recording:
        _, skipped = compute_outputs(ws, classifier, chosen, on_progress=on_progress, cancel=token)
        refresh_scores(ws, classifier, chosen, on_progress=on_progress, cancel=token)
        unread = {sample for sample, _ in skipped}
        chosen = [sample for sample in chosen if sample not in unread]
        result = compute_map(
            FeatureStore(ws, classifier).features(chosen),
            settings,
            cache_dir=ws.path / "arrays" / "maps",
            on_progress=on_progress,
            cancel=token,
        )
        key = f"map-{recording.run.id}"
        ws.put_array(key, result.coords)
        ws.put_array(f"{key}-ids", np.array([sample.encode() for sample in chosen]))
        recording.result |= {
            "samples": len(chosen),
            "skipped": len(skipped),
            "notes": list(result.notes),
            "cached": result.cached,
        }
        ws.put_state("map", {"run": recording.run.id, "model_hash": classifier.hash})
    return recording.run


def map_points(ws: Workspace) -> dict[str, list[Any]]:
    """The last map as columns of equal length, {} where there is none.

    Returns:
        ``id``, ``x``, ``y``, ``origin``, ``split``, ``label`` (index or None), ``label_name``, ``pred``,
        ``correct``, ``belief``, ``verdict``.
    """
    record = ws.get_state("map")
    if record is None:
        return {}
    coords, stored = ws.array(f"map-{record['run']}"), ws.array(f"map-{record['run']}-ids")
    if coords is None or stored is None or len(coords) != len(stored):
        return {}
    ids = [value.decode() for value in stored.tolist()]
    columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    for start in range(0, len(ids), _PART):
        part = ids[start : start + _PART]
        said = ws.predictions(part, record["model_hash"])
        for sample, (x, y) in zip(ws.samples(part), coords[start : start + _PART], strict=True):
            guess = said.get(sample.id)
            row = (
                sample.id,
                float(x),
                float(y),
                sample.origin,
                sample.split,
                sample.label,
                sample.label_name,
                guess.pred if guess else None,
                guess.correct if guess else None,
                sample.belief,
                sample.verdict,
            )
            for name, value in zip(_COLUMNS, row, strict=True):
                columns[name].append(value)
    return columns


_COLUMNS = (
    "id", "x", "y", "origin", "split", "label", "label_name", "pred", "correct", "belief", "verdict",
)  # fmt: skip
