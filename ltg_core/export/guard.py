"""What must not get into training data: held-out samples, what was made from them, and copies."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ltg_core.data import reading
from ltg_core.data.records import REAL, Filter, Sample
from ltg_core.data.sources import SPLITS as NAMES
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.export.base import SPLITS, class_of
from ltg_core.export.near import near_copies
from ltg_core.jobs import CancelToken, ProgressFn, no_progress

_RANK = {split: rank for rank, split in enumerate(SPLITS)}
_ALSO = dict.fromkeys(("eval", "evaluation", "holdout", "heldout", "benchmark"), "test")
_CHUNK = 1000
_MAX_DEPTH = 100
GONE = "it is no longer in this workspace"
NO_PICTURE = "its picture can no longer be read from the disk"


class Checked(NamedTuple):
    """What may be exported.

    Attributes:
        kept: (sample id, split it goes to), one split after the other, else in the given order.
        left_out: (sample id, reason).
        twins: Of samples that are left out as a copy: the id of the other one.
    """

    kept: list[tuple[str, str]]
    left_out: list[tuple[str, str]]
    twins: dict[str, str]


def home(split: str) -> str:
    """ "val" or "test" for a split held out under any usual name ("valid", "test_2", "lt-dev"), else "train"."""
    words = [NAMES.get(word) or _ALSO.get(word) or "" for word in re.split(r"[^a-z]+", split.lower())]
    return max((word for word in words if word), key=lambda word: _RANK[word], default="train")


def protected(split: str) -> bool:
    """Whether a split is held out."""
    return home(split) != "train"


def check(ws: Workspace, ids: Sequence[str], *, needs_label: bool) -> tuple[list[str], list[tuple[str, str]]]:
    """Ids that may be used for training, and (id, reason) of the others; ``sort_out`` says more."""
    checked = sort_out(ws, ids, needs_label=needs_label)
    return [id for id, _ in checked.kept], checked.left_out


def sort_out(
    ws: Workspace,
    ids: Sequence[str],
    *,
    needs_label: bool,
    held_out: bool = False,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Checked:
    """Which samples may be exported, and as which split.

    Args:
        ws: The workspace.
        ids: The chosen samples; repeated ones count once.
        needs_label: Leave out samples without a class.
        held_out: Export held-out samples and what was made from them too, each in the split it belongs to, so
            that training on "train" alone stays clean. Copies of them in other splits are left out all the same.
        on_progress: Told while near copies are looked for.
        cancel: Checked often.

    """
    cancel = cancel or CancelToken()
    splits = {split: home(split) for split in ws.splits()}
    guarded = [split for split, place in splits.items() if place != "train"]
    homes: dict[str, str] = {}
    first: dict[str, str] = {}
    reasons: dict[str, str] = {}
    twins: dict[str, str] = {}
    for chunk in _chunks(list(dict.fromkeys(ids))):
        cancel.check()
        samples = ws.there(chunk)
        reasons |= dict.fromkeys({*chunk} - {sample.id for sample in samples}, GONE)
        reasons |= dict.fromkeys(ws.without_picture([sample.id for sample in samples]), NO_PICTURE)
        samples = [sample for sample in samples if sample.id not in reasons]
        copies = reading.protected_hashes(ws.database, guarded, [s.image_hash for s in samples])
        for sample in samples:
            split, reason = _origin(ws, sample)
            original = copies.get(sample.image_hash)
            if held_out and split:
                reason = None
            if reason is None and original is not None and _RANK[splits[original]] > _RANK[split]:
                reason = f"it is an exact copy of a real sample of the split {original!r}"
            if reason is None and sample.image_hash in first:
                reason = "it is an exact copy of another sample in this export"
                twins[sample.id] = first[sample.image_hash]
            if reason is None and needs_label and class_of(sample) is None:
                reason = "it has no label, and this format needs one"
            if reason is None:
                homes[sample.id] = split
                first[sample.image_hash] = sample.id
            else:
                reasons[sample.id] = reason
    for id, (reason, twin) in _near(ws, homes, guarded, splits, on_progress, cancel).items():
        del homes[id]
        reasons[id], twins[id] = reason, twin
    kept = sorted(homes.items(), key=lambda pair: _RANK[pair[1]])
    return Checked(kept, [(id, reasons[id]) for id in dict.fromkeys(ids) if id in reasons], twins)


def _near(
    ws: Workspace,
    homes: dict[str, str],
    guarded: Sequence[str],
    splits: dict[str, str],
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> dict[str, tuple[str, str]]:
    """Samples that are near copies of one that is kept for a later split: id → (reason, the other id)."""
    found: dict[str, tuple[str, str]] = {}
    for own in SPLITS[:-1]:
        chosen = [id for id, place in homes.items() if place == own]
        for other in SPLITS[_RANK[own] + 1 :]:
            names = [split for split in guarded if splits[split] == other]
            against = [
                id for split in names for ids in ws.iterate(Filter(origin=REAL, split=split)) for id in ids
            ]
            against += [id for id, place in homes.items() if place == other]
            twins = near_copies(ws, chosen, list(dict.fromkeys(against)), on_progress, cancel)
            reason = f"it is a near copy of a sample of the held-out split {other!r}"
            found |= {id: (reason, twin) for id, twin in twins.items()}
    return found


def _origin(ws: Workspace, sample: Sample) -> tuple[str, str | None]:
    """The split it belongs to ("" where that cannot be told), and why it is no training data."""
    if sample.real:
        split = home(sample.split)
        reason = f"it is a real sample of the split {sample.split!r}, which is kept for measuring"
        return split, None if split == "train" else reason
    waiting, seen = list(_sources(sample)), {sample.id}
    split, reason = "train", ""
    while waiting:
        source_id = waiting.pop()
        if source_id in seen:
            continue
        seen.add(source_id)
        try:
            source = ws.sample(source_id)
        except InputError:
            return "", "it was made from a sample that is not in this workspace and may be held out"
        if len(seen) > _MAX_DEPTH:
            return "", "its origin cannot be followed to the end"
        if source.real and _RANK[home(source.split)] > _RANK[split]:
            split = home(source.split)
            reason = f"it was made from a real sample of the held-out split {source.split!r}"
        waiting += _sources(source)
    return split, reason or None


def _sources(sample: Sample) -> list[str]:
    if sample.real:
        return []
    values: list[object] = []
    for name in ("source", "like"):  # what it began from, and what it was asked to resemble
        given = sample.meta.get(name)
        values += given if isinstance(given, list) else [given]
    return [str(value) for value in values if value]


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _CHUNK):
        yield ids[start : start + _CHUNK]


def summary(left_out: Iterable[tuple[str, str]]) -> dict[str, int]:
    """How many samples were left out by reason, the most frequent first."""
    return dict(Counter(reason for _, reason in left_out).most_common())
