"""Data into a workspace, and its classes brought together with those of the classifier."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ltg_core.data.classes import checked_match, class_names, shown
from ltg_core.data.datasets import ImportReport, import_dataset, open_source
from ltg_core.data.holdout import HeldOut, check_group, hold_out, shares_of
from ltg_core.data.records import REAL, Filter
from ltg_core.data.sources import closing
from ltg_core.data.workspace import Workspace
from ltg_core.errors import DatasetError, InputError
from ltg_core.jobs import CancelToken, ProgressFn, no_progress
from ltg_core.models.imagenet import wordnet_aliases
from ltg_core.workflows.recording import recorded
from ltg_core.workflows.relabelling import apply_map

log = logging.getLogger(__name__)

_UNNAMED = re.compile(r"(class[ _]?)?\d+")


def import_data(
    ws: Workspace,
    path: str | Path,
    *,
    split: str | None = None,
    limit: int | None = None,
    holdout: float | Sequence[float] | None = None,
    group: str = "",
    seed: int = 0,
    strict: bool = True,
    online: bool = False,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> ImportReport:
    """Import a data set; where a classifier is active, its classes give the labels their numbers.

    Names in another spelling (case, underscores, hyphens, spaces) are taken for the classifier's, and it is said.
    Classes that the classifier does not know are kept without a label; classes of the classifier that the
    data lacks are no matter. A classifier without class names takes those of the data, where the two can be
    brought together.

    Args:
        ws: Where to.
        path: As ``import_dataset`` reads them.
        split: Of images for which the data names none.
        limit: At most so many images, spread over splits and classes.
        holdout: Share of the images that goes to "val", or shares for "val" and "test", where the data has no
            splits, or none but "train"; evenly over the classes. Importing again divides nothing anew.
        group: Metadata column whose values are not divided by ``holdout`` (the frames of one film, say).
        seed: Of the hold-out.
        strict: Refuse data of which no class is the classifier's; else its samples are kept without labels until
            ``map_labels`` says what the names mean.
        online: Whether ``hf:owner/name`` may be fetched from the network.
        on_progress: Told about every few images.
        cancel: Checked at every image; what was imported until then stays.

    Raises:
        DatasetError: Nothing usable is there, not one class of the data is among the classifier's, or it cannot be
            told which is meant; nothing is imported then.
        InputError: No sensible hold-out, or no such column.
    """
    place = path if str(path).startswith("hf:") else Path(path).expanduser()
    shares = _shares(holdout, split, group)
    labels, adopt = _labels_for(ws, place, strict=strict, online=online)
    if group:
        with closing(open_source(place, online=online)) as source:
            check_group(group, source.columns(), Path(place).name)
    report = import_dataset(
        ws,
        path,
        split=split,
        label_names=labels,
        aliases=_aliases(labels),
        limit=limit,
        online=online,
        on_progress=on_progress,
        cancel=cancel,
    )
    if adopt:
        _rename_classes(ws, report.labels)
    apply_map(ws)
    if report.read_as:
        ws.put_state("read_as", {**ws.get_state("read_as", {}), **report.read_as})
    if report.unknown_labels:
        log.warning("%s", _unknown_text(report, labels or []))
    if not shares:
        return report
    with recorded(ws, "hold-out", {"shares": shares, "group": group}, seed=seed) as recording:
        held = hold_out(ws, shares, group=group, seed=seed)
        recording.result |= held._asdict()
    splits = {name: ws.count(Filter(split=name, origin=REAL)) for name in ws.splits()}
    return dataclasses.replace(
        report,
        splits={name: count for name, count in splits.items() if count},
        held_out=_held_text(ws, held, group),
    )


def _aliases(labels: Sequence[str] | None) -> dict[str, str]:
    """Folder names as ImageNet has them (n01440764), where the classifier's classes are ImageNet's or some of them."""
    aliases = wordnet_aliases(1000)
    known = set(labels or ())
    return {wnid: name for wnid, name in aliases.items() if name in known}


def unnamed(labels: Sequence[str]) -> bool:
    """Whether the classes have numbers instead of names ("class 3", "3")."""
    return bool(labels) and all(_UNNAMED.fullmatch(label) for label in labels)


def label_mapping(ws: Workspace) -> dict[str, Any]:
    """How the classes of the real data meet those of the active classifier.

    Returns:
        ``matched`` and ``unknown`` (class → number of images; unknown ones are those that the classifier has
        no output for), ``absent`` (classes of the classifier without an image), ``read_as`` (names of the data that
        were taken for the classifier's in another spelling) and ``text``, one or two sentences.
    """
    record = ws.get_state("classifier")
    labels = list(record["labels"]) if record else ws.label_names()
    rows = ws.database.rows(
        "SELECT coalesce(label_name, 'class ' || label), label, count(*) FROM samples WHERE origin = 'real' AND "
        "(label_name IS NOT NULL OR label IS NOT NULL) GROUP BY 1, 2 ORDER BY 2, 1"
    )
    matched = {row[0]: row[2] for row in rows if row[1] is not None and row[1] < len(labels)}
    unknown = {row[0]: row[2] for row in rows if row[1] is None or row[1] >= len(labels)}
    absent = [label for label in labels if label not in matched]
    text = f"{len(matched)} of the classifier's {len(labels)} classes have images"
    kept = record.get("restricted_from") if record else None
    if kept:
        text += f"; predictions are restricted to these {len(labels)} of its {kept:,} outputs"
    elif absent and matched:
        text += (
            f"; the other {len(absent):,} can still be predicted "
            "(use --restrict data leaves them out of all predictions)"
        )
    if unknown:
        text += (
            f"; {sum(unknown.values()):,} images have classes that the classifier does not know "
            f"({shown(list(unknown))}) and count as unlabelled. It knows {shown(labels)}"
        )
    read_as = {name: label for name, label in ws.get_state("read_as", {}).items() if label in matched}
    return {"matched": matched, "unknown": unknown, "absent": absent, "read_as": read_as, "text": text + "."}


def _labels_for(
    ws: Workspace, place: str | Path, *, strict: bool, online: bool
) -> tuple[list[str] | None, bool]:
    """The names to import with (None: the data's own), and whether the classifier takes over the data's
    names.
    """
    record = ws.get_state("classifier")
    if record is None:
        return None, False
    labels = list(record["labels"])
    path = Path(place)
    with closing(open_source(place, online=online)) as source:
        keys = source.keys()
        names = class_names(keys, None, [], source.declared)
    found = {key.class_name for key in keys if key.class_name is not None}
    if not found and all(key.label is None for key in keys):
        return labels, False
    numbered = any(key.label is not None for key in keys)
    if not unnamed(labels):
        aliases = _aliases(labels)
        found = {aliases.get(name, name) for name in found}
        read_as = checked_match(found, labels, path.name)
        usable = (
            found & set(labels)
            or read_as
            or (not found and any(_below(key.label, len(labels)) for key in keys))
        )
        if not usable and strict:
            raise DatasetError(
                f"no class of '{path.name}' is one of the classifier's. The data has {shown(sorted(found) or names)}; "
                f"the classifier has {shown(labels)}. Rename the classes of the data, or choose the classifier again "
                "with its class names in the order of its outputs"
            )
        return labels, False
    if not found:
        return labels, False
    if len(names) == len(labels) or (numbered and len(names) < len(labels)):
        return None, True
    raise DatasetError(
        f"'{path.name}' has {len(names)} classes ({shown(names)}) and the classifier has {len(labels)} outputs "
        "without names; choose the classifier again with one class name for each output, in their order"
    )


def _shares(holdout: float | Sequence[float] | None, split: str | None, group: str) -> dict[str, float]:
    """Shares of the splits, nothing where nothing is held out."""
    if holdout is None:
        if group:
            raise InputError(
                f"the column {group!r} keeps images together when some are held out; say how many"
            )
        return {}
    if split:
        raise InputError(f"give the split {split!r} or a hold-out, not both")
    return shares_of(holdout)


def _held_text(ws: Workspace, held: HeldOut, group: str) -> str:
    """What a hold-out did; what somebody should look at is also logged."""
    if held.divided:
        log.warning(
            "%s values of the column %r have images in more than one split, as the data has it; what is held out is "
            "then not independent",
            f"{held.divided:,}",
            group,
        )
    if not held.counts:
        log.warning("nothing was held out: the data has a split 'val' and no image without a split")
        return ""
    where = ", ".join(f"{name} {held.counts[name]:,}" for name in sorted(held.counts))
    text = f"Held out of {held.source or 'images without a split'}: {where}"
    if group:
        text += f"; {held.groups:,} values of {group!r}, none divided" if not held.divided else ""
    if held.source or ws.runs("fit-head"):
        log.warning(
            "images of the split %r were moved to others; what was fitted on them before, such as the head, must be "
            "fitted again",
            held.source,
        )
    return text


def _below(label: int | None, count: int) -> bool:
    return label is not None and label < count


def _rename_classes(ws: Workspace, names: Sequence[str]) -> None:
    record = ws.get_state("classifier")
    labels = [*names, *(f"class {number}" for number in range(len(names), len(record["labels"])))]
    if len(labels) == len(record["labels"]):
        ws.put_state("classifier", {**record, "labels": labels})
        ws.set_label_names(labels)


def _unknown_text(report: ImportReport, labels: Sequence[str]) -> str:
    names = sorted(report.unknown_labels, key=lambda name: -report.unknown_labels[name])
    return (
        f"{sum(report.unknown_labels.values()):,} images have classes that the classifier does not know "
        f"({shown(names)}); they are kept without a label. The classifier knows {shown(labels or report.labels)}"
    )
