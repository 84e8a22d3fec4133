"""What an export would hold and leave out, without writing it; and where its samples come from."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence

from ltg_core.curation.sets import Member
from ltg_core.data.records import Sample
from ltg_core.data.workspace import Workspace
from ltg_core.export import guard
from ltg_core.export.base import Exporter, class_of
from ltg_core.jobs import CancelToken, ProgressFn, no_progress

_CHUNK = 1000


@dataclasses.dataclass(frozen=True)
class Source:
    """What the samples of an export are.

    Attributes:
        about: In words, for the dataset card; "" where there is nothing to say.
        as_of: Members of a set by sample id: their class, verdict and tags are written as they were then.
        gone: Ids that were asked for and are no longer in the workspace.
    """

    about: str = ""
    as_of: Mapping[str, Member] = dataclasses.field(default_factory=dict)
    gone: tuple[str, ...] = ()

    def then(self, sample: Sample, labels: Sequence[str]) -> Sample:
        """A sample as it is to be written."""
        member = self.as_of.get(sample.id)
        if member is None:
            return sample
        sample = dataclasses.replace(sample, verdict=member.verdict, tags=tuple(sorted(member.tags)))
        if member.class_name == class_of(sample):
            return sample
        label = labels.index(member.class_name) if member.class_name in labels else None
        return dataclasses.replace(sample, label_name=member.class_name, label=label)

    @property
    def left_out(self) -> list[tuple[str, str]]:
        """(id, reason) of those that are gone."""
        return [(id, "it is no longer in this workspace") for id in self.gone]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What an export would do.

    Attributes:
        n: Samples that it would hold.
        classes: Of these by class name, the most first.
        splits: Of these by split.
        real: Of these, how many are real.
        left_out: (sample id, reason) of the others.
        examples: A few ids that it would hold.
    """

    n: int
    classes: dict[str, int]
    splits: dict[str, int]
    real: int
    left_out: list[tuple[str, str]]
    examples: tuple[str, ...]


def plan(
    ws: Workspace,
    ids: Sequence[str],
    exporter: Exporter,
    *,
    held_out: bool = False,
    source: Source | None = None,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Plan:
    """Run the guard and count; arguments as for ``export``.

    Raises:
        Cancelled: The user stopped it.
    """
    source = source or Source()
    checked = guard.sort_out(
        ws, ids, needs_label=exporter.NEEDS_LABEL, held_out=held_out, on_progress=on_progress, cancel=cancel
    )
    classes: Counter[str] = Counter()
    real, labels = 0, ws.label_names()
    kept = [id for id, _ in checked.kept]
    for start in range(0, len(kept), _CHUNK):
        for sample in ws.there(kept[start : start + _CHUNK]):
            classes[class_of(source.then(sample, labels)) or "no label"] += 1
            real += sample.real
    splits = Counter(split for _, split in checked.kept)
    left_out = [*checked.left_out, *source.left_out]
    return Plan(len(kept), dict(classes.most_common()), dict(splits), real, left_out, tuple(kept[:24]))
