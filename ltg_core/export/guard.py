"""What must not get into training data: held-out samples, what was made from them, and copies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ltg_core.data import reading
from ltg_core.data.records import Sample
from ltg_core.data.sources import split_of
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.export.base import class_of

PROTECTED = frozenset({"val", "test"})
_CHUNK = 1000
_MAX_DEPTH = 100


def protected(split: str) -> bool:
    """Whether a split is held out: "val", "validation", "test", "test_2" and the like."""
    return split_of(split) in PROTECTED


def check(ws: Workspace, ids: Sequence[str], *, needs_label: bool) -> tuple[list[str], list[tuple[str, str]]]:
    """Which samples may be exported for training.

    Args:
        ws: The workspace.
        ids: The chosen samples; repeated ones count once.
        needs_label: Leave out samples without a class.

    Returns:
        The ids that may, in order, and (id, reason) of the others.

    Raises:
        InputError: An id is not known.
    """
    held_out = [split for split in ws.splits() if protected(split)]
    kept: list[str] = []
    left_out: list[tuple[str, str]] = []
    first: dict[str, str] = {}
    for chunk in _chunks(list(dict.fromkeys(ids))):
        samples = ws.samples(chunk)
        copies = reading.protected_hashes(ws.database, held_out, [s.image_hash for s in samples])
        for sample in samples:
            reason = _leak(ws, sample) or _copy(sample, copies, first)
            if reason is None and needs_label and class_of(sample) is None:
                reason = "it has no label, and this format sorts by label"
            if reason is None:
                kept.append(sample.id)
                first[sample.image_hash] = sample.id
            else:
                left_out.append((sample.id, reason))
    return kept, left_out


def _leak(ws: Workspace, sample: Sample) -> str | None:
    if sample.real:
        if protected(sample.split):
            return f"it is a real sample of the split {sample.split!r}, which is kept for measuring"
        return None
    waiting, seen = list(_sources(sample)), {sample.id}
    while waiting:
        source_id = waiting.pop()
        if source_id in seen:
            continue
        seen.add(source_id)
        try:
            source = ws.sample(source_id)
        except InputError:
            return f"it was made from {source_id[:40]!r}, which is not in this workspace and may be held out"
        if source.real and protected(source.split):
            return f"it was made from a real sample of the held-out split {source.split!r}"
        if len(seen) > _MAX_DEPTH:
            return "its origin cannot be followed to the end"
        waiting += _sources(source)
    return None


def _sources(sample: Sample) -> list[str]:
    given = sample.meta.get("source")
    values = given if isinstance(given, list) else [given]
    return [str(value) for value in values if value] if not sample.real else []


def _copy(sample: Sample, copies: dict[str, str], first: dict[str, str]) -> str | None:
    if sample.image_hash in copies:
        return f"it is an exact copy of a real sample of the split {copies[sample.image_hash]!r}"
    if sample.image_hash in first:
        return f"it is an exact copy of {first[sample.image_hash]}, which is in this export"
    return None


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _CHUNK):
        yield ids[start : start + _CHUNK]


def summary(left_out: Iterable[tuple[str, str]]) -> dict[str, int]:
    """How many samples were left out, by reason without the names in it."""
    counts: dict[str, int] = {}
    for _, reason in left_out:
        copied = "which is in this export" in reason
        short = "it is an exact copy of another sample in this export" if copied else reason
        short = "its source is not in this workspace" if "not in this workspace" in reason else short
        counts[short] = counts.get(short, 0) + 1
    return counts
