"""Import of data sets: what is in them, which number each class gets, then one pass over the images."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ltg_core.data.classes import checked_match, class_names, read_as_text
from ltg_core.data.opening import open_source
from ltg_core.data.records import REAL, NewSample, Run
from ltg_core.data.sources import Key, Row, Source, canonical_split, closing
from ltg_core.data.workspace import Workspace
from ltg_core.errors import Cancelled, DatasetError, InputError, WorkspaceError
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress

_BATCH = 256
_PLACEHOLDER = re.compile(r"(class[ _]?)?\d+")
__all__ = ["ImportReport", "import_dataset", "open_source", "spread"]


@dataclasses.dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        added: New samples.
        present: Samples that were there already.
        skipped: Images that could not be used: (name, reason).
        labels: Class names by index.
        run_id: The run that records the import.
        unknown_labels: Classes that are not among the given names, with their number of images; those samples
            are kept without a label, and ``meta["given_label"]`` says what the data set calls them.
        splits: Added and present samples by split.
        read_as: Class names of the data that were taken for the given ones in another spelling.
        held_out: In words, what a hold-out did with them.
    """

    added: int
    present: int
    skipped: list[tuple[str, str]]
    labels: list[str]
    run_id: str
    unknown_labels: dict[str, int]
    splits: dict[str, int]
    read_as: dict[str, str] = dataclasses.field(default_factory=dict)
    held_out: str = ""

    def summary(self) -> str:
        """One or two sentences for a page or a terminal."""
        text = f"{self.added:,} images added"
        if self.present:
            text += f", {self.present:,} were there already"
        if self.skipped:
            text += f", {len(self.skipped):,} could not be used"
        if self.unknown_labels:
            text += f". {sum(self.unknown_labels.values()):,} images have a class without a number"
        if self.read_as:
            note = read_as_text(self.read_as)
            text += f". {note[0].upper()}{note[1:]}"
        if self.held_out:
            text += f". {self.held_out}"
        return text + "."


def import_dataset(
    ws: Workspace,
    path: str | Path,
    *,
    split: str | None = None,
    label_names: Sequence[str] | None = None,
    aliases: Mapping[str, str] | None = None,
    limit: int | None = None,
    online: bool = False,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> ImportReport:
    """Import images in any of the forms that ``open_source`` knows: folders, zips, tables, tar shards, arrays.

    Args:
        ws: Where to.
        path: ``[train|val|test/]class/image`` as a folder or zip; or a table with a column ``image`` (bytes
            or ``{bytes, path}``), ``path`` or ``file_name``, and where there are any ``label``,
            ``class_name``, ``split`` and ``caption``; all other columns become metadata. A folder of Parquet
            files or of tar shards (WebDataset) is one data set, so is a folder that ``datasets`` wrote; ``.npz`` and
            ``.npy`` hold arrays of images and labels.
        split: The split of images for which the data set names none.
        label_names: Classes in the classifier's order; names of the data in another spelling are taken for them
            (``classes.match_names``). Without them: the order that the workspace already
            has, else the pairs of ``label`` and ``class_name``, else the names in alphabetical order.
        aliases: Names of the data → names among ``label_names`` that they stand for.
        limit: At most so many images, spread evenly over splits and classes, the first ones of each.
        online: Whether ``hf:owner/name`` may be fetched from the network.
        on_progress: Told about every few images.
        cancel: Checked at every image; what was imported until then stays.

    Returns:
        What was done. An image that cannot be read is reported there and skipped. Importing again adds only
        what is missing.

    Raises:
        DatasetError: Nothing usable is there, a zip file is hostile, or it cannot be told which of the given classes
            is meant.
        Cancelled: The user stopped it.
        WorkspaceError: The disk is full.
    """
    path = path if str(path).startswith("hf:") else Path(path).expanduser()
    called = Path(path).name
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}; give at least 1, or leave it out")
    with closing(open_source(path, online=online)) as source:
        keys = source.keys()
        if not keys:
            raise DatasetError(f"'{called}' has no rows")
        names = class_names(keys, label_names, ws.label_names(), source.declared)
        found = {key.class_name for key in keys if key.class_name is not None}
        read_as = {name: meant for name, meant in (aliases or {}).items() if name in found}
        if label_names is not None:
            read_as |= checked_match(found - read_as.keys(), names, called)
        settings = {"path": str(path), "split": split, "label_names": names, "limit": limit}
        run = ws.start_run("import", settings)
        work = _Import(
            ws,
            source,
            keys,
            names,
            canonical_split(split or ""),
            on_progress,
            cancel or CancelToken(),
            read_as,
        )
        return _recorded(ws, run, work, limit)


