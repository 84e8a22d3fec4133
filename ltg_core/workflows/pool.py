"""Real evidence from an unlabelled pool: pictures that fit a term, and pictures that are like an imagined failure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ltg_core.data.images import read_image, to_tensor
from ltg_core.data.opening import open_source
from ltg_core.data.records import REAL, Filter
from ltg_core.data.sources import Row, closing
from ltg_core.data.workspace import Workspace
from ltg_core.errors import DatasetError, InputError
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.models.preprocess import Preprocess
from ltg_core.models.textimage import TextImage
from ltg_core.workflows.computing import compute_outputs, fitting, for_fitted
from ltg_core.workflows.likeness import feature_scale, to_units
from ltg_core.workflows.setup import plain_prompt
from ltg_core.workflows.store import FeatureStore
from ltg_core.workflows.terming import need_encoder, vectors

POOL = "pool"
_MOST = 100_000
_BATCH = 64


@dataclasses.dataclass(frozen=True)
class Evidence:
    """One picture of the pool.

    Attributes:
        source: Its id in the workspace, or its name in the folder or table.
        cosine: Of its vector with that of the text, or with those of the examples, the nearest of them.
        prediction: What the classifier says of it.
        confidence: How sure it is.
    """

    source: str
    cosine: float
    prediction: str
    confidence: float


@dataclasses.dataclass(frozen=True)
class Found:
    """What a pool holds of something.

    Attributes:
        what: What was looked for, in words.
        by: "text" or "likeness".
        size: Pictures in the pool that could be read.
        skipped: Pictures that could not.
        evidence: The nearest ones, the best first.
    """

    what: str
    by: str
    size: int
    skipped: int
    evidence: tuple[Evidence, ...]


def text_of(ws: Workspace, cell: dict[str, Any]) -> str:
    """The text that stands for a cell of a found slice: the plain caption of its class with its phrase."""
    phrase = str(cell["phrase"] or cell["value"])
    if not cell["class"]:
        return phrase
    return f"{plain_prompt(ws, cell['class'])} {phrase}"


def retrieve(
    ws: Workspace,
    classifier: Classifier,
    *,
    text: str = "",
    like: Sequence[str] = (),
    pool: str | Path = "",
    number: int = 12,
    encoder: str = "",
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Found:
    """The pictures of a pool that fit a text best, or that are most like some samples.

    Args:
        ws: The workspace.
        classifier: Says what it reads; its features measure likeness.
        text: What is looked for; the text-image encoder compares.
        like: Ids of samples, imagined failures say; the standardised features of the classifier compare, as in
            similar-image search.
        pool: A folder, zip or table that is read where it is; "" for the real samples of the split "pool".
        number: So many.
        encoder: Folder of another encoder than the generator's.
        on_progress: Told about every few pictures.
        cancel: Checked at every few pictures.

    Raises:
        InputError: Neither a text nor samples, or both; no encoder for a text.
        DatasetError: There is no pool, or nothing in it can be read.
        Cancelled: On request.
    """
    if bool(text.strip()) == bool(like):
        raise InputError("look for a text, or for what is like some samples: one of the two")
    looks = need_encoder(ws, encoder) if text else None
    reader = _outside if pool else _inside
    names, vectors_, said, skipped = reader(ws, classifier, looks, pool, on_progress, cancel or CancelToken())
    if looks is not None:
        cosines = vectors_ @ looks.texts([text]).numpy()[0]
    else:
        store = FeatureStore(ws, classifier)
        scale = feature_scale(ws, classifier)
        wanted = to_units(store.features(list(like)), scale)
        cosines = (to_units(vectors_, scale) @ wanted.T).max(axis=1)
    best = np.argsort(-cosines, kind="stable")[: max(1, number)]
    evidence = [
        Evidence(names[i], float(cosines[i]), classifier.labels[int(said[i, 0])], float(said[i, 1]))
        for i in best
    ]
    what = text or f"{len(like)} sample{'s' if len(like) != 1 else ''}"
    return Found(what, "text" if text else "likeness", len(names), skipped, tuple(evidence))


_Read = tuple[list[str], np.ndarray, np.ndarray, int]
"""Names, vectors (N, D), predictions with their confidence (N, 2), how many could not be read."""


def _inside(
    ws: Workspace,
    classifier: Classifier,
    looks: TextImage | None,
    pool: str | Path,
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> _Read:
    """The samples of the split "pool"."""
    ids = ws.query(Filter(split=POOL, origin=REAL))
    if not ids:
        raise DatasetError(
            "there is no pool: import unlabelled pictures with --split pool, or name a folder that is read where it is"
        )
    _, broken = compute_outputs(ws, classifier, ids, on_progress=on_progress, cancel=cancel)
    lost = {sample for sample, _ in broken}
    ids = [sample for sample in ids if sample not in lost]
    if not ids:
        raise DatasetError(f"none of the {len(lost)} pictures of the pool can be read: {broken[0][1]}")
    guess = ws.predictions(ids, classifier.hash)
    said = np.array([(guess[one].pred, guess[one].confidence) for one in ids])
    if looks is None:
        return ids, FeatureStore(ws, classifier).features(ids), said, len(lost)
    seen, good = vectors(ws, looks, ids, on_progress=on_progress, cancel=cancel)
    return [one for one, there in zip(ids, good, strict=True) if there], seen[good], said[good], len(lost)


def _outside(
    ws: Workspace,
    classifier: Classifier,
    looks: TextImage | None,
    pool: str | Path,
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> _Read:
    """Pictures of a folder, zip or table that is not imported; nothing of them is kept."""
    asked = for_fitted(classifier)
    names: list[str] = []
    rows: list[np.ndarray] = []
    said: list[np.ndarray] = []
    skipped = 0
    with closing(open_source(Path(pool).expanduser())) as source:
        total = len(source.keys())
        if total > _MOST:
            raise DatasetError(
                f"the pool has {total:,} pictures; {_MOST:,} at most are read where they are: import it"
            )
        for part, broken in _batches(source.rows(None)):
            cancel.check()
            skipped += broken
            if part:
                out = asked.outputs(_fitted([image for _, image in part], classifier.preprocess))
                best = out.logits.float().softmax(dim=1).max(dim=1)
                said.append(torch.stack([best.indices.float(), best.values], dim=1).cpu().numpy())
                features = out.features
                if looks is not None:
                    with torch.no_grad():
                        features = looks.images(_fitted([image for _, image in part], looks.preprocess))
                rows.append(features.float().cpu().numpy())
                names += [name for name, _ in part]
            on_progress(Progress(len(names) + skipped, total, "looking at the pool"))
    if not names:
        raise DatasetError(f"'{Path(pool).name}' holds no picture that can be read")
    return names, np.concatenate(rows), np.concatenate(said), skipped


def _fitted(images: Sequence[torch.Tensor], preprocess: Preprocess) -> torch.Tensor:
    """Pictures of any sizes at the size of a network's input, (B, 3, h, w)."""
    fit = fitting(preprocess)
    return torch.cat([fit(image[None]) for image in images])


def _batches(rows: Iterator[Row]) -> Iterator[tuple[list[tuple[str, torch.Tensor]], int]]:
    """Names and pictures, some at a time, and how many of them could not be read."""
    part: list[tuple[str, torch.Tensor]] = []
    broken = 0
    for row in rows:
        try:
            if row.data is None:
                raise InputError(row.error)
            part.append((row.source, to_tensor(read_image(row.data))))
        except InputError:
            broken += 1
        if len(part) == _BATCH:
            yield part, broken
            part, broken = [], 0
    if part or broken:
        yield part, broken
