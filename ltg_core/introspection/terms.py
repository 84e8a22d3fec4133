"""Terms: words for what pictures show, and which pictures show them.

A vocabulary is groups of terms that exclude each other (light, weather, state) or single terms. Groups may be marked as
context: what surrounds the object and should not matter for its class.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ltg_core.errors import InputError
from ltg_core.introspection.candidates import Column

Array = np.ndarray[Any, Any]
SHOWS = "shows"
"""Column of terms in which samples are searched for weak slices."""
_MOST_TERMS = 500
_LONGEST = 80
_HEAD = re.compile(r"\[\s*([^\]]{1,60}?)\s*\]$")
_CONTEXT = frozenset({"context", "background"})
_STOP = frozenset(
    re.findall(
        r"\w+",
        """a an and are as at be been being by for from has have in into is it its image of on or over picture photo
    photograph shot that the their there these this to under very was were which while with some shows showing shown
    one two something close up view seen""",
    )
)


@dataclasses.dataclass(frozen=True)
class Term:
    """One thing that a picture may show.

    Attributes:
        name: In short: "night".
        phrase: As it stands behind the name of a class: "at night".
        group: Terms of one group exclude each other; "" for a term of its own.
        context: Whether it is about the surroundings and should not matter for the class.
    """

    name: str
    phrase: str
    group: str = ""
    context: bool = False


_GENERAL = """
[light]
at night
at dusk
in bright sunlight
in deep shadow
against the light
[weather]
in fog
in the rain
in the snow
[view]
from above
from behind
close up
far away
[state]
dirty
broken
wet
old and worn
covered with graffiti
[picture]
blurred
in black and white
as a drawing
[]
partly hidden
in a group
in motion
with a person
with text on it
[context place]
indoors
in a city
in a forest
in a field
on the water
on a road
on a white background
"""


def general() -> tuple[Term, ...]:
    """A short vocabulary for photographs of which nothing is known."""
    return read_vocabulary(_GENERAL)


def from_phrases(phrases: Mapping[str, str]) -> tuple[Term, ...]:
    """The conditions that a generator's card names, one group: its captions have one each."""
    return tuple(Term(name, phrase, "condition") for name, phrase in phrases.items())


def read_vocabulary(text: str) -> tuple[Term, ...]:
    """Terms from a text: one a line, ``name: phrase`` where they differ; ``[weather]`` begins a group of terms that
    exclude each other, ``[context place]`` one that is about the surroundings, ``[]`` ends it; ``#`` begins a remark.

    Raises:
        InputError: Nothing in it, too much, or a term that is too long or there twice.
    """
    found: dict[str, Term] = {}
    group, context = "", False
    for number, line in enumerate(text.splitlines(), start=1):
        line = " ".join(line.partition("#")[0].split())
        if not line:
            continue
        head = _HEAD.match(line)
        if head or line == "[]":
            words = head[1].split() if head else []
            context = any(word in _CONTEXT for word in words)
            group = " ".join(words)
            continue
        name, _, phrase = (part.strip() for part in line.partition(":"))
        if not name or len(line) > _LONGEST or not line.isprintable():
            raise InputError(
                f"line {number} of the vocabulary is no term of 1 to {_LONGEST} printable letters"
            )
        if name in found:
            raise InputError(f"line {number} of the vocabulary has {name!r} for the second time")
        found[name] = Term(name, phrase or name, group, context)
        if len(found) > _MOST_TERMS:
            raise InputError(f"the vocabulary has more than {_MOST_TERMS} terms; keep those that matter")
    if not found:
        raise InputError("the vocabulary holds no term; write one a line")
    return tuple(found.values())


def written(text: str) -> tuple[Term, ...]:
    """``read_vocabulary`` of terms with commas between them.

    Raises:
        InputError: As there.
    """
    return read_vocabulary(text.replace(",", "\n"))


