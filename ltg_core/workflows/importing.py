"""Data into a workspace, and its classes brought together with those of the classifier."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ltg_core.data import datasets
from ltg_core.data.datasets import ImportReport
from ltg_core.data.sources import closing
from ltg_core.data.workspace import Workspace
from ltg_core.errors import DatasetError
from ltg_core.jobs import CancelToken, ProgressFn, no_progress

log = logging.getLogger(__name__)

_UNNAMED = re.compile(r"(class[ _]?)?\d+")
_SHOWN = 12


def import_data(
    ws: Workspace,
    path: str | Path,
    *,
    split: str | None = None,
    limit: int | None = None,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> ImportReport:
    """Import a data set; where a classifier is active, its classes give the labels their numbers.

    Classes that the classifier does not know are kept without a label; classes of the classifier that the
    data lacks are no matter. A classifier without class names takes those of the data, where the two can be
    brought together.

    Raises:
        DatasetError: Nothing usable is there, or not one class of the data is among the classifier's; nothing
            is imported then.
    """
    labels, adopt = _labels_for(ws, Path(path).expanduser())
    report = datasets.import_dataset(
        ws, path, split=split, label_names=labels, limit=limit, on_progress=on_progress, cancel=cancel
    )
    if adopt:
        _rename_classes(ws, report.labels)
    if report.unknown_labels:
        log.warning("%s", _unknown_text(report, labels or []))
    return report


def unnamed(labels: Sequence[str]) -> bool:
    """Whether the classes have numbers instead of names ("class 3", "3")."""
    return bool(labels) and all(_UNNAMED.fullmatch(label) for label in labels)


def label_mapping(ws: Workspace) -> dict[str, Any]:
    """How the classes of the real data meet those of the active classifier.

    Returns:
        ``matched`` and ``unknown`` (class → number of images; unknown ones are those that the classifier has
        no output for), ``absent`` (classes of the classifier without an image) and ``text``, one or two
        sentences.
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
    if unknown:
        text += (
            f"; {sum(unknown.values()):,} images have classes that the classifier does not know "
            f"({shown(list(unknown))}) and count as unlabelled. It knows {shown(labels)}"
        )
    return {"matched": matched, "unknown": unknown, "absent": absent, "text": text + "."}


def shown(names: Sequence[str]) -> str:
    """A list of class names that fits into a message."""
    more = f", … ({len(names)} in all)" if len(names) > _SHOWN else ""
    return ", ".join(repr(name) for name in names[:_SHOWN]) + more


def _labels_for(ws: Workspace, path: Path) -> tuple[list[str] | None, bool]:
    """The names to import with (None: the data's own), and whether the classifier takes over the data's
    names.
    """
    record = ws.get_state("classifier")
    if record is None:
        return None, False
    labels = list(record["labels"])
    with closing(datasets._open(path)) as source:
        keys = source.keys()
        names = datasets._class_names(keys, None, [], source.declared)
    found = {key.class_name for key in keys if key.class_name is not None}
    if not found and all(key.label is None for key in keys):
        return labels, False
    numbered = any(key.label is not None for key in keys)
    if not unnamed(labels):
        usable = found & set(labels) or (not found and any(_below(key.label, len(labels)) for key in keys))
        if not usable:
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