def _recorded(ws: Workspace, run: Run, work: _Import, limit: int | None) -> ImportReport:
    """Do the work and write down how it ended."""
    try:
        if work.names and work.names != ws.get_state("label_names"):
            work.read_as |= ws.set_label_names(work.names)
        work.do(spread(work.keys, limit))
        report = work.report(run.id)
        if not report.added + report.present:
            first = "; ".join(f"{name}: {reason}" for name, reason in report.skipped[:3])
            raise DatasetError(f"none of the {len(report.skipped):,} images could be read: {first}")
    except Exception as error:
        state = "cancelled" if isinstance(error, Cancelled) else "failed"
        with contextlib.suppress(WorkspaceError):  # on a full disk the first error is the one to tell
            ws.finish_run(run.id, state, str(error), work.result())
        raise
    ws.finish_run(run.id, "done", result=work.result())
    return report


class _Import:
    """One pass over a data set."""

    def __init__(
        self,
        ws: Workspace,
        source: Source,
        keys: Sequence[Key],
        names: Sequence[str],
        split: str,
        on_progress: ProgressFn,
        cancel: CancelToken,
        read_as: Mapping[str, str],
    ) -> None:
        self.ws, self.source, self.keys, self.names, self.split = ws, source, keys, list(names), split
        self.on_progress, self.cancel, self.read_as = on_progress, cancel, dict(read_as)
        self.added = self.present = 0
        self.skipped: list[tuple[str, str]] = []
        self.unknown: Counter[str] = Counter()
        self.splits: Counter[str] = Counter()
        self._numbers = {name: number for number, name in enumerate(self.names)}
        # A classifier without class names has numbers for names; then the data set's own numbers decide.
        self._by_number = bool(names) and all(_PLACEHOLDER.fullmatch(name) for name in names)

    def do(self, chosen: Sequence[int] | None) -> None:
        """Import the rows with these indices, None for all."""
        total = len(self.keys) if chosen is None else len(chosen)
        batch: list[NewSample] = []
        last = 0.0
        try:
            for done, row in enumerate(self._rows(chosen)):
                if time.monotonic() - last > 0.2:
                    self.on_progress(Progress(done, total, "importing images"))
                    last = time.monotonic()
                new = self._sample(row)
                if new is not None:
                    batch.append(new)
                if len(batch) >= _BATCH:
                    full, batch = batch, []
                    self._insert(full)
        finally:  # also when stopped: what was read is kept
            self._insert(batch)
        self.on_progress(Progress(total, total, "importing images"))

    def report(self, run_id: str) -> ImportReport:
        """What was done."""
        return ImportReport(
            added=self.added,
            present=self.present,
            skipped=self.skipped,
            labels=self.names,
            run_id=run_id,
            unknown_labels=dict(self.unknown),
            splits=dict(self.splits),
            read_as=self.read_as,
        )

    def result(self) -> dict[str, object]:
        """The same for the run's record."""
        return {
            "added": self.added,
            "present": self.present,
            "skipped": len(self.skipped),
            "first_skipped": self.skipped[:100],
            "unknown_labels": dict(self.unknown.most_common(100)),
            "splits": dict(self.splits),
            "read_as": self.read_as,
        }

    def _rows(self, chosen: Sequence[int] | None) -> Iterator[Row]:
        for row in self.source.rows(chosen):
            self.cancel.check()
            yield row

    def _sample(self, row: Row) -> NewSample | None:
        if row.data is None:
            self.skipped.append((row.source, row.error))
            return None
        try:
            stored = self.ws.store_image(row.data)
        except InputError as error:
            self.skipped.append((row.source, str(error)))
            return None
        key = self.keys[row.index]
        label, name, given = self._label(key)
        meta = dict(row.meta) if given is None else {**row.meta, "given_label": given}
        split = key.split or self.split
        self.splits[split] += 1
        return NewSample(stored, REAL, split, label, name, row.source, row.caption, meta)

    def _label(self, key: Key) -> tuple[int | None, str | None, str | None]:
        """Index, name, and what the data set says where that is not among the names."""
        if key.class_name is not None and not (self._by_number and key.label is not None):
            number = self._numbers.get(self.read_as.get(key.class_name, key.class_name))
            given = key.class_name
        elif key.label is not None:
            number = key.label if key.label < len(self.names) else None
            given = str(key.label)
        else:
            return None, None, None
        if number is None:
            self.unknown[given] += 1
            return None, key.class_name, given
        return number, self.names[number], key.class_name if key.class_name != self.names[number] else None

    def _insert(self, batch: Sequence[NewSample]) -> None:
        if batch:
            _, added = self.ws.insert(batch)
            self.added += added
            self.present += len(batch) - added


def spread(keys: Sequence[Key], limit: int | None) -> list[int] | None:
    """Indices of ``limit`` rows: the first of every split and class, then the second of each, and so on; None for
    all.
    """
    if limit is None or limit >= len(keys):
        return None
    groups: defaultdict[Key, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        groups[key].append(index)
    order = sorted(groups.values(), key=lambda group: group[0])
    ranked = sorted(
        (rank, place, index) for place, group in enumerate(order) for rank, index in enumerate(group)
    )
    return sorted(index for _, _, index in ranked[:limit])