def vocabulary_at(path: str | Path) -> tuple[Term, ...]:
    """``read_vocabulary`` of a file.

    Raises:
        InputError: It cannot be read, or as there.
    """
    path = Path(path).expanduser()
    try:
        if path.stat().st_size > 1_000_000:
            raise InputError(f"{path.name!r} is larger than 1 MB, which no vocabulary is")
        return read_vocabulary(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the vocabulary {path.name!r} cannot be read as text: {error}") from error


@dataclasses.dataclass(frozen=True, eq=False)
class Shown:
    """Which samples show which terms.

    Attributes:
        terms: T of them.
        present: (N, T) bool.
        known: (N,) bool, samples that were looked at.
        source: "vocabulary" or "captions".
        skipped: Terms that could not be looked for, in words.
    """

    terms: tuple[Term, ...]
    present: Array
    known: Array
    source: str
    skipped: tuple[str, ...] = ()

    def columns(self) -> list[Column]:
        """One column a term, all of one name, so that no two of them make a pair."""
        codes = np.where(self.known[:, None], self.present.astype(np.int64) - 1, -1)
        return [Column(SHOWS, codes[:, i], (term,)) for i, term in enumerate(self.terms)]


def present(cosines: Array, plain: Array, terms: Sequence[Term], temperature: float) -> Array:
    """Which pictures show which terms, by a text-image encoder: zero-shot classification within each group.

    Among the texts of a group, "a photo of a <class> <phrase>" each, and the text without a phrase, a term is there
    when its softmax probability is above one half.

    Args:
        cosines: (N, T) of the pictures with the texts of their own class and each term.
        plain: (N,) with the text of their own class alone.
        terms: T of them.
        temperature: The encoder's, by which cosines are multiplied.

    Returns:
        (N, T) bool.
    """
    found = np.zeros(cosines.shape, dtype=bool)
    groups: dict[str, list[int]] = {}
    for place, term in enumerate(terms):
        groups.setdefault(term.group or f"\n{place}", []).append(place)
    for places in groups.values():
        logits = temperature * np.concatenate([cosines[:, places], plain[:, None]], axis=1)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        found[:, places] = weights[:, :-1] > 0.5 * weights.sum(axis=1, keepdims=True)
    return found


def of_captions(
    captions: Sequence[str | Sequence[str] | None], class_names: Sequence[str], smallest: int
) -> Shown:
    """Terms that occur in at least so many captions: words and pairs of words, or the entries where they are lists.

    Words of class names say the class and are left out.

    Args:
        captions: Of each sample a text, a list of terms, or None where there is none.
        class_names: Of all classes.
        smallest: In fewer captions nothing is a term.
    """
    own = {word for name in class_names for word in _words(name)}
    sets = [set() if one is None else _entries(one, own) for one in captions]
    counts = Counter(entry for one in sets for entry in one)
    names = [name for name, n in counts.most_common() if n >= smallest][:_MOST_TERMS]
    table = np.zeros((len(sets), len(names)), dtype=bool)
    index = {name: i for i, name in enumerate(names)}
    for row, one in enumerate(sets):
        table[row, [index[entry] for entry in one if entry in index]] = True
    # A pair of words that is nearly always there with a single word says the same; the longer one is kept.
    kept = [
        i
        for i, name in enumerate(names)
        if not any(
            name != other and name in other.split() and table[:, j].sum() >= 0.9 * table[:, i].sum()
            for j, other in enumerate(names)
        )
    ]
    known = np.array([one is not None for one in captions], dtype=bool)
    terms = tuple(Term(names[i], f"with {names[i]}") for i in kept)
    return Shown(terms, table[:, kept], known, "captions")


def _entries(caption: str | Sequence[str], own: set[str]) -> set[str]:
    if not isinstance(caption, str):
        lines = [[word for word in _words(entry) if word not in own] for entry in caption]
        return {" ".join(words)[:_LONGEST] for words in lines if any(word not in _STOP for word in words)}
    words = _words(caption)
    told = [word not in _STOP and word not in own for word in words]
    single = {word for word, good in zip(words, told, strict=True) if good}
    pairs = {f"{words[i]} {words[i + 1]}" for i in range(len(words) - 1) if told[i] and told[i + 1]}
    return single | pairs


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+(?:[-'][^\W\d_]+)*", text.casefold()[:2000])
