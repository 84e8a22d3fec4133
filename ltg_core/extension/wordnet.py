"""WordNet's nouns, read from its own database files (``index.noun``, ``data.noun``; wndb(5)); nothing is unpickled.

Debian's ``wordnet-base`` has version 3.0, whose offsets are the numbers of ImageNet's classes (n01440764).
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ltg_core.data.classes import plain_name
from ltg_core.errors import DatasetError, InputError
from ltg_core.extension.proposals import Proposal

FOLDERS = ("/usr/share/wordnet", "/usr/local/share/wordnet/dict", "/usr/local/WordNet-3.0/dict")
_WNID = re.compile(r"n(\d{8})")
_UP, _DOWN = ("@", "@i"), ("~", "~i")
_THING = 1930  # physical entity
_LINE = 200_000  # bytes; the longest line of version 3.0 has 15,000


class Synset(NamedTuple):
    """A meaning.

    Attributes:
        offset: Its place in ``data.noun``.
        words: The words for it, the usual one first.
        gloss: What it is.
        above: Offsets of what it is a kind of.
        below: Offsets of its kinds.
    """

    offset: int
    words: tuple[str, ...]
    gloss: str
    above: tuple[int, ...]
    below: tuple[int, ...]

    @property
    def name(self) -> str:
        """The usual word."""
        return self.words[0]


class WordNet:
    """The nouns of one folder.

    Args:
        folder: Has ``index.noun`` and ``data.noun``; None for the places where distributions put it.

    Raises:
        InputError: They are not there.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = found_at(folder)
        self._index = _index(self.folder / "index.noun")
        self._data = (self.folder / "data.noun").open("rb")

    def close(self) -> None:
        """Close the file."""
        self._data.close()

    def __enter__(self) -> WordNet:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def senses(self, name: str) -> list[Synset]:
        """What a word may mean, the usual meaning first; what a number of ImageNet means."""
        number = _WNID.fullmatch(name.strip())
        if number:
            return [self.at(int(number[1]))]
        plain = plain_name(name.split(",")[0])
        for form in dict.fromkeys((plain, plain.removesuffix("s"))):
            offsets = self._index.get(form.replace(" ", "_").encode("utf-8", "replace"), ())
            if offsets:
                return [self.at(offset) for offset in offsets]
        return []

    def meant(self, name: str, others: Sequence[str]) -> Synset | None:
        """What a class means among others: the meaning that has most in common with one of theirs.

        So "tiger" beside "lion" is the animal, though the usual meaning is a fierce person. Where that does not decide,
        a thing that one can see goes before other meanings, and the usual one first.
        """
        around = [self.above(sense) for other in others if other != name for sense in self.senses(other)]

        def fit(sense: Synset) -> tuple[int, bool]:
            own = self.above(sense)
            return max((len(own & theirs) for theirs in around), default=0), _THING in own

        return max(self.senses(name), key=fit, default=None)

    @functools.lru_cache(maxsize=50_000)  # noqa: B019  # goes with the object, which is short-lived
    def at(self, offset: int) -> Synset:
        """The meaning at a place of the file.

        Raises:
            DatasetError: None begins there: the file is damaged, or of another version.
        """
        self._data.seek(offset)
        line = self._data.readline(_LINE).decode("utf-8", "replace")
        try:
            return _parsed(line, offset)
        except (ValueError, IndexError) as error:
            raise DatasetError(
                f"'{self.folder.name}/data.noun' has no entry at {offset:08d}; it is damaged or not of version 3.0"
            ) from error

    def above(self, synset: Synset) -> set[int]:
        """Offsets of everything that it is a kind of."""
        found: set[int] = set()
        waiting = list(synset.above)
        while waiting and len(found) < _LINE:
            offset = waiting.pop()
            if offset not in found:
                found.add(offset)
                waiting += self.at(offset).above
        return found

    def relatives(self, synset: Synset) -> Iterator[tuple[Synset, str]]:
        """Siblings, then cousins: (meaning, relation in words)."""
        seen = {synset.offset}
        parents = [self.at(offset) for offset in synset.above]
        for parent in parents:
            for offset in parent.below:
                if offset not in seen:
                    seen.add(offset)
                    yield self.at(offset), f"also a kind of {parent.name}"
        for grand in (self.at(offset) for parent in parents for offset in parent.above):
            for aunt in (self.at(offset) for offset in grand.below if offset not in seen):
                for offset in aunt.below:
                    if offset not in seen:
                        seen.add(offset)
                        yield self.at(offset), f"a kind of {aunt.name}, which is also a kind of {grand.name}"


