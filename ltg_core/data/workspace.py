"""One folder that holds everything: samples, scores, verdicts, runs, images, arrays.

Reopening it shows what was there.

```
<folder>/longtail.sqlite   samples, scores, predictions, verdicts, tags, actions, runs, state
         images/ab/<hash>.png  thumbs/ab/<hash>.webp (of larger pictures)  arrays/<key>.npy
         models/  runs/<run id>/  exports/
```
Files are written before the rows that name them, so a process killed at any moment leaves at most an unused
file.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ltg_core.data import changing, reading, runs
from ltg_core.data.blobs import Blobs, safe_name
from ltg_core.data.columns import Columns
from ltg_core.data.database import Database, explained
from ltg_core.data.images import PixelData, read_image, to_tensor
from ltg_core.data.records import Filter, NewSample, Prediction, Run, Sample, Score, StoredImage
from ltg_core.workers.engine import LOCAL, Engine

log = logging.getLogger(__name__)


class Workspace:
    """The samples, results and runs of one folder; safe to use from several threads and processes.

    Args:
        path: The folder; created when absent. Runs whose process is gone are marked "interrupted".

    Raises:
        WorkspaceError: The folder cannot be written, or comes from a newer version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).resolve()
        with explained(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        self.blobs = Blobs(self.path)
        self.database = Database(self.path / "longtail.sqlite")
        self.columns = Columns(self.database)
        self.on_run: Callable[[Run], None] | None = (
            None  # told of every run that this object begins or takes up
        )
        self.engine: Engine = LOCAL  # does the units of long work; only the operator chooses another
        self.device = "cpu"  # where networks run that are loaded for it; the operator's choice as well
        self.interrupted: tuple[str, ...] = self.find_interrupted()

    def close(self) -> None:
        """Close the database; the object cannot be used afterwards."""
        self.columns.shelve()
        self.database.close()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # --- samples in -------------------------------------------------------------------------------

    def add_image(
        self,
        img: PixelData | bytes | StoredImage,
        *,
        origin: str,
        split: str | None = "",
        label: int | None = None,
        label_name: str | None = None,
        source: str = "",
        caption: str = "",
        meta: Mapping[str, Any] | None = None,
        belief: str | None = None,
        belief_reason: str | None = None,
    ) -> str:
        """Add one sample and return its id; the arguments are those of ``NewSample``.

        The same pixels from the same origin, split, source (and control, source, prompt and seed in ``meta``)
        are the same sample: adding it again changes nothing.
        """
        new = NewSample(
            img, origin, split, label, label_name, source, caption, meta or {}, belief, belief_reason
        )
        return self.add_images([new])[0]

    def add_images(self, batch: Sequence[NewSample]) -> list[str]:
        """Add samples in one transaction; returns their ids in order.

        Raises:
            InputError: An image that is none, or a belief of another name. Nothing of the batch is added.
            WorkspaceError: The disk is full. Nothing of the batch is added.
        """
        return self.insert(batch)[0]

    def insert(self, batch: Sequence[NewSample]) -> tuple[list[str], int]:
        """As ``add_images``, with the number of samples that were not there before."""
        changing.check_beliefs(new.belief for new in batch)
        stored = [(new, self.store_image(new.image)) for new in batch]
        return changing.insert(self.database, stored)

    def store_image(self, image: PixelData | bytes | StoredImage) -> StoredImage:
        """Write the files of an image without a sample yet.

        Raises:
            InputError: The bytes are not an image.
            WorkspaceError: The disk is full or read-only.
        """
        return image if isinstance(image, StoredImage) else self.blobs.store(image)

    def set_belief(self, values: Mapping[str, tuple[str | None, str | None]]) -> None:
        """Record by sample id whether an image is "believed" or "quarantined" (or None), and why."""
        changing.set_belief(self.database, values)

    def merge_meta(self, values: Mapping[str, Mapping[str, Any]]) -> None:
        """Add metadata to samples by id; columns of the same name are replaced, ids stay."""
        changing.merge_meta(self.database, values)

    # --- samples out ------------------------------------------------------------------------------

    def sample(self, id: str) -> Sample:
        """One sample."""
        return self.samples([id])[0]

    def samples(self, ids: Sequence[str]) -> list[Sample]:
        """Samples in the order of ``ids``.

        Raises:
            InputError: An id is not known.
        """
        return reading.samples(self.database, ids)

    def there(self, ids: Sequence[str]) -> list[Sample]:
        """Those samples that are (still) there, in the order of ``ids``: somebody may have deleted one underneath."""
        return reading.there(self.database, ids)

    def without_picture(self, ids: Sequence[str]) -> set[str]:
        """Those of these samples whose picture is no longer on the disk."""
        files = zip(ids, reading.image_files(self.database, ids), strict=True)
        return {id for id, file in files if not self.blobs.image_path(*file).is_file()}

    def query(
        self, filter: Filter | None = None, sort: str | None = None, limit: int | None = None, offset: int = 0
    ) -> list[str]:
        """Ids of the samples that pass.

        Args:
            filter: None for all.
            sort: None for the order in which they came; "created" (newest first), "confidence" (highest
                first; needs ``filter.model_hash``), "id", or the name of a signal (highest first; needs
                ``filter.model_hash``). A leading "-" turns the order round. Samples without a score come
                last.
            limit: At most so many.
            offset: Leave out the first ones.
        """
        chosen, key = filter or Filter(), (sort or "").removeprefix("-")
        if key and chosen != Filter() and limit is not None and self.columns.in_use:
            # SQLite would walk the index of the order and look up every row that does not pass: seconds in a million.
            reading.check_page(limit, offset)
            if key not in ("id", "created"):
                reading.check_key(self.database, chosen.model_hash, key)
            return self.columns.page(chosen, key, (sort or "").startswith("-"), limit, offset)
        return reading.query(self.database, chosen, sort, limit, offset)

    def iterate(self, filter: Filter | None = None, chunk: int = 1000) -> Iterator[list[str]]:
        """Ids of the samples that pass, in chunks, in the order in which they came; any number of samples."""
        return reading.iterate(self.database, filter or Filter(), chunk)

    def count(self, filter: Filter | None = None) -> int:
        """How many samples pass."""
        if filter is not None and filter != Filter() and self.columns.in_use:
            return int(self.columns.mask(filter).sum())
        return reading.count(self.database, filter or Filter())

    def image(self, id: str) -> Image.Image:
        """The picture, RGB."""
        return read_image(self.image_path(id))

    def image_path(self, id: str) -> Path:
        """Its file."""
        return self.blobs.image_path(*reading.image_files(self.database, [id])[0])

    def thumb_path(self, id: str) -> Path:
        """The file of its thumbnail, which is that of a small picture itself; made again if it was lost."""
        return self.blobs.shown(*reading.image_files(self.database, [id])[0])

    def tensor(self, ids: Sequence[str]) -> torch.Tensor | list[torch.Tensor]:
        """Pictures in [0, 1]: (B, 3, H, W) when all sizes agree, else a list of (3, H, W)."""
        files = reading.image_files(self.database, ids)
        images = [to_tensor(read_image(self.blobs.image_path(*file))) for file in files]
        if images and all(image.shape == images[0].shape for image in images):
            return torch.stack(images)
        return images

    # --- labels, columns, tags --------------------------------------------------------------------

    def label_names(self) -> list[str]:
        """Class names by index."""
        known = self.get_state("label_names")
        return list(known) if known is not None else reading.label_names(self.database)

    def set_label_names(self, names: Sequence[str]) -> dict[str, str]:
        """Fix the order of the classes (a classifier's) and give every sample its index by name.

        Samples with one of ``names`` in another spelling take that spelling; ``meta["given_label"]`` keeps theirs.
        Samples whose label name is not among ``names`` keep the name and lose the index.

        Returns:
            The names that were changed, old → new.
        """
        return changing.set_label_names(self.database, names)

    def splits(self) -> list[str]:
        """Names of the splits, without the empty one."""
        return [r[0] for r in self.database.rows("SELECT DISTINCT split FROM samples ORDER BY split") if r[0]]

    def meta_columns(self) -> list[str]:
        """Names of all metadata columns."""
        return [row[0] for row in self.database.rows("SELECT name FROM meta_columns ORDER BY name")]

    def meta_values(self, column: str, limit: int = 200) -> list[Any]:
        """The values of one metadata column, the most frequent first."""
        rows = self.database.rows(
            "SELECT m.value FROM samples s, json_each(s.meta) m WHERE m.key = ?"
            " GROUP BY m.value ORDER BY count(*) DESC, m.value LIMIT ?",
            (column, limit),
        )
        return [row[0] for row in rows]

    def tags(self) -> list[str]:
        """All tags in use."""
        return [row[0] for row in self.database.rows("SELECT DISTINCT tag FROM tags ORDER BY tag")]

    # --- scores and predictions -------------------------------------------------------------------

    def set_scores(self, model_hash: str, name: str, values: Mapping[str, tuple[float, float]]) -> None:
        """Record a signal: sample id → (value, percentile). Old values are replaced, unknown ids left out."""
        changing.set_scores(self.database, model_hash, name, values)

    def set_signals(
        self,
        model_hash: str,
        ids: Sequence[str],
        values: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    ) -> None:
        """Record several signals at once, all or none: name → values and percentiles, one for each of ``ids``.

        Old ones are replaced, unknown ids left out; a NaN is kept as none.
        """
        changing.set_signals(self.database, model_hash, ids, values)

    def scores(self, ids: Sequence[str], model_hash: str, name: str) -> dict[str, Score]:
        """Scores of those samples that have one."""
        return reading.scores(self.database, ids, model_hash, name)

    def score_names(self, model_hash: str | None = None) -> list[str]:
        """Signals with scores, of one classifier or of any."""
        return reading.score_names(self.database, model_hash)

    def set_predictions(self, model_hash: str, values: Mapping[str, Sequence[Any]]) -> None:
        """Record predictions: sample id → (class index, confidence); the label says which are right."""
        changing.set_predictions(self.database, model_hash, values)

    def predictions(self, ids: Sequence[str], model_hash: str) -> dict[str, Prediction]:
        """Predictions for those samples that have one."""
        return reading.predictions(self.database, ids, model_hash)

    # --- arrays and small settings ----------------------------------------------------------------

    def put_array(self, key: str, array: np.ndarray[Any, Any]) -> None:
        """Keep an array under a key (build it from content hash, model hash and settings)."""
        self.blobs.write(self.blobs.array_path(key), lambda file: np.save(file, array, allow_pickle=False))

    def array(self, key: str, *, mmap: bool = False) -> np.ndarray[Any, Any] | None:
        """The array of a key, or None; ``mmap`` leaves it on disk until it is touched."""
        path = self.blobs.array_path(key)
        try:
            loaded: np.ndarray[Any, Any] = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
            return loaded
        except FileNotFoundError:
            return None
        except (ValueError, EOFError, OSError) as error:
            log.warning("array %r cannot be read (%s); it will be computed again", key, error)
            return None

    def put_state(self, key: str, value: Any) -> None:
        """Keep a small JSON value, such as which classifier is active."""
        changing.put_state(self.database, key, value)

    def get_state(self, key: str, default: Any = None) -> Any:
        """The value of a key, or ``default``."""
        row = self.database.row("SELECT value FROM state WHERE key = ?", (key,))
        return default if row is None else json.loads(row[0])

    # --- runs -------------------------------------------------------------------------------------

    def start_run(
        self,
        kind: str,
        settings: Mapping[str, Any],
        seed: int | None = None,
        hashes: Mapping[str, Any] | None = None,
        parent: str | None = None,
        id: str = "",
    ) -> Run:
        """Record that work begins; its folder is made. A run of that ``id`` that is there already is taken up."""
        run = runs.start(self.database, kind, settings, seed, hashes or {}, parent, id)
        self.run_folder(run.id)
        if self.on_run is not None:
            self.on_run(run)
        return run

    def finish_run(
        self, id: str, state: str, reason: str = "", result: Mapping[str, Any] | None = None
    ) -> Run:
        """Record how work ended: "done", "failed" or "cancelled", why, and what came out."""
        return runs.finish(self.database, id, state, reason, result)

    def leave_run(self, id: str, reason: str, result: Mapping[str, Any]) -> Run:
        """Record that this process has done its part of a run: "interrupted", unless others went on with it."""
        return runs.leave(self.database, id, reason, result)

    def resume_run(self, id: str, *, alone: bool = False) -> Run:
        """Take up a run that was interrupted, cancelled or failed, under its id; ``alone`` if no other process has it.

        Raises:
            InputError: It is done, or another process works at it that must be alone.
        """
        run = runs.resume(self.database, id, alone=alone)
        if self.on_run is not None:
            self.on_run(run)
        return run

    def find_interrupted(self) -> tuple[str, ...]:
        """Mark the runs whose process is gone as "interrupted"; returns their ids."""
        return tuple(runs.mark_interrupted(self.database))

    def run(self, id: str) -> Run:
        """One run."""
        return runs.get(self.database, id)

    def known_run(self, id: str) -> Run | None:
        """The same, None where there is none."""
        return runs.find(self.database, id)

    def runs(self, kind: str | None = None) -> list[Run]:
        """All runs, or those of one kind, the newest first."""
        return runs.every(self.database, kind)

    def run_folder(self, id: str) -> Path:
        """The folder of a run's own files."""
        return self._folder("runs", id)

    @property
    def models_folder(self) -> Path:
        """Where the workspace keeps weights."""
        return self.path / "models"

    @property
    def exports_folder(self) -> Path:
        """Where exports go unless another place is named."""
        return self.path / "exports"

    def _folder(self, parent: str, name: str) -> Path:
        folder = self.path / parent / safe_name(name)
        with explained(self.path):
            folder.mkdir(parents=True, exist_ok=True)
        return folder
