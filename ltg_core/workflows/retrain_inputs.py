"""What goes into a student: pictures at the classifier's size, or features that are computed once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from ltg_core.data import reading
from ltg_core.data.images import read_image, to_tensor
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.jobs import CancelToken, Progress, ProgressFn
from ltg_core.models.classifier import Classifier
from ltg_core.models.preprocess import Preprocess
from ltg_core.workflows.computing import compute_outputs
from ltg_core.workflows.store import FeatureStore

IN_MEMORY = 4 * 2**30
"""Bytes of pictures that are kept in memory; more are read again for every batch."""
_READERS, _CHUNK = 4, 256


class Pictures:
    """Pictures of samples at the classifier's input size, by position.

    Args:
        ws: The workspace.
        ids: The samples.
        preprocess: Of the classifier; only its resizing is done here.
        on_progress: Told while they are read.
        cancel: Checked at every few hundred.
        in_memory: Bytes that may be kept.

    Attributes:
        broken: Id → reason of pictures that cannot be read; their rows are black.
    """

    def __init__(
        self,
        ws: Workspace,
        ids: Sequence[str],
        preprocess: Preprocess,
        *,
        on_progress: ProgressFn,
        cancel: CancelToken,
        in_memory: int = IN_MEMORY,
    ) -> None:
        self._paths = [ws.blobs.image_path(*file) for file in reading.image_files(ws.database, ids)]
        self._fit = dataclasses.replace(preprocess, mean=(0.0,) * 3, std=(1.0,) * 3, channels=3, order="rgb")
        self._size = (3, preprocess.height, preprocess.width)
        self._stored: torch.Tensor | None = None
        self.broken: dict[str, str] = {}
        if len(ids) * 3 * preprocess.height * preprocess.width > in_memory:
            return
        self._stored = torch.zeros((len(ids), *self._size), dtype=torch.uint8)
        with ThreadPoolExecutor(_READERS, thread_name_prefix="read") as pool:
            for start in range(0, len(ids), _CHUNK):
                cancel.check()
                places = range(start, min(start + _CHUNK, len(ids)))
                for place, found in zip(places, pool.map(self._try, places), strict=True):
                    if isinstance(found, str):
                        self.broken[ids[place]] = found
                    else:
                        self._stored[place] = found
                on_progress(Progress(places.stop, len(ids), "reading pictures"))

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """(B, 3, height, width) float in [0, 1].

        Raises:
            InputError: A picture that was not looked at before cannot be read.
        """
        if self._stored is not None:
            return self._stored[rows].float() / 255
        with ThreadPoolExecutor(_READERS, thread_name_prefix="read") as pool:
            return torch.stack(list(pool.map(self._one, rows.tolist()))).float() / 255

    def _one(self, place: int) -> torch.Tensor:
        image = self._fit(to_tensor(read_image(self._paths[place]))[None])[0]
        return (image.clamp(0, 1) * 255).round().to(torch.uint8)

    def _try(self, place: int) -> torch.Tensor | str:
        try:
            return self._one(place)
        except InputError as error:
            return str(error)


def features_of(
    ws: Workspace,
    classifier: Classifier,
    ids: Sequence[str],
    *,
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> tuple[torch.Tensor, dict[str, str]]:
    """Penultimate features (N, D) of samples, computed where they are not stored; and the pictures without any.

    Rows of pictures that cannot be read are 0.
    """
    _, skipped = compute_outputs(ws, classifier, ids, on_progress=on_progress, cancel=cancel)
    broken = dict(skipped)
    store = FeatureStore(ws, classifier)
    there = [place for place, id in enumerate(ids) if id not in broken]
    some = torch.from_numpy(store.features([ids[place] for place in there]))
    found = torch.zeros(len(ids), some.shape[1])
    found[torch.tensor(there, dtype=torch.long)] = some
    return found, broken
