"""Proposed auxiliary classes: plain names, none of them a target, none twice, not too many."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ltg_core.data.classes import plain_name

LONGEST = 60
"""Letters of a name; what is longer is a sentence."""
TEXT = 300
"""Letters that are kept of an explanation."""
_NAME = re.compile(r"[^\W_](?:[\w &/.,'’()+\-]*[\w.)+])?")


@dataclasses.dataclass(frozen=True)
class Proposal:
    """A class that may stand beside a weak one.

    Attributes:
        parent: The class of the classifier that it looks like.
        name: Its own.
        source: Where it is from: "llm", "wordnet", "clusters", "hand" or "random" (the control).
        relation: How the two are related, in words.
        difference: What to tell them apart by.
        about: Anything else, JSON values.
    """

    parent: str
    name: str
    source: str
    relation: str = ""
    difference: str = ""
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)


class Sifted(NamedTuple):
    """What is left of proposals, and (name, reason) of the others."""

    kept: list[Proposal]
    dropped: list[tuple[str, str]]


def same(name: str) -> str:
    """Equal for names that mean the same class: case, spaces, underscores and a plural's s do not matter."""
    plain = plain_name(name)
    return plain[:-1] if len(plain) > 3 and plain.endswith("s") and not plain.endswith("ss") else plain


def refused(name: str) -> str | None:
    """Why a text is no name of a class; None where it is one."""
    if not name.strip():
        return "it has no name"
    if len(name.strip()) > LONGEST:
        return f"its name is longer than {LONGEST} letters"
    if not _NAME.fullmatch(name.strip()):
        return "its name has signs that no name has"
    return None


def enough(most: int) -> str:
    """Why what goes beyond the number is left out."""
    return f"{most} for each class are enough"


def tidy(text: Any, longest: int = TEXT) -> str:
    """Plain words of one line: no control characters, not too long."""
    plain = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in str(text or ""))
    words = " ".join(plain.split())
    return words if len(words) <= longest else words[: longest - 1] + "…"


def sift(
    proposals: Iterable[Proposal], targets: Sequence[str], known: Mapping[str, str], most: int
) -> Sifted:
    """Leave out what cannot be used, and say why.

    Args:
        proposals: As they came.
        targets: The classifier's classes.
        known: Name → class beside which it stands already.
        most: How many a class may get; later ones are left out.
    """
    own = {same(name): name for name in targets}
    taken = {same(name): parent for name, parent in known.items()}
    counts: dict[str, int] = {}
    kept: list[Proposal] = []
    dropped: list[tuple[str, str]] = []
    for one in proposals:
        shown = tidy(one.name, LONGEST)
        key = same(one.name)
        reason = refused(one.name)
        if reason is None and key in own:
            reason = "it is a class of the classifier itself"
        if reason is None and key in taken:
            reason = f"it stands beside {taken[key]!r} already"
        if reason is None and counts.get(one.parent, 0) >= most:
            reason = enough(most)
        if reason is not None:
            dropped.append((shown, reason))
            continue
        taken[key] = one.parent
        counts[one.parent] = counts.get(one.parent, 0) + 1
        kept.append(
            dataclasses.replace(one, name=shown, relation=tidy(one.relation), difference=tidy(one.difference))
        )
    return Sifted(kept, dropped)
