"""A data set on disk as one tensor of pictures, for training."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from ltg_core.data.classes import class_names
from ltg_core.data.datasets import open_source, spread
from ltg_core.data.holdout import check_group, fraction
from ltg_core.data.images import read_image
from ltg_core.data.sources import Key, canonical_split, closing
from ltg_core.errors import DatasetError, InputError
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.models.preprocess import Preprocess

_EVERY = 200


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingImages:
    """Pictures of one size in memory.

    Attributes:
        images: uint8 (N, 3, side, side).
        targets: int64 (N,), -1 without a class.
        classes: Class names.
        captions: Caption of each picture, "" where the data has none.
        skipped: (name, reason) of pictures that could not be read.
        fingerprint: Of the pictures, captions and classes.
    """

    images: torch.Tensor
    targets: torch.Tensor
    classes: tuple[str, ...]
    captions: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    fingerprint: str


def gather(
    path: str | Path,
    side: int,
    *,
    split: str = "train",
    limit: int | None = None,
    resize: str = "crop",
    group: str = "",
    holdout: float = 0.0,
    held: bool = False,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> TrainingImages:
    """Read a data set into memory, every picture brought to one size.

    Args:
        path: As ``import_data`` reads them.
        side: Pixels of a side.
        split: Only this one, where the data names splits.
        limit: At most so many, spread over the classes.
        resize: "crop" cuts out the central square, "squash" stretches, as the classifiers made here do.
        group: Metadata column whose values must not be divided by ``holdout`` (frames of one film, say).
        holdout: Share of the pictures, or groups, that is left out, decided by a hash of the name.
        held: Return those that are left out instead of the others.
        on_progress: Told now and then.
        cancel: Checked at every picture.

    Raises:
        DatasetError: Nothing usable is there.
        InputError: There is no column ``group``.
    """
    token = cancel or CancelToken()
    fit = Preprocess(side, side, resize=resize, crop_pct=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)
    pictures: list[torch.Tensor] = []
    targets: list[int] = []
    captions: list[str] = []
    skipped: list[tuple[str, str]] = []
    path = Path(path).expanduser()
    with closing(open_source(path)) as source:
        keys = source.keys()
        check_group(group, source.columns(), path.name)
        names = class_names(keys, None, [], source.declared)
        chosen = _chosen(keys, canonical_split(split), path.name)
        picked = spread([keys[i] for i in chosen], limit)
        chosen = chosen if picked is None else [chosen[i] for i in picked]
        for done, row in enumerate(source.rows(chosen)):
            token.check()
            if done % _EVERY == 0:
                on_progress(Progress(done, len(chosen), "reading images"))
            together = str(row.meta.get(group, row.source)) if group else row.source
            if holdout and (fraction(together) < holdout) != held:
                continue
            try:
                if row.data is None:
                    raise InputError(row.error)
                picture = fit(fit.from_pil(read_image(row.data))[None])[0]
            except InputError as error:
                skipped.append((row.source, str(error)))
                continue
            pictures.append((picture * 255).round().byte())
            targets.append(_target(keys[row.index], names))
            captions.append(row.caption)
    if not pictures:
        reason = f": {skipped[0][1]}" if skipped else ""
        raise DatasetError(f"no picture of '{path.name}' can be used{reason}")
    images, labels = torch.stack(pictures), torch.tensor(targets)
    digest = hashlib.sha256(images.numpy().tobytes())
    digest.update(json.dumps([targets, captions, names]).encode())
    return TrainingImages(
        images, labels, tuple(names), tuple(captions), tuple(skipped), digest.hexdigest()[:16]
    )


def _chosen(keys: Sequence[Key], split: str, name: str) -> list[int]:
    """Rows of a split; all where the data names none."""
    found = Counter(key.split for key in keys)
    if set(found) <= {""}:
        return list(range(len(keys)))
    if split not in found:
        raise DatasetError(
            f"'{name}' has no split {split!r}; it has {', '.join(repr(s) for s in sorted(found))}"
        )
    return [row for row, key in enumerate(keys) if key.split == split]


def _target(key: Key, names: Sequence[str]) -> int:
    if key.class_name is not None:
        return names.index(key.class_name)
    return -1 if key.label is None else key.label
