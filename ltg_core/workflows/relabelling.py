"""Which class of the classifier a name in the data means: found by itself where it can be, set by hand where not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from ltg_core.data.changing import merge_columns
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError

_KEY = "label_map"
_NAME = "coalesce(json_extract(meta, '$.given_label'), label_name)"
_ROWS = (
    f"SELECT {_NAME}, CASE WHEN label IS NULL THEN NULL ELSE label_name END AS class, count(*) FROM samples"
    " WHERE origin = 'real' AND label_name IS NOT NULL GROUP BY 1, 2 ORDER BY class IS NOT NULL, 3 DESC, 1"
)


@dataclasses.dataclass(frozen=True)
class NameRow:
    """One name of the data.

    Attributes:
        name: As the data has it.
        label: The classifier's class, "" where the samples count as unlabelled.
        n: Real samples with this name.
        how: "same" (the same spelling), "spelling" (matched by itself in another one), "hand", or "" for none.
    """

    name: str
    label: str
    n: int
    how: str


def name_rows(ws: Workspace) -> list[NameRow]:
    """Every name of the data with what it stands for, those without a class first."""
    by_hand = ws.get_state(_KEY, {})
    found = []
    for name, label, n in ws.database.rows(_ROWS):
        same = "same" if name == label else "spelling"
        found.append(NameRow(name, label or "", n, "hand" if name in by_hand else same if label else ""))
    return found


def map_labels(ws: Workspace, chosen: Mapping[str, str]) -> int:
    """Set by hand what names of the data mean; it also holds for data that is imported later.

    Args:
        ws: The workspace.
        chosen: Name in the data → class of the classifier, "" for none: those samples then count as unlabelled.

    Returns:
        How many samples changed.

    Raises:
        InputError: A class that there is not, or a name that the data does not have.
    """
    labels, names = ws.label_names(), {row.name for row in name_rows(ws)}
    for name, label in chosen.items():
        if name not in names:
            raise InputError(f"no real sample has the class name {name!r:.80}")
        if label and label not in labels:
            raise InputError(f"there is no class {label!r:.80}; choose one of the classifier's")
    with ws.database.write():
        ws.put_state(_KEY, {**ws.get_state(_KEY, {}), **chosen})
        return apply_map(ws)


def apply_map(ws: Workspace) -> int:
    """Give the samples the classes that were set by hand; returns how many changed."""
    labels = ws.label_names()
    chosen = {
        name: label
        for name, label in ws.get_state(_KEY, {}).items()
        if not label or label in labels  # of a classifier that is no longer in use
    }
    changed = 0
    with ws.database.write() as connection:
        for name, label in chosen.items():
            number = labels.index(label) if label else None
            cursor = connection.execute(
                "UPDATE samples SET meta = json_set(meta, '$.given_label', ?1), label_name = ?2, label = ?3"
                f" WHERE origin = 'real' AND {_NAME} = ?1 AND (label IS NOT ?3 OR label_name IS NOT ?2)",
                (name, label or name, number),
            )
            changed += cursor.rowcount
        if changed:
            merge_columns(ws.database, ["given_label"])
    return changed
