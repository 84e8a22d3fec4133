"""Which images are held out: whole groups, evenly over the classes, the same ones every time."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

from ltg_core.data.records import REAL
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError

Shares = Mapping[str, float]
"""Split → share of the images; together 1."""


class HeldOut(NamedTuple):
    """What a hold-out did.

    Attributes:
        source: Split that the images had before, "" for none.
        counts: Images by the split that they have now; empty where there was nothing to divide.
        groups: Values of the column among them.
        divided: Values of the column with images in more than one split, from the data's own splits.
    """

    source: str
    counts: dict[str, int]
    groups: int
    divided: int


def shares_of(holdout: float | Sequence[float]) -> dict[str, float]:
    """Shares of train, val and test from the share of val, or of val and test.

    Raises:
        InputError: They are no shares.
    """
    parts = [float(part) for part in (holdout if isinstance(holdout, Sequence) else (holdout,))]
    if len(parts) not in (1, 2) or any(not 0 < part < 1 for part in parts) or sum(parts) >= 1:
        given = ", ".join(f"{part:g}" for part in parts)
        raise InputError(
            f"cannot hold out {given or 'nothing'}: give the share of val (0.2), or those of val and test (0.1, 0.2), "
            "each above 0 and together below 1"
        )
    return {"train": 1 - sum(parts), **dict(zip(("val", "test"), parts, strict=False))}


def fraction(name: str, seed: int = 0) -> float:
    """A number in [0, 1) that belongs to a name, evenly spread over names, the same everywhere."""
    text = f"{seed}\n{name}" if seed else name
    return int(hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8], 16) / 2**32


def check_group(group: str, columns: Sequence[str], name: str) -> None:
    """Raise InputError where a data set called ``name`` has no such metadata column."""
    if group and group not in columns:
        known = ", ".join(repr(column) for column in sorted(columns)[:20]) or "none"
        raise InputError(
            f"'{name}' has no column {group!r} to keep images together by; its metadata columns: {known}"
        )


def divide(
    groups: Sequence[str],
    classes: Sequence[Hashable],
    shares: Shares,
    *,
    seed: int = 0,
    fixed: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """A split for every group: never two for one group, and every class in the given shares as nearly as that allows.

    The groups are dealt out, the largest first, those of one size in an order that the seed decides; each goes to
    the split in which its classes lack most of their share. So every class with at least as many groups as there
    are splits is in all of them.

    Args:
        groups: Group of each image.
        classes: Class of each image; any that can be told apart, None too.
        shares: Split → share.
        seed: Another one gives another division.
        fixed: Groups that have their split already; they count.
    """
    members: defaultdict[str, list[Hashable]] = defaultdict(list)
    for group, cls in zip(groups, classes, strict=True):
        members[group].append(cls)
    totals = Counter(classes)
    filled: dict[str, Counter[Hashable]] = {split: Counter() for split in shares}
    found = {group: split for group, split in (fixed or {}).items() if group in members}
    for group, split in found.items():
        if split in shares:
            filled[split].update(members[group])

    def lack(split: str, group: str) -> tuple[float, float]:
        some, share = members[group], shares[split]
        missing = sum(1 - filled[split][cls] / (share * totals[cls]) for cls in some) / len(some)
        return missing, share

    free = [group for group in members if group not in found]
    for group in sorted(free, key=lambda name: (-len(members[name]), fraction(name, seed), name)):
        split = max(shares, key=lambda split: lack(split, group))
        filled[split].update(members[group])
        found[group] = split
    return found


def hold_out(ws: Workspace, shares: Shares, *, group: str = "", seed: int = 0) -> HeldOut:
    """Give real images without a split one; where there are none, and no ``val``, divide those of ``train``.

    Images that have another split keep it, and take the rest of their group along. Ids stay, so importing the
    same data again adds nothing, and data that has grown since is divided as before.

    Args:
        ws: The workspace.
        shares: As from ``shares_of``.
        group: Metadata column whose values are not divided; "" lets every image go alone.
        seed: Of the division.
    """
    rows = ws.database.rows(
        "SELECT s.id, s.split, coalesce(s.label_name, s.label) AS class,"
        " (SELECT m.value FROM json_each(s.meta) m WHERE m.key = ?) AS value"
        " FROM samples s WHERE s.origin = ? ORDER BY s.seq",
        (group, REAL),
    )
    splits = {row["split"] for row in rows}
    source = "" if "" in splits or "val" in splits else "train"
    names = [row["id"] if row["value"] is None else f"={row['value']}" for row in rows]
    pool = [i for i, row in enumerate(rows) if row["split"] == source]
    fixed = {names[i]: row["split"] for i, row in enumerate(rows) if row["split"] not in ("", source)}
    found = divide([names[i] for i in pool], [rows[i]["class"] for i in pool], shares, seed=seed, fixed=fixed)
    with ws.database.write() as connection:
        connection.executemany(
            "UPDATE samples SET split = ? WHERE id = ?", [(found[names[i]], rows[i]["id"]) for i in pool]
        )
    after: defaultdict[str, set[str]] = defaultdict(set)
    for name, row in zip(names, rows, strict=True):
        after[name].add(found[name] if row["split"] == source else row["split"])
    return HeldOut(
        source,
        dict(Counter(found[names[i]] for i in pool)),
        len({names[i] for i in pool if rows[i]["value"] is not None}),
        sum(len(some) > 1 for some in after.values()),
    )
