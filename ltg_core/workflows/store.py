"""Outputs of a classifier on stored samples: one array file a chunk, found again by sample id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch

from ltg_core.data.images import content_hash
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.types import Outputs

_ID = "S20"


class Model(Protocol):
    """Whatever says something about samples: a classifier, or a text-image encoder, which has features alone."""

    @property
    def hash(self) -> str:
        """Of its weights."""

    @property
    def name(self) -> str:
        """For people."""


class FeatureStore:
    """Logits, features and early features of one classifier, by sample id.

    A chunk is two arrays, ``outputs-<model>-<chunk>`` (N, C + D + E) float32 and ``ids-<model>-<chunk>``
    (N,); the second is written last and makes the chunk valid, so a process killed between the two loses that
    chunk and nothing else. The index of all chunks is read once; what this store adds is put into it. What others have
    stored meanwhile is seen after ``refresh``, or by a new store.

    Args:
        ws: The workspace.
        classifier: Whose outputs.
    """

    def __init__(self, ws: Workspace, classifier: Model) -> None:
        self.ws, self.classifier = ws, classifier
        self._fresh = False

    def __len__(self) -> int:
        self._load()
        return len(self._ids)

    def ids(self) -> list[str]:
        """All samples with outputs."""
        self._load()
        return [value.decode() for value in self._ids.tolist()]

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Those ids that have no outputs yet, in order."""
        if not ids:
            return []
        found = self._find(ids) >= 0
        return [sample for sample, there in zip(ids, found, strict=True) if not there]

    def add(self, ids: Sequence[str], out: Outputs) -> None:
        """Store a chunk.

        Raises:
            WorkspaceError: The disk is full; earlier chunks are kept.
        """
        if not ids:
            return
        parts = [out.logits, out.features] + ([] if out.early is None else [out.early])
        rows = torch.cat([part.detach().float().cpu() for part in parts], dim=1).numpy()
        widths = [int(part.shape[1]) for part in parts]
        if self.ws.get_state(self._key("widths")) != widths:
            self.ws.put_state(self._key("widths"), widths)
        chunk = content_hash("\n".join(ids).encode())[:16]
        stored = np.array([s.encode() for s in ids], dtype=_ID)
        self.ws.put_array(self._key("outputs", chunk), rows)
        self.ws.put_array(self._key("ids", chunk), stored)
        if self._fresh:
            self._put(chunk, stored, widths)

    def refresh(self) -> None:
        """Read the index anew when it is needed next."""
        self._fresh = False

    def outputs(self, ids: Sequence[str]) -> Outputs:
        """Outputs in the order of ``ids``, on the CPU.

        Raises:
            InputError: Some have none; score them first.
        """
        rows = torch.from_numpy(self._rows(ids, slice(None)))
        parts: list[torch.Tensor] = []
        start = 0
        for width in self._widths or [0, 0]:
            parts.append(rows[:, start : start + width])
            start += width
        return Outputs(parts[0], parts[1], parts[2] if len(parts) > 2 else None)

    def features(self, ids: Sequence[str]) -> np.ndarray:
        """Penultimate features (N, D) float32 in the order of ``ids``.

        Raises:
            InputError: Some have none; score them first.
        """
        self._load()
        logits = self._widths[0] if self._widths else 0
        return np.ascontiguousarray(self._rows(ids, slice(logits, logits + sum(self._widths[1:2]))))

    @property
    def stamp(self) -> str:
        """Changes with what is stored."""
        names = sorted(set(self._names)) if self._fresh else self._stored()
        return content_hash("\n".join(names).encode())[:16]

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Ids (n,) bytes and features (n, D) of everything that is stored, chunk by chunk, each sample once."""
        self._load()
        first, width = (self._widths or [0])[0], sum(self._widths[1:2])
        for name, number in sorted((name, number) for number, name in enumerate(self._names)):
            here = np.flatnonzero(self._chunk == number)
            stored = self.ws.array(self._key("outputs", name), mmap=True)
            if len(here) and stored is not None:
                rows = self._row[here]
                order = np.argsort(rows)
                yield self._ids[here[order]], stored[rows[order], first : first + width]

    def batches(self, ids: Sequence[str], size: int = 4096) -> Iterator[tuple[list[str], Outputs]]:
        """Ids and outputs in parts, for work on more samples than memory holds."""
        for start in range(0, len(ids), size):
            part = list(ids[start : start + size])
            yield part, self.outputs(part)

    def _rows(self, ids: Sequence[str], columns: slice) -> np.ndarray:
        self._load()
        width = len(range(*columns.indices(sum(self._widths))))
        result = np.empty((len(ids), width), dtype=np.float32)
        if not ids:
            return result
        where = self._find(ids)
        if (where < 0).any():
            raise InputError(
                f"{int((where < 0).sum())} of {len(ids)} samples have no features of {self.classifier.name} yet; "
                "score them"
            )
        chunk, row = self._chunk[where], self._row[where]
        for number in np.unique(chunk):
            stored = self.ws.array(self._key("outputs", self._names[number]), mmap=True)
            if stored is None:
                raise InputError("stored features have vanished while they were read; score again")
            here = chunk == number
            result[here] = stored[row[here]][:, columns]
        return result

    def _find(self, ids: Sequence[str]) -> np.ndarray:
        """Position of each id in the index, -1 where it is not there."""
        self._load()
        wanted = np.array([s.encode() for s in ids], dtype=_ID)
        if not len(self._ids):
            return np.full(len(wanted), -1)
        place = np.searchsorted(self._ids, wanted).clip(max=len(self._ids) - 1)
        return np.where(self._ids[place] == wanted, place, -1)

    def _load(self) -> None:
        """Read the index, unless it is up to date: ids sorted, with the chunk and row of each."""
        if self._fresh:
            return
        self._fresh = True
        self._widths: list[int] = self.ws.get_state(self._key("widths")) or []
        prefix, self._names = self._key("ids", ""), self._stored()
        ids, chunks, rows = [np.empty(0, _ID)], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for number, name in enumerate(self._names):
            some = self.ws.array(prefix + name)
            outputs = self.ws.array(self._key("outputs", name), mmap=True)
            if some is None or outputs is None or outputs.shape != (len(some), sum(self._widths)):
                continue  # damaged, or of another form: computed again
            ids.append(some)
            chunks.append(np.full(len(some), number))
            rows.append(np.arange(len(some)))
        every = np.concatenate(ids)
        self._ids, first = np.unique(every, return_index=True)
        self._chunk, self._row = np.concatenate(chunks)[first], np.concatenate(rows)[first]

    def _put(self, chunk: str, stored: np.ndarray, widths: list[int]) -> None:
        """A new chunk into the index; where it is not all new the index is read anew, which decides between the two."""
        order = np.argsort(stored)
        new = stored[order]
        place = np.searchsorted(self._ids, new)
        if (
            widths != self._widths
            or not len(self._ids)
            or (self._ids[place.clip(max=len(self._ids) - 1)] == new).any()
            or (new[1:] == new[:-1]).any()
        ):
            self._fresh = False
            return
        self._names.append(chunk)
        self._ids = np.insert(self._ids, place, new)
        self._chunk = np.insert(self._chunk, place, len(self._names) - 1)
        self._row = np.insert(self._row, place, order)

    def _stored(self) -> list[str]:
        """Names of the chunks."""
        prefix = self._key("ids", "")
        return sorted(p.stem.removeprefix(prefix) for p in (self.ws.path / "arrays").glob(f"{prefix}*.npy"))

    def _key(self, what: str, chunk: str | None = None) -> str:
        return f"{what}-{self.classifier.hash}" + ("" if chunk is None else f"-{chunk}")
