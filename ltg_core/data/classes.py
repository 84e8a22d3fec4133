"""Class names: which number each gets, and which names of a data set mean those of a classifier."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from ltg_core.data.sources import Key
from ltg_core.errors import DatasetError

MAX_CLASSES = 100_000
_SHOWN = 12
_SPACES = re.compile(r"[\s_\-]+")
_INDEX = re.compile(r"(\d+)[\s_.:\-]+(?=.*[^\W\d_])")


class NameMatch(NamedTuple):
    """Which names of a data set are labels in another spelling.

    Attributes:
        read_as: Name in the data → label, where the spelling differs and one alone can be meant.
        unclear: (names, labels) where it cannot be told which is which.
    """

    read_as: dict[str, str]
    unclear: list[tuple[list[str], list[str]]]


def match_names(found: Iterable[str], labels: Sequence[str]) -> NameMatch:
    """Find labels in another spelling: case, underscores, hyphens and spaces; an index before every name.

    The same spelling always wins, and no label is given to two names. An index (``03_stop``) is left out only where
    every name of one side has one and no two are the same, so that "30 km/h" stays what it is.

    Args:
        found: Names in the data.
        labels: The classifier's.
    """
    names, known = sorted(set(found)), list(dict.fromkeys(labels))
    exact = set(names) & set(known)
    matched: dict[str, str] = {}
    unclear: list[tuple[list[str], list[str]]] = []
    open_names, open_labels = [n for n in names if n not in exact], [n for n in known if n not in exact]
    for left, right in (
        (plain_name, plain_name),
        (_unindexed(names), plain_name),
        (plain_name, _unindexed(known)),
    ):
        candidates, wanted = _by_key(open_names, left), _by_key(open_labels, right)
        for key, some in candidates.items():
            meant = wanted.get(key, [])
            if len(some) == len(meant) == 1:
                matched[some[0]] = meant[0]
            elif meant:
                unclear.append((some, meant))
        done = {name for some, _ in unclear for name in some} | matched.keys()
        taken = {label for _, some in unclear for label in some} | set(matched.values())
        open_names = [name for name in open_names if name not in done]
        open_labels = [label for label in open_labels if label not in taken]
    return NameMatch(matched, unclear)


def checked_match(found: Collection[str], labels: Sequence[str], name: str) -> dict[str, str]:
    """As ``match_names``, for the data set called ``name``: name → label.

    Raises:
        DatasetError: A name could mean several labels, or several names one label.
    """
    match = match_names(found, labels)
    if match.unclear:
        cases = "; ".join(f"{shown(names)} could be {shown(some)}" for names, some in match.unclear[:5])
        raise DatasetError(
            f"some classes of '{name}' cannot be told apart among the classifier's: {cases}. The data has "
            f"{shown(sorted(found))}; the classifier has {shown(labels)}. Write the classes of the data exactly as the "
            "classifier does"
        )
    return match.read_as


def read_as_text(read_as: Mapping[str, str]) -> str:
    """In words; "" where there is nothing to say."""
    if not read_as:
        return ""
    some = [f"{name!r} as {label!r}" for name, label in list(read_as.items())[:_SHOWN]]
    more = f", … ({len(read_as)} in all)" if len(read_as) > _SHOWN else ""
    return f"class names were read as the classifier's: {', '.join(some)}{more}"


def shown(names: Sequence[str]) -> str:
    """A list of class names that fits into a message."""
    more = f", … ({len(names)} in all)" if len(names) > _SHOWN else ""
    return ", ".join(repr(name) for name in names[:_SHOWN]) + more


def class_names(
    keys: Sequence[Key], given: Sequence[str] | None, existing: Sequence[str], declared: Sequence[str] | None
) -> list[str]:
    """Class names by index.

    Args:
        keys: What the rows of a data set say.
        given: An order that is to be used as it is.
        existing: Names that have their numbers already; new ones follow them.
        declared: Names by index where the data set itself states them.

    Raises:
        DatasetError: Two given names are the same, or the labels are far too many.
    """
    if given is not None:
        if len(set(given)) != len(given):
            raise DatasetError("two of the given classes have the same name")
        return list(given)
    pairs = sorted(
        {(k.label, k.class_name) for k in keys if k.label is not None and k.class_name is not None}
    )
    found = sorted({k.class_name for k in keys if k.class_name is not None})
    names = list(existing) or list(declared or ()) or _from_pairs(pairs)
    known = set(names)
    names += [name for name in found if name not in known]
    highest = max((k.label for k in keys if k.label is not None and k.class_name is None), default=-1)
    if max(highest, len(names)) >= MAX_CLASSES:
        raise DatasetError(f"the labels go up to {highest:,}; at most {MAX_CLASSES:,} classes are possible")
    return names + [str(number) for number in range(len(names), highest + 1)]


def _from_pairs(pairs: Sequence[tuple[int | None, str | None]]) -> list[str]:
    """Names in the order of their numbers where the two agree, nothing where they contradict each other."""
    numbers = {number: name for number, name in pairs if number is not None and name is not None}
    if len(numbers) != len(pairs) or len(set(numbers.values())) != len(pairs):
        return []
    highest = max(numbers, default=-1)
    if highest >= MAX_CLASSES:
        raise DatasetError(f"the labels go up to {highest:,}; at most {MAX_CLASSES:,} classes are possible")
    return [numbers.get(number, f"class {number}") for number in range(highest + 1)]


def plain_name(name: str) -> str:
    """Without what people spell differently; also the two ways in which Unicode writes an accent."""
    return _SPACES.sub(" ", unicodedata.normalize("NFKC", name).casefold()).strip()


def _unindexed(names: Sequence[str]) -> Callable[[str], str]:
    """A reading without the leading index, or one that reads nothing where the numbers are no index."""
    found = [_INDEX.match(name) for name in names]
    numbers = {int(match[1]) for match in found if match}
    if not names or len(numbers) != len(names):
        return lambda name: ""
    return lambda name: plain_name(_INDEX.sub("", name, count=1))


def _by_key(names: Sequence[str], reading: Callable[[str], str]) -> dict[str, list[str]]:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        if key := reading(name):
            groups[key].append(name)
    return groups
