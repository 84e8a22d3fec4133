"""What lets pictures in as images of an auxiliary class: like the parent, no copies of it, nor of held-out images."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from ltg_core.curation.auxiliary import AUXILIARY, KEY, Auxiliary, images_of
from ltg_core.data.images import content_hash
from ltg_core.data.looks import known_looks, looks_of, remember
from ltg_core.data.near import look_of, nearest
from ltg_core.data.records import Filter, NewSample
from ltg_core.data.workspace import Workspace
from ltg_core.export.guard import protected
from ltg_core.extension.space import Array, Band, units
from ltg_core.jobs import CancelToken, Progress, ProgressFn
from ltg_core.models.classifier import Classifier
from ltg_core.workflows.computing import outputs_now
from ltg_core.workflows.recording import Recording
from ltg_core.workflows.weak_classes import places

SPLIT = "auxiliary"
CHUNK = 256


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A picture that may be one of an auxiliary class.

    Attributes:
        one: The class.
        image: The picture.
        source: Where it is from.
        data: Its file, kept as it is.
        sample: Its id, where it is in the workspace already.
        made: Whether it was generated.
        meta: What else is known.
    """

    one: Auxiliary
    image: Image.Image
    source: str
    data: bytes | None = None
    sample: str = ""
    made: bool = False
    meta: dict[str, Any] = dataclasses.field(default_factory=dict)


class Held:
    """How held-out real images look."""

    def __init__(self, ws: Workspace, on_progress: ProgressFn, cancel: CancelToken) -> None:
        self.ws, self.cancel = ws, cancel
        splits = [split for split in ws.splits() if protected(split)]
        ids = [
            id for split in splits for some in ws.iterate(Filter(split=split, origin="real")) for id in some
        ]
        self.known = known_looks(ws)
        before = len(self.known)
        self.looks = looks_of(ws, ids, self.known, on_progress, cancel)[1]
        if len(self.known) > before:
            remember(ws, self.known)

    def copies(self, looks: Array) -> set[int]:
        """Rows that are near copies of a held-out image."""
        return {row for row, _ in nearest(looks, self.looks, self.cancel)} if len(self.looks) else set()

    def copies_among(self, ids: Sequence[str]) -> set[str]:
        """The same for samples."""
        read, looks = looks_of(self.ws, ids, dict(self.known), None, self.cancel)
        return {read[row] for row in self.copies(looks)} if read else set()


class Gate:
    """Lets pictures in that are like the parent, no copies of it, of each other or of held-out images."""

    def __init__(
        self,
        ws: Workspace,
        classifier: Classifier,
        wanted: Sequence[Auxiliary],
        band: Band,
        limit: int,
        recording: Recording,
        on_progress: ProgressFn,
        cancel: CancelToken,
    ) -> None:
        self.ws, self.classifier, self.wanted, self.band, self.limit = ws, classifier, wanted, band, limit
        self.recording, self.on_progress, self.cancel = recording, on_progress, cancel
        parents = sorted({one.parent for one in wanted})
        self.places = places(ws, classifier, parents, on_progress, cancel, others=band.others)
        self.held = Held(ws, on_progress, cancel)
        self.left_out: dict[int, Counter[str]] = {one.key: Counter() for one in wanted}
        self.added: Counter[int] = Counter()
        self.room = {one.key: limit - one.images if limit else np.inf for one in wanted}
        there = [id for one in wanted for id in images_of(ws, one.key)]
        self.seen = {sample.image_hash for start in range(0, len(there), CHUNK)
                     for sample in ws.there(there[start : start + CHUNK])}  # fmt: skip

    def take(self, found: Iterator[Candidate]) -> None:
        """Look at all of them, some at a time; what was let in is kept whatever happens later."""
        batch: list[Candidate] = []
        try:
            for one in found:
                self.cancel.check()
                batch.append(one)
                if len(batch) == CHUNK:
                    full, batch = batch, []
                    self._some(full)
            self._some(batch)
        finally:
            self.recording.result |= self._said()

    def _some(self, batch: list[Candidate]) -> None:
        if not batch:
            return
        x = units(outputs_now(self.classifier, [c.image for c in batch]).features.float().numpy())
        cosines = np.array([row @ self.places[c.one.parent].mean for row, c in zip(x, batch, strict=True)])
        copies = self.held.copies(np.stack([look_of(c.image) for c in batch]))
        far, _, near = self.band.where(cosines)
        let: list[tuple[Candidate, float]] = []
        for i, c in enumerate(batch):
            hash = content_hash(c.image)
            reason = (
                "it is a copy, or nearly one, of a held-out image" if i in copies
                else f"it is too far from the class (cosine {self.band.low:g} or less)" if far[i]
                else f"it is too like the class (cosine {self.band.high:g} or more)" if near[i]
                else f"it is as like the class {own!r} as images of that class are"
                if self.band.others and (own := self._of_another(x[i], c.one.parent))
                else "it is the same picture as another" if hash in self.seen
                else f"{self.limit} images a class are enough" if self.room[c.one.key] <= 0
                else ""
            )  # fmt: skip
            if reason:
                self.left_out[c.one.key][reason] += 1
                continue
            self.seen.add(hash)
            self.room[c.one.key] -= 1
            self.added[c.one.key] += 1
            let.append((c, float(cosines[i])))
        self._store(let)
        self.on_progress(Progress(0, 0, f"{sum(self.added.values()):,} auxiliary images"))

    def _of_another(self, x: Array, parent: str) -> str:
        """The class of the classifier that a picture lies nearest to, where it is not its parent and lies within it."""
        cosines = {name: float(x @ place.mean) for name, place in self.places.items()}
        best = max(cosines, key=lambda name: cosines[name])
        return best if best != parent and cosines[best] >= self.places[best].edge else ""

    def _store(self, let: Sequence[tuple[Candidate, float]]) -> None:
        marks = [{AUXILIARY: c.one.parent, KEY: c.one.key, "cosine": round(cosine, 4)} for c, cosine in let]
        self.ws.merge_meta({c.sample: mark for (c, _), mark in zip(let, marks, strict=True) if c.sample})
        self.ws.add_images(
            [
                NewSample(
                    c.data or c.image,
                    origin=self.recording.run.id if c.made else "real",
                    split=SPLIT,
                    source=c.source,
                    caption=c.one.name,
                    meta={**c.meta, **mark},
                    belief="believed" if c.made else None,
                    belief_reason=f"cosine {cosine:.2f} to {c.one.parent}" if c.made else None,
                )
                for (c, cosine), mark in zip(let, marks, strict=True)
                if not c.sample
            ]
        )

    def _said(self) -> dict[str, Any]:
        classes = [
            {"key": one.key, "name": one.name, "parent": one.parent, "added": self.added[one.key],
             "left_out": dict(self.left_out[one.key].most_common())}
            for one in self.wanted
        ]  # fmt: skip
        empty = [one["name"] for one in classes if not one["added"] and not one["left_out"]]
        notes = [f"nothing was found for {', '.join(map(repr, empty[:12]))}"] if empty else []
        return {"classes": classes, "added": sum(self.added.values()), "notes": notes}
