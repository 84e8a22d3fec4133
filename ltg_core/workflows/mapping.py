"""The map of a workspace: features of real and generated samples in two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ltg_core.data.images import content_hash
from ltg_core.data.records import REAL, Run
from ltg_core.data.workspace import Workspace
from ltg_core.embedding.layout import place
from ltg_core.embedding.maps import MapSettings, compute_map
from ltg_core.embedding.sampling import Drawn, draw
from ltg_core.errors import InputError
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.workflows.computing import compute_outputs
from ltg_core.workflows.recording import recorded
from ltg_core.workflows.scoring import refresh_scores
from ltg_core.workflows.setup import stored_classifier
from ltg_core.workflows.store import FeatureStore

MOST = 100_000
"""Points of one map at most; a browser draws no more."""
_PART = 10_000
_PLACED_AT_ONCE = 2000


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

    Where there are more than ``settings.max_points``, all generated samples and as many real ones as fit, drawn evenly
    by class, are laid out; ``place_on_map`` adds others. The same samples with the same settings are laid out once:
    the second time the map is read from a file.

    Args:
        ws: The workspace.
        classifier: Whose features.
        settings: None for the defaults.
        ids: None for all samples, real and generated.
        on_progress: Told about every stage.
        cancel: Ends the work at once; the last map stays.

    Returns:
        The run; ``map_points`` reads the map. Its result has ``samples``, ``drawn`` (in words), ``notes``, ``cached``.

    Raises:
        InputError: Fewer than five samples.
        MissingExtra: UMAP is not installed.
        Cancelled: On request.
    """
    token, settings = cancel or CancelToken(), settings or MapSettings()
    every, drawn = _drawn(ws, ids, settings.max_points, settings.seed)
    chosen = [every[row] for row in drawn.rows.tolist()]
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
        _keep(ws, recording.run.id, chosen, result.coords)
        recording.result |= {
            "samples": len(chosen),
            "drawn": drawn.words,
            "fitted": len(chosen),
            "placed": 0,
            "skipped": len(skipped),
            "notes": list(result.notes),
            "cached": result.cached,
        }
        ws.put_state("map", {"run": recording.run.id, "model_hash": classifier.hash})
    return recording.run