def propose(
    net: WordNet, parent: str, targets: Sequence[str], numbers: Mapping[str, str] | None = None
) -> tuple[list[Proposal], str]:
    """Relatives of a class that are neither a kind of a target nor have one for a kind.

    Args:
        net: WordNet.
        parent: The weak class.
        targets: The classifier's classes.
        numbers: Class → ImageNet's number, for those that have one; of the parent the usual meaning of its name is
            taken where it has none, of other targets every meaning is left alone.

    Returns:
        Proposals, not sifted yet, and a sentence where there is something to say.
    """
    known = numbers or {}
    own = net.meant(known.get(parent, parent), targets)
    if own is None:
        return [], f"WordNet has no noun {parent!r}; rename the class, or propose from elsewhere"
    taken = [own]
    for name in targets:
        if name != parent:
            meant = net.meant(known[name], targets) if name in known else None
            taken += [meant] if meant is not None else net.senses(name)
    forbidden = {one.offset for one in taken}
    higher = set().union(*(net.above(one) for one in taken))
    proposals = []
    for one, relation in net.relatives(own):
        if one.offset in forbidden or one.offset in higher or net.above(one) & forbidden:
            continue
        about = {"wordnet": f"n{one.offset:08d}", "meaning": own.gloss[:300]}
        proposals.append(Proposal(parent, one.name, "wordnet", relation, one.gloss, about))
    return proposals, f"{parent!r} was read as: {own.gloss.split(';')[0]}"


def found_at(folder: str | Path | None) -> Path:
    """The folder of WordNet's files.

    Raises:
        InputError: There is none.
    """
    places = [folder] if folder else [os.environ.get("WNSEARCHDIR", ""), *FOLDERS]
    for place in places:
        if place and all((Path(place) / name).is_file() for name in ("index.noun", "data.noun")):
            return Path(place)
    where = f"'{Path(folder).name}' has" if folder else "the usual folders have"
    raise InputError(
        f"{where} no WordNet (index.noun, data.noun). On Debian and Ubuntu: apt install wordnet-base; else name "
        "the folder 'dict' of WordNet 3.0"
    )


def _index(path: Path) -> dict[bytes, tuple[int, ...]]:
    """Lemma → offsets of its meanings, the usual one first."""
    found: dict[bytes, tuple[int, ...]] = {}
    for line in path.read_bytes().splitlines():
        if not line or line.startswith(b" "):
            continue  # the licence
        parts = line.split()
        try:
            count = int(parts[2])
            offsets = tuple(int(part) for part in parts[-count:]) if count else ()
        except (ValueError, IndexError) as error:
            raise DatasetError(f"'{path.name}' has a line that is not WordNet's: {line[:60]!r}") from error
        found[parts[0]] = offsets
    return found


def _parsed(line: str, offset: int) -> Synset:
    """A line of ``data.noun``; ValueError or IndexError where it is none."""
    fields, _, gloss = line.partition("|")
    parts = fields.split()
    if int(parts[0]) != offset or parts[2] != "n":
        raise ValueError("another entry")
    count = int(parts[3], 16)
    words = tuple(parts[4 + 2 * i].replace("_", " ") for i in range(count))
    if not words:
        raise ValueError("no word")
    at = 4 + 2 * count
    pointers = [parts[at + 1 + 4 * i : at + 5 + 4 * i] for i in range(int(parts[at]))]
    nouns = [(symbol, int(place)) for symbol, place, kind, _ in pointers if kind == "n"]
    return Synset(
        offset,
        words,
        gloss.strip(),
        tuple(place for symbol, place in nouns if symbol in _UP),
        tuple(place for symbol, place in nouns if symbol in _DOWN),
    )