def place_on_map(
    ws: Workspace,
    ids: Sequence[str] | None = None,
    *,
    most: int = MOST,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> dict[str, Any]:
    """Add samples to the last map without laying it out anew: each stands among its nearest neighbours there.

    Args:
        ws: The workspace.
        ids: Which; None for all that are not on it, drawn evenly by class where they would be more than ``most``.
        most: Points of the whole map at most.
        on_progress: Told after every part.
        cancel: Checked after every part; the last map stays.

    Returns:
        The result of the run, with its id as ``run``; ``placed`` counts all that were placed so far.

    Raises:
        InputError: There is no map yet, or no room on it.
        Cancelled: On request.
    """
    token, record = cancel or CancelToken(), ws.get_state("map")
    there, coords = map_coordinates(ws)
    if record is None or coords is None:
        raise InputError("there is no map yet; draw one first")
    last = ws.run(record["run"])
    settings = MapSettings.from_dict({k: v for k, v in last.settings.items() if k in MapSettings().to_dict()})
    classifier = stored_classifier(ws, record["model_hash"])
    known = set(there)
    rest = [s for s in _every(ws)[0] if s not in known] if ids is None else _new(ids, known)
    room = most - len(there)
    if rest and room < 1:
        raise InputError(f"the map has {len(there):,} points and draws at most {most:,}; draw a new one")
    every, drawn = _drawn(ws, rest, max(1, room), settings.seed)
    chosen = [every[row] for row in drawn.rows.tolist()]
    fitted = int(last.result.get("fitted", len(there)))
    with recorded(
        ws, "map", {**last.settings, "samples": len(there) + len(chosen)}, seed=settings.seed,
        hashes={"classifier": classifier.hash}, parent=last.id,
    ) as recording:  # fmt: skip
        _, skipped = compute_outputs(ws, classifier, chosen, on_progress=on_progress, cancel=token)
        refresh_scores(ws, classifier, chosen, on_progress=on_progress, cancel=token)
        unread = {sample for sample, _ in skipped}
        chosen = [sample for sample in chosen if sample not in unread]
        store = FeatureStore(ws, classifier)
        anchors, found = store.features(there[:fitted]), [coords]
        for start in range(0, len(chosen), _PLACED_AT_ONCE):
            token.check()
            part = chosen[start : start + _PLACED_AT_ONCE]
            found.append(place(store.features(part), anchors, coords[:fitted], metric=settings.metric))
            on_progress(Progress(start + len(part), len(chosen), "placing samples among their neighbours"))
        _keep(ws, recording.run.id, [*there, *chosen], np.concatenate(found))
        recording.result |= {
            **last.result,
            "samples": len(there) + len(chosen),
            "placed": int(last.result.get("placed", 0)) + len(chosen),
            "fitted": fitted,
            "skipped": int(last.result.get("skipped", 0)) + len(skipped),
        }
        ws.put_state("map", {"run": recording.run.id, "model_hash": classifier.hash})
    return {"run": recording.run.id, **recording.run.result}


def map_coordinates(ws: Workspace) -> tuple[list[str], np.ndarray | None]:
    """Ids and coordinates (N, 2) float32 of the last map; [] and None where there is none."""
    record = ws.get_state("map")
    if record is None:
        return [], None
    coords, stored = ws.array(f"map-{record['run']}"), ws.array(f"map-{record['run']}-ids")
    if coords is None or stored is None or len(coords) != len(stored):
        return [], None
    return [value.decode() for value in stored.tolist()], coords


def map_points(ws: Workspace) -> dict[str, list[Any]]:
    """The last map as columns of equal length, {} where there is none; samples that are gone are left out.

    Returns:
        ``id``, ``x``, ``y``, ``origin``, ``split``, ``label`` (index or None), ``label_name``, ``pred``,
        ``correct``, ``belief``, ``verdict``.
    """
    record = ws.get_state("map")
    ids, coords = map_coordinates(ws)
    if record is None or coords is None:
        return {}
    columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    places = dict(zip(ids, coords.tolist(), strict=True))
    for start in range(0, len(ids), _PART):
        part = ids[start : start + _PART]
        said = ws.predictions(part, record["model_hash"])
        for sample in ws.there(part):
            guess, (x, y) = said.get(sample.id), places[sample.id]
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


def _drawn(ws: Workspace, ids: Sequence[str] | None, size: int, seed: int) -> tuple[list[str], Drawn]:
    """The samples there are, and which of them are chosen."""
    every, labels, real = _every(ws)
    if ids is not None:
        wanted = set(ids)
        unknown = wanted - set(every)
        if unknown:
            ws.samples(sorted(unknown)[:1])  # says which one is not known
        keep = np.array([sample in wanted for sample in every], dtype=bool)
        every = [sample for sample in every if sample in wanted]
        labels, real = labels[keep], real[keep]
    return every, draw(labels, real, size, seed)


def _every(ws: Workspace) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Id, label (-1 for none) and whether it is real, of all samples in the order in which they came."""
    rows = ws.database.rows("SELECT id, coalesce(label, -1), origin = ? FROM samples ORDER BY seq", (REAL,))
    ids, labels, real = ([row[i] for row in rows] for i in range(3))
    return ids, np.array(labels, dtype=np.int64), np.array(real, dtype=bool)


def _new(ids: Sequence[str], known: set[str]) -> list[str]:
    return [sample for sample in dict.fromkeys(ids) if sample not in known]


def _keep(ws: Workspace, run: str, ids: Sequence[str], coords: np.ndarray) -> None:
    """Write a map; the ids come last and make it valid."""
    ws.put_array(f"map-{run}", coords.astype(np.float32))
    ws.put_array(f"map-{run}-ids", np.array([sample.encode() for sample in ids]))


_COLUMNS = (
    "id", "x", "y", "origin", "split", "label", "label_name", "pred", "correct", "belief", "verdict",
)  # fmt: skip
